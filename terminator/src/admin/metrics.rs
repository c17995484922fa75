//! What is counted, as handles that are made once.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use shared::bus::PublishError;
use shared::wire::envelope::Bounced;
use shared::wire::protocol::{CloseCode, Reason};

use crate::accept::upgrade::Refusal;
use crate::admin::levels::Levels;
use crate::connection::close_reason::CloseReason;
use crate::connection::load::Load;
use crate::timers::expiries::WITHIN_S;

/// The `code` of a connection that its client ended.
const LEFT: &str = "client";
/// The `code` of a connection that was ended without a close frame.
const CUT: &str = "cut";

/// Why a message can be refused.
const REFUSALS: [PublishError; 5] = [
    PublishError::Unroutable,
    PublishError::Refused,
    PublishError::Away,
    PublishError::Malformed,
    PublishError::Ended,
];

/// The terminator's metrics.
pub(crate) struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) connections_opened: Counter,
    pub(crate) messages_received: Counter,
    pub(crate) messages_confirmed: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) publish_confirm_duration_seconds: Histogram,
    pub(crate) answers_delivered: Counter,
    pub(crate) answers_duplicate: Counter,
    pub(crate) answers_orphaned: Counter,
    pub(crate) answers_malformed: Counter,
    pub(crate) redeliveries: Counter,
    pub(crate) pushes_acknowledged: Counter,
    pub(crate) acknowledgements_unknown: Counter,
    /// Messages of clients that wait with the workers for a fresh token.
    pub(crate) held_inbound: Gauge,
    /// What is kept behind until what is before it has been fetched.
    pub(crate) held_outbound: Gauge,
    /// What is kept for clients that have not read it.
    send_queue_bytes: Gauge,
    send_queue_texts: Gauge,
    /// In the order of [`WITHIN_S`].
    grants_expiring: [Gauge; WITHIN_S.len()],
    pub(crate) auth_expirations: Counter,
    pub(crate) sent_again: Counter,
    pub(crate) held_lost: Counter,
    pub(crate) answers_lost: Counter,
    pub(crate) announced: Counter,
    pub(crate) releases: Counter,
    pub(crate) fetches: Counter,
    pub(crate) revocations: Counter,
    pub(crate) events_confirmed: Counter,
    pub(crate) events_refused: Counter,
    pub(crate) events_dropped: Counter,
    /// Events that workers may not know of when this terminator is lost.
    pub(crate) events_unregistered: Counter,
    /// Those that the broker has not confirmed.
    pub(crate) events_waiting: Gauge,
    given_back_expired: Counter,
    given_back_gone: Counter,
    asked_missing: Counter,
    asked_expiring: Counter,
    asked_expired: Counter,
    asked_revoked: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        count_from_zero();
        Self {
            connections: gauge!("countersign_terminator_connections"),
            connections_opened: counter!("countersign_terminator_connections_opened_total"),
            messages_received: counter!("countersign_terminator_messages_received_total"),
            messages_confirmed: counter!("countersign_terminator_messages_confirmed_total"),
            in_flight: gauge!("countersign_terminator_messages_in_flight"),
            publish_confirm_duration_seconds: histogram!("countersign_terminator_publish_confirm_duration_seconds"),
            answers_delivered: answers("delivered"),
            answers_duplicate: answers("duplicate"),
            answers_orphaned: answers("orphaned"),
            answers_malformed: answers("malformed"),
            redeliveries: counter!("countersign_terminator_redeliveries_total"),
            pushes_acknowledged: counter!("countersign_terminator_push_acknowledgements_total", "result" => "known"),
            acknowledgements_unknown: counter!("countersign_terminator_push_acknowledgements_total", "result" => "unknown"),
            held_inbound: gauge!("countersign_terminator_held_inbound"),
            held_outbound: gauge!("countersign_terminator_held_outbound"),
            send_queue_bytes: gauge!("countersign_terminator_send_queue_bytes"),
            send_queue_texts: gauge!("countersign_terminator_send_queue_messages"),
            grants_expiring: WITHIN_S.map(expiring),
            auth_expirations: counter!("countersign_terminator_auth_expirations_total"),
            sent_again: counter!("countersign_terminator_messages_resent_total"),
            held_lost: counter!("countersign_terminator_held_lost_total"),
            answers_lost: counter!("countersign_terminator_connections_without_reply_total"),
            announced: counter!("countersign_terminator_connections_announced_total"),
            releases: counter!("countersign_terminator_hold_release_requests_total"),
            fetches: counter!("countersign_terminator_hold_fetch_requests_total"),
            revocations: counter!("countersign_terminator_revocations_total"),
            events_confirmed: events("confirmed"),
            events_refused: events("refused"),
            events_dropped: events("dropped"),
            events_unregistered: events("unregistered"),
            events_waiting: gauge!("countersign_terminator_connection_events_waiting"),
            given_back_expired: given_back("expired"),
            given_back_gone: given_back("gone"),
            asked_missing: asked(Reason::Missing),
            asked_expiring: asked(Reason::Expiring),
            asked_expired: asked(Reason::Expired),
            asked_revoked: asked(Reason::Revoked),
        }
    }

    /// What is shown in gauges of a connection has changed.
    pub(crate) fn levels(&self, before: Levels, after: Levels) {
        for (gauge, before, after) in [
            (&self.in_flight, before.in_flight, after.in_flight),
            (&self.held_inbound, before.held_inbound, after.held_inbound),
            (&self.held_outbound, before.held_outbound, after.held_outbound),
        ] {
            if after > before {
                gauge.increment((after - before) as f64);
            } else if after < before {
                gauge.decrement((before - after) as f64);
            }
        }
    }

    /// So many grants end soon.
    pub(crate) fn expiring(&self, counts: [u64; WITHIN_S.len()]) {
        for (gauge, count) in self.grants_expiring.iter().zip(counts) {
            gauge.set(count as f64);
        }
    }

    /// So much is kept for clients that have not read it.
    pub(crate) fn load(&self, load: Load) {
        self.send_queue_bytes.set(load.bytes as f64);
        self.send_queue_texts.set(load.texts as f64);
    }

    /// Something was given back instead of being written.
    pub(crate) fn given_back(&self, why: Bounced) {
        match why {
            Bounced::Expired => self.given_back_expired.increment(1),
            Bounced::Gone => self.given_back_gone.increment(1),
        }
    }

    /// A client was asked for a fresh token.
    pub(crate) fn asked(&self, reason: Reason) {
        match reason {
            Reason::Missing => self.asked_missing.increment(1),
            Reason::Expiring => self.asked_expiring.increment(1),
            Reason::Expired => self.asked_expired.increment(1),
            Reason::Revoked => self.asked_revoked.increment(1),
        }
    }

    /// A handshake was refused.
    pub(crate) fn handshake_refused(&self, refusal: Refusal) {
        handshakes_refused(refusal).increment(1);
    }

    /// A socket was closed, by us with a code, or by the client.
    pub(crate) fn connection_closed(&self, ending: CloseReason) {
        let code = match ending {
            CloseReason::Left => LEFT.to_owned(),
            CloseReason::Close { code, .. } => code.code().to_string(),
            CloseReason::Cut(_) => CUT.to_owned(),
        };
        connections_closed(code).increment(1);
    }

    /// A message was refused, and its client told.
    pub(crate) fn message_refused(&self, error: PublishError) {
        messages_refused(error).increment(1);
    }
}

/// Makes those that are counted by what rarely happens: a series that begins with its first event hides that event from
/// anyone who asks for its increase.
fn count_from_zero() {
    let _ = Refusal::ALL.map(handshakes_refused);
    let _ = CloseCode::ALL.map(|code| connections_closed(code.code().to_string()));
    let _ = [LEFT, CUT].map(|word| connections_closed(word.to_owned()));
    let _ = REFUSALS.map(messages_refused);
}

fn handshakes_refused(refusal: Refusal) -> Counter {
    counter!("countersign_terminator_handshakes_refused_total", "reason" => refusal.label())
}

fn connections_closed(code: String) -> Counter {
    counter!("countersign_terminator_connections_closed_total", "code" => code)
}

fn messages_refused(error: PublishError) -> Counter {
    counter!("countersign_terminator_messages_refused_total", "reason" => error.as_str())
}

fn expiring(within_s: u64) -> Gauge {
    gauge!("countersign_terminator_grants_expiring", "within" => format!("{within_s}s"))
}

fn answers(outcome: &'static str) -> Counter {
    counter!("countersign_terminator_replies_total", "outcome" => outcome)
}

fn events(outcome: &'static str) -> Counter {
    counter!("countersign_terminator_connection_events_total", "outcome" => outcome)
}

fn given_back(reason: &'static str) -> Counter {
    counter!("countersign_terminator_undelivered_total", "reason" => reason)
}

fn asked(reason: Reason) -> Counter {
    counter!("countersign_terminator_reauth_requests_total", "reason" => reason.as_str())
}
