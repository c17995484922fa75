//! A client message, `{"id"?, "type", "token"?, "payload"?}`, made from flags.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// The flags that make a message.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MessageArgs {
    /// The `type` of the message, which the application defines.
    #[arg(long = "type", value_name = "TYPE", default_value = "echo")]
    pub(crate) kind: String,
    /// The payload: any JSON.
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub(crate) payload: Option<Value>,
    /// The token that authenticates it; `countersign token mint NAME` makes one for development.
    #[arg(long, value_name = "JWT", env = "COUNTERSIGN_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Its name, which comes back with the answer: at most 128 bytes.
    #[arg(long, value_parser = id)]
    pub(crate) id: Option<String>,
}

/// A message as it crosses the socket.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ClientMessage<'a, P> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<&'a str>,
    #[serde(rename = "type")]
    pub(crate) kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<P>,
}

impl<P: Serialize> ClientMessage<'_, P> {
    /// One JSON text.
    pub(crate) fn to_json(&self) -> String {
        // Only a map with keys that are no strings can fail, and JSON has none.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl MessageArgs {
    /// The message with this `id`.
    pub(crate) fn message(&self, id: Option<&str>) -> String {
        self.with_payload(id, self.payload.as_ref())
    }

    /// The message with this `id` and payload instead of its own.
    pub(crate) fn with_payload<P: Serialize>(&self, id: Option<&str>, payload: Option<P>) -> String {
        ClientMessage {
            id,
            kind: &self.kind,
            token: self.token.as_deref(),
            payload,
        }
        .to_json()
    }
}

/// What the tool wants to know of a message from the server.
#[derive(Debug, Deserialize)]
pub(crate) struct Answer<'a> {
    /// Its kind: `reply`, `error`, `auth.ok`.
    #[serde(rename = "type", borrow)]
    pub(crate) kind: std::borrow::Cow<'a, str>,
    /// Which message it answers.
    #[serde(borrow, default)]
    pub(crate) id: Option<std::borrow::Cow<'a, str>>,
    /// Why it was refused.
    #[serde(borrow, default)]
    pub(crate) error: Option<&'a RawValue>,
}

impl<'a> Answer<'a> {
    /// Reads an answer; none if it is none.
    pub(crate) fn read(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Whether it refuses the message.
    pub(crate) fn is_refusal(&self) -> bool {
        self.kind == "error" || self.error.is_some()
    }
}

/// Reads JSON, and says how a string is written where one was meant.
pub(crate) fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| {
        format!(
            "not JSON ({error}); a string needs its quotes inside the shell's: '\"{}\"'",
            text.escape_default()
        )
    })
}

fn id(text: &str) -> Result<String, String> {
    if text.len() <= shared::wire::protocol::MAX_ID_BYTES {
        Ok(text.to_owned())
    } else {
        Err(format!("longer than {} bytes", shared::wire::protocol::MAX_ID_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_holds_what_was_given_and_nothing_else() {
        let mut args = MessageArgs {
            kind: "echo".to_owned(),
            payload: None,
            token: None,
            id: None,
        };
        assert_eq!(args.message(None), r#"{"type":"echo"}"#);
        args.payload = Some(serde_json::json!({"x": 1}));
        args.token = Some("t".to_owned());
        assert_eq!(
            args.message(Some("7")),
            r#"{"id":"7","type":"echo","token":"t","payload":{"x":1}}"#
        );
    }

    #[test]
    fn a_refusal_is_told_from_a_reply() {
        let reply = Answer::read(br#"{"type":"reply","id":"a\"b","payload":1}"#).unwrap();
        assert_eq!((reply.is_refusal(), reply.id.as_deref()), (false, Some("a\"b")));
        assert!(
            Answer::read(br#"{"type":"error","error":{"code":"busy"}}"#)
                .unwrap()
                .is_refusal()
        );
        assert!(Answer::read(b"[]").is_none());
    }
}
