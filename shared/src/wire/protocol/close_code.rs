//! Why a socket is closed, for programs and for people.

/// Why a socket is closed by the server: a status code of RFC 6455 §7.4, or one
/// of the application's own. From 4000 to 4499 a client reconnects, from 4500 it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum CloseCode {
    /// The peer was silent too long, or leaves.
    GoingAway = 1001,
    /// The frames break RFC 6455.
    Protocol = 1002,
    /// A binary frame.
    Unsupported = 1003,
    /// A text that is not UTF-8.
    InvalidText = 1007,
    /// A frame or message over the limit.
    TooBig = 1009,
    /// Something went wrong here.
    Internal = 1011,
    /// The terminator drains.
    Restart = 1012,
    /// The terminator has more than it can do.
    Overload = 1013,
    /// Authentication is missing, or has expired.
    AuthRequired = 4401,
    /// No authentication came in time.
    AuthTimeout = 4408,
    /// The client reads too slowly.
    SlowReader = 4410,
    /// The client sends faster than it may.
    RateLimited = 4429,
    /// The token is not acceptable, now or later.
    TokenInvalid = 4501,
    /// The authentication was revoked before its time.
    Revoked = 4503,
    /// Its identity has too many connections.
    ConnectionLimit = 4505,
    /// The token is another identity's than the connection's.
    IdentityMismatch = 4509,
    /// Another connection has taken over from this one.
    Replaced = 4510,
}

impl CloseCode {
    /// Every code.
    pub const ALL: [Self; 17] = [
        Self::GoingAway,
        Self::Protocol,
        Self::Unsupported,
        Self::InvalidText,
        Self::TooBig,
        Self::Internal,
        Self::Restart,
        Self::Overload,
        Self::AuthRequired,
        Self::AuthTimeout,
        Self::SlowReader,
        Self::RateLimited,
        Self::TokenInvalid,
        Self::Revoked,
        Self::ConnectionLimit,
        Self::IdentityMismatch,
        Self::Replaced,
    ];

    /// The code of that number, if it is one of ours.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|one| u64::from(one.code()) == code)
    }

    /// The code as it stands on the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// A sentence for people, short enough for a close frame (123 bytes).
    pub const fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "the client was silent for too long",
            Self::Protocol => "the frames break RFC 6455",
            Self::Unsupported => "send JSON text frames, not binary ones",
            Self::InvalidText => "the text is not UTF-8",
            Self::TooBig => "the message is too big",
            Self::Internal => "internal error",
            Self::Restart => "this server restarts; reconnect with jitter",
            Self::Overload => "too busy; reconnect later",
            Self::AuthRequired => "authentication is missing or has expired; get a token and reconnect",
            Self::AuthTimeout => "no authentication came in time; get a token and reconnect",
            Self::SlowReader => "you read too slowly",
            Self::RateLimited => "you send too fast; back off",
            Self::TokenInvalid => "the token is invalid",
            Self::Revoked => "the authentication was revoked",
            Self::ConnectionLimit => "your identity has too many connections",
            Self::IdentityMismatch => "the token is another identity's than the connection's",
            Self::Replaced => "another connection has resumed this one",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_close_reason_fits_its_frame() {
        for code in CloseCode::ALL {
            // Behind it stands the connection: ` (0123456789abcdef.0123456789abcdef)`.
            assert!(code.reason().len() + 36 <= 123);
            assert_eq!(CloseCode::from_code(code.code().into()), Some(code));
        }
    }
}
