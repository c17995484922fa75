//! What producers push, from `<ns>.pushes` to the return queues of its connections.
//!
//! One worker at a time has the queue. What is for one identity is done in its
//! order, each push confirmed before the next is looked at; different identities go
//! side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use shared::bus::{Delivery, Message};
use shared::wire::envelope::command::{Producer, Write};
use shared::wire::envelope::spread::MOST_CONNECTIONS;
use shared::wire::envelope::{Command, Spread};
use shared::wire::id::TerminatorId;
use shared::wire::protocol::{ErrorBody, ErrorCode};
use shared::wire::tag::IdentityTag;
use tracing::debug;
use tracing::field::display;

use super::audience::Recipient;
use super::given_up::overflow;
use super::known::Known;
use super::lanes::Lanes;
use super::metrics::{GaveUp, Kind};
use super::outcome::Outcome;
use super::push::{self, Addressee, Push};
use super::{Arrival, Outbound, OutboundError, confirmed, write};
use crate::app::queue_consumer::QueueConsumer;
use crate::auth::identity::Issuer;
use crate::dead_letter::redact;
use crate::process::trace::JOURNEY;
use crate::store::{Authentication, Holding};

pub(crate) struct Pushes {
    pub(crate) outbound: Arc<Outbound>,
    /// Whose subjects may be pushed to.
    pub(crate) issuers: Vec<Issuer>,
    /// Those that were taken out of the queue.
    pub(crate) known: Known,
}

/// A push with the identity in whose name it may be written.
struct Addressed {
    delivery: Delivery,
    push: Push,
    identity: IdentityTag,
}

/// A push of which it is decided what becomes of it.
struct Concluded {
    delivery: Delivery,
    /// Nothing if it could not be read.
    id: Option<String>,
    /// Nothing if it is nobody's.
    identity: Option<IdentityTag>,
    producer: Option<Producer>,
    outcome: Outcome,
}

enum Resolved {
    Addressed(Addressed),
    Concluded(Concluded),
}

/// Everything that is being done, each part with the deliveries that it is about.
struct Doing {
    /// In the order in which they came.
    resolving: FuturesOrdered<BoxFuture<'static, Resolved>>,
    delivering: Lanes<IdentityTag, Addressed, Concluded>,
    concluding: FuturesUnordered<BoxFuture<'static, ()>>,
}

enum Event {
    Came(Delivery),
    Resolved(Resolved),
    Delivered(Concluded),
    Acknowledged,
    /// Nothing new comes.
    Stopped,
}

impl Pushes {
    /// Runs until the worker stops and all that it had taken is done.
    pub(crate) async fn run(self: Arc<Self>, intake: QueueConsumer) {
        // Until then nobody knows whom not to write to.
        if intake
            .unless_stopped(self.outbound.audience.revoked.until_loaded())
            .await
            .is_none()
        {
            return;
        }
        let mut doing = Doing {
            resolving: FuturesOrdered::new(),
            delivering: self.clone().lanes(),
            concluding: FuturesUnordered::new(),
        };
        // Dropped before what is being done: what that gives back must not come here once more.
        let mut intake = intake;
        let mut stopped = false;
        loop {
            match doing.next_event(&mut intake, stopped).await {
                Event::Came(delivery) => doing.resolving.push_back(Box::pin(self.clone().resolve(delivery))),
                Event::Resolved(Resolved::Addressed(addressed)) => {
                    doing.delivering.push(addressed.identity, addressed);
                }
                Event::Resolved(Resolved::Concluded(concluded)) | Event::Delivered(concluded) => {
                    doing.concluding.push(Box::pin(self.clone().conclude(concluded)));
                }
                Event::Acknowledged => {}
                Event::Stopped if stopped => return,
                Event::Stopped => stopped = true,
            }
        }
    }

    /// Sends one to an identity, of which nobody waits in the queue: once, and if that cannot be now, not at all.
    ///
    /// # Errors
    /// If the store or the broker is away.
    pub(crate) async fn send(&self, push: &Push, identity: IdentityTag) -> Result<Outcome, OutboundError> {
        let outcome = self.try_deliver(push, identity).await?;
        self.outbound.counters.pushed(&outcome);
        Ok(outcome)
    }

    fn lanes(self: Arc<Self>) -> Lanes<IdentityTag, Addressed, Concluded> {
        Lanes::new(move |addressed| Box::pin(self.clone().deliver(addressed)))
    }

    /// Finds out in whose name it may be written.
    async fn resolve(self: Arc<Self>, delivery: Delivery) -> Resolved {
        let outbound = &self.outbound;
        let read = Push::read(&delivery.message, &outbound.names, &self.issuers, outbound.clock.now());
        let push = match read {
            Ok(push) => push,
            Err(fault) => {
                let producer = push::producer(&delivery.message.properties, &outbound.names);
                return Resolved::Concluded(Concluded {
                    delivery,
                    id: None,
                    identity: None,
                    producer,
                    outcome: Outcome::Refused { error: fault.error() },
                });
            }
        };
        let identity = match push.to {
            Addressee::Identity(identity) => Some(identity),
            Addressee::Connection(connection) => {
                let look = || async move { Ok(outbound.store.authentication(connection).await?) };
                match outbound.persist(look).await {
                    Some(Authentication::Live { identity, .. }) => Some(identity.tag()),
                    Some(Authentication::Forgotten { .. } | Authentication::Closed { .. }) | None => None,
                }
            }
        };
        match identity {
            Some(identity) => Resolved::Addressed(Addressed {
                delivery,
                push,
                identity,
            }),
            None => Resolved::Concluded(Concluded {
                delivery,
                id: Some(push.id),
                identity,
                producer: push.producer,
                outcome: Outcome::NoRecipient,
            }),
        }
    }

    /// Brings it to return queues, or into the hold.
    async fn deliver(self: Arc<Self>, addressed: Addressed) -> Concluded {
        let Addressed {
            delivery,
            push,
            identity,
        } = addressed;
        let outcome = if self.known.has_another(&push, identity) {
            let why = "another push had this message_id before: it would be taken for that one";
            let error = ErrorBody::new(ErrorCode::Duplicate, why);
            Outcome::Refused { error }
        } else {
            self.outbound.persist(|| self.try_deliver(&push, identity)).await
        };
        if matches!(outcome, Outcome::Delivered { .. } | Outcome::Held) {
            self.known.taken(&push, identity);
        }
        Concluded {
            delivery,
            id: Some(push.id),
            identity: Some(identity),
            producer: push.producer,
            outcome,
        }
    }

    async fn try_deliver(&self, push: &Push, identity: IdentityTag) -> Result<Outcome, OutboundError> {
        let audience = &self.outbound.audience;
        let recipients = match push.to {
            Addressee::Identity(_) => audience.of(identity).await?,
            Addressee::Connection(connection) => audience.one(identity, connection).await?,
        };
        let is_meant = |recipient: &Recipient| Some(recipient.connection) != push.except;
        let recipients: Vec<_> = recipients.into_iter().filter(is_meant).collect();
        let arrived = self.write(push, identity, &recipients).await?;
        let connections = arrived.iter().filter(|recipient| recipient.is_live()).count();
        match push.to {
            _ if connections > 0 => Ok(Outcome::Delivered { connections }),
            // A terminator gives it back as lapsed, behind what it has given back before: were it held here, it would
            // overtake that. Whoever has come meanwhile is told then.
            _ if arrived.iter().any(|recipient| recipient.listening) => Ok(Outcome::Held),
            // Somebody has it.
            Addressee::Identity(_) if push.except.is_some() => Ok(Outcome::NoRecipient),
            Addressee::Identity(_) => self.hold(push, identity).await,
            Addressee::Connection(_) if arrived.is_empty() => Ok(Outcome::NoRecipient),
            // The broker gives back what is not fetched in time.
            Addressee::Connection(_) => Ok(Outcome::Held),
        }
    }

    /// Writes it to the recipients, those that have lapsed too: their terminators know what to do about that. Tells at
    /// whose it arrived.
    async fn write(
        &self,
        push: &Push,
        identity: IdentityTag,
        recipients: &[Recipient],
    ) -> Result<Vec<Recipient>, OutboundError> {
        let write = Write {
            alone: push.except.is_none() && !recipients.iter().any(Recipient::is_live),
            ..write(&push.to_hold(), Some(identity))
        };
        let mut sent = Vec::new();
        for (terminator, recipients) in by_terminator(recipients) {
            for some in recipients.chunks(MOST_CONNECTIONS) {
                let message = to_some(terminator, some, &write, push.bytes());
                let queue = self.outbound.names.return_queue(terminator).name;
                sent.push((some.to_vec(), self.outbound.publish(&queue, message).await));
            }
        }
        let mut arrived = Vec::with_capacity(recipients.len());
        for (some, sending) in sent {
            match confirmed(sending).await? {
                Arrival::Arrived => arrived.extend(some),
                Arrival::Refused => {}
                Arrival::Gone => {
                    for recipient in some {
                        self.outbound.unregister(identity, recipient.connection).await;
                    }
                }
            }
        }
        self.outbound.counters.wrote(arrived.len());
        Ok(arrived)
    }

    /// Nobody can be written to now. What is held is there before the look for whoever has come meanwhile.
    async fn hold(&self, push: &Push, identity: IdentityTag) -> Result<Outcome, OutboundError> {
        match self.outbound.put_away(identity.into(), &push.to_hold()).await? {
            Holding::Held { .. } => {
                self.outbound.wake(identity).await?;
                Ok(Outcome::Held)
            }
            // Connections alone are deserted.
            Holding::Overflow | Holding::Deserted => {
                self.outbound.counters.gave_up(Kind::Push, GaveUp::Overflow);
                Ok(overflow())
            }
        }
    }

    /// Tells whoever wants to know, and is done. A refusal that nobody would hear goes to the dead letters.
    async fn conclude(self: Arc<Self>, concluded: Concluded) {
        note(&concluded);
        let Concluded {
            delivery,
            producer,
            outcome,
            ..
        } = concluded;
        self.outbound.counters.pushed(&outcome);
        self.outbound
            .persist(|| self.tell(&delivery, producer.as_ref(), &outcome))
            .await;
        delivery.ack();
    }

    async fn tell(
        &self,
        delivery: &Delivery,
        producer: Option<&Producer>,
        outcome: &Outcome,
    ) -> Result<(), OutboundError> {
        let Outbound {
            outcomes_publisher,
            outsiders,
            names,
            ..
        } = &*self.outbound;
        match (producer, outcome) {
            (Some(producer), _) => outcomes_publisher.tell(producer, outcome).await?,
            (None, Outcome::Refused { error }) => {
                let queue = names.pushes().name;
                outsiders.bury_unheard(delivery, error.code, queue).await?;
            }
            (None, _) => {}
        }
        Ok(())
    }
}

/// The recipients of each terminator, in their order.
fn by_terminator(recipients: &[Recipient]) -> BTreeMap<TerminatorId, Vec<Recipient>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for recipient in recipients {
        all.entry(recipient.connection.terminator).or_default().push(*recipient);
    }
    all
}

/// One message, whatever the number of connections.
fn to_some(terminator: TerminatorId, recipients: &[Recipient], write: &Write, text: Bytes) -> Message {
    match recipients {
        [one] => Command::Write(write.clone()).to_message(one.connection, text),
        _ => {
            let numbers = recipients.iter().map(|one| one.connection.number).collect();
            let write = write.clone();
            Spread {
                terminator,
                numbers,
                write,
                text,
            }
            .to_message()
        }
    }
}

/// Tells its journey.
fn note(concluded: &Concluded) {
    let connections = match concluded.outcome {
        Outcome::Delivered { connections } => connections,
        _ => 0,
    };
    // A producer may write anything there.
    let id = concluded.id.as_deref().map(redact::text).map(display);
    let (identity, outcome) = (concluded.identity.map(display), concluded.outcome.as_str());
    debug!(target: JOURNEY, stage = "push", push = id, identity, outcome, connections);
}

impl Doing {
    async fn next_event(&mut self, intake: &mut QueueConsumer, stopped: bool) -> Event {
        // What is done makes room before more is taken.
        tokio::select! {
            biased;
            Some(()) = self.concluding.next() => Event::Acknowledged,
            Some(concluded) = self.delivering.next() => Event::Delivered(concluded),
            Some(resolved) = self.resolving.next() => Event::Resolved(resolved),
            delivery = intake.next(), if !stopped => delivery.map_or(Event::Stopped, Event::Came),
            else => Event::Stopped,
        }
    }
}
