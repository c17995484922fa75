//! What is counted of the calls of an application.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};
use tokio::time::Instant;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::handler) enum CallOutcome {
    /// With an answer.
    Answered,
    /// With a refusal: the message's fault.
    Refused,
    /// With a failure of the application, or it asked to be left alone for a while.
    Failed,
    /// It was not there, or went away.
    Unreachable,
    /// It said what cannot be passed on.
    InvalidResponse,
}

/// What is counted.
pub(in crate::handler) struct Calls {
    answered: Counter,
    refused: Counter,
    failed: Counter,
    unreachable: Counter,
    invalid_response: Counter,
    timeout: Counter,
    cancelled: Counter,
    seconds: Histogram,
    retries: Counter,
    late: Counter,
    limit: Duration,
}

impl Calls {
    /// `limit` is when a call is cancelled because it took too long.
    pub(in crate::handler) fn new(limit: Duration) -> Self {
        let outcome = |outcome: &'static str| counter!("countersign_worker_upstream_calls_total", "outcome" => outcome);
        Self {
            answered: outcome("answered"),
            refused: outcome("refused"),
            failed: outcome("failed"),
            unreachable: outcome("unreachable"),
            invalid_response: outcome("invalid_response"),
            timeout: outcome("timeout"),
            cancelled: outcome("cancelled"),
            seconds: histogram!("countersign_worker_upstream_seconds"),
            retries: counter!("countersign_worker_upstream_retries_total"),
            late: counter!("countersign_worker_upstream_late_answers_total"),
            limit,
        }
    }

    /// A call begins that is given so much time, if less than any other, and is counted when it ends, in whatever way.
    pub(in crate::handler) fn begin(&self, time_left: Option<Duration>) -> Call<'_> {
        Call {
            calls: self,
            limit: time_left.unwrap_or(self.limit).min(self.limit),
            started: Instant::now(),
            outcome: None,
        }
    }

    /// The same is tried once more.
    pub(in crate::handler) fn retried(&self) {
        self.retries.increment(1);
    }

    /// An answer came that no one waits for.
    pub(in crate::handler) fn late(&self) {
        self.late.increment(1);
    }
}

/// One call. Dropped, it is over.
pub(in crate::handler) struct Call<'a> {
    calls: &'a Calls,
    limit: Duration,
    started: Instant,
    outcome: Option<CallOutcome>,
}

impl Call<'_> {
    /// It ended so.
    pub(in crate::handler) fn end(mut self, outcome: CallOutcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let calls = self.calls;
        let took = self.started.elapsed();
        let counter = match self.outcome {
            Some(CallOutcome::Answered) => &calls.answered,
            Some(CallOutcome::Refused) => &calls.refused,
            Some(CallOutcome::Failed) => &calls.failed,
            Some(CallOutcome::Unreachable) => &calls.unreachable,
            Some(CallOutcome::InvalidResponse) => &calls.invalid_response,
            None if took >= self.limit => &calls.timeout,
            // The worker ends, or its sender has given the message up.
            None => &calls.cancelled,
        };
        counter.increment(1);
        calls.seconds.record(took);
    }
}
