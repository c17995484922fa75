//! What a worker tells of a push, and how many fared how.

use std::fmt;
use std::process::ExitCode;

use serde::Deserialize;
use serde_json::{Map, Value};

/// What became of one push.
#[derive(Debug, PartialEq)]
pub(super) enum Outcome {
    /// It is written to the first of so many connections.
    Delivered { connections: u64 },
    /// It is on its way to so many connections: of a push for many.
    Sent { connections: u64 },
    /// It waits for the identity.
    Held,
    /// The connection is closed, or there never was one of that name.
    NoRecipient,
    /// It is not accepted.
    Refused { code: String, message: String },
    /// It was held, and no one came in time.
    Expired,
    /// What this version does not know.
    Other(String),
}

/// What became of it for one of those that a push is for.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    /// Who, if the push named many.
    pub(super) subject: Option<String>,
    pub(super) outcome: Outcome,
}

/// An outcome as it crosses the broker.
#[derive(Deserialize)]
struct Wire {
    outcome: String,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    outcomes: Vec<Wire>,
    #[serde(default)]
    connections: u64,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Told {
    /// Reads what a worker tells of a push, for each that it is for. What is none is told as it is.
    pub(super) fn read(body: &[u8]) -> Vec<Self> {
        let Ok(wire) = serde_json::from_slice::<Wire>(body) else {
            let outcome = Outcome::Other(String::from_utf8_lossy(body).into_owned());
            return vec![Self { subject: None, outcome }];
        };
        let each = if wire.outcome == "of_each" {
            wire.outcomes
        } else {
            vec![wire]
        };
        each.into_iter()
            .map(|wire| Self {
                subject: wire.subject.clone(),
                outcome: Outcome::of(wire),
            })
            .collect()
    }

    /// One line for people.
    pub(super) fn to_text(&self, id: &str) -> String {
        let subject = self.subject.as_ref().map(|subject| format!("{subject:?}: "));
        format!("{id}  {}{}", subject.unwrap_or_default(), self.outcome)
    }

    /// One line of JSON, with the members of the worker's own and the push's id.
    pub(super) fn to_json(&self, id: &str) -> String {
        let mut json = self.outcome.members(id);
        if let Some(subject) = &self.subject {
            json.insert("subject".to_owned(), subject.as_str().into());
        }
        Value::Object(json).to_string()
    }
}

impl Outcome {
    fn of(wire: Wire) -> Self {
        match wire.outcome.as_str() {
            "delivered" => Self::Delivered {
                connections: wire.connections,
            },
            "sent" => Self::Sent {
                connections: wire.connections,
            },
            "held" => Self::Held,
            "no_recipient" => Self::NoRecipient,
            "expired" => Self::Expired,
            "refused" => {
                let Refusal { code, message } = wire.error.unwrap_or_default();
                Self::Refused { code, message }
            }
            _ => Self::Other(wire.outcome),
        }
    }

    fn members(&self, id: &str) -> Map<String, Value> {
        let mut json = Map::new();
        json.insert("id".to_owned(), id.into());
        json.insert("outcome".to_owned(), self.word().into());
        match self {
            Self::Delivered { connections } | Self::Sent { connections } => {
                json.insert("connections".to_owned(), (*connections).into());
            }
            Self::Refused { code, message } => {
                let error = serde_json::json!({"code": code, "message": message});
                json.insert("error".to_owned(), error);
            }
            Self::Held | Self::NoRecipient | Self::Expired | Self::Other(_) => {}
        }
        json
    }

    fn word(&self) -> &str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Sent { .. } => "sent",
            Self::Held => "held",
            Self::NoRecipient => "no_recipient",
            Self::Refused { .. } => "refused",
            Self::Expired => "expired",
            Self::Other(word) => word,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered { connections: 1 } => f.write_str("delivered to 1 connection"),
            Self::Delivered { connections } => write!(f, "delivered to {connections} connections"),
            Self::Sent { connections } => write!(f, "sent to connections: {connections}"),
            Self::Held => f.write_str("held until the identity has a connection with a valid token"),
            Self::NoRecipient => f.write_str("no recipient: the connection is not open"),
            Self::Refused { code, message } => write!(f, "refused: {code}: {message}"),
            Self::Expired => f.write_str("expired: it was held, and the identity did not connect in time"),
            Self::Other(text) => write!(f, "unknown outcome: {text}"),
        }
    }
}

/// How many fared how.
#[derive(Debug, Default)]
pub(super) struct Tally {
    delivered: u64,
    held: u64,
    no_recipient: u64,
    refused: u64,
    /// The broker has them, and no one asked for more.
    pub(super) taken: u64,
    /// No one told.
    pub(super) unanswered: u64,
    /// The broker did not take them.
    pub(super) failed: u64,
}

impl Tally {
    /// Counts a first outcome.
    pub(super) fn count(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Delivered { .. } | Outcome::Sent { .. } => &mut self.delivered,
            Outcome::Held => &mut self.held,
            Outcome::NoRecipient => &mut self.no_recipient,
            Outcome::Refused { .. } | Outcome::Expired | Outcome::Other(_) => &mut self.refused,
        } += 1;
    }

    /// Whether the broker took pushes and no worker said a word.
    pub(super) fn is_in_vain(&self) -> bool {
        self.unanswered > 0 && self.delivered + self.held + self.no_recipient + self.refused == 0
    }

    /// The worst of all.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status())
    }

    fn status(&self) -> u8 {
        if self.unanswered + self.failed > 0 {
            2
        } else if self.refused + self.no_recipient > 0 {
            1
        } else if self.held > 0 {
            3
        } else {
            0
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.delivered, "delivered"),
            (self.held, "held"),
            (self.no_recipient, "without a recipient"),
            (self.refused, "refused"),
            (self.taken, "taken by the broker"),
            (self.unanswered, "without an outcome in time"),
            (self.failed, "not taken by the broker"),
        ];
        let told: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if told.is_empty() {
            return f.write_str("nothing to push");
        }
        f.write_str(&told.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_told_in_words_and_again_in_json() {
        let one = |body: &[u8]| Told::read(body).pop().expect("it is about one");
        let outcome = one(br#"{"outcome":"delivered","connections":2}"#);
        assert_eq!(outcome.to_text("p"), "p  delivered to 2 connections");
        let json: Value = serde_json::from_str(&outcome.to_json("p")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"id": "p", "outcome": "delivered", "connections": 2})
        );
        let refused = one(br#"{"outcome":"refused","error":{"code":"hold_overflow","message":"too much"}}"#);
        assert_eq!(refused.to_text("p"), "p  refused: hold_overflow: too much");
        let json: Value = serde_json::from_str(&refused.to_json("p")).unwrap();
        assert_eq!(json["error"]["code"], "hold_overflow");
        assert_eq!(one(br#"{"outcome":"held"}"#).outcome, Outcome::Held);
        assert_eq!(one(br#"{"outcome":"no_recipient"}"#).outcome, Outcome::NoRecipient);
        assert!(one(b"nonsense").to_text("p").contains("nonsense"));
    }

    #[test]
    fn what_becomes_of_a_push_for_many_is_told_of_each() {
        let body = br#"{"outcome":"of_each","outcomes":[{"subject":"a","outcome":"held"},{"subject":"b","outcome":"expired"}]}"#;
        let told = Told::read(body);
        let texts: Vec<_> = told.iter().map(|one| one.to_text("p")).collect();
        assert!(texts[0].starts_with("p  \"a\": held"), "{texts:?}");
        let json: Value = serde_json::from_str(&told[1].to_json("p")).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"id": "p", "subject": "b", "outcome": "expired"})
        );
    }

    #[test]
    fn the_status_tells_the_worst() {
        let mut tally = Tally::default();
        assert_eq!(tally.status(), 0);
        for (outcome, status) in [
            (Outcome::Delivered { connections: 1 }, 0),
            (Outcome::Held, 3),
            (Outcome::NoRecipient, 1),
            (Outcome::Held, 1),
        ] {
            tally.count(&outcome);
            assert_eq!(tally.status(), status, "{outcome:?}");
        }
        tally.unanswered = 1;
        assert_eq!(tally.status(), 2);
        assert_eq!(
            tally.to_string(),
            "1 delivered, 2 held, 1 without a recipient, 1 without an outcome in time"
        );
    }
}
