//! What a worker lets a connection do, and until when.
//!
//! Workers hold the policies, terminators carry them out: a grant says all that
//! a terminator must know to guard what it writes. The terminator gives it back
//! with each message that it forwards, so that a worker can decide a message
//! without a token and without asking the store.
//!
//! A grant has two texts. The *facts* are for both sides. The *principal* (who it
//! is, with all claims) is for workers alone, and opaque to the terminator, except that its events name whose it is
//! (see [`principal`](super::principal)).

use serde::{Deserialize, Serialize};

use super::id::ConnectionId;
use super::proof::{Proof, Proven};
use super::tag::{IdentityTag, SessionTag, TokenIdTag, TokenTag};
use crate::service::clock::Timestamp;

crate::choice! {
    /// What happens where authentication is missing or has expired.
    pub enum Policy {
        /// As if it had not expired.
        Ignore = "ignore",
        /// The connection is closed.
        Close = "close",
        /// The client is asked for a fresh token, and what waits is held until it comes.
        Reauthenticate = "reauthenticate",
    }
}

/// A connection's authentication, as a worker has proved it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Whose connection it is.
    #[serde(rename = "i")]
    pub identity: IdentityTag,
    /// Until when anything is written in that name: the token's `exp`, and the leeway.
    #[serde(rename = "u")]
    pub until: Timestamp,
    /// When the client is told that a fresh token should come.
    #[serde(rename = "r")]
    pub refresh_at: Timestamp,
    /// The token that proved it.
    #[serde(rename = "t")]
    pub token: TokenTag,
    /// Its `jti`, by which it may be revoked.
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    pub token_id: Option<TokenIdTag>,
    /// Its `sid`, by which its session may be revoked.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionTag>,
    /// Its `iat`, by which it may be revoked.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Timestamp>,
    /// How it was proved, by which it may be revoked.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// What happens to what we have for the connection after `until`.
    #[serde(rename = "p")]
    pub on_expired_push: Policy,
    /// How long what is held waits, in milliseconds.
    #[serde(rename = "h")]
    pub hold_ms: u64,
    /// How much was held for the identity when the connection was registered.
    #[serde(rename = "w", default, skip_serializing_if = "is_zero")]
    pub waiting: u64,
    /// The connection whose held messages this one takes over.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub resumes: Option<ConnectionId>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Grant {
    /// The facts as they cross the broker.
    pub fn to_facts(&self) -> String {
        // Nothing in it can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The facts as they came; none if they are none.
    pub fn from_facts(facts: &str) -> Option<Self> {
        serde_json::from_str(facts).ok()
    }

    /// Without what was true only of the moment when it was registered.
    #[must_use]
    pub fn without_news(&self) -> Self {
        Self {
            waiting: 0,
            resumes: None,
            ..self.clone()
        }
    }

    /// Whether its token was issued earlier than the other's: by `iat` (RFC 7519 §4.1.6) or, where one of them does not say
    /// it, whether it ends earlier.
    pub fn precedes(&self, other: &Self) -> bool {
        match (self.issued_at, other.issued_at) {
            (Some(issued_at), Some(of_other)) => issued_at < of_other,
            _ => self.until < other.until,
        }
    }

    /// How it was proved, and when it ends by itself: with the policy `ignore`, never.
    pub fn proven(&self) -> Option<Proven> {
        let until = (self.on_expired_push != Policy::Ignore).then_some(self.until);
        self.proof.map(|proof| Proven { proof, until })
    }

    /// Whether it is in force at that moment.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.until
    }
}

impl Serialize for Policy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        crate::service::config::Value::parse(&word).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tag::KeyTag;

    pub(crate) fn grant() -> Grant {
        Grant {
            identity: IdentityTag::of(&[7; 32]),
            until: Timestamp::from_secs(100),
            refresh_at: Timestamp::from_secs(80),
            token: TokenTag::of(&[8; 32]),
            token_id: Some(TokenIdTag::of(&[9; 32])),
            session: Some(SessionTag::of(&[10; 32])),
            issued_at: Some(Timestamp::from_secs(10)),
            proof: Some(Proof {
                key: KeyTag::of(&[11; 32]),
                at: Timestamp::from_secs(11),
            }),
            on_expired_push: Policy::Reauthenticate,
            hold_ms: 300_000,
            waiting: 0,
            resumes: None,
        }
    }

    #[test]
    fn facts_read_back_as_they_were_written() {
        let sent = grant();
        assert_eq!(Grant::from_facts(&sent.to_facts()), Some(sent));
        assert_eq!(Grant::from_facts("{}"), None);
    }

    #[test]
    fn which_token_was_issued_earlier_is_told_by_iat_or_else_by_its_end() {
        let of = |issued_at: Option<u64>, until| Grant {
            issued_at: issued_at.map(Timestamp::from_secs),
            until: Timestamp::from_secs(until),
            ..grant()
        };
        for (one, other, precedes) in [
            (of(Some(1), 9), of(Some(2), 5), true),
            (of(Some(2), 5), of(Some(1), 9), false),
            (of(Some(1), 5), of(Some(1), 9), false),
            (of(None, 5), of(Some(1), 9), true),
            (of(Some(2), 9), of(None, 5), false),
            (of(None, 5), of(None, 5), false),
        ] {
            assert_eq!(one.precedes(&other), precedes, "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_grant_is_live_until_its_end_and_not_at_it() {
        assert!(grant().is_live(Timestamp::from_millis(99_999)));
        assert!(!grant().is_live(Timestamp::from_secs(100)));
    }
}
