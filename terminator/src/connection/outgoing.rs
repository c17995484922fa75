//! What waits to be written to one socket.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::bus::Delivery;
use shared::wire::tag::IdentityTag;

use super::close_reason::CloseReason;
use super::load::Load;
use crate::broker::undelivered::Back;
use crate::session::recent::Key;

/// The most texts that may wait for one socket, whatever their size. Answers that wait are not yet acknowledged, and the
/// broker gives out at most [`crate::broker::PREFETCH`] of those: one slow reader may not take more than a sixteenth.
const MOST_OUTGOING: usize = 512;

/// A text to write to the socket.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) text: Bytes,
    /// On whose behalf it may be written; none if it is for anyone who reads it.
    pub(crate) identity: Option<IdentityTag>,
    /// By which it is known if it comes again.
    pub(crate) key: Option<Key>,
    /// It answers a request of this connection, and goes before what waits for a fetch unless another answer waits there.
    pub(crate) is_answer: bool,
    /// It goes before what waits for a fetch.
    pub(crate) ahead: bool,
    /// There was no room for it, and it need not come now: it is given back when its turn comes.
    pub(crate) late: bool,
    /// It had come before, and may be written already. When its turn comes, that is known, and is what its producer is told.
    pub(crate) again: bool,
    /// What to acknowledge when it is written.
    pub(crate) delivery: Option<Delivery>,
}

impl Outgoing {
    /// A text of our own.
    pub(crate) const fn notice(text: Bytes) -> Self {
        Self {
            text,
            identity: None,
            key: None,
            is_answer: false,
            ahead: false,
            late: false,
            again: false,
            delivery: None,
        }
    }
}

/// One thing in the queue.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are texts, and a box for each would cost more"
)]
#[derive(Debug)]
pub(crate) enum Entry {
    Text(Outgoing),
    /// All that was held has come before this, but for so many.
    Fetched {
        left: u64,
        /// Which fetch that was; 0 if it is not known.
        fetch: u64,
    },
}

/// The queue of one socket.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<Entry>,
    texts: usize,
    bytes: usize,
}

impl Queue {
    /// Adds something. Tells whether that is not more than may wait; one text may, however large it is.
    #[must_use]
    pub(crate) fn push(&mut self, entry: Entry, most_bytes: usize) -> bool {
        match &entry {
            // It is on its way back.
            Entry::Text(outgoing) if outgoing.late => {}
            Entry::Text(outgoing) => {
                self.bytes += outgoing.text.len();
                self.texts += 1;
            }
            Entry::Fetched { .. } => {}
        }
        self.entries.push_back(entry);
        self.texts <= 1 || (self.bytes <= most_bytes && self.texts <= MOST_OUTGOING)
    }

    /// Whether a text of so many bytes may wait too.
    pub(crate) fn has_room(&self, bytes: usize, most_bytes: usize) -> bool {
        self.texts == 0 || (self.bytes + bytes <= most_bytes && self.texts < MOST_OUTGOING)
    }

    /// What waits.
    pub(crate) const fn load(&self) -> Load {
        Load {
            texts: self.texts,
            bytes: self.bytes,
        }
    }

    /// Puts texts before all that waits. They have been counted once.
    pub(crate) fn push_front(&mut self, texts: VecDeque<Outgoing>) {
        for outgoing in texts.into_iter().rev() {
            self.entries.push_front(Entry::Text(outgoing));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All that waits. What comes next waits in a queue of its own.
    pub(crate) fn take(&mut self) -> VecDeque<Entry> {
        self.bytes = 0;
        self.texts = 0;
        std::mem::take(&mut self.entries)
    }
}

/// What is to be done for a socket now, in this order.
#[derive(Default)]
pub(crate) struct Batch {
    /// What goes back to the workers.
    pub(crate) back: Vec<Back>,
    /// What is written.
    pub(crate) writes: VecDeque<Outgoing>,
    /// How the connection ends, if it does.
    pub(crate) ending: Option<CloseReason>,
}

impl Batch {
    /// What is to be written, if anything is.
    pub(crate) fn load(&self) -> Option<Load> {
        let bytes = || self.writes.iter().map(|outgoing| outgoing.text.len()).sum();
        (!self.writes.is_empty()).then(|| Load {
            texts: self.writes.len(),
            bytes: bytes(),
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.back.is_empty() && self.writes.is_empty() && self.ending.is_none()
    }
}
