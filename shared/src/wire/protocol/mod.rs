//! The words that client and server say to each other: subprotocol `countersign.v1.json`.
//!
//! The terminator says few of them (it parses nothing), the worker all.

mod auth_required;
mod close_code;
mod error_body;
mod error_code;
pub mod push_ack;

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::auth_required::{AuthRequired, Held, Reason};
pub use self::close_code::CloseCode;
pub use self::error_body::{Details, Effect, OWN_PREFIX};
pub use self::error_code::ErrorCode;
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

/// The longest text that requests them again.
const MAX_LIMITS_REQUEST_BYTES: usize = 64;

impl ClientLimits {
    /// Whether a client's text requests them again: `{"type":"limits"}`, and nothing else.
    pub fn is_request(text: &[u8]) -> bool {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Request<'a> {
            r#type: &'a str,
        }
        // A structure could be read from an array, too.
        text.len() <= MAX_LIMITS_REQUEST_BYTES
            && text.trim_ascii_start().starts_with(b"{")
            && serde_json::from_slice(text).is_ok_and(|Request { r#type }| r#type == "limits")
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_requested_by_one_text_and_no_other() {
        for text in [r#"{"type":"limits"}"#, r#" { "type" : "limits" } "#] {
            assert!(ClientLimits::is_request(text.as_bytes()), "{text}");
        }
        let long = format!("{}{}", r#"{"type":"limits"}"#, " ".repeat(MAX_LIMITS_REQUEST_BYTES));
        for text in [
            r#"{"type":"limits","id":"1"}"#,
            r#"{"type":"echo"}"#,
            r#"{"type":"limits"}{}"#,
            r#"["limits"]"#,
            r#"{"type":"limits","type":"limits"}"#,
            "\"limits\"",
            "",
            &long,
        ] {
            assert!(!ClientLimits::is_request(text.as_bytes()), "{text}");
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
}
