//! What is counted of what goes out on no one's request.

use metrics::{Counter, Gauge, counter, gauge};

use shared::wire::protocol::ErrorCode;

use super::outcome::Outcome;
use crate::store::Mailbox;

/// What came out of `<ns>.undelivered`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Something for a connection that has expired.
    Expired,
    /// Something for a connection that is gone.
    Gone,
    /// A connection that asks for what is held.
    Fetch,
    /// That a push was written, whose producer wants to know.
    Written,
    /// A word that did not reach its connection.
    Wake,
    /// A revocation that its terminator did not fetch in time.
    Revocation,
    /// What no one needs any more.
    Ignored,
}

/// Why something that was to be held, or was, is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// There is too much already.
    Overflow,
    /// Its time is over.
    Expired,
}

impl GaveUp {
    /// What is told of it.
    pub(crate) const fn sentence(self) -> &'static str {
        match self {
            Self::Overflow => "too much is held already",
            Self::Expired => "no fresh token came in time",
        }
    }
}

/// What is held to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeldKind {
    /// For an identity.
    Push,
    /// For the one who asked.
    Reply,
    /// A push, for anyone who takes over from a connection.
    Missed,
}

impl From<Mailbox> for HeldKind {
    fn from(mailbox: Mailbox) -> Self {
        match mailbox {
            Mailbox::Pushes(_) => Self::Push,
            Mailbox::Answers(_) => Self::Reply,
            Mailbox::Missed(_) => Self::Missed,
        }
    }
}

/// A counter for each kind.
struct ByKind {
    push: Counter,
    answer: Counter,
    missed: Counter,
}

impl ByKind {
    fn new(counter: impl Fn(&'static str) -> Counter) -> Self {
        Self {
            push: counter("push"),
            answer: counter("answer"),
            missed: counter("missed"),
        }
    }

    const fn of(&self, kind: HeldKind) -> &Counter {
        match kind {
            HeldKind::Push => &self.push,
            HeldKind::Reply => &self.answer,
            HeldKind::Missed => &self.missed,
        }
    }
}

pub(crate) struct Counters {
    delivered: Counter,
    held: Counter,
    no_recipient: Counter,
    refused: Counter,
    writes: Counter,
    came_expired: Counter,
    gone: Counter,
    fetch: Counter,
    written: Counter,
    wake: Counter,
    put_back: Counter,
    ignored: Counter,
    holds: ByKind,
    released: ByKind,
    overflows: ByKind,
    expired: ByKind,
    wakes: Counter,
    unregistered: Counter,
    outcomes_lost: Counter,
    retries: Counter,
    revoked: Counter,
    revocations_refused: Counter,
    revocations_full: Counter,
    unreplicated: Counter,
    written_back: Counter,
    epochs: Counter,
    heard: Counter,
    known: Gauge,
    unauthenticated_bytes: Gauge,
}

impl Counters {
    pub(crate) fn new() -> Self {
        let push = |outcome: &'static str| counter!("countersign_worker_pushes_total", "outcome" => outcome);
        let came = |kind: &'static str| counter!("countersign_worker_undelivered_total", "kind" => kind);
        let gave_up = |reason: &'static str| {
            ByKind::new(|kind| counter!("countersign_worker_holds_dropped_total", "reason" => reason, "kind" => kind))
        };
        let revocation = |outcome: &'static str| counter!("countersign_worker_revocations_total", "outcome" => outcome);
        Self {
            delivered: push("delivered"),
            held: push("held"),
            no_recipient: push("no_recipient"),
            refused: push("refused"),
            writes: counter!("countersign_worker_push_writes_total"),
            came_expired: came("expired"),
            gone: came("gone"),
            fetch: came("fetch"),
            written: came("written"),
            wake: came("wake"),
            put_back: came("revocation"),
            ignored: came("ignored"),
            holds: ByKind::new(|kind| counter!("countersign_worker_writes_held_total", "kind" => kind)),
            released: ByKind::new(|kind| counter!("countersign_worker_writes_released_total", "kind" => kind)),
            overflows: gave_up("overflow"),
            expired: gave_up("expired"),
            wakes: counter!("countersign_worker_hold_notifications_total"),
            unregistered: counter!("countersign_worker_connections_unregistered_total"),
            outcomes_lost: counter!("countersign_worker_outcomes_lost_total"),
            retries: counter!("countersign_worker_outbound_retries_total"),
            revoked: revocation("revoked"),
            revocations_refused: revocation("refused"),
            revocations_full: revocation("full"),
            unreplicated: counter!("countersign_worker_revocations_unreplicated_total"),
            written_back: counter!("countersign_worker_revocations_written_back_total"),
            epochs: counter!("countersign_worker_store_epochs_total"),
            heard: counter!("countersign_worker_revocations_received_total"),
            known: gauge!("countersign_worker_revocations_active"),
            unauthenticated_bytes: gauge!("countersign_worker_unauthenticated_held_bytes"),
        }
    }

    /// So much is held of connections that are no one's, anyone who holds it.
    pub(crate) fn reserved(&self, bytes: u64) {
        self.unauthenticated_bytes.set(bytes as f64);
    }

    /// A push has come to this.
    pub(crate) fn pushed(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Delivered { .. } => self.delivered.increment(1),
            Outcome::Held => self.held.increment(1),
            Outcome::NoRecipient => self.no_recipient.increment(1),
            Outcome::Refused { .. } => self.refused.increment(1),
            // Neither is said of a push that just came.
            Outcome::Expired | Outcome::Revoked { .. } | Outcome::Sent { .. } | Outcome::OfEach { .. } => {}
        }
    }

    /// So many writes of pushes went to return queues.
    pub(crate) fn wrote(&self, count: usize) {
        self.writes.increment(count as u64);
    }

    pub(crate) fn came(&self, what: Came) {
        match what {
            Came::Expired => self.came_expired.increment(1),
            Came::Gone => self.gone.increment(1),
            Came::Fetch => self.fetch.increment(1),
            Came::Written => self.written.increment(1),
            Came::Wake => self.wake.increment(1),
            Came::Revocation => self.put_back.increment(1),
            Came::Ignored => self.ignored.increment(1),
        }
    }

    /// Something is held, or was already.
    pub(crate) fn held(&self, kind: HeldKind) {
        self.holds.of(kind).increment(1);
    }

    /// So much left the hold for a connection.
    pub(crate) fn released(&self, kind: HeldKind, count: usize) {
        self.released.of(kind).increment(count as u64);
    }

    pub(crate) fn gave_up(&self, kind: HeldKind, why: GaveUp) {
        let counters = match why {
            GaveUp::Overflow => &self.overflows,
            GaveUp::Expired => &self.expired,
        };
        counters.of(kind).increment(1);
    }

    /// A connection was told that something waits.
    pub(crate) fn woke(&self) {
        self.wakes.increment(1);
    }

    /// A connection left the index because its terminator's queue is gone.
    pub(crate) fn unregistered(&self) {
        self.unregistered.increment(1);
    }

    /// An outcome reached no one.
    pub(crate) fn outcome_lost(&self) {
        self.outcomes_lost.increment(1);
    }

    /// Something in order could not be done, and is tried again.
    pub(crate) fn retried(&self) {
        self.retries.increment(1);
    }

    /// What was asked to be revoked is, or is refused.
    pub(crate) fn revocation(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Revoked { replicated, .. } => {
                self.revoked.increment(1);
                self.unreplicated.increment(u64::from(*replicated == Some(false)));
            }
            Outcome::Refused { error } if error.code == ErrorCode::Busy => self.revocations_full.increment(1),
            _ => self.revocations_refused.increment(1),
        }
    }

    /// So many revocations were broadcast.
    pub(crate) fn heard(&self, count: usize) {
        self.heard.increment(count as u64);
    }

    /// The store had lost so many revocations, and has them again.
    pub(crate) fn wrote_back(&self, count: usize) {
        self.written_back.increment(count as u64);
    }

    /// The store may have lost what it had.
    pub(crate) fn epoch_began(&self) {
        self.epochs.increment(1);
    }

    /// So many revocations are known.
    pub(crate) fn known(&self, count: usize) {
        self.known.set(count as f64);
    }
}
