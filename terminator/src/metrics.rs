//! What is counted, as handles that are made once.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use shared::bus::PublishError;
use shared::protocol::CloseCode;

use crate::upgrade::Refusal;

/// The terminator's metrics; README lists them with what they mean.
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) connections_opened: Counter,
    pub(crate) messages_received: Counter,
    pub(crate) messages_confirmed: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) confirm_seconds: Histogram,
    pub(crate) answers_delivered: Counter,
    pub(crate) answers_duplicate: Counter,
    pub(crate) answers_orphaned: Counter,
    pub(crate) answers_malformed: Counter,
    pub(crate) redeliveries: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            connections: gauge!("countersign_terminator_connections"),
            connections_opened: counter!("countersign_terminator_connections_opened_total"),
            messages_received: counter!("countersign_terminator_messages_received_total"),
            messages_confirmed: counter!("countersign_terminator_messages_confirmed_total"),
            in_flight: gauge!("countersign_terminator_messages_in_flight"),
            confirm_seconds: histogram!("countersign_terminator_confirm_seconds"),
            answers_delivered: answers("delivered"),
            answers_duplicate: answers("duplicate"),
            answers_orphaned: answers("orphaned"),
            answers_malformed: answers("malformed"),
            redeliveries: counter!("countersign_terminator_redeliveries_total"),
        }
    }

    /// A handshake was refused.
    pub(crate) fn handshake_refused(&self, refusal: Refusal) {
        counter!("countersign_terminator_handshakes_refused_total", "reason" => refusal.label()).increment(1);
    }

    /// A socket was closed, by us with a code, or by the client.
    pub(crate) fn connection_closed(&self, code: Option<CloseCode>) {
        let code = code.map_or_else(|| "client".to_owned(), |code| code.code().to_string());
        counter!("countersign_terminator_connections_closed_total", "code" => code).increment(1);
    }

    /// A message was refused, and its client told.
    pub(crate) fn message_refused(&self, error: PublishError) {
        let reason = match error {
            PublishError::Unroutable => "unroutable",
            PublishError::Refused => "queue_full",
            PublishError::Away => "broker_away",
            PublishError::Malformed => "malformed",
            PublishError::Ended => "ended",
        };
        counter!("countersign_terminator_messages_refused_total", "reason" => reason).increment(1);
    }
}

fn answers(outcome: &'static str) -> Counter {
    counter!("countersign_terminator_answers_total", "outcome" => outcome)
}
