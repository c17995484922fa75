//! The queue of dead letters, taken from one by one on a channel of its own.
//!
//! Whatever is taken stays the queue's until it is acknowledged: when the channel
//! closes, for whatever reason, it is back. Some versions of RabbitMQ put what comes
//! back behind all others; so all are taken, one after the other and without being
//! kept here, and given back together, which leaves them in their order.

use anyhow::{Context as _, anyhow, bail};
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind};
use serde_json::{Map, Value};
use shared::bus::topology::Names;
use shared::wire::seal::Sealer;

use super::letter::DeadLetter;
use crate::queues;
use crate::support::broker::BrokerArgs;

/// The name that the management page shows.
const CONNECTION_NAME: &str = "countersign inspect";

/// How the channel's close is told to the broker (AMQP 0-9-1 §1.2, reply-success).
const REPLY_SUCCESS: u16 = 200;
/// Another connection has it for itself.
const RESOURCE_LOCKED: u16 = 405;

/// The letters, from the oldest.
pub(super) struct DeadLetterQueue {
    connection: Connection,
    channel: Channel,
    queue: ShortString,
    /// How many there were at the beginning.
    count: u32,
    taken: u32,
    sealer: Sealer,
}

impl DeadLetterQueue {
    /// Connects, and counts.
    ///
    /// # Errors
    /// If the broker cannot be reached, or has no such queue.
    pub(super) async fn open(args: &BrokerArgs) -> anyhow::Result<Self> {
        let name = Names::new(&args.namespace).dead().name;
        let queue = ShortString::try_new(name.as_str()).context("the namespace is too long")?;
        let connecting = args.access()?;
        let connecting = connecting.connect(CONNECTION_NAME).await;
        let connection = connecting.map_err(|why| anyhow!("cannot connect to the broker: {why}; check --amqp-url"))?;
        refuse_while_moving(&connection, &args.namespace).await?;
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions {
            passive: true, // It is the workers' to declare.
            ..QueueDeclareOptions::default()
        };
        let declared = channel
            .queue_declare(queue.clone(), options, FieldTable::default())
            .await;
        let count = declared
            .with_context(|| {
                let namespace = &args.namespace;
                format!("there is no queue {name} to be read: is {namespace} the namespace of the workers?")
            })?
            .message_count();
        Ok(Self {
            connection,
            channel,
            queue,
            count,
            taken: 0,
            sealer: args.sealer()?,
        })
    }

    /// The next letter; nothing after the last of those that were there at the beginning.
    ///
    /// # Errors
    /// If the broker is lost.
    pub(super) async fn take(&mut self) -> anyhow::Result<Option<DeadLetter>> {
        if self.taken >= self.count {
            return Ok(None);
        }
        let options = BasicGetOptions { no_ack: false };
        let got = self.channel.basic_get(self.queue.clone(), options).await;
        let Some(got) = got.context("cannot read the dead letters")? else {
            // Some have expired since they were counted, or someone else is looking at them.
            self.taken = self.count;
            return Ok(None);
        };
        self.taken += 1;
        Ok(Some(letter(self.taken, &got).opened(&self.sealer)))
    }

    /// How many there were at the beginning.
    pub(super) const fn count(&self) -> u32 {
        self.count
    }

    /// How many of them have not been taken.
    pub(super) const fn left(&self) -> u32 {
        self.count - self.taken
    }

    /// Takes it out of the queue for good.
    ///
    /// # Errors
    /// If the broker is lost; then it is back in the queue.
    pub(super) async fn drop_letter(&mut self, letter: DeadLetter) -> anyhow::Result<()> {
        let options = BasicAckOptions { multiple: false };
        self.channel
            .basic_ack(letter.tag, options)
            .await
            .context("cannot drop the letter")?;
        Ok(())
    }

    /// Puts all back that was not dropped. What is acknowledged is acknowledged when this returns.
    ///
    /// # Errors
    /// If the broker is lost; then it has everything back that it had not dropped.
    pub(super) async fn give_back(mut self) -> anyhow::Result<()> {
        while self.take().await?.is_some() {}
        let options = BasicNackOptions {
            multiple: true, // All that were taken and not dropped.
            requeue: true,
        };
        self.channel
            .basic_nack(0, options)
            .await
            .context("cannot return the dead letters to the queue")?;
        self.channel
            .close(REPLY_SUCCESS, "done".into())
            .await
            .context("the broker was lost before all was said")?;
        // The channel has said all; the connection goes with the process if not now.
        let _ = self.connection.close(REPLY_SUCCESS, "done".into()).await;
        Ok(())
    }
}

/// What is taken here would be missing there: the broker does not tell `countersign queues move` of it.
async fn refuse_while_moving(connection: &Connection, namespace: &str) -> anyhow::Result<()> {
    let lock = ShortString::try_new(format!("{namespace}.{}", queues::LOCK)).context("the namespace is too long")?;
    let options = QueueDeclareOptions {
        passive: true, // It is looked for only.
        ..QueueDeclareOptions::default()
    };
    let channel = connection.create_channel().await?;
    match channel.queue_declare(lock, options, FieldTable::default()).await {
        Err(error) if matches!(error.kind(), ErrorKind::ProtocolError(why) if why.get_id() == RESOURCE_LOCKED) => {
            bail!("`countersign queues move` is moving queues: wait for it")
        }
        // Nearly always: it is not there.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn letter(number: u32, got: &BasicGetMessage) -> DeadLetter {
    let properties = &got.delivery.properties;
    let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
    DeadLetter {
        number,
        name: String::new(),
        tag: got.delivery.delivery_tag,
        kind: text(properties.kind()),
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        headers: properties.headers().as_ref().map(headers).unwrap_or_default(),
        body: got.delivery.data.clone(),
    }
    .named()
}

/// The sender's headers and the worker's; the broker's own say nothing of the message.
fn headers(table: &FieldTable) -> Map<String, Value> {
    table
        .inner()
        .iter()
        .filter(|(name, _)| !name.as_str().starts_with("x-"))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), json(value)?)))
        .collect()
}

fn json(value: &AMQPValue) -> Option<Value> {
    Some(match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        AMQPValue::ShortString(text) => text.as_str().into(),
        AMQPValue::Boolean(flag) => (*flag).into(),
        AMQPValue::ShortShortInt(number) => (*number).into(),
        AMQPValue::ShortShortUInt(number) => (*number).into(),
        AMQPValue::ShortInt(number) => (*number).into(),
        AMQPValue::ShortUInt(number) => (*number).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongUInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        _ => return None,
    })
}
