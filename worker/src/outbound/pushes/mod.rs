//! What producers push, from `<ns>.pushes` to the return queues of its connections.
//!
//! One worker at a time has the queue, or it only passes them on to several (`shards`). What is for one identity is done in its
//! order: all that waits for it together (`delivering`), and confirmed before what comes next is looked at. Different
//! identities go side by side.

mod delivering;
pub(crate) mod known;
pub(crate) mod push;
pub(crate) mod shards;
pub(crate) mod spreading;
pub(crate) mod subjects;

use std::future::ready;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesOrdered, FuturesUnordered};
use shared::bus::{Delivery, Whole};
use shared::wire::envelope::command::Producer;
use shared::wire::tag::IdentityTag;

use super::lanes::Lanes;
use super::outcome::Outcome;
use super::pushes::known::Known;
use super::pushes::push::{Addressee, Push};
use super::pushes::shards::Shards;
use super::pushes::subjects::{Many, Place};
use super::{Outbound, OutboundError};
use crate::admin::event::{self, Subject};
use crate::app::queue_consumer::QueueConsumer;
use crate::auth::identity::Issuer;
use crate::store::Authentication;

#[derive(Clone)]
pub(crate) struct Pushes {
    pub(crate) outbound: Arc<Outbound>,
    /// Whose subjects may be pushed to.
    pub(crate) issuers: Vec<Issuer>,
    /// Those that were taken out of the queue.
    pub(crate) known: Arc<Known>,
    /// To which queues they are passed on; none if they are brought on their way from here.
    pub(crate) shards: Option<Shards>,
}

/// How much is done at a time of pushes for many: as much as there is of others.
const MOST_UNDER_WAY: usize = 512;

/// How much of one identity is delivered together: as much as leaves in one AMQP message.
const MOST_TOGETHER: usize = 64;

/// A push for one, as it came or as a part of one for many.
struct Taken {
    delivery: Delivery,
    /// Whom it is for, if that is one of many.
    place: Option<Place>,
}

/// A push with the identity on whose behalf it may be written.
struct Addressed {
    delivery: Delivery,
    place: Option<Place>,
    push: Push,
    identity: IdentityTag,
}

/// A push of which it is decided what becomes of it.
struct Concluded {
    delivery: Delivery,
    place: Option<Place>,
    /// None if it could not be read.
    id: Option<String>,
    /// None if it is no one's.
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
    /// A push for many, as far as it was not begun. Nothing else is taken before all of it is.
    many: Option<(Whole, Many)>,
    /// How much may be when it is begun with the next of those. What is passed on waits for all before it.
    most_under_way: usize,
    under_way: usize,
    /// In the order in which they came.
    resolving: FuturesOrdered<BoxFuture<'static, Resolved>>,
    delivering: Lanes<IdentityTag, Addressed, Vec<Option<Concluded>>>,
    concluding: FuturesUnordered<BoxFuture<'static, ()>>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and a box for each would cost more"
)]
enum Event {
    Came(Delivery),
    /// There is room for the next of many.
    Next,
    Resolved(Resolved),
    /// Those of one identity; nothing for what was passed on.
    Delivered(Vec<Option<Concluded>>),
    Acknowledged,
    /// Nothing new comes.
    Stopped,
}

impl Pushes {
    /// Runs until the worker stops and all that it had taken is done.
    pub(crate) async fn run(self: Arc<Self>, intake: QueueConsumer) {
        // Until then no one knows whom not to write to.
        if intake
            .unless_stopped(self.outbound.audience.revoked.until_loaded())
            .await
            .is_none()
        {
            return;
        }
        let mut doing = Doing {
            most_under_way: if self.shards.is_some() { 1 } else { MOST_UNDER_WAY },
            many: None,
            under_way: 0,
            resolving: FuturesOrdered::new(),
            delivering: self.clone().lanes(),
            concluding: FuturesUnordered::new(),
        };
        // Dropped before what is being done: what that gives back must not come here once more.
        let mut intake = intake;
        let mut stopped = false;
        loop {
            match doing.next_event(&mut intake, stopped).await {
                Event::Came(delivery) => match self.read_many(delivery) {
                    Came::One(taken) => self.begin(taken, &mut doing),
                    Came::Many(whole, many) => doing.many = Some((whole, many)),
                    Came::Refused(concluded) => self.end(*concluded, &mut doing),
                },
                Event::Next => match (self.shards, doing.many.take()) {
                    (Some(shards), Some((whole, many))) => self.pass_on_many(shards, whole, many).await,
                    (_, many) => {
                        doing.many = many;
                        match doing.next_of_many() {
                            Some(taken) => self.begin(taken, &mut doing),
                            None => doing.finish_many(),
                        }
                    }
                },
                Event::Resolved(Resolved::Addressed(addressed)) => {
                    doing.delivering.push(addressed.identity, addressed);
                }
                Event::Resolved(Resolved::Concluded(concluded)) => self.begin_conclusion(concluded, &mut doing),
                Event::Delivered(all) => {
                    for delivered in all {
                        match delivered {
                            Some(concluded) => self.begin_conclusion(concluded, &mut doing),
                            None => doing.ended_one(),
                        }
                    }
                }
                Event::Acknowledged => doing.ended_one(),
                Event::Stopped if stopped => return,
                Event::Stopped => stopped = true,
            }
        }
    }

    /// Sends one to an identity, of which no one waits in the queue: once, and if that cannot be now, not at all.
    ///
    /// # Errors
    /// If the store or the broker is away.
    pub(crate) async fn send(&self, push: &Push, identity: IdentityTag) -> Result<Outcome, OutboundError> {
        let outcome = self.try_deliver(push, identity).await?;
        self.tell_pushed(Some(&push.id), Some(identity), &outcome);
        Ok(outcome)
    }

    fn lanes(self: Arc<Self>) -> Lanes<IdentityTag, Addressed, Vec<Option<Concluded>>> {
        Lanes::new(MOST_TOGETHER, move |of_one: Vec<Addressed>| {
            let pushes = self.clone();
            Box::pin(async move {
                match pushes.shards {
                    Some(shards) => {
                        let mut passed = Vec::with_capacity(of_one.len());
                        for addressed in of_one {
                            let route = shards.route(&pushes.outbound.names, addressed.identity);
                            pushes.pass_on(route, addressed.delivery.message.clone()).await;
                            addressed.delivery.ack();
                            passed.push(None);
                        }
                        passed
                    }
                    None => pushes.deliver(of_one).await.into_iter().map(Some).collect(),
                }
            })
        })
    }

    fn begin(self: &Arc<Self>, taken: Taken, doing: &mut Doing) {
        doing.under_way += 1;
        doing.resolving.push_back(Box::pin(self.clone().resolve(taken)));
    }

    fn end(self: &Arc<Self>, concluded: Concluded, doing: &mut Doing) {
        doing.under_way += 1;
        self.begin_conclusion(concluded, doing);
    }

    fn begin_conclusion(self: &Arc<Self>, concluded: Concluded, doing: &mut Doing) {
        doing.concluding.push(Box::pin(self.clone().conclude(concluded)));
    }

    /// Whether it is for one or for many.
    fn read_many(&self, mut delivery: Delivery) -> Came {
        let properties = &delivery.message.properties;
        match Many::of(&delivery.message, push::producer(properties)) {
            Ok(None) => Came::One(Taken { delivery, place: None }),
            Ok(Some(many)) => {
                delivery.take_message();
                Came::Many(Whole::of(delivery), many)
            }
            Err(fault) => Came::Refused(Box::new(Concluded {
                producer: push::reachable_producer(properties, &self.outbound.names),
                delivery,
                place: None,
                id: None,
                identity: None,
                outcome: Outcome::Refused { error: fault.error() },
            })),
        }
    }

    /// Finds out on whose behalf it may be written.
    async fn resolve(self: Arc<Self>, taken: Taken) -> Resolved {
        let Taken { delivery, place } = taken;
        let outbound = &self.outbound;
        let read = Push::read(&delivery.message, &self.issuers, outbound.clock.now());
        let push = match read {
            Ok(mut push) => {
                if let (Some(producer), Some(place)) = (&mut push.producer, &place) {
                    producer.subject = Some(place.subject.clone());
                }
                push
            }
            Err(fault) => {
                let producer = push::reachable_producer(&delivery.message.properties, &outbound.names);
                return Resolved::Concluded(Concluded {
                    delivery,
                    place,
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
                place,
                push,
                identity,
            }),
            None => Resolved::Concluded(Concluded {
                delivery,
                place,
                id: Some(push.id),
                identity,
                producer: push.producer,
                outcome: Outcome::NoRecipient,
            }),
        }
    }

    /// Tells anyone who wants to know, and is done. A refusal that no one would hear goes to the dead letters.
    async fn conclude(self: Arc<Self>, concluded: Concluded) {
        let Concluded {
            delivery,
            place,
            id,
            identity,
            producer,
            outcome,
        } = concluded;
        self.tell_pushed(id.as_deref(), identity, &outcome);
        if let (Some(place), Some(producer)) = (place, &producer) {
            if let (Some(identity), Outcome::Held) = (identity, &outcome) {
                let note = || async { Ok(self.outbound.store.conclude(identity, producer.key, true).await?) };
                self.outbound.persist(note).await;
            }
            // All are told of together, when the last is known.
            if let Some((producer, outcome)) = place.settle(outcome.so_far()) {
                self.outbound
                    .persist(|| self.tell(&delivery, None, Some(&producer), &outcome))
                    .await;
            }
            return delivery.ack();
        }
        self.outbound
            .persist(|| self.tell(&delivery, identity, producer.as_ref(), &outcome))
            .await;
        delivery.ack();
    }

    fn tell_pushed(&self, id: Option<&str>, identity: Option<IdentityTag>, outcome: &Outcome) {
        let of = id.map_or(Subject::Other, Subject::Push);
        self.outbound
            .observer
            .tell(of, event::Event::Pushed { identity, outcome });
    }

    async fn tell(
        &self,
        delivery: &Delivery,
        identity: Option<IdentityTag>,
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
            // Anyone who writes it says so.
            (Some(_), Outcome::Delivered { .. }) => {}
            (Some(producer), _) => match identity {
                Some(identity) => self.outbound.conclude(identity, producer, outcome, false).await,
                None => outcomes_publisher.tell(producer, outcome).await?,
            },
            (None, Outcome::Refused { error }) => {
                let queue = names.pushes().name;
                outsiders.dead_letter_unheard(delivery, error.code, queue).await?;
            }
            (None, _) => {}
        }
        Ok(())
    }
}

/// What a delivery is.
enum Came {
    One(Taken),
    Many(Whole, Many),
    Refused(Box<Concluded>),
}

impl Doing {
    /// The next of a push for many.
    fn next_of_many(&mut self) -> Option<Taken> {
        let (whole, many) = self.many.as_mut()?;
        let (message, place) = many.next()?;
        Some(Taken {
            delivery: whole.part(message),
            place: Some(place),
        })
    }

    fn ended_one(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// All of it is begun.
    fn finish_many(&mut self) {
        if let Some((whole, _)) = self.many.take() {
            whole.finish();
        }
    }

    async fn next_event(&mut self, intake: &mut QueueConsumer, stopped: bool) -> Event {
        // What is done makes room before more is taken.
        tokio::select! {
            biased;
            Some(()) = self.concluding.next() => Event::Acknowledged,
            Some(concluded) = self.delivering.next() => Event::Delivered(concluded),
            Some(resolved) = self.resolving.next() => Event::Resolved(resolved),
            () = ready(()), if self.many.is_some() && self.under_way < self.most_under_way => Event::Next,
            delivery = intake.next(), if !stopped && self.many.is_none() => delivery.map_or(Event::Stopped, Event::Came),
            else => Event::Stopped,
        }
    }
}
