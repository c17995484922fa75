//! How a connection ends, and what that means for what was not written.

use shared::wire::envelope::Bounced;
use shared::wire::protocol::CloseCode;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;

use crate::session::notices::is_for_authentication;

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The client left, or its network did.
    Left,
    /// We close.
    Close {
        code: CloseCode,
        /// Whether the client is still to be told why, by an error.
        say: bool,
    },
    /// We close without a word: what the socket has not taken may not be written any more.
    Cut(CloseCode),
}

impl CloseReason {
    /// We close, and say why.
    pub(crate) const fn close(code: CloseCode) -> Self {
        Self::Close { code, say: true }
    }

    /// The code with which we end it, if it is we who do.
    pub(crate) const fn code(self) -> Option<CloseCode> {
        match self {
            Self::Left => None,
            Self::Close { code, .. } | Self::Cut(code) => Some(code),
        }
    }

    /// Whether it is for its authentication.
    pub(crate) fn is_for_authentication(self) -> bool {
        self.code().is_some_and(is_for_authentication)
    }

    /// Why what was not written goes back.
    pub(crate) const fn bounced(self) -> Bounced {
        match self {
            Self::Close {
                code: CloseCode::AuthRequired | CloseCode::Revoked,
                ..
            }
            | Self::Cut(CloseCode::AuthRequired | CloseCode::Revoked) => Bounced::Expired,
            Self::Left | Self::Close { .. } | Self::Cut(_) => Bounced::Gone,
        }
    }

    /// How a socket that failed is to end (RFC 6455 §7.4.1).
    pub(crate) const fn of(error: &Error) -> Self {
        match error {
            Error::Capacity(_) => Self::close(CloseCode::TooBig),
            Error::Utf8(_) => Self::close(CloseCode::InvalidText),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Left,
            Error::Protocol(_) => Self::close(CloseCode::Protocol),
            _ => Self::Left,
        }
    }
}
