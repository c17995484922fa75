//! One consumer: deliveries one way, acknowledgements the other, on a channel of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::{SelectAll, select_all};
use futures_util::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::message::Delivery as Incoming;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::sync::{mpsc, watch};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, MissedTickBehavior, Sleep, interval, sleep, timeout};
use tracing::error;

use super::broker_status::Slot;
use super::connection::{Connections, Generation, present};
use super::convert::from_amqp;
use super::declare::{self, DeclareError};
use super::has_consumers::{self, Looked};
use super::pace::Pace;
use crate::bus::ack_batch::{AckBatch, Frame};
use crate::bus::batch;
use crate::bus::consumer::ConsumerBackend;
use crate::bus::delivery::{Settlement, Settler};
use crate::bus::topology::{Queue, QueueKind};
use crate::bus::{Delivery, Link, Properties, Value};

/// How many settlements go to the broker in one batch.
const BATCH: usize = 512;
/// How often it is looked at whether the prefetch is still what is meant.
const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// The time for opening a channel, declaring the queue and subscribing to it.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);
/// When nothing is delivered for so long, the broker is asked whether the queue and its consumer are there.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the answer may take. A node that cannot reach the queue's leader waits for a quarter of a second and then says
/// that there is nothing and no one.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often in a row the answer may be that no one consumes, or that something is ready for a consumer which has
/// nothing to do: while a leader is elected, or between two deliveries, it may be.
const MOST_STRANGE_ANSWERS: u32 = 2;
/// How long one message is taken at a time after something that lapin could not read: longer than the broker needs to bring
/// it again until it has reached the queue's delivery limit.
const CAREFUL_TIME: Duration = Duration::from_secs(5);
/// A queue that cannot be had now is asked for again this much later.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// RabbitMQ passes settlements on to a quorum queue in the background once some thirty of them are under way, and a channel
/// that closes meanwhile takes the rest with it: what was acknowledged comes again. This is many times what it needs.
const LAST_ACKS_GRACE: Duration = Duration::from_millis(200);
/// The consumers of the channel are told apart by a number; all but the last are on their way out.
const CONSUMER_TAG: &str = "countersign";

/// How many deliveries may be unsettled at a time.
#[derive(Clone, Copy)]
pub(super) enum Prefetch {
    /// So many AMQP messages.
    Fixed(u16),
    /// As many AMQP messages as have so many messages in them.
    Messages(u16),
}

impl Prefetch {
    fn pace(self) -> Option<Pace> {
        match self {
            Self::Fixed(_) => None,
            Self::Messages(most) => Some(Pace::new(most)),
        }
    }
}

/// Runs until the consumer is dropped.
pub(super) async fn run(
    queue: Queue,
    prefetch: Prefetch,
    mut backend: ConsumerBackend,
    connections: Connections,
    slot: Slot,
) {
    let (stop, end) = (backend.stop.clone(), backend.end.clone());
    let mut task = ConsumeTask {
        queue,
        prefetch,
        connections,
        slot,
        told: String::new(),
    };
    loop {
        let (generation, channel, stream) = tokio::select! {
            subscription = task.subscribe(&backend.renewals) => match subscription {
                Some(subscription) => subscription,
                None => return,
            },
            // Nothing is delivered now, and no more is wanted.
            () = stop.cancelled() => return,
            () = end.cancelled() => return,
        };
        let watched = Watch::new(&generation, &task.queue);
        // One message is taken at a time, whatever the pace.
        let pace = task.prefetch.pace().filter(|_| !generation.is_careful());
        match Subscription::new(&channel, &mut backend, &task.queue, pace)
            .run(stream, &generation, watched)
            .await
        {
            Outcome::Finished => return,
            Outcome::Silent => {
                let reason = format!("{} does not reach its consumer", task.queue.name);
                task.slot.set(Link::Away(reason.into()));
                if !generation.suspect_its_node() {
                    sleep(RETRY_WAIT).await;
                }
            }
            Outcome::Relaxed => {}
            // The broker has requeued what was delivered, and no more is wanted.
            Outcome::Lost if backend.stop.is_cancelled() => return,
            Outcome::Lost => {
                let reason = format!("lost the consumer of {}", task.queue.name);
                task.slot.set(Link::Away(reason.as_str().into()));
                generation.fail(reason);
            }
        }
    }
}

struct ConsumeTask {
    queue: Queue,
    prefetch: Prefetch,
    connections: Connections,
    slot: Slot,
    /// The reason that was logged last, so that each is logged once.
    told: String,
}

impl ConsumeTask {
    /// Tries until it succeeds; nothing when there will be no connection any more.
    async fn subscribe(
        &mut self,
        renewals: &watch::Sender<u64>,
    ) -> Option<(Arc<Generation>, Channel, lapin::Consumer)> {
        loop {
            let generation = present(&mut self.connections).await?;
            let prefetch = match self.prefetch {
                _ if generation.is_careful() => 1,
                Prefetch::Fixed(prefetch) => prefetch,
                Prefetch::Messages(most) => Pace::new(most).prefetch(),
            };
            match timeout(SUBSCRIBE_TIMEOUT, subscribe(&generation, &self.queue, prefetch)).await {
                Ok(Ok((channel, stream))) => {
                    self.told.clear();
                    self.slot.set(Link::Up);
                    if generation.declared.take_lost(&self.queue.name) {
                        renewals.send_modify(|count| *count += 1);
                    }
                    return Some((generation, channel, stream));
                }
                Ok(Err(reason)) => {
                    self.complain(&reason);
                    sleep(RETRY_WAIT).await;
                }
                Err(_) => {
                    if !generation.suspect_its_node() {
                        sleep(RETRY_WAIT).await;
                    }
                }
            }
        }
    }

    fn complain(&mut self, reason: &DeclareError) {
        let text = reason.to_string();
        self.slot.set(Link::Away(text.as_str().into()));
        if text != self.told {
            error!(reason = text, "cannot consume; will keep trying");
            self.told = text;
        }
    }
}

async fn subscribe(
    generation: &Generation,
    queue: &Queue,
    prefetch: u16,
) -> Result<(Channel, lapin::Consumer), DeclareError> {
    let failed = |error| DeclareError::new(&format!("a consumer of {}", queue.name), &error);
    declare::queue(&generation.connection, queue, &generation.declared).await?;
    let channel = generation.connection.create_channel().await.map_err(failed)?;
    let stream = consume(&channel, queue, prefetch, 0).await.map_err(failed)?;
    Ok((channel, stream))
}

async fn consume(channel: &Channel, queue: &Queue, prefetch: u16, number: u32) -> lapin::Result<lapin::Consumer> {
    // Per consumer: a quorum queue knows no other way.
    channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
    let options = BasicConsumeOptions {
        no_local: false,  // RabbitMQ does not know it.
        no_ack: false,    // A delivery is lost only when we say so.
        exclusive: false, // Workers share a queue; a return queue's name is already its owner's alone.
        nowait: false,    // A refusal must be heard.
    };
    channel
        .basic_consume(
            queue.name.as_str().into(),
            consumer_tag(number),
            options,
            arguments(queue),
        )
        .await
}

/// With a priority it is the one active consumer of a queue while no other has a higher one
/// (<https://www.rabbitmq.com/docs/consumer-priority>).
fn arguments(queue: &Queue) -> FieldTable {
    let mut arguments = FieldTable::default();
    if let QueueKind::Quorum(limits) = &queue.kind
        && let Some(priority) = limits.priority
    {
        arguments.insert("x-priority".into(), AMQPValue::LongInt(i32::from(priority)));
    }
    arguments
}

fn consumer_tag(number: u32) -> ShortString {
    format!("{CONSUMER_TAG}.{number}").into()
}

#[derive(PartialEq, Eq)]
enum Outcome {
    /// The consumer is dropped, and all that was settled is told.
    Finished,
    /// There was nothing unreadable for a while: more may be taken at a time.
    Relaxed,
    /// The channel is no good any more.
    Lost,
    /// Its node is not: it does not know our consumer, or does not say.
    Silent,
}

enum Streaming {
    On,
    Ended,
}

/// One channel with its consumer.
struct Subscription<'a> {
    channel: &'a Channel,
    backend: &'a mut ConsumerBackend,
    settler: mpsc::UnboundedSender<(u64, Settlement)>,
    settled: mpsc::UnboundedReceiver<(u64, Settlement)>,
    batch: AckBatch,
    queue: &'a Queue,
    pace: Option<Pace>,
    /// Of the consumer that is given messages.
    number: u32,
}

impl<'a> Subscription<'a> {
    fn new(channel: &'a Channel, backend: &'a mut ConsumerBackend, queue: &'a Queue, pace: Option<Pace>) -> Self {
        let (settler, settled) = mpsc::unbounded_channel();
        Self {
            channel,
            backend,
            settler,
            settled,
            batch: AckBatch::new(),
            queue,
            pace,
            number: 0,
        }
    }

    async fn run(mut self, stream: lapin::Consumer, generation: &Generation, mut watched: Watch<'_>) -> Outcome {
        let mut settlements = Vec::with_capacity(BATCH);
        let mut stopping = false;
        let mut stream = select_all([stream]);
        let mut looks = interval(LOOK_PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let relaxing = sleep(CAREFUL_TIME);
        tokio::pin!(relaxing);
        let careful = generation.is_careful();
        loop {
            tokio::select! {
                biased;
                () = generation.lost.cancelled() => return Outcome::Lost,
                _ = self.settled.recv_many(&mut settlements, BATCH) => {
                    // Anyone who is about to settle too goes in the same frames.
                    tokio::task::yield_now().await;
                    if let Err(error) = self.tell(&mut settlements).await {
                        generation.blame(&error);
                        return Outcome::Lost;
                    }
                }
                () = &mut relaxing, if careful && !stopping => {
                    generation.relax();
                    self.finish(&mut settlements).await;
                    return Outcome::Relaxed;
                }
                () = self.backend.end.cancelled() => return self.finish(&mut settlements).await,
                () = self.backend.stop.cancelled(), if !stopping => {
                    stopping = true;
                    if !matches!(timeout(SUBSCRIBE_TIMEOUT, self.cancel(self.number)).await, Ok(Ok(()))) {
                        return Outcome::Lost;
                    }
                }
                _ = looks.tick(), if !stopping && self.pace.is_some() => {
                    let Some(prefetch) = self.pace.as_mut().and_then(Pace::look) else {
                        continue;
                    };
                    match timeout(SUBSCRIBE_TIMEOUT, self.change(prefetch)).await {
                        Ok(Ok(successor)) => stream.push(successor),
                        Ok(Err(error)) => {
                            generation.blame(&error);
                            return Outcome::Lost;
                        }
                        Err(_) => return Outcome::Lost,
                    }
                }
                looked = watched.next_look(), if !stopping => {
                    if let Some(outcome) = watched.judge(looked, self.batch.is_settled()) {
                        return outcome;
                    }
                }
                first = stream.next(), if self.backend.deliveries.is_some() => {
                    watched.heard();
                    if let Some(Err(error)) = &first {
                        generation.blame(error);
                    }
                    match self.pass_on_all(first, &mut stream) {
                        Streaming::On => {}
                        Streaming::Ended if stopping => self.backend.deliveries = None,
                        // The broker has cancelled the consumer: its queue is gone.
                        Streaming::Ended => return Outcome::Lost,
                    }
                }
            }
        }
    }

    /// Has another consumer take over, with that prefetch: that of a consumer cannot be changed.
    async fn change(&mut self, prefetch: u16) -> lapin::Result<lapin::Consumer> {
        let successor = consume(self.channel, self.queue, prefetch, self.number.wrapping_add(1)).await?;
        self.cancel(self.number).await?;
        self.number = self.number.wrapping_add(1);
        Ok(successor)
    }

    async fn cancel(&self, number: u32) -> lapin::Result<()> {
        let options = BasicCancelOptions { nowait: false };
        self.channel.basic_cancel(consumer_tag(number), options).await
    }

    /// Passes on what has arrived by now, beginning with `next`.
    fn pass_on_all(
        &mut self,
        next: Option<lapin::Result<Incoming>>,
        stream: &mut SelectAll<lapin::Consumer>,
    ) -> Streaming {
        let mut next = Some(next);
        while let Some(item) = next {
            let Some(Ok(delivery)) = item else {
                return Streaming::Ended;
            };
            self.pass_on(delivery);
            next = stream.next().now_or_never();
        }
        Streaming::On
    }

    fn pass_on(&mut self, delivery: Incoming) {
        let tag = delivery.delivery_tag;
        self.batch.delivered(tag);
        let properties = from_amqp(&delivery.properties);
        let delivery_count = delivery_count(delivery.redelivered, &properties);
        let message = crate::bus::Message {
            body: delivery.data.into(),
            properties,
        };
        if let Some(pace) = &mut self.pace {
            let messages = if message.is_batch() {
                batch::count(&message.body)
            } else {
                1
            };
            pace.delivered(messages, message.body.len());
        }
        let delivery = Delivery::new(
            message,
            delivery.exchange.as_str().into(),
            delivery.routing_key.as_str().into(),
            delivery_count,
            Settler::Channel {
                tag,
                settlements: self.settler.clone(),
            },
        );
        if let Some(deliveries) = &self.backend.deliveries {
            // If the consumer is gone at this moment, the broker gets it back with the channel.
            let _ = deliveries.send(delivery);
        }
    }

    async fn tell(&mut self, settlements: &mut Vec<(u64, Settlement)>) -> lapin::Result<()> {
        while let Ok(settlement) = self.settled.try_recv() {
            settlements.push(settlement);
        }
        if let Some(pace) = &mut self.pace {
            pace.settled(settlements.len());
        }
        let leaving = self.backend.end.is_cancelled();
        for (tag, settlement) in settlements.drain(..) {
            // What a consumer that is gone gives back goes with its channel: then the broker keeps the order.
            if settlement == Settlement::Ack || !leaving {
                self.batch.settled(tag, settlement);
            }
        }
        let frames = self.batch.flush().into_iter().map(|frame| send(self.channel, frame));
        join_all(frames).await.into_iter().collect()
    }

    /// Tells what is still to be told, and leaves: the broker gets the rest back.
    async fn finish(&mut self, settlements: &mut Vec<(u64, Settlement)>) -> Outcome {
        self.settled.close();
        while self.settled.recv_many(settlements, BATCH).await > 0 {
            if self.tell(settlements).await.is_err() {
                break;
            }
        }
        sleep(LAST_ACKS_GRACE).await;
        // The close is answered after all that was sent before it.
        let _ = timeout(SUBSCRIBE_TIMEOUT, self.channel.close(200, "done".into())).await;
        Outcome::Finished
    }
}

/// How often it was delivered before. RabbitMQ's quorum queues write the header at each delivery from the second on, over
/// whatever is there; what it says at the first is the publisher's own word.
fn delivery_count(redelivered: bool, properties: &Properties) -> u32 {
    match properties.header("x-delivery-count") {
        _ if !redelivered => 0,
        Some(Value::Integer(count)) => u32::try_from(*count).unwrap_or(u32::MAX).max(1),
        _ => 1,
    }
}

/// Looks after a consumer that hears nothing: its queue may be empty, or its node cut off from the others, or what the
/// queue sent it was lost on the way between two nodes, so that each waits for the other.
struct Watch<'a> {
    generation: &'a Generation,
    queue: &'a Queue,
    /// Whether anything was delivered on this subscription.
    was_given: bool,
    next: Pin<Box<Sleep>>,
    looking: Option<BoxFuture<'a, Result<lapin::Result<Looked>, Elapsed>>>,
    strange: u32,
}

impl<'a> Watch<'a> {
    fn new(generation: &'a Generation, queue: &'a Queue) -> Self {
        Self {
            generation,
            queue,
            was_given: false,
            next: Box::pin(sleep(SILENCE)),
            looking: None,
            strange: 0,
        }
    }

    /// Something was delivered.
    fn heard(&mut self) {
        self.was_given = true;
        self.next.as_mut().reset(Instant::now() + SILENCE);
        self.looking = None;
        self.strange = 0;
    }

    /// Waits for a silence, and looks at the queue. Cancel-safe.
    async fn next_look(&mut self) -> Result<lapin::Result<Looked>, Elapsed> {
        if self.looking.is_none() {
            self.next.as_mut().await;
        }
        let (generation, queue) = (self.generation, self.queue);
        let look = || timeout(LOOK_TIMEOUT, has_consumers::at(generation, &queue.name)).boxed();
        let looked = self.looking.get_or_insert_with(look).await;
        self.looking = None;
        self.next.as_mut().reset(Instant::now() + SILENCE);
        looked
    }

    /// What follows from a look, if anything; `idle` if all that was delivered is settled.
    fn judge(&mut self, looked: Result<lapin::Result<Looked>, Elapsed>, idle: bool) -> Option<Outcome> {
        let strange = match looked {
            // Of a single active consumer's queue, who was given something is the active one.
            Ok(Ok(Looked { consumers, ready })) => {
                consumers == 0 || (ready > 0 && idle && (self.was_given || !is_of_one_consumer(self.queue)))
            }
            // The queue is gone, or the connection.
            Ok(Err(_)) => return Some(Outcome::Lost),
            Err(_) => return Some(Outcome::Silent),
        };
        self.strange = if strange { self.strange + 1 } else { 0 };
        (self.strange >= MOST_STRANGE_ANSWERS).then_some(Outcome::Silent)
    }
}

fn is_of_one_consumer(queue: &Queue) -> bool {
    matches!(&queue.kind, QueueKind::Quorum(limits) if limits.single_active_consumer)
}

async fn send(channel: &Channel, frame: Frame) -> lapin::Result<()> {
    match frame {
        Frame::AckUpTo(tag) => channel.basic_ack(tag, BasicAckOptions { multiple: true }).await,
        Frame::Ack(tag) => channel.basic_ack(tag, BasicAckOptions { multiple: false }).await,
        Frame::Requeue(tag) => {
            channel
                .basic_nack(
                    tag,
                    BasicNackOptions {
                        multiple: false,
                        requeue: true,
                    },
                )
                .await
        }
    }
    .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_the_broker_says_how_often_a_message_was_delivered() {
        for (redelivered, header, count) in [
            (false, None, 0),
            (false, Some(Value::Integer(7)), 0),
            (true, None, 1),
            (true, Some(Value::Integer(7)), 7),
            (true, Some(Value::Integer(-1)), u32::MAX),
            (true, Some(Value::Other), 1),
        ] {
            let headers = header.map(|value| ("x-delivery-count".to_owned(), value));
            let properties = Properties {
                headers: headers.into_iter().collect(),
                ..Properties::default()
            };
            assert_eq!(delivery_count(redelivered, &properties), count, "{properties:?}");
        }
    }
}
