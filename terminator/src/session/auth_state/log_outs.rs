//! Log-outs that a client has sent and that are not settled: pure.
//!
//! A log-out waits for what was sent before it, which may take long. But the one who has logged out wants to see nothing more of what
//! is pushed on their behalf, so that ends when the message is read.

use shared::wire::id::Sequence;

use crate::session::in_flight::InFlight;

/// Those of one connection.
#[derive(Debug, Default)]
pub(crate) struct LogOuts {
    /// How many were read and are not forwarded yet.
    unsent: u16,
    /// The last one that was.
    sent: Option<Sequence>,
}

impl LogOuts {
    /// One was read.
    pub(crate) fn read(&mut self) {
        self.unsent = self.unsent.saturating_add(1);
    }

    /// One was forwarded. Nothing goes behind it before it is settled, so there is one at a time.
    pub(crate) fn sent(&mut self, sequence: Sequence) {
        self.unsent = self.unsent.saturating_sub(1);
        self.sent = Some(sequence);
    }

    /// One was refused and never forwarded.
    pub(crate) fn refused(&mut self) {
        self.unsent = self.unsent.saturating_sub(1);
    }

    /// Whether one is under way.
    pub(crate) fn is_any(&self, in_flight: &InFlight) -> bool {
        self.unsent > 0 || self.sent.is_some_and(|sequence| in_flight.is_open(sequence))
    }
}
