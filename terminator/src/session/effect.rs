//! What follows from what has happened to a connection, for its handle to carry out.

use std::collections::VecDeque;

use shared::bus::Delivery;
use shared::wire::id::{MessageId, Sequence};
use shared::wire::protocol::Reason;

/// Those that were not carried out yet, in their order; there are none of most connections most of the time.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "one pointer in each of a hundred thousand idle connections"
)]
pub(crate) struct Effects(Option<Box<VecDeque<Effect>>>);

/// One of them.
#[derive(Debug)]
pub(crate) enum Effect {
    /// What came out of the return queue is done with.
    Acknowledge(Box<Delivery>),
    /// Something has happened that operators may see.
    Event(Event),
}

impl Effects {
    pub(super) fn add(&mut self, effect: Effect) {
        self.0.get_or_insert_default().push_back(effect);
    }
}

impl Iterator for Effects {
    type Item = Effect;

    fn next(&mut self) -> Option<Effect> {
        self.0.as_mut()?.pop_front()
    }
}

/// What has happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A message was sent back: it waits for what was sent before it.
    Returned(Sequence),
    /// A message that was sent back is forwarded a second time.
    Resent,
    /// A message is held until a fresh token comes.
    Held(Sequence, Reason),
    /// A message that was held is lost, and is refused.
    HeldLost(MessageId),
    /// That what is held be handled is asked.
    ReleaseRequested,
    /// Nothing of so many open messages was answered for `answer-timeout`: the connection ends.
    RepliesLost {
        /// How many messages are open.
        open: usize,
    },
    /// The client is asked for a fresh token.
    AuthRequired(Reason),
    /// Its authentication has expired.
    Expired,
}
