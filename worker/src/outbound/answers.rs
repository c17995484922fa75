//! Answers that were not written, and whom they are owed.
//!
//! An answer is for the connection that asked, or else for the one that showed its key, and so on: never for another of the
//! identity. It is put away first, and successors are looked for second; whoever takes over is recorded first, and looks into
//! the hold second. One of the two sees the other.

use bytes::Bytes;
use shared::bus::Delivery;
use shared::wire::envelope::{Bounced, Command, Fetch};
use shared::wire::id::{ConnectionId, MessageId};
use tracing::debug;

use super::given_up::{id, stamp};
use super::metrics::GaveUp;
use super::{Outbound, OutboundError, confirmed};
use crate::auth::successors;
use crate::dead_letter::redact;
use crate::store::{Decision, HeldWrite, Holding, Mailbox};

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
    /// Holds an answer, and tells whoever may hear it and does not know to ask for it.
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
        let why = match unheard.why {
            Bounced::Expired => "its authentication had expired",
            Bounced::Gone => "no connection that may receive it was open",
        };
        self.note_answer(write, "answer_held", why.to_owned()).await;
        let owed_to = successors::last_heir(&*self.store, unheard.asked_by).await?;
        // If its terminator has said so, it asks by itself when it is renewed, or is not there. The broker knows neither.
        if owed_to != unheard.on || !Bounced::is_said(&delivery.message.properties) {
            let sent = self.submit(owed_to, &Command::Wake { from: None }, Bytes::new()).await;
            self.counters.woke();
            confirmed(sent).await?;
        }
        Ok(())
    }

    /// What a connection may fetch: first what is owed to those that it took over from, the earliest of them first; then
    /// pushes, those that they have missed and those that nobody has got, in one order.
    pub(super) async fn owed_to(&self, fetch: Fetch) -> Result<Vec<Vec<Mailbox>>, OutboundError> {
        let earlier = successors::taken_over(&*self.store, fetch.connection).await?;
        let answers = earlier.iter().rev().chain([&fetch.connection]);
        let mut orders: Vec<_> = answers.map(|connection| vec![Mailbox::Answers(*connection)]).collect();
        let missed = earlier.iter().rev().map(|connection| Mailbox::Missed(*connection));
        orders.push(missed.chain([Mailbox::Pushes(fetch.identity)]).collect());
        Ok(orders)
    }

    /// Leaves word of what became of an answer, for whoever asks about its connection. That it cannot be kept is nobody's
    /// loss but theirs.
    pub(super) async fn note_answer(&self, held: &HeldWrite, what: &str, why: String) {
        let Some(MessageId { connection, sequence }) = stamp(&held.key) else {
            return;
        };
        let decision = Decision {
            at: self.clock.now(),
            sequence: Some(sequence),
            id: id(&held.body).map(|id| redact::text(id.as_str()).into_owned()),
            what: what.to_owned(),
            why,
        };
        self.recent_decisions.note(connection, &decision);
        if let Err(reason) = self.store.note(connection, &decision).await {
            debug!(%connection, %reason, "a decision is not kept");
        }
    }
}
