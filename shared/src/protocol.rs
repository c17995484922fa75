//! The words that client and server say to each other: subprotocol `countersign.v1.json`.
//!
//! The terminator says few of them (it parses nothing), the worker all.

use serde::Serialize;
use serde_json::value::RawValue;

/// The WebSocket subprotocol (RFC 6455 §1.9) that browser and server speak.
pub const SUBPROTOCOL: &str = "countersign.v1.json";

/// Message types under this prefix are the protocol's own.
pub const RESERVED_PREFIX: &str = "auth.";

/// The longest `id` a client may give a message, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// Why a message was refused: the `code` of an `error`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
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
    /// The identity may not do this.
    Forbidden,
    /// Whether it is authentic cannot be found out just now.
    AuthUnavailable,
    /// The client sends faster than it may.
    RateLimited,
    /// The message is larger than it may be.
    TooLarge,
    /// The system cannot take it just now.
    Busy,
    /// Something went wrong here; it is not the client's doing.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::BadRequest,
        Self::AuthRequired,
        Self::TokenExpired,
        Self::TokenInvalid,
        Self::Forbidden,
        Self::AuthUnavailable,
        Self::RateLimited,
        Self::TooLarge,
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
            Self::Forbidden => "forbidden",
            Self::AuthUnavailable => "auth_unavailable",
            Self::RateLimited => "rate_limited",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Internal => "internal",
        }
    }

    /// Whether the same message may well succeed later, unchanged.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::AuthUnavailable | Self::RateLimited | Self::Busy)
    }
}

/// The `error` member: why, in a word and in a sentence, and whether to try again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorBody {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// Whether the same message may well succeed later, unchanged.
    pub temporary: bool,
    /// When to try again, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl ErrorBody {
    /// An error as temporary as its code is.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            temporary: code.is_temporary(),
            retry_after_ms: None,
        }
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}

/// The `auth` member: what the connection's authentication has become. Seconds
/// from now, never a clock time, because a browser's clock is anybody's guess.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthBody {
    /// Whose connection it is now (RFC 7519 §4.1.2).
    pub subject: String,
    /// Seconds until the authentication lapses.
    pub expires_in: u64,
    /// Seconds until a fresh token had better come.
    pub refresh_in: u64,
}

/// A message from server to client.
#[derive(Debug, Serialize)]
pub struct ServerMessage<'a> {
    /// Which kind it is.
    #[serde(rename = "type")]
    pub kind: ServerKind,
    /// The `id` of the message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    /// The handler's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<&'a RawValue>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a ErrorBody>,
    /// What the connection's authentication has become, if this message changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<&'a AuthBody>,
}

/// The `type` of a message from server to client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ServerKind {
    /// The handler's answer to a message.
    #[serde(rename = "reply")]
    Reply,
    /// The refusal of a message, or the reason of the close that follows.
    #[serde(rename = "error")]
    Error,
    /// The connection's authentication has changed, and there is nothing else to say.
    #[serde(rename = "auth.ok")]
    AuthOk,
}

impl<'a> ServerMessage<'a> {
    /// The refusal of the message `id`, or of something that has none.
    pub fn error(id: Option<&'a str>, error: &'a ErrorBody) -> Self {
        Self {
            kind: ServerKind::Error,
            id,
            payload: None,
            error: Some(error),
            auth: None,
        }
    }

    /// The message as it crosses the socket: one JSON text.
    pub fn to_json(&self) -> String {
        // Only a map with keys that are no strings, or a failing `Serialize`, can fail; there is neither in here.
        serde_json::to_string(self).unwrap_or_default()
    }
}

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
    /// The client reads too slowly.
    SlowReader = 4410,
    /// The client sends faster than it may.
    RateLimited = 4429,
}

impl CloseCode {
    /// The code as it stands on the wire.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// A sentence for people, short enough for a close frame (123 bytes).
    pub const fn reason(self) -> &'static str {
        match self {
            Self::GoingAway => "nothing was heard from you for too long",
            Self::Protocol => "the frames break RFC 6455",
            Self::Unsupported => "send JSON text frames, not binary ones",
            Self::InvalidText => "the text is not UTF-8",
            Self::TooBig => "the message is too big",
            Self::Internal => "something went wrong here",
            Self::Restart => "this server restarts; reconnect with jitter",
            Self::Overload => "too busy; reconnect later",
            Self::SlowReader => "you read too slowly",
            Self::RateLimited => "you send too fast; back off",
        }
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

    #[test]
    fn an_error_names_its_message_and_whether_to_try_again() {
        let body = ErrorBody::new(ErrorCode::Busy, "the queue is away").retry_after_ms(250);
        assert_eq!(
            ServerMessage::error(Some("a\"b"), &body).to_json(),
            r#"{"type":"error","id":"a\"b","error":{"code":"busy","message":"the queue is away","temporary":true,"retry_after_ms":250}}"#
        );
    }

    #[test]
    fn every_close_reason_fits_its_frame() {
        for code in [
            CloseCode::GoingAway,
            CloseCode::Protocol,
            CloseCode::Unsupported,
            CloseCode::InvalidText,
            CloseCode::TooBig,
            CloseCode::Internal,
            CloseCode::Restart,
            CloseCode::Overload,
            CloseCode::SlowReader,
            CloseCode::RateLimited,
        ] {
            assert!(code.reason().len() <= 123);
        }
    }
}
