//! What a worker counts and measures.
//!
//! The handles are made once: to look one up by its name costs more than to
//! count with it. They go to the recorder that is installed when they are made,
//! so a program installs its recorder before it starts a worker.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use shared::wire::protocol::{CloseCode, ErrorCode, Reason};

use super::event::words::{Checked, Proved, Released};
use crate::store::{Recorded, StoreError};

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageOutcome {
    /// The handler answered, if only by silence.
    Handled,
    /// It was answered with this error.
    Error(ErrorCode),
    /// It was the notice of a close.
    Closed,
    /// It waits for a fresh token.
    Held,
    /// It was sent back, because it could not be decided yet.
    Again,
    /// It was `auth.authenticate`, and is true.
    Authenticated,
    /// It gave another message up.
    Cancel,
    /// Another worker, which has nothing to do, handles it.
    HandedOn,
    /// It was `auth.logout`.
    Forgotten,
    /// It asked for what is held.
    Released,
    /// A terminator told, or asked, what a store or a queue may have lost.
    Announced,
}

impl MessageOutcome {
    /// A word for it, for metrics and traces.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Handled => "handled",
            Self::Error(code) => code.as_str(),
            Self::Closed => "closed",
            Self::Held => "held",
            Self::Again => "again",
            Self::Authenticated => "authenticated",
            Self::Cancel => "cancel",
            Self::HandedOn => "handed_on",
            Self::Forgotten => "forgotten",
            Self::Released => "release",
            Self::Announced => "announced",
        }
    }
}

/// Why a message that needs a fresh token is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotHeld {
    /// There is too much already.
    Overflow,
    /// Its connection is no one's, and there is too much of such connections.
    Crowded,
    /// Its connection has closed, and was no one's.
    Deserted,
}

/// Why an answer reached no one, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// There is no such queue any more.
    Unroutable,
    /// It was injected, and wants none.
    Unwanted,
    /// It was injected, and wants it where it may not be.
    NotAllowed,
    /// The broker closes the channel that brings it: it is too large, or unreadable.
    Unpublishable,
    /// It was injected, and the queue that it names takes no more.
    QueueFull,
}

pub(crate) struct Metrics {
    handled: Counter,
    closed: Counter,
    held: Counter,
    again: Counter,
    authenticated: Counter,
    cancels: Counter,
    handed_on: Counter,
    forgotten: Counter,
    releases: Counter,
    announced: Counter,
    /// In the order of [`ErrorCode::ALL`].
    errors: [Counter; ErrorCode::ALL.len()],
    in_flight: Gauge,
    queue_wait: Histogram,
    pub(super) handling: Histogram,
    pub(super) confirm: Histogram,
    no_token: Counter,
    valid: Counter,
    expired: Counter,
    invalid: Counter,
    unavailable: Counter,
    cache_hits: Counter,
    cache_misses: Counter,
    store_changed: Counter,
    store_unchanged: Counter,
    store_stale: Counter,
    store_failures: Counter,
    panics: Counter,
    timeouts: Counter,
    redeliveries: Counter,
    dead_letters: Counter,
    unroutable: Counter,
    unwanted: Counter,
    not_allowed: Counter,
    unpublishable: Counter,
    queue_full: Counter,
    given_back: Counter,
    revoked: Counter,
    pub(super) grants: Counter,
    resumed: Counter,
    not_resumed: Counter,
    held_missing: Counter,
    held_expired: Counter,
    held_overflow: Counter,
    held_crowded: Counter,
    held_deserted: Counter,
    released_handled: Counter,
    released_expired: Counter,
    released_mismatch: Counter,
    released_revoked: Counter,
    released_closed: Counter,
    released_cancelled: Counter,
    resume_notifications: Counter,
    bounced: Counter,
    /// In the order of [`CloseCode::ALL`].
    closes: [Counter; CloseCode::ALL.len()],
    pub(super) decision_write_errors: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let outcome =
            |outcome: MessageOutcome| counter!("countersign_worker_messages_total", "outcome" => outcome.as_str());
        let verdict = |kind: &'static str| counter!("countersign_worker_token_verifications_total", "kind" => kind);
        let cache = |result: &'static str| counter!("countersign_worker_token_cache_total", "result" => result);
        let write = |result: &'static str| counter!("countersign_worker_store_writes_total", "result" => result);
        let lost = |reason: &'static str| counter!("countersign_worker_replies_lost_total", "reason" => reason);
        let hold = |result: &'static str| counter!("countersign_worker_holds_total", "result" => result);
        let released =
            |result: &'static str| counter!("countersign_worker_held_messages_completed_total", "result" => result);
        let resume = |result: &'static str| counter!("countersign_worker_resumes_total", "result" => result);
        let close =
            |code: CloseCode| counter!("countersign_worker_close_requests_total", "code" => code.code().to_string());
        Self {
            handled: outcome(MessageOutcome::Handled),
            closed: outcome(MessageOutcome::Closed),
            held: outcome(MessageOutcome::Held),
            again: outcome(MessageOutcome::Again),
            authenticated: outcome(MessageOutcome::Authenticated),
            cancels: outcome(MessageOutcome::Cancel),
            handed_on: outcome(MessageOutcome::HandedOn),
            forgotten: outcome(MessageOutcome::Forgotten),
            releases: outcome(MessageOutcome::Released),
            announced: outcome(MessageOutcome::Announced),
            errors: ErrorCode::ALL.map(|code| outcome(MessageOutcome::Error(code))),
            in_flight: gauge!("countersign_worker_in_flight"),
            queue_wait: histogram!("countersign_worker_queue_wait_seconds"),
            handling: histogram!("countersign_worker_handler_duration_seconds"),
            confirm: histogram!("countersign_worker_publish_confirm_duration_seconds"),
            no_token: verdict("none"),
            valid: verdict("valid"),
            expired: verdict("expired"),
            invalid: verdict("invalid"),
            unavailable: verdict("unavailable"),
            cache_hits: cache("hit"),
            cache_misses: cache("miss"),
            store_changed: write("changed"),
            store_unchanged: write("unchanged"),
            store_stale: write("stale"),
            store_failures: counter!("countersign_worker_store_failures_total"),
            panics: counter!("countersign_worker_handler_panics_total"),
            timeouts: counter!("countersign_worker_handler_timeouts_total"),
            redeliveries: counter!("countersign_worker_redeliveries_total"),
            dead_letters: counter!("countersign_worker_dead_letters_total"),
            unroutable: lost("unroutable"),
            unwanted: lost("unwanted"),
            not_allowed: lost("not_allowed"),
            unpublishable: lost("unpublishable"),
            queue_full: lost("queue_full"),
            given_back: counter!("countersign_worker_requeued_total"),
            revoked: counter!("countersign_worker_tokens_revoked_total"),
            grants: counter!("countersign_worker_grants_total"),
            resumed: resume("taken"),
            not_resumed: resume("refused"),
            held_missing: hold(Reason::Missing.as_str()),
            held_expired: hold(Reason::Expired.as_str()),
            held_overflow: hold("overflow"),
            held_crowded: hold("crowded"),
            held_deserted: hold("closed"),
            released_handled: released("handled"),
            released_expired: released("expired"),
            released_mismatch: released("mismatch"),
            released_revoked: released("revoked"),
            released_closed: released("closed"),
            released_cancelled: released("cancelled"),
            resume_notifications: counter!("countersign_worker_resume_notifications_total"),
            bounced: counter!("countersign_worker_replies_undelivered_total"),
            closes: CloseCode::ALL.map(close),
            decision_write_errors: counter!("countersign_worker_decision_write_errors_total"),
        }
    }

    /// A message is in flight until this is dropped.
    pub(crate) fn in_flight(&self) -> InFlight<'_> {
        self.in_flight.increment(1);
        InFlight(&self.in_flight)
    }

    /// So long after its terminator received it a message was taken from its queue, in whole seconds.
    pub(crate) fn waited(&self, wait: Duration) {
        self.queue_wait.record(wait);
    }

    pub(crate) fn ended(&self, outcome: MessageOutcome) {
        match outcome {
            MessageOutcome::Handled => self.handled.increment(1),
            MessageOutcome::Closed => self.closed.increment(1),
            MessageOutcome::Held => self.held.increment(1),
            MessageOutcome::Again => self.again.increment(1),
            MessageOutcome::Authenticated => self.authenticated.increment(1),
            MessageOutcome::Cancel => self.cancels.increment(1),
            MessageOutcome::HandedOn => self.handed_on.increment(1),
            MessageOutcome::Forgotten => self.forgotten.increment(1),
            MessageOutcome::Released => self.releases.increment(1),
            MessageOutcome::Announced => self.announced.increment(1),
            MessageOutcome::Error(code) => {
                let place = ErrorCode::ALL.iter().position(|other| *other == code);
                if let Some(counter) = place.and_then(|place| self.errors.get(place)) {
                    counter.increment(1);
                }
            }
        }
    }

    /// It is known what a message's own token proves, and what the verifier said of it, if there is one.
    pub(super) fn judged(&self, proved: Proved, checked: Option<Checked>, cached: bool) {
        match checked {
            None => return self.no_token.increment(1),
            Some(Checked::Valid) => self.valid.increment(1),
            Some(Checked::Expired) => self.expired.increment(1),
            Some(Checked::Invalid) => self.invalid.increment(1),
            Some(Checked::Unavailable) => self.unavailable.increment(1),
        }
        if cached {
            self.cache_hits.increment(1);
        } else {
            self.cache_misses.increment(1);
        }
        self.revoked.increment(u64::from(proved == Proved::Revoked));
    }

    pub(crate) fn store_write(&self, result: &Result<Recorded, StoreError>) {
        match result {
            Ok(Recorded::Changed) => self.store_changed.increment(1),
            Ok(Recorded::Unchanged) => self.store_unchanged.increment(1),
            Ok(Recorded::Stale) => self.store_stale.increment(1),
            Err(_) => self.store_failures.increment(1),
        }
    }

    /// The store could not be asked, or not be told.
    pub(crate) fn store_failed(&self) {
        self.store_failures.increment(1);
    }

    /// A client asked to take over what another connection has left, and may, or may not.
    pub(super) fn resumed(&self, taken: bool) {
        if taken {
            self.resumed.increment(1);
        } else {
            self.not_resumed.increment(1);
        }
    }

    pub(super) fn held(&self, reason: Reason) {
        match reason {
            Reason::Expired => self.held_expired.increment(1),
            _ => self.held_missing.increment(1),
        }
    }

    pub(crate) fn not_held(&self, why: NotHeld) {
        match why {
            NotHeld::Overflow => self.held_overflow.increment(1),
            NotHeld::Crowded => self.held_crowded.increment(1),
            NotHeld::Deserted => self.held_deserted.increment(1),
        }
    }

    pub(crate) fn released(&self, released: Released) {
        match released {
            Released::Handled => self.released_handled.increment(1),
            Released::Expired => self.released_expired.increment(1),
            Released::Mismatch => self.released_mismatch.increment(1),
            Released::Revoked => self.released_revoked.increment(1),
            Released::Closed => self.released_closed.increment(1),
            Released::Cancelled => self.released_cancelled.increment(1),
        }
    }

    /// A connection was told that something is held of one that it has taken over.
    pub(crate) fn woke_successor(&self) {
        self.resume_notifications.increment(1);
    }

    /// An answer was put away because its terminator is gone.
    pub(crate) fn bounced(&self) {
        self.bounced.increment(1);
    }

    /// A connection is told to close.
    pub(crate) fn closes(&self, code: CloseCode) {
        let place = CloseCode::ALL.iter().position(|other| *other == code);
        if let Some(counter) = place.and_then(|place| self.closes.get(place)) {
            counter.increment(1);
        }
    }

    pub(crate) fn handler_panicked(&self) {
        self.panics.increment(1);
    }

    pub(crate) fn handler_timed_out(&self) {
        self.timeouts.increment(1);
    }

    /// A message was delivered that had been delivered before.
    pub(crate) fn redelivered(&self) {
        self.redeliveries.increment(1);
    }

    pub(crate) fn buried(&self) {
        self.dead_letters.increment(1);
    }

    pub(crate) fn answer_lost(&self, why: Lost) {
        match why {
            Lost::Unroutable => self.unroutable.increment(1),
            Lost::Unwanted => self.unwanted.increment(1),
            Lost::NotAllowed => self.not_allowed.increment(1),
            Lost::Unpublishable => self.unpublishable.increment(1),
            Lost::QueueFull => self.queue_full.increment(1),
        }
    }

    /// A delivery goes back to its queue because it could not be brought to an end here.
    pub(crate) fn gave_back(&self) {
        self.given_back.increment(1);
    }
}

pub(crate) struct InFlight<'a>(&'a Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// What came of reading a source of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// What was found is in force, be it new or not.
    Good,
    /// Its server did not give it.
    Failed,
    /// It is not fit for use.
    Refused,
}

/// What is counted of the keys.
pub(crate) struct KeyMetrics {
    good: Counter,
    failed: Counter,
    refused: Counter,
    replaced: Counter,
}

impl KeyMetrics {
    pub(crate) fn new() -> Self {
        let reading = |result: &'static str| counter!("countersign_worker_key_reloads_total", "result" => result);
        Self {
            good: reading("good"),
            failed: reading("failed"),
            refused: reading("refused"),
            replaced: counter!("countersign_worker_key_replacements_total"),
        }
    }

    /// A server was asked, or a file had changed.
    pub(crate) fn read(&self, reading: Reading) {
        match reading {
            Reading::Good => self.good.increment(1),
            Reading::Failed => self.failed.increment(1),
            Reading::Refused => self.refused.increment(1),
        }
    }

    /// There is another set of keys.
    pub(crate) fn replaced(&self) {
        self.replaced.increment(1);
    }
}
