//! What is counted of messages that may have come before.

use metrics::{Counter, counter};

/// What was known of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimResult {
    /// It came for the first time, or had come to nothing.
    First,
    /// It came before, and was answered as then.
    Again,
    /// It came before, and what it came to is not kept.
    NotKept,
    /// It came before, by a token that allowed more, or that was revoked since.
    NotTold,
    /// It came before, and lasts.
    Running,
    /// Another came before by its name.
    Conflict,
    /// The store did not say.
    Unavailable,
    /// The store was not told what it came to.
    Unnoted,
}

pub(super) struct Counters {
    first: Counter,
    again: Counter,
    not_kept: Counter,
    not_told: Counter,
    running: Counter,
    conflict: Counter,
    unavailable: Counter,
    unnoted: Counter,
}

impl Counters {
    pub(super) fn new() -> Self {
        let result = |result: &'static str| counter!("countersign_worker_idempotency_total", "result" => result);
        Self {
            first: result("first"),
            again: result("again"),
            not_kept: result("not_kept"),
            not_told: result("not_told"),
            running: result("running"),
            conflict: result("conflict"),
            unavailable: result("unavailable"),
            unnoted: result("unnoted"),
        }
    }

    pub(super) fn knew(&self, known: ClaimResult) {
        match known {
            ClaimResult::First => self.first.increment(1),
            ClaimResult::Again => self.again.increment(1),
            ClaimResult::NotKept => self.not_kept.increment(1),
            ClaimResult::NotTold => self.not_told.increment(1),
            ClaimResult::Running => self.running.increment(1),
            ClaimResult::Conflict => self.conflict.increment(1),
            ClaimResult::Unavailable => self.unavailable.increment(1),
            ClaimResult::Unnoted => self.unnoted.increment(1),
        }
    }
}
