//! A message that found no room on its way to the broker. Its connection forwards nothing meanwhile, so each has one at most.
//!
//! There are two kinds of room: for the bytes of it (`room`), and in the queue before the channel. Who waits for either is served in the order of arrival.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use shared::bus::{PublishError, Waiting};

use super::handle::ConnectionHandle;
use super::read_ahead::Received;
use crate::broker::budget::Coming;
use crate::broker::forward::Forwarder;

/// A message that waits for room.
pub(crate) enum Parked {
    /// For the bytes of it. It is given an id when there is room, so that nothing else of its connection can come between.
    ForBytes(Box<Unsent>),
    /// In the queue.
    InQueue(Box<Waiting>),
}

/// A message that is not given an id yet; nothing once it is.
pub(crate) struct Unsent {
    pub(crate) message: Option<Received>,
    pub(crate) room: Coming,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) peer: Arc<ConnectionHandle>,
}

impl Parked {
    /// Hands it over as soon as there is room, a poll at a time: the place in the line is kept.
    pub(crate) fn poll_submitted(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            match self {
                Self::InQueue(waiting) => return waiting.poll_submitted(context),
                Self::ForBytes(unsent) => {
                    let room = ready!(unsent.room.as_mut().poll(context));
                    let Some(message) = unsent.message.take() else {
                        return Poll::Ready(());
                    };
                    let opened = unsent.forwarder.open(&unsent.peer, message, room);
                    let publication = opened.into_publication(&unsent.forwarder);
                    match unsent.forwarder.publisher.try_submit(publication) {
                        Ok(()) => return Poll::Ready(()),
                        Err(waiting) => *self = Self::InQueue(waiting),
                    }
                }
            }
        }
    }

    /// Gives up waiting: its client is told.
    pub(crate) fn give_up(self, reason: PublishError) {
        match self {
            Self::InQueue(waiting) => waiting.give_up(reason),
            Self::ForBytes(unsent) => {
                if let Some(message) = &unsent.message {
                    unsent.forwarder.metrics.message_refused(reason);
                    unsent
                        .peer
                        .notify(|session, _| session.refuse_unsent(&message.text, reason));
                }
            }
        }
    }
}
