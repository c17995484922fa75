//! What was not written, from `<ns>.undelivered` into the hold, and what is asked for out of it.
//!
//! One worker at a time has the queue, and does what is for one identity in its
//! order: so whatever a terminator gave back before it asks for what is held has
//! been put away when it asks.
//!
//! A push that comes from a connection that is gone is followed by a look for others of
//! its identity. A connection that has expired asks for it itself, when it is renewed;
//! only if it is gone meanwhile are others told. Answers are no one else's: see `answers`.

mod job;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use shared::bus::{Delivery, Message, batch};
use shared::wire::envelope::{Bounced, Command};
use shared::wire::id::ConnectionId;
use shared::wire::tag::IdentityTag;
use tokio::time::Instant;

use self::job::{Job, Lane, for_one, settlement};
use super::lanes::Lanes;
use super::metrics::{Came, GaveUp};
use super::outcome::Outcome;
use super::waking::Told;
use super::{Arrival, Outbound, OutboundError, confirmed};
use crate::app::queue_consumer::QueueConsumer;
use crate::auth::successors::Successors;
use crate::store::{HeldWrite, Holding};

pub(crate) struct UndeliveredConsumer {
    outbound: Arc<Outbound>,
    told: Told,
}

impl UndeliveredConsumer {
    pub(crate) fn new(outbound: Arc<Outbound>) -> Self {
        Self {
            outbound,
            told: Told::default(),
        }
    }

    /// Runs until the worker stops and all that it had taken is done.
    pub(crate) async fn run(self: Arc<Self>, intake: QueueConsumer) {
        if intake
            .unless_stopped(self.outbound.audience.revoked.until_loaded())
            .await
            .is_none()
        {
            return;
        }
        let mut doing = self.clone().lanes();
        // Dropped before what is being done: what that gives back must not come here once more.
        let mut intake = intake;
        let mut stopped = false;
        loop {
            // What is done makes room before more is taken.
            tokio::select! {
                biased;
                Some(()) = doing.next() => {}
                delivery = intake.next(), if !stopped => match delivery {
                    Some(delivery) => self.take(delivery, &mut doing),
                    None => stopped = true,
                },
                else => return,
            }
        }
    }

    fn lanes(self: Arc<Self>) -> Lanes<Lane, (Delivery, Job), ()> {
        Lanes::new(1, move |work: Vec<(Delivery, Job)>| -> BoxFuture<'static, ()> {
            let putting = self.clone();
            Box::pin(async move {
                for (delivery, job) in work {
                    putting.do_it(delivery, &job).await;
                }
            })
        })
    }

    async fn do_it(&self, delivery: Delivery, job: &Job) {
        if let Some((queue, settlement)) = settlement(&delivery.message) {
            self.outbound
                .persist(|| self.put_back(&queue, settlement.clone()))
                .await;
        }
        self.outbound.persist(|| self.try_do(&delivery, job)).await;
        delivery.ack();
    }

    fn take(&self, mut delivery: Delivery, doing: &mut Lanes<Lane, (Delivery, Job), ()>) {
        let outbound = &self.outbound;
        let mut others = Vec::new();
        if let Some((one, of_others)) = for_one(&delivery.message) {
            (delivery.message, others) = (one, of_others);
        }
        if batch::why_unreadable(&delivery.message).is_some() {
            outbound.counters.came(Came::Ignored);
            return doing.push(Lane::Broadcasts, (delivery, Job::DeadLetter));
        }
        match Job::of(&delivery.message, outbound.clock.now()) {
            Some(mut job) => {
                if let Job::Hold { also, .. } = &mut job {
                    *also = others;
                }
                outbound.counters.came(job.kind());
                doing.push(job.lane(), (delivery, job));
            }
            None => {
                outbound.counters.came(Came::Ignored);
                delivery.ack();
            }
        }
    }

    async fn try_do(&self, delivery: &Delivery, job: &Job) -> Result<(), OutboundError> {
        match job {
            Job::Hold {
                why,
                connection,
                also,
                identity,
                alone,
                write,
            } => {
                for gone in also {
                    self.outbound.keep_for_successor(*gone, *identity, write).await?;
                }
                self.hold(delivery, *why, *connection, *identity, *alone, write).await
            }
            Job::HoldAnswer { unheard, write, .. } => self.outbound.hold_answer(delivery, unheard, write).await,
            Job::Written {
                identity,
                producer,
                connections,
            } => {
                let connections = usize::try_from(*connections).unwrap_or(usize::MAX).max(1);
                let outcome = Outcome::Delivered { connections };
                let again = delivery.is_redelivered();
                self.outbound.conclude(*identity, producer, &outcome, again).await;
                Ok(())
            }
            Job::Fetch(fetch) => {
                self.told.forget(fetch.identity);
                self.outbound.fetch(*fetch).await
            }
            Job::Wake { gone, from } => self.wake_successor(*gone, *from).await,
            Job::Leave { connection, identity } => {
                self.outbound.unregister(*identity, *connection).await;
                Ok(())
            }
            Job::PutBack { queue, message } => self.put_back(queue, message.clone()).await,
            Job::Settle(_) => Ok(()),
            Job::DeadLetter => {
                let reason = batch::why_unreadable(&delivery.message).unwrap_or_default();
                let queue = self.outbound.names.undelivered().name;
                Ok(self
                    .outbound
                    .dead_letters
                    .dead_letter_unreadable(delivery, reason, queue)
                    .await?)
            }
        }
    }

    /// Puts something where it was: its terminator may be alive without the broker, and is to find it when it is back.
    /// If it is not, the queue goes, and this with it.
    async fn put_back(&self, queue: &str, message: Message) -> Result<(), OutboundError> {
        let outbound = &self.outbound;
        if !outbound.names.is_ours(queue) {
            return Ok(());
        }
        let sent = outbound.publish(queue, message).await;
        confirmed(sent).await?;
        Ok(())
    }

    async fn hold(
        &self,
        delivery: &Delivery,
        why: Bounced,
        connection: ConnectionId,
        identity: IdentityTag,
        alone: bool,
        write: &HeldWrite,
    ) -> Result<(), OutboundError> {
        let outbound = &self.outbound;
        let mailbox = identity.into();
        if outbound.is_over(write) {
            if !write.is_past(outbound.clock.now()) {
                outbound.store.miss(mailbox, 1).await?;
            }
            return outbound.give_up(write, mailbox, GaveUp::Expired, Some(delivery)).await;
        }
        if why == Bounced::Gone {
            outbound.keep_for_successor(connection, identity, write).await?;
        }
        if outbound.put_away(mailbox, write).await? == Holding::Overflow {
            outbound.store.miss(mailbox, 1).await?;
            // What was held may be the copy of a push that others have: it is missed, and no dead letter.
            let unheard = (!Command::is_released(&delivery.message.properties)).then_some(delivery);
            return outbound.give_up(write, mailbox, GaveUp::Overflow, unheard).await;
        }
        if let Some(producer) = &write.producer {
            let again = delivery.is_redelivered();
            outbound.conclude(identity, producer, &Outcome::Held, again).await;
        }
        // Another copy of the same has been held a moment ago, and anyone who is to be told of it has been.
        if !delivery.is_redelivered() && self.told.knows(identity, &write.key, Instant::now()) {
            return Ok(());
        }
        // It asks by itself as soon as it is renewed, and others that were live have it.
        let asks = why == Bounced::Expired && outbound.store.registered(identity, connection).await?.is_some();
        if !asks || alone {
            let mut recipients = outbound.audience.of(identity).await?;
            recipients.retain(|recipient| !asks || recipient.connection != connection);
            outbound.wake_all(identity, &recipients).await?;
        }
        self.told.remember(identity, &write.key, Instant::now());
        Ok(())
    }

    /// Tells the one who has taken over from a connection that is gone.
    async fn wake_successor(&self, gone: ConnectionId, from: ConnectionId) -> Result<(), OutboundError> {
        let command = Command::Wake { from: Some(from) };
        let mut successors = Successors::of(&*self.outbound.store, gone);
        while let Some(successor) = successors.next().await? {
            let sent = self.outbound.submit(successor, &command, bytes::Bytes::new()).await;
            if confirmed(sent).await? != Arrival::Gone {
                self.outbound.counters.woke();
                return Ok(());
            }
        }
        Ok(())
    }
}
