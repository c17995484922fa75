//! The words that client and server say to each other: subprotocol `countersign.v1.json`.
//!
//! The terminator says few of them (it parses nothing), the worker all.

mod error_body;
pub mod push_ack;

use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::id::MalformedId;
pub use super::protocol::error_body::{Details, Effect, OWN_PREFIX};
use super::request_id::RequestId;

/// The WebSocket subprotocol (RFC 6455 §1.9) that browser and server speak.
pub const SUBPROTOCOL: &str = "countersign.v1.json";

/// Is offered beside it, and never chosen: a client that offers it is told in its first message what it may send.
pub const LIMITS_SUBPROTOCOL: &str = "countersign.limits";

/// Message types under this prefix are the protocol's own.
pub const RESERVED_PREFIX: &str = "auth.";

/// The type of the message that ends a connection's authentication, as it must be written to act before what was sent before it is
/// done; and its former name, which means the same.
pub const LOGOUT_TEXTS: [&str; 2] = ["\"auth.logout\"", "\"auth.forget\""];

/// The name of the member that holds a message's token, as it must be written: a terminator looks for it, and does not parse.
pub const TOKEN_MEMBER: &str = "\"token\"";

/// The name of the member that gives up a message, as it must be written to act before that is done.
pub const CANCEL_MEMBER: &str = "\"cancel\"";

/// The longest `id` a client may give a message, in bytes.
pub const MAX_ID_BYTES: usize = 128;

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

/// The `error` member: why, in a word and in a sentence, and whether to try again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "error_body::Members", try_from = "error_body::Members")]
pub struct ErrorBody {
    /// For programs; what stands on the wire, unless `own` does.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// Whether the same message may well succeed later, unchanged.
    pub temporary: bool,
    /// When to try again, in milliseconds from now.
    pub retry_after_ms: Option<u64>,
    /// The application's own code, with its prefix.
    pub own: Option<String>,
    /// What the application says besides, for programs.
    pub details: Option<Details>,
    /// What is known of the message's effect, where a client may try again.
    pub effect: Option<Effect>,
}

impl ErrorBody {
    /// An error as temporary as its code is.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            temporary: code.is_temporary(),
            retry_after_ms: None,
            own: None,
            details: None,
            effect: None,
        }
    }

    /// Says what is known of the message's effect.
    #[must_use]
    pub fn having(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// The same, where the code would be final and this time is not.
    #[must_use]
    pub fn for_now(mut self) -> Self {
        self.temporary = true;
        self
    }

    /// Adds when to try again.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}

/// The `auth` member: what the connection's authentication has become. Seconds
/// from now, never a clock time, because a browser's clock is anyone's guess.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthBody {
    /// Whose connection it is now (RFC 7519 §4.1.2).
    pub subject: String,
    /// Seconds until the authentication expires.
    pub expires_in: u64,
    /// Seconds until a fresh token should come.
    pub refresh_in: u64,
    /// What to show on another connection, to take over what this one has left held there.
    pub resume: String,
    /// For how many seconds a message is remembered by its `id`, so that it has its effect once however often it is sent;
    /// absent: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<u64>,
    /// Whether all that was pushed since the connection was lost whose `resume` key was shown comes now; absent: no key was
    /// shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
    /// How many pushes are known not to come, since there were too many, or they waited for too long; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
}

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

/// `limits`: what a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClientLimits {
    /// How large a message may be, its token included.
    pub max_message_bytes: usize,
    /// How many messages a second; none if any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<NonZeroU32>,
    /// The same before the connection has authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unauthenticated_messages_per_second: Option<NonZeroU32>,
}

impl ClientLimits {
    /// The message as it crosses the socket: one JSON text.
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Limits<'a> {
            r#type: &'static str,
            payload: &'a ClientLimits,
        }
        let limits = Limits {
            r#type: "limits",
            payload: self,
        };
        // Numbers are always JSON.
        serde_json::to_string(&limits).unwrap_or_default()
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

/// A message from server to client.
#[derive(Debug, Serialize)]
pub struct ServerMessage<'a> {
    /// Which kind it is.
    #[serde(rename = "type")]
    pub kind: ServerKind,
    /// The `id` of the message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<RequestId<'a>>,
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
    /// A fresh token is wanted.
    #[serde(rename = "auth.required")]
    AuthRequired,
    /// What a backend has to say to the connection's identity.
    #[serde(rename = "push")]
    Push,
}

impl<'a> ServerMessage<'a> {
    /// The refusal of the message `id`, or of something that has none.
    pub fn error(id: Option<RequestId<'a>>, error: &'a ErrorBody) -> Self {
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
    fn every_code_is_written_as_it_serializes() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn an_error_names_its_message_and_whether_to_try_again() {
        let body = ErrorBody::new(ErrorCode::Busy, "the queue is away").retry_after_ms(250);
        assert_eq!(
            ServerMessage::error(Some(RequestId::text("a\"b")), &body).to_json(),
            r#"{"type":"error","id":"a\"b","error":{"code":"busy","message":"the queue is away","temporary":true,"retry_after_ms":250}}"#
        );
    }

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

    #[test]
    fn every_close_reason_fits_its_frame() {
        for code in CloseCode::ALL {
            // Behind it stands the connection: ` (0123456789abcdef.0123456789abcdef)`.
            assert!(code.reason().len() + 36 <= 123);
            assert_eq!(CloseCode::from_code(code.code().into()), Some(code));
        }
    }
}
