//! Why a message is refused, for programs.

use serde::{Deserialize, Serialize};

/// Why a message was refused: the `code` of an `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The message is not one.
    BadRequest,
    /// It needs a token, and has none.
    AuthRequired,
    /// Its token was good, and is past its time.
    TokenExpired,
    /// Its token is not acceptable, now or later.
    TokenInvalid,
    /// Its token was revoked before its time.
    TokenRevoked,
    /// Its token is another identity's than the connection's.
    IdentityMismatch,
    /// The identity may not do this.
    Forbidden,
    /// Whether it is authentic cannot be found out at the moment.
    AuthUnavailable,
    /// The client sends faster than it may.
    RateLimited,
    /// The message is larger than it may be.
    TooLarge,
    /// It would have been held until a fresh token comes, and too much is held already.
    HoldOverflow,
    /// It was held, and no fresh token came in time.
    HoldExpired,
    /// Its `id` was another message's, or its own and the answer is not kept.
    Duplicate,
    /// No one waits for it any more: its `timeout_ms` has passed.
    DeadlineExceeded,
    /// Its sender has given it up.
    Cancelled,
    /// The system cannot take it at the moment.
    Busy,
    /// Something went wrong here; it is not the client's doing.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 17] = [
        Self::BadRequest,
        Self::AuthRequired,
        Self::TokenExpired,
        Self::TokenInvalid,
        Self::TokenRevoked,
        Self::IdentityMismatch,
        Self::Forbidden,
        Self::AuthUnavailable,
        Self::RateLimited,
        Self::TooLarge,
        Self::HoldOverflow,
        Self::HoldExpired,
        Self::Duplicate,
        Self::DeadlineExceeded,
        Self::Cancelled,
        Self::Busy,
        Self::Internal,
    ];

    /// The code as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::AuthRequired => "auth_required",
            Self::TokenExpired => "token_expired",
            Self::TokenInvalid => "token_invalid",
            Self::TokenRevoked => "token_revoked",
            Self::IdentityMismatch => "identity_mismatch",
            Self::Forbidden => "forbidden",
            Self::AuthUnavailable => "auth_unavailable",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::HoldOverflow => "hold_overflow",
            Self::HoldExpired => "hold_expired",
            Self::Duplicate => "duplicate",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Cancelled => "cancelled",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }

    /// Whether the same message may well succeed later, unchanged.
    pub const fn is_temporary(self) -> bool {
        matches!(
            self,
            Self::AuthUnavailable | Self::RateLimited | Self::DeadlineExceeded | Self::Cancelled | Self::Busy
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_written_as_it_serializes() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }
}
