//! What a recorded authentication is worth at some moment, for people and backends who look.

use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::id::Sequence;

use super::Authentication;
use crate::auth::identity::Identity;

/// Who is on the other end of a connection, as far as the store knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedState {
    /// Its token is good.
    Live(Proved),
    /// Its token was good.
    Expired(Proved),
    /// The client has logged out.
    Forgotten {
        /// By this message.
        by: Sequence,
    },
    /// The socket is closed.
    Closed {
        /// Newer than every message of the connection.
        by: Sequence,
    },
    /// None was ever recorded, or that is too long ago.
    Unknown,
}

/// What a token has proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// Who it is.
    pub identity: Identity,
    /// Until when that counts, leeway included.
    pub until: Timestamp,
    /// The message that brought the token.
    pub by: Sequence,
}

impl RecordedState {
    /// What is `recorded`, at `now`, where tokens count for `leeway` after their expiry.
    pub fn of(recorded: Option<Authentication>, now: Timestamp, leeway: Duration) -> Self {
        match recorded {
            None => Self::Unknown,
            Some(Authentication::Forgotten { by }) => Self::Forgotten { by },
            Some(Authentication::Closed { by }) => Self::Closed { by },
            Some(Authentication::Live {
                identity, until, by, ..
            }) => {
                let until = until.saturating_add(leeway);
                let proved = Proved { identity, until, by };
                match now < until {
                    true => Self::Live(proved),
                    false => Self::Expired(proved),
                }
            }
        }
    }

    /// What was proved last, be it good now or before.
    pub const fn proved(&self) -> Option<&Proved> {
        match self {
            Self::Live(proved) | Self::Expired(proved) => Some(proved),
            Self::Forgotten { .. } | Self::Closed { .. } | Self::Unknown => None,
        }
    }

    /// The message by which it is so.
    pub const fn by(&self) -> Option<Sequence> {
        match self {
            Self::Live(proved) | Self::Expired(proved) => Some(proved.by),
            Self::Forgotten { by } | Self::Closed { by } => Some(*by),
            Self::Unknown => None,
        }
    }

    /// The word for it: of `countersign inspect`, `countersign explain` and the HTTP API.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Live(_) => "live",
            Self::Expired(_) => "expired",
            Self::Forgotten { .. } => "forgotten",
            Self::Closed { .. } => "closed",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::identity::{Issuer, Subject};

    #[test]
    fn a_token_counts_until_its_leeway_is_over() {
        let state = |now_ms| {
            let recorded = Authentication::Live {
                identity: Identity::new(Issuer::new("i"), Subject::new("alice")),
                until: Timestamp::from_secs(1_000),
                by: Sequence::new(7),
                resume: [0; 32],
            };
            RecordedState::of(Some(recorded), Timestamp::from_millis(now_ms), Duration::from_secs(5)).as_str()
        };
        assert_eq!(state(1_004_999), "live");
        assert_eq!(state(1_005_000), "expired");
    }
}
