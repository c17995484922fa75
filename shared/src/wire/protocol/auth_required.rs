//! What a client is told when a fresh token is wanted.

use std::str::FromStr;

use serde::Serialize;

use super::ServerKind;
use crate::wire::id::MalformedId;

/// Why a fresh token is wanted: the `reason` of an `auth.required`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// None has come yet, or it was given up by `auth.logout`, or a message came without one that needs its own.
    Missing,
    /// The last one will soon be past its time.
    Expiring,
    /// The last one is past its time.
    Expired,
    /// The last one has been revoked, and there is a grace.
    Revoked,
}

impl Reason {
    /// The reason as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl FromStr for Reason {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        [Self::Missing, Self::Expiring, Self::Expired, Self::Revoked]
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or(MalformedId)
    }
}

/// `auth.required`: a fresh token is wanted, and what is held waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AuthRequired {
    /// Why a fresh token is wanted.
    pub reason: Reason,
    /// Milliseconds until the connection's authentication expires, if it has not; else until what is held first is given
    /// up.
    pub deadline_ms: u64,
    /// How much waits.
    pub held: Held,
}

/// How much waits for a fresh token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Held {
    /// Messages of the client.
    pub inbound: u64,
    /// Answers and pushes for it.
    pub outbound: u64,
}

impl AuthRequired {
    /// The message as it crosses the socket: one JSON text.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Typed<'a> {
            #[serde(rename = "type")]
            kind: ServerKind,
            #[serde(flatten)]
            rest: &'a AuthRequired,
        }
        let typed = Typed {
            kind: ServerKind::AuthRequired,
            rest: self,
        };
        // There is nothing in it that cannot be written.
        serde_json::to_string(&typed).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_token_is_asked_for_with_why_until_when_and_for_how_much() {
        let required = AuthRequired {
            reason: Reason::Expired,
            deadline_ms: 300_000,
            held: Held {
                inbound: 2,
                outbound: 1,
            },
        };
        assert_eq!(
            required.to_json(),
            r#"{"type":"auth.required","reason":"expired","deadline_ms":300000,"held":{"inbound":2,"outbound":1}}"#
        );
    }
}
