//! What goes out on no one's request: pushes, and what was held of them and of answers.
//!
//! ```text
//! <ns>.pushes ─────── in order for each identity ─▶ return queues, or the hold
//! <ns>.undelivered ── in order for each identity ─▶ the hold, and out of it again
//! every few seconds ─ the reaper ─────────────────▶ what was held too long
//! <ns>.open ───────── which connections are open ─▶ `open`: the ends of those of lost terminators, if events are on
//! ```
//!
//! A push and a connection may pass each other by: the one looks for connections
//! while the other registers. So both write first and look second. Whatever is put
//! into the hold is followed by a look for connections, which are told; anyone who
//! registers is told how much is held. One of the two sees the other, and both may: what comes
//! twice is known by its key.
//!
//! Nothing in here may be passed over while the store or the broker is away, or what
//! comes behind it would overtake it. So nothing is given back: it is tried again, until
//! the worker ends.

mod answers;
pub(crate) mod audience;
mod fetch;
mod given_up;
mod lanes;
pub(crate) mod metrics;
pub(crate) mod missed;
pub(crate) mod open;
pub(crate) mod outcome;
pub(crate) mod outcome_publisher;
pub(crate) mod pushes;
pub(crate) mod reaper;
pub(crate) mod undelivered;
mod waking;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use shared::bus::topology::{Names, keys};
use shared::bus::{Confirm, Message, PublishError, Publisher, Route};
use shared::service::backoff::Backoff;
use shared::service::chance;
use shared::service::clock::Clock;
use shared::wire::envelope::command::{Producer, Write};
use shared::wire::envelope::{self, Command};
use shared::wire::id::ConnectionId;
use shared::wire::revocation::Revocation;
use shared::wire::tag::IdentityTag;
use tracing::debug;

use self::audience::{Audience, Recipient};
use self::metrics::Counters;
use self::outcome::Outcome;
use self::outcome_publisher::PushOutcomePublisher;
pub(crate) use self::waking::Leavings;
use crate::admin::event::{Event, Redacted, Subject};
use crate::admin::observer::Observer;
use crate::config::HoldOverflow;
use crate::dead_letter::DeadLetterPublisher;
use crate::store::{HeldWrite, HoldLimits, Holding, Mailbox, Store, StoreError};

/// When what could not be done is tried again: soon, since all of its identity's waits behind it and one hiccup is the
/// usual case, and then less and less often.
const LEAST_PAUSE: Duration = Duration::from_millis(50);
const MOST_PAUSE: Duration = Duration::from_secs(1);

/// Why something could not be done now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutboundError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker is away for good.
    #[error(transparent)]
    Broker(#[from] PublishError),
}

/// Whether a command arrived in its terminator's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    Arrived,
    /// There is no such queue, and so no such terminator.
    Gone,
    /// The queue did not take it.
    Refused,
}

/// What all of this works with.
pub(crate) struct Outbound {
    pub(crate) names: Names,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    /// One for all commands, so that those for a connection arrive in their order.
    pub(crate) publisher: Publisher,
    pub(crate) audience: Audience,
    pub(crate) outcomes_publisher: Arc<PushOutcomePublisher>,
    pub(crate) dead_letters: Arc<DeadLetterPublisher>,
    /// The same of what outsiders publish.
    pub(crate) outsiders: Arc<DeadLetterPublisher>,
    pub(crate) hold: HoldLimits,
    /// Which pushes give way when there are too many.
    pub(crate) hold_overflow: HoldOverflow,
    /// For how long what a connection that is gone misses is kept for it.
    pub(crate) resume_window: Option<Duration>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) leavings: Leavings,
    pub(crate) observer: Arc<Observer>,
}

impl Outbound {
    /// An identity has one connection less, which would have asked for what is held as soon as it was renewed: now others
    /// are told.
    ///
    /// Ten thousand may leave together: one look at a time is for all that have left before it.
    pub(crate) async fn left(&self, identity: IdentityTag) {
        if !self.leavings.begin(identity) {
            return;
        }
        loop {
            self.look_after(identity).await;
            if !self.leavings.goes_on(identity) {
                return;
            }
        }
    }

    async fn look_after(&self, identity: IdentityTag) {
        let told = async {
            if !self.store.held_writes(identity.into(), 1).await?.is_empty() {
                self.wake(identity).await?;
            }
            Ok::<(), OutboundError>(())
        };
        if let Err(reason) = told.await {
            // Anyone who is renewed next is told how much is held.
            debug!(%reason, %identity, "no connection was notified of what a closed one left");
        }
    }

    /// Tells some connections of an identity that may be written to that something is held for them.
    async fn wake(&self, identity: IdentityTag) -> Result<(), OutboundError> {
        let recipients = self.audience.of(identity).await?;
        self.wake_all(identity, &recipients).await
    }

    /// Those too whose terminator does not listen at the moment: it will find the word when it is back.
    async fn wake_all(&self, identity: IdentityTag, recipients: &[Recipient]) -> Result<(), OutboundError> {
        let mut sent = Vec::new();
        for recipient in waking::told_of(recipients) {
            let command = Command::Wake { from: None };
            let sending = self.submit(recipient.connection, &command, Bytes::new()).await;
            self.counters.woke();
            sent.push((recipient.connection, sending));
        }
        for (connection, sending) in sent {
            self.arrival(identity, connection, sending).await?;
        }
        Ok(())
    }

    /// Holds something to be written.
    async fn put_away(&self, mailbox: Mailbox, write: &HeldWrite) -> Result<Holding, OutboundError> {
        let mut holding = self.store.hold_write(mailbox, write, &self.hold).await?;
        while holding == Holding::Overflow && self.makes_room(mailbox, write).await? {
            holding = self.store.hold_write(mailbox, write, &self.hold).await?;
        }
        if let Holding::Held { count, .. } = holding {
            let held = Event::WriteHeld {
                key: Redacted(&write.key),
                mailbox,
                count,
            };
            self.observer.tell(Subject::of_key(&write.key), held);
        }
        Ok(holding)
    }

    /// Whether it has waited too long.
    fn is_over(&self, write: &HeldWrite) -> bool {
        let now = self.clock.now();
        write.since.saturating_add(self.hold.ttl) <= now || write.is_past(now)
    }

    /// Hands a command over to the publisher: in order, if one is handed over after the other.
    async fn submit(&self, connection: ConnectionId, command: &Command, body: Bytes) -> Confirm {
        let queue = self.names.return_queue(connection.terminator).name;
        self.publish(&queue, command.to_message(connection, body)).await
    }

    /// The same with any message, for that queue.
    async fn publish(&self, queue: &str, message: Message) -> Confirm {
        self.publisher.begin(Route::queue(queue), message).await
    }

    /// Waits until it is known whether it arrived. A connection whose terminator's queue is gone leaves the index.
    async fn arrival(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
        sent: Confirm,
    ) -> Result<Arrival, PublishError> {
        let arrival = confirmed(sent).await?;
        if arrival == Arrival::Gone {
            self.unregister(identity, connection).await;
        }
        Ok(arrival)
    }

    async fn unregister(&self, identity: IdentityTag, connection: ConnectionId) {
        self.counters.unregistered();
        // If the store is away, anyone who comes next finds it again.
        let _ = self.store.unregister(identity, connection, None).await;
    }

    /// Tells everyone who runs of revocations, at most as many as travel in one message.
    ///
    /// # Errors
    /// If the broker could not be told.
    pub(crate) async fn broadcast_revocations(&self, all: &[Revocation]) -> Result<(), OutboundError> {
        let route = Route::new(&self.names.internal_exchange().name, keys::REVOKED);
        match self.publisher.publish(route, envelope::revoked(all)).await {
            // No one listens, so there is no one whom it could concern.
            Err(PublishError::Unroutable) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Tells the producer of something for an identity what became of it, once and for all, or once before that that it is held;
    /// and once more if it came `again`, as the one who had it before may not have said so.
    pub(crate) async fn conclude(&self, identity: IdentityTag, producer: &Producer, outcome: &Outcome, again: bool) {
        // Whether it was noted is not known either of an attempt that failed: better told twice than never.
        let is_unsure = AtomicBool::new(again);
        let note = || async {
            // An older program has drawn no key.
            let noted = match producer.key {
                0 => Ok(true),
                key => self.store.conclude(identity, key, *outcome == Outcome::Held).await,
            };
            let is_new = noted.inspect_err(|_| is_unsure.store(true, Ordering::Relaxed))?;
            Ok(is_new || is_unsure.load(Ordering::Relaxed))
        };
        if self.persist(note).await {
            let tell = || async { Ok(self.outcomes_publisher.tell(producer, outcome).await?) };
            self.persist(tell).await;
        }
    }

    /// Does `attempt` until it succeeds.
    pub(crate) async fn persist<T, F>(&self, attempt: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T, OutboundError>>,
    {
        let mut backoff = Backoff::new(LEAST_PAUSE, MOST_PAUSE);
        loop {
            match attempt().await {
                Ok(done) => return done,
                Err(reason) => {
                    self.counters.retried();
                    debug!(%reason, "something in order could not be done, and is tried again");
                    tokio::time::sleep(backoff.next_wait(chance::share())).await;
                }
            }
        }
    }
}

/// Waits until it is known whether it arrived.
async fn confirmed(sent: Confirm) -> Result<Arrival, PublishError> {
    match sent.outcome().await {
        Ok(()) => Ok(Arrival::Arrived),
        Err(PublishError::Unroutable) => Ok(Arrival::Gone),
        Err(PublishError::Refused | PublishError::Malformed) => Ok(Arrival::Refused),
        Err(reason @ (PublishError::Away | PublishError::Ended)) => Err(reason),
    }
}

/// How something held, or to be held, is written.
fn write(held: &HeldWrite, identity: Option<IdentityTag>) -> Write {
    Write {
        key: held.key.clone(),
        identity,
        producer: held.producer.clone(),
        connections: 1,
        alone: false,
        asked_by: given_up::message_id(&held.key).map(|message_id| message_id.connection),
        released: false,
        fetched: false,
        since: held.since,
        until: held.until,
    }
}
