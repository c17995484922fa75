//! What was not written, from `<ns>.undelivered` into the hold, and what is asked for out of it.
//!
//! One worker at a time has the queue, and does what is for one identity in its
//! order: so whatever a terminator gave back before it asks for what is held has
//! been put away when it asks.
//!
//! A push that comes from a connection that is gone is followed by a look for others of
//! its identity. A connection that has expired asks for it itself, when it is renewed;
//! only if it is gone meanwhile are others told. Answers are no one else's: see `answers`.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use shared::bus::{DEATH_QUEUE, Delivery, Message, Value, batch};
use shared::service::clock::Timestamp;
use shared::wire::envelope::command::{Producer, Write};
use shared::wire::envelope::undelivered::Undelivered;
use shared::wire::envelope::{self, Bounced, Command, Fetch, Return};
use shared::wire::id::ConnectionId;
use shared::wire::tag::IdentityTag;
use tokio::time::Instant;

use super::answers::Unheard;
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

/// What is done in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Lane {
    Identity(IdentityTag),
    Connection(ConnectionId),
    Broadcasts,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Job {
    /// An answer was not written, that was asked for on behalf of that identity.
    HoldAnswer {
        identity: IdentityTag,
        unheard: Unheard,
        write: HeldWrite,
    },
    /// A push was not written.
    Hold {
        why: Bounced,
        connection: ConnectionId,
        /// For whom it was besides, if the broker gave it up.
        also: Vec<ConnectionId>,
        identity: IdentityTag,
        /// Whether no live connection has it.
        alone: bool,
        write: HeldWrite,
    },
    /// A push was written.
    Written {
        identity: IdentityTag,
        producer: Producer,
        connections: u64,
    },
    /// A connection asks for what is held for it.
    Fetch(Fetch),
    /// A connection was to be told that messages of another may be handled on it.
    Wake { gone: ConnectionId, from: ConnectionId },
    /// A connection that counts as one of the identity is gone.
    Leave {
        connection: ConnectionId,
        identity: IdentityTag,
    },
    /// A broadcast has waited in that queue for longer than the queue keeps anything.
    PutBack { queue: String, message: Message },
    /// Many messages in one that cannot be read.
    DeadLetter,
    /// So has an answer that only settled its request: see [`settlement`].
    Settle(ConnectionId),
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

/// An answer without what it says of its own connection's authentication: it may be told to another connection of its
/// identity, or later. None if it says nothing else.
fn without_auth(text: String) -> Option<String> {
    let Ok(mut members) = serde_json::from_str::<BTreeMap<&str, &RawValue>>(&text) else {
        return Some(text);
    };
    if members.get("type").is_some_and(|kind| kind.get() == r#""auth.ok""#) {
        return None;
    }
    match members.remove("auth") {
        Some(_) => serde_json::to_string(&members).ok(),
        None => Some(text),
    }
}

/// What of an answer that the broker did not keep is put back into that queue: all but its text, which waits for its
/// identity. The connection that asked may be open still, and its request with it, and has to know what was decided.
fn settlement(message: &Message) -> Option<(String, Message)> {
    let properties = &message.properties;
    let Some(Value::Text(queue)) = properties.header(DEATH_QUEUE) else {
        return None;
    };
    if Bounced::is_said(properties) || !matches!(Return::read(message), Some(Return::Reply(..))) {
        return None;
    }
    let mut properties = properties.clone();
    // They are about a journey that is over.
    properties.headers.retain(|(name, _)| !name.starts_with("x-"));
    let settlement = Message {
        body: bytes::Bytes::new(),
        properties,
    };
    Some((queue.clone(), settlement))
}

/// What was for several connections and the broker gave up, so that none of them has it: as if it had been for the first,
/// because what is held of it is the identity's. And for which others it was.
fn for_one(message: &Message) -> Option<(Message, Vec<ConnectionId>)> {
    let Return::Spread(spread) = Return::read(message)? else {
        return None;
    };
    let mut connections = spread.connections();
    let mut one = spread.to_one(connections.next()?);
    let headers = &mut one.properties.headers;
    let of_broker = message
        .properties
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("x-"));
    headers.extend(of_broker.cloned());
    Some((one, connections.collect()))
}

impl Job {
    /// What to do about a message; none if no one waits for it.
    fn of(message: &Message, now: Timestamp) -> Option<Self> {
        let (why, original) = match Undelivered::read(message)? {
            Undelivered::Fetch(fetch) => return Some(Self::Fetch(fetch)),
            Undelivered::Written(write) => {
                let (identity, producer) = write.identity.zip(write.producer)?;
                return Some(Self::Written {
                    identity,
                    producer,
                    connections: write.connections,
                });
            }
            Undelivered::Bounced(why, original) => (why, original),
        };
        let body = || {
            let text = std::str::from_utf8(&message.body).ok()?;
            // An empty answer only settles its request, and its terminator has seen it.
            (!text.is_empty()).then(|| text.to_owned())
        };
        match original {
            Return::Reply(message_id, answer) => {
                let held = answer.identity.zip(body().and_then(without_auth));
                let Some((identity, body)) = held else {
                    return settlement(message).map(|_| Self::Settle(message_id.connection));
                };
                Some(Self::HoldAnswer {
                    identity,
                    unheard: Unheard {
                        asked_by: message_id.connection,
                        on: message_id.connection,
                        why,
                    },
                    write: HeldWrite {
                        key: format!("{message_id}.{}", answer.part.index),
                        body,
                        asker: Some(identity),
                        producer: None,
                        since: now,
                        until: None,
                    },
                })
            }
            Return::Command(connection, Command::Write(write)) => {
                let Write {
                    key,
                    identity,
                    producer,
                    alone,
                    asked_by,
                    since,
                    until,
                    ..
                } = write;
                let (identity, body) = identity.zip(body())?;
                let write = HeldWrite {
                    key,
                    body,
                    asker: asked_by.map(|_| identity),
                    producer,
                    since,
                    until,
                };
                Some(match asked_by {
                    Some(asked_by) => Self::HoldAnswer {
                        identity,
                        unheard: Unheard {
                            asked_by,
                            on: connection,
                            why,
                        },
                        write,
                    },
                    None => Self::Hold {
                        why,
                        connection,
                        also: Vec::new(),
                        identity,
                        alone,
                        write,
                    },
                })
            }
            // See `for_one`.
            Return::Spread(_) => None,
            Return::Command(gone, Command::Wake { from: Some(from) }) => Some(Self::Wake { gone, from }),
            // What the broker gave up says nothing of a terminator that may be there without it.
            Return::Command(connection, Command::OverLimit { identity } | Command::Check { identity }) => {
                Bounced::is_said(&message.properties).then_some(Self::Leave { connection, identity })
            }
            // Others of the identity were told too, and anyone who comes is told when it registers.
            Return::Command(
                _,
                Command::Wake { from: None } | Command::Fetched { .. } | Command::Replaced | Command::Entered,
            ) => None,
            Return::Revoked(revocations) => Self::put_back(message, envelope::revoked(&revocations)),
            Return::Epoch(epoch) => Self::put_back(message, envelope::epoch(epoch)),
            Return::Rules(_) | Return::Cancelled(_) | Return::Load(_) => None,
        }
    }

    fn put_back(died: &Message, broadcast: Message) -> Option<Self> {
        match died.properties.header(DEATH_QUEUE)? {
            Value::Text(queue) => Some(Self::PutBack {
                queue: queue.clone(),
                message: broadcast,
            }),
            _ => None,
        }
    }

    const fn lane(&self) -> Lane {
        match self {
            Self::Hold { identity, .. } | Self::HoldAnswer { identity, .. } => Lane::Identity(*identity),
            Self::Fetch(fetch) => Lane::Identity(fetch.identity),
            Self::Written { identity, .. } | Self::Leave { identity, .. } => Lane::Identity(*identity),
            Self::Settle(connection) => Lane::Connection(*connection),
            Self::Wake { from, .. } => Lane::Connection(*from),
            Self::PutBack { .. } | Self::DeadLetter => Lane::Broadcasts,
        }
    }

    const fn kind(&self) -> Came {
        match self {
            Self::Hold { why, .. }
            | Self::HoldAnswer {
                unheard: Unheard { why, .. },
                ..
            } => match why {
                Bounced::Expired => Came::Expired,
                Bounced::Gone => Came::Gone,
            },
            Self::Leave { .. } => Came::Gone,
            Self::Fetch(_) => Came::Fetch,
            Self::Written { .. } => Came::Written,
            Self::Wake { .. } => Came::Wake,
            Self::PutBack { .. } => Came::Revocation,
            Self::Settle(_) | Self::DeadLetter => Came::Ignored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> Option<String> {
        without_auth(text.to_owned())
    }

    #[test]
    fn what_an_answer_says_of_its_own_connection_is_not_told_to_another() {
        let reply = r#"{"type":"reply","id":"1","payload":{"auth":1.50},"auth":{"subject":"alice"}}"#;
        assert_eq!(
            kept(reply).as_deref(),
            Some(r#"{"id":"1","payload":{"auth":1.50},"type":"reply"}"#)
        );
        assert_eq!(kept(r#"{"type":"auth.ok","id":"1","auth":{"subject":"alice"}}"#), None);
        let plain = r#"{"type":"reply","payload":"auth"}"#;
        assert_eq!(kept(plain).as_deref(), Some(plain));
    }
}
