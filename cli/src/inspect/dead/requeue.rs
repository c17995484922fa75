//! Sending what is dead to the workers again.
//!
//! A letter is no longer the message that it was: its token is gone, and so is
//! the connection that it came by. It is sent as anyone might send it, with a
//! token that someone puts in anew, and this tool waits for the answer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value as Json;
use serde_json::value::{RawValue, to_raw_value};
use shared::bus::topology::keys;
use shared::bus::{Message, Properties, Value};
use shared::wire::envelope::JSON;

use super::letter::DeadLetter;
use crate::support::broker::BrokerArgs;
use crate::support::message::Answer;
use crate::support::print;
use crate::support::rpc_client::{NoReply, One, Pace, RpcClient};

/// What a worker puts where something of a token's shape stood.
const REDACTED: &str = "[redacted]";

/// The kind of what a terminator forwards for a client; its other kinds are its own notices.
const CLIENTS: &str = "message";

/// Letters are sent one after the other, in their order.
const IN_FLIGHT: u16 = 1;

/// Sends letters again.
pub(super) struct Requeuer<'a> {
    line: RpcClient,
    token: Option<&'a str>,
    force: bool,
}

/// What became of a letter that was to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Requeued {
    /// It was answered without error.
    Processed,
    /// It was refused, or cannot be sent.
    Refused,
    /// It was not taken, or not answered in time.
    Unanswered,
}

/// Why a letter cannot be sent again as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Hopeless {
    #[error("its token is gone, as no token is ever kept; put a fresh one in with --token")]
    NeedsToken,
    #[error("it is sealed; give the key that it is sealed with, --seal-keys")]
    Sealed,
    #[error(
        "it is no client message (an object with a type), so no worker can process it; drop it when you have seen it"
    )]
    NoMessage,
    #[error("it is a terminator's own notice about a connection, which is over; drop it when you have seen it")]
    Notice,
    #[error(
        "something that looked like a token was removed from its payload; send it anyway with --force, or \
         fix it and use `countersign inject`"
    )]
    Mutilated,
}

/// Under which key, and what.
type Letterhead = (&'static str, Message);

impl<'a> Requeuer<'a> {
    /// Connects.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    pub(super) async fn open(
        broker: &BrokerArgs,
        timeout: Duration,
        token: Option<&'a str>,
        force: bool,
    ) -> anyhow::Result<Self> {
        let pace = Pace {
            in_flight: IN_FLIGHT,
            timeout,
        };
        let line = RpcClient::open(broker, pace, true).await?;
        Ok(Self { line, token, force })
    }

    /// Sends it, and tells what comes of it.
    ///
    /// # Errors
    /// If the line is broken.
    pub(super) async fn requeue(&mut self, letter: &DeadLetter) -> anyhow::Result<Requeued> {
        let name = &letter.name;
        let (key, message) = match anew(letter, self.token, self.force) {
            Ok(anew) => anew,
            Err(why) => {
                print::note(&format!("{name} stays: {why}"));
                return Ok(Requeued::Refused);
            }
        };
        let mut request = One::new(message);
        self.line.ask(key, &mut request).await?;
        Ok(match request.reply {
            Some(Ok(answer)) => {
                print::line(&String::from_utf8_lossy(&answer.body));
                if is_refusal(&answer.body) {
                    print::note(&format!("{name} stays: it was refused"));
                    Requeued::Refused
                } else {
                    Requeued::Processed
                }
            }
            Some(Err(NoReply::NotTaken(error))) => {
                print::note(&format!("{name} stays: the broker has not taken the message: {error}"));
                Requeued::Unanswered
            }
            Some(Err(NoReply::Unanswered | NoReply::Taken)) | None => {
                print::note(&format!(
                    "{name} stays: no answer in time. The message waits for a worker and may still be processed; look \
                     before you send it once more"
                ));
                Requeued::Unanswered
            }
        })
    }

    /// Hangs up.
    pub(super) async fn close(self) {
        self.line.close().await;
    }
}

impl Requeued {
    /// For the exit status: 0, 1 or 2.
    pub(super) const fn status(self) -> u8 {
        match self {
            Self::Processed => 0,
            Self::Refused => 1,
            Self::Unanswered => 2,
        }
    }
}

/// The message that a letter becomes. Pure.
fn anew(letter: &DeadLetter, token: Option<&str>, force: bool) -> Result<Letterhead, Hopeless> {
    let queue = letter.text("queue").unwrap_or_default();
    let (key, body) = match queue.rsplit('.').next() {
        Some("pushes") => (keys::PUSH, letter.body.clone()),
        Some("revocations") => (keys::REVOKE, letter.body.clone()),
        _ => (keys::MESSAGE, with_token(letter, token)?),
    };
    if !force
        && letter
            .body
            .windows(REDACTED.len())
            .any(|bytes| bytes == REDACTED.as_bytes())
    {
        return Err(Hopeless::Mutilated);
    }
    let message = Message {
        body: Bytes::from(body),
        properties: Properties {
            content_type: Some(JSON.to_owned()),
            // A push keeps its id, so that a client that has it already knows it.
            message_id: letter.message_id.clone().filter(|_| key == keys::PUSH),
            headers: if key == keys::PUSH {
                recipient(letter)
            } else {
                Vec::new()
            },
            ..Properties::default()
        },
    };
    Ok((key, message))
}

/// The client's message with that token. All else stays to the byte.
fn with_token(letter: &DeadLetter, token: Option<&str>) -> Result<Vec<u8>, Hopeless> {
    if letter.is_sealed() {
        return Err(Hopeless::Sealed);
    }
    if letter.kind.as_deref().is_some_and(|kind| kind != CLIENTS) {
        return Err(Hopeless::Notice);
    }
    let mut members: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(&letter.body).map_err(|_| Hopeless::NoMessage)?;
    if !members.contains_key("type") {
        return Err(Hopeless::NoMessage);
    }
    let token = to_raw_value(token.ok_or(Hopeless::NeedsToken)?).map_err(|_| Hopeless::NeedsToken)?;
    members.insert("token".to_owned(), token);
    serde_json::to_vec(&members).map_err(|_| Hopeless::NoMessage)
}

/// For whom a push was.
fn recipient(letter: &DeadLetter) -> Vec<(String, Value)> {
    ["subject", "subjects", "issuer", "connection"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), Value::Text(letter.text(name)?.to_owned()))))
        .collect()
}

/// Whether an answer, or an outcome, says no.
fn is_refusal(body: &[u8]) -> bool {
    let outcome = || {
        serde_json::from_slice::<Json>(body)
            .ok()?
            .get("outcome")
            .map(|outcome| outcome == "refused")
    };
    Answer::read(body).is_some_and(|answer| answer.is_refusal()) || outcome() == Some(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    fn letter(queue: &str, body: &str) -> DeadLetter {
        DeadLetter {
            message_id: Some("p-1".to_owned()),
            correlation_id: Some("0123456789abcdef.1.7".to_owned()),
            headers: Map::from_iter([
                ("queue".to_owned(), queue.into()),
                ("subject".to_owned(), "alice".into()),
                ("reason".to_owned(), "delivery_limit".into()),
            ]),
            body: body.as_bytes().to_vec(),
            ..DeadLetter::default()
        }
    }

    #[test]
    fn a_message_goes_out_with_the_token_that_is_put_in_and_is_else_as_it_was() {
        let body = r#"{"id":"7","payload":{"n":1.000000000000000000001},"type":"order"}"#;
        let (key, message) = anew(&letter("c.retry", body), Some("fresh"), false).unwrap();
        assert_eq!(key, keys::MESSAGE);
        let sent = String::from_utf8(message.body.to_vec()).unwrap();
        assert!(
            sent.contains("1.000000000000000000001") && sent.contains(r#""token":"fresh""#),
            "{sent}"
        );
        // It is no one's message any more: no message id, no headers that a worker might read.
        assert_eq!(message.properties.correlation_id, None);
        assert!(message.properties.headers.is_empty() && message.properties.message_id.is_none());
    }

    #[test]
    fn what_cannot_be_processed_again_is_told_why() {
        let hopeless = |body: &str, token| anew(&letter("c.messages", body), token, false).unwrap_err();
        assert_eq!(hopeless(r#"{"type":"order"}"#, None), Hopeless::NeedsToken);
        assert_eq!(hopeless("nonsense", Some("t")), Hopeless::NoMessage);
        assert_eq!(hopeless(r#"{"payload":1}"#, Some("t")), Hopeless::NoMessage);
        let mutilated = r#"{"type":"order","payload":"[redacted]"}"#;
        assert_eq!(hopeless(mutilated, Some("t")), Hopeless::Mutilated);
        anew(&letter("c.messages", mutilated), Some("t"), true).unwrap();
        let closed = DeadLetter {
            kind: Some("closed".to_owned()),
            ..letter("c.messages", "")
        };
        assert_eq!(anew(&closed, Some("t"), false).unwrap_err(), Hopeless::Notice);
    }

    #[test]
    fn a_push_keeps_its_recipient_and_its_id_and_needs_no_token() {
        let (key, message) = anew(&letter("c.pushes", r#"{"x":1}"#), None, false).unwrap();
        assert_eq!((key, &message.body[..]), (keys::PUSH, &br#"{"x":1}"#[..]));
        assert_eq!(message.properties.message_id.as_deref(), Some("p-1"));
        assert_eq!(
            message.properties.headers,
            [("subject".to_owned(), Value::Text("alice".to_owned()))]
        );
        let (key, _) = anew(&letter("c.revocations", "{}"), None, false).unwrap();
        assert_eq!(key, keys::REVOKE);
    }

    #[test]
    fn a_refusal_is_known_in_either_form() {
        assert!(is_refusal(json!({"type": "error", "error": {}}).to_string().as_bytes()));
        assert!(is_refusal(
            json!({"outcome": "refused", "error": {}}).to_string().as_bytes()
        ));
        assert!(!is_refusal(json!({"outcome": "held"}).to_string().as_bytes()));
        assert!(!is_refusal(json!({"type": "reply"}).to_string().as_bytes()));
    }
}
