//! Why a message was held, refused or let go, and why a socket was closed: for `countersign explain`. Never a token.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::service::clock::Timestamp;
use shared::wire::id::{ConnectionId, Sequence};

use super::around::store_part;

store_part! {
    /// Keeps decisions, for people who ask.
    pub trait DecisionStore {
        /// Keeps a decision about a connection, for an hour.
        fn note(connection: ConnectionId, decision: &'a Decision) -> ();

        /// The decisions about a connection that are kept, oldest first.
        fn decisions(connection: ConnectionId) -> Vec<Decision>;
    }
}

/// How many decisions are kept of each connection; the oldest go.
pub const DECISIONS_KEPT: usize = 64;

/// One decision that a person may ask about. What was simply handled is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The moment of the decision.
    pub at: Timestamp,
    /// About which message, if about one.
    pub sequence: Option<Sequence>,
    /// The client's own name for the message.
    pub id: Option<String>,
    /// What became of it: `held`, `refused`, `released`, `expired`, `closed`, `granted`, `forgotten`, `revoked`, ….
    pub what: String,
    /// Why, in a sentence or an error code.
    pub why: String,
}

impl Decision {
    /// As programs are told it: `at_ms` is milliseconds since 1970.
    pub fn to_json(&self) -> Value {
        let Self {
            at,
            sequence,
            id,
            what,
            why,
        } = self;
        json!({"at_ms": at.as_millis(), "sequence": sequence, "id": id, "what": what, "why": why})
    }
}
