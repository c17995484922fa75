//! What others may do to a connection: bring it an answer, or tell it that a message of its was refused.
//!
//! The connection's own task owns the socket; everybody else leaves things here and wakes it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shared::bus::Delivery;
use shared::envelope::Part;
use shared::id::{ConnectionId, Sequence};
use tokio::sync::Notify;

use crate::in_flight::{InFlight, Verdict};

/// The most texts that may wait for one socket, whatever their size. Answers that wait are not yet acknowledged, and the
/// broker gives out at most [`crate::returns::PREFETCH`] of those: one slow reader may not take more than a sixteenth.
const MOST_OUTGOING: usize = 512;

/// One connection, as others see it.
pub(crate) struct Peer {
    id: ConnectionId,
    state: Mutex<State>,
    /// Something was left for the connection's task.
    pub(crate) wake: Notify,
}

struct State {
    in_flight: InFlight,
    outgoing: VecDeque<Outgoing>,
    outgoing_bytes: usize,
    most_bytes: usize,
    too_slow: bool,
}

/// A text to write to the socket.
pub(crate) struct Outgoing {
    pub(crate) text: Bytes,
    /// What to acknowledge when it is written.
    pub(crate) delivery: Option<Delivery>,
}

impl Peer {
    pub(crate) fn new(id: ConnectionId, most_in_flight: usize, most_bytes: usize) -> Self {
        let state = State {
            in_flight: InFlight::new(most_in_flight),
            outgoing: VecDeque::new(),
            outgoing_bytes: 0,
            most_bytes,
            too_slow: false,
        };
        Self {
            id,
            state: Mutex::new(state),
            wake: Notify::new(),
        }
    }

    pub(crate) const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The connection has sent a message; its sequence.
    pub(crate) fn forward(&self) -> Sequence {
        self.lock().in_flight.forward()
    }

    /// The sequence that its next message would have.
    pub(crate) fn next_sequence(&self) -> Sequence {
        self.lock().in_flight.next()
    }

    /// Whether it may send another message.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().in_flight.has_room()
    }

    /// Whether all that it sent is answered and all answers are fetched.
    pub(crate) fn is_quiet(&self) -> bool {
        let state = self.lock();
        state.in_flight.is_empty() && state.outgoing.is_empty()
    }

    /// An answer came for it.
    pub(crate) fn deliver(&self, sequence: Sequence, part: Part, mut delivery: Delivery) -> Verdict {
        let mut state = self.lock();
        let verdict = state.in_flight.answer(sequence, part);
        let text = std::mem::take(&mut delivery.message.body);
        if verdict == Verdict::Duplicate || text.is_empty() {
            drop(state);
            delivery.ack();
        } else {
            state.push(Outgoing {
                text,
                delivery: Some(delivery),
            });
            drop(state);
        }
        self.wake.notify_one();
        verdict
    }

    /// A message of its will not be answered; `text` says why. Tells whether it was still open.
    pub(crate) fn refuse(&self, sequence: Sequence, text: impl FnOnce() -> Bytes) -> bool {
        let open = self.lock().in_flight.refuse(sequence);
        if open {
            self.tell(text());
        }
        open
    }

    /// Something is to be written to it.
    pub(crate) fn tell(&self, text: Bytes) {
        self.lock().push(Outgoing { text, delivery: None });
        self.wake.notify_one();
    }

    /// It is gone: nothing is awaited any more. Tells how much was.
    pub(crate) fn abandon(&self) -> usize {
        self.lock().in_flight.abandon()
    }

    /// What is to be written, for the connection's task to take.
    pub(crate) fn take_outgoing(&self) -> VecDeque<Outgoing> {
        let mut state = self.lock();
        state.outgoing_bytes = 0;
        std::mem::take(&mut state.outgoing)
    }

    /// Whether more was left for it than it reads.
    pub(crate) fn is_too_slow(&self) -> bool {
        self.lock().too_slow
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, outgoing: Outgoing) {
        self.outgoing_bytes += outgoing.text.len();
        self.outgoing.push_back(outgoing);
        self.too_slow |= self.outgoing_bytes > self.most_bytes || self.outgoing.len() > MOST_OUTGOING;
    }
}
