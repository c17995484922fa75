//! Answers that were not written, and whom they are owed.
//!
//! An answer is for the connection that asked, or else for the one that showed its key, and so on: never for another of the
//! identity. It is put away first, and successors are looked for second; anyone who takes over is recorded first, and looks into
//! the hold second. One of the two sees the other.

use bytes::Bytes;
use shared::bus::Delivery;
use shared::wire::envelope::{Bounced, Command, Fetch};
use shared::wire::id::ConnectionId;

use super::given_up::id;
use super::metrics::GaveUp;
use super::{Outbound, OutboundError, confirmed};
use crate::admin::event::{Event, Subject};
use crate::auth::successors;
use crate::store::{HeldWrite, Holding, Mailbox};

/// An answer, as it came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unheard {
    /// The connection that asked.
    pub(super) asked_by: ConnectionId,
    /// The one that it was to be written to.
    pub(super) on: ConnectionId,
    /// Why it was not.
    pub(super) why: Bounced,
}

impl Outbound {
    /// Holds an answer, and tells anyone who may hear it and does not know to ask for it.
    pub(super) async fn hold_answer(
        &self,
        delivery: &Delivery,
        unheard: &Unheard,
        write: &HeldWrite,
    ) -> Result<(), OutboundError> {
        let mailbox = Mailbox::Answers(unheard.asked_by);
        if self.is_over(write) {
            return self.give_up(write, mailbox, GaveUp::Expired, Some(delivery)).await;
        }
        if self.put_away(mailbox, write).await? == Holding::Overflow {
            return self.give_up(write, mailbox, GaveUp::Overflow, Some(delivery)).await;
        }
        self.note_write(write, Event::ReplyHeld { why: unheard.why }).await;
        let owed_to = successors::last_successor(&*self.store, unheard.asked_by).await?;
        // If its terminator has said so, it asks by itself when it is renewed, or is not there. The broker knows neither.
        if owed_to != unheard.on || !Bounced::is_said(&delivery.message.properties) {
            let sent = self.submit(owed_to, &Command::Wake { from: None }, Bytes::new()).await;
            self.counters.woke();
            confirmed(sent).await?;
        }
        Ok(())
    }

    /// What a connection may fetch: first what is owed to those that it took over from, the earliest of them first; then
    /// pushes, those that they have missed and those that no one has got, in one order.
    pub(super) async fn owed_to(&self, fetch: Fetch) -> Result<Vec<Vec<Mailbox>>, OutboundError> {
        let earlier = successors::taken_over(&*self.store, fetch.connection).await?;
        let answers = earlier.iter().rev().chain([&fetch.connection]);
        let mut orders: Vec<_> = answers.map(|connection| vec![Mailbox::Answers(*connection)]).collect();
        let missed = earlier.iter().rev().map(|connection| Mailbox::Missed(*connection));
        orders.push(missed.chain([Mailbox::Pushes(fetch.identity)]).collect());
        Ok(orders)
    }

    /// Tells what becomes of something to be written, and leaves word of it for anyone who asks about its connection.
    pub(super) async fn note_write(&self, held: &HeldWrite, event: Event<'_>) {
        let id = id(&held.body);
        self.observer.note(Subject::of_key(&held.key), id.as_ref(), event).await;
    }
}
