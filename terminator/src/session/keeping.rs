//! What is kept in memory for a connection, and when it gives way to others.

use bytes::Bytes;
use shared::wire::protocol::CloseCode;
use tokio::time::Instant;

use super::acknowledging::unacknowledged::Unacknowledged;
use super::{Life, Session};
use crate::connection::load::{Load, STALLED};

/// What is being written, in little room: there are many connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct BeingWritten {
    since: Instant,
    texts: u32,
    bytes: u32,
}

impl BeingWritten {
    pub(super) fn new(load: Load, since: Instant) -> Self {
        Self {
            since,
            texts: u32::try_from(load.texts).unwrap_or(u32::MAX),
            bytes: u32::try_from(load.bytes).unwrap_or(u32::MAX),
        }
    }

    const fn load(self) -> Load {
        Load {
            texts: self.texts as usize,
            bytes: self.bytes as usize,
        }
    }
}

/// The length of a message, which is below 4 GiB.
pub(super) fn length(body: &Bytes) -> u32 {
    u32::try_from(body.len()).unwrap_or(u32::MAX)
}

impl Session {
    /// What is kept in memory for it; none if it is about to end, which gives that back.
    pub(crate) fn load(&self) -> Load {
        if matches!(self.life, Life::CloseReason(_)) {
            return Load::default();
        }
        let (queued, writing) = (
            self.outgoing.load(),
            self.writing.map(BeingWritten::load).unwrap_or_default(),
        );
        let unacknowledged = self
            .unacknowledged
            .as_deref()
            .map(Unacknowledged::load)
            .unwrap_or_default();
        Load {
            texts: queued.texts + writing.texts + unacknowledged.texts,
            bytes: queued.bytes
                + writing.bytes
                + unacknowledged.bytes
                + self.outbound.behind_bytes()
                + self.again_bytes as usize,
        }
    }

    /// Whether its socket has long taken nothing of what it was given.
    pub(crate) fn is_stalled(&self, now: Instant) -> bool {
        let unacknowledged = self.unacknowledged.as_deref().and_then(Unacknowledged::awaited_since);
        let since = self
            .writing
            .map(|writing| writing.since)
            .into_iter()
            .chain(unacknowledged)
            .min();
        !self.is_urgent() && since.is_some_and(|since| since + STALLED <= now)
    }

    /// It gives way to others, as it reads too slowly.
    pub(crate) fn give_way(&mut self) {
        self.end(CloseCode::SlowReader);
    }

    /// How many bytes may wait to be written.
    pub(super) fn send_bound(&self) -> usize {
        self.around.load.bound(self.around.limits.send_queue_bytes)
    }
}
