//! The words of events.

use crate::token::{Rejection, Verdict};

/// What the verifier says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It is good.
    Valid,
    /// It was, and its time is over.
    Expired,
    /// It is not, or not yet.
    Invalid,
    /// That cannot be found out at the moment.
    Unavailable,
}

impl Checked {
    pub(crate) const fn of(verdict: &Verdict) -> Self {
        match &verdict.result {
            Ok(_) => Self::Valid,
            Err(Rejection::Expired) => Self::Expired,
            Err(Rejection::NotYet { .. } | Rejection::Invalid(_)) => Self::Invalid,
            Err(Rejection::Unavailable { .. }) => Self::Unavailable,
        }
    }
}

/// What a message's own token proves, by what the verifier says and what is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proved {
    /// There is no token.
    None,
    /// Who sent it.
    Valid,
    /// Nothing: it is revoked.
    Revoked,
    /// Who had the token, whose time is over.
    Expired,
    /// Nothing yet.
    NotYet,
    /// Nothing: the token is no good.
    Invalid,
    /// That cannot be found out at the moment.
    Unknown,
}

impl Proved {
    /// A word for it, for traces.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Valid => "valid",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::NotYet => "not-yet",
            Self::Invalid => "invalid",
            Self::Unknown => "unknown",
        }
    }
}

/// What became of a message that was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// It was handled.
    Handled,
    /// It had waited too long.
    Expired,
    /// It was another identity's.
    Mismatch,
    /// What it was accepted by was revoked.
    Revoked,
    /// Its connection has closed, and was no one's.
    Closed,
    /// Its sender gave it up.
    Cancelled,
}

impl Released {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Handled => "released",
            Self::Expired => "expired",
            Self::Mismatch => "refused",
            Self::Revoked => "revoked",
            Self::Closed => "closed",
            Self::Cancelled => "cancelled",
        }
    }
}
