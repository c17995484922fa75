//! What the producer of a push, or of a revocation, is told of it.

use serde::Serialize;
use shared::bus::{Message, Properties};
use shared::wire::envelope::JSON;
use shared::wire::protocol::ErrorBody;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It is written to the first of so many live connections.
    Delivered {
        /// The number of connections.
        connections: usize,
    },
    /// It is on its way to so many live connections.
    Sent {
        /// The number of connections.
        connections: usize,
    },
    /// It waits for the identity's next live connection.
    Held,
    /// The connection that it was for is not there.
    NoRecipient,
    /// It is not taken.
    Refused {
        /// The error that its producer is told.
        error: ErrorBody,
    },
    /// It was held, and given up.
    Expired,
    /// It was for many, and this is what became of it for each of them.
    OfEach {
        /// In the order in which they were named.
        outcomes: Vec<Of>,
    },
    /// What was to be revoked is.
    Revoked {
        /// How many live connections it has reached, where that can be told.
        #[serde(skip_serializing_if = "Option::is_none")]
        connections: Option<usize>,
        /// Whether a replica of the store has it; none if there is none that should.
        #[serde(skip_serializing_if = "Option::is_none")]
        replicated: Option<bool>,
    },
}

impl Outcome {
    /// What is known of it before it is written.
    pub(super) fn so_far(self) -> Self {
        match self {
            Self::Delivered { connections } => Self::Sent { connections },
            outcome => outcome,
        }
    }
}

/// What became of it for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Of {
    /// Who, where there are many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The outcome of the push for that identity.
    #[serde(flatten)]
    pub outcome: Outcome,
}

impl Of {
    pub(super) fn to_message(&self, correlation_id: Option<String>) -> Message {
        Message {
            // Nothing in it can fail to be written.
            body: serde_json::to_vec(self).unwrap_or_default().into(),
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                correlation_id,
                ..Properties::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::protocol::ErrorCode;

    use super::*;

    #[test]
    fn an_outcome_is_one_word_and_what_belongs_to_it() {
        let refused = Outcome::Refused {
            error: ErrorBody::new(ErrorCode::HoldOverflow, "full"),
        };
        for (outcome, json) in [
            (
                Outcome::Delivered { connections: 2 },
                r#"{"outcome":"delivered","connections":2}"#,
            ),
            (Outcome::Held, r#"{"outcome":"held"}"#),
            (Outcome::NoRecipient, r#"{"outcome":"no_recipient"}"#),
            (Outcome::Expired, r#"{"outcome":"expired"}"#),
            (
                Outcome::Revoked {
                    connections: None,
                    replicated: None,
                },
                r#"{"outcome":"revoked"}"#,
            ),
            (
                Outcome::Revoked {
                    connections: Some(3),
                    replicated: Some(false),
                },
                r#"{"outcome":"revoked","connections":3,"replicated":false}"#,
            ),
            (
                refused,
                r#"{"outcome":"refused","error":{"code":"hold_overflow","message":"full","temporary":false}}"#,
            ),
        ] {
            let told = |subject: Option<&str>| Of {
                subject: subject.map(str::to_owned),
                outcome: outcome.clone(),
            };
            assert_eq!(told(None).to_message(Some("c".to_owned())).body, json);
            let of_one = json.replacen('{', r#"{"subject":"a","#, 1);
            assert_eq!(told(Some("a")).to_message(None).body, of_one);
        }
    }
}
