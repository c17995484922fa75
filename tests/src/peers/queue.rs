//! A plain AMQP client, as a backend in any language would use one to inject, push and read; and Debian's `amqp-tools`.

use std::{process::Output, time::Duration};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use super::client::ANSWER_LIMIT;
use crate::wait::{Span, eventually};

/// A message as it lay in a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The body.
    pub body: Vec<u8>,
    /// All properties, headers among them.
    pub properties: BasicProperties,
    /// Whether it had been delivered to someone before.
    pub redelivered: bool,
}

impl Message {
    /// The body as text; what is not UTF-8 appears as U+FFFD.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    /// A header, as it came.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<AMQPValue> {
        self.properties.headers().as_ref()?.inner().get(name).cloned()
    }

    /// All of it as text, properties included: the claim that something is *not* in it looks here.
    #[must_use]
    pub fn everything(&self) -> String {
        format!("{:?}\n{}", self.properties, self.text())
    }
}

/// A connection with one channel, on which publishing is confirmed.
#[derive(Debug)]
pub struct Queue {
    channel: Channel,
    namespace: String,
    // The channel lives no longer than its connection.
    _connection: Connection,
}

impl Queue {
    /// Logs in at `url`, to work in `namespace`.
    ///
    /// # Panics
    /// If the broker refuses.
    pub async fn connect(url: &str, namespace: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default())
            .await
            .expect("the broker accepts us");
        let channel = connection.create_channel().await.expect("a channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        Self {
            channel,
            namespace: namespace.to_owned(),
            _connection: connection,
        }
    }

    /// The channel, for whatever has no word here.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Publishes to the exchange of the namespace under `key` (`message`, `push`, `revoke`) and waits for the confirm.
    ///
    /// # Panics
    /// If it is not confirmed within 10 s, or there is no queue for it.
    pub async fn publish(&self, key: &str, body: impl AsRef<[u8]>, properties: BasicProperties) {
        self.publish_to(&self.namespace, key, body, properties).await;
    }

    /// Publishes to any exchange and waits for the confirm.
    ///
    /// # Panics
    /// If it is not confirmed within 10 s, or there is no queue for it.
    pub async fn publish_to(&self, exchange: &str, key: &str, body: impl AsRef<[u8]>, properties: BasicProperties) {
        let outcome = self.try_publish(exchange, key, body, properties, ANSWER_LIMIT).await;
        outcome.unwrap_or_else(|problem| panic!("not published to {exchange} {key}: {problem}"));
    }

    /// Publishes, and says whether the broker took it within `limit`.
    ///
    /// # Errors
    /// Why not, in words: no answer, refused, or no queue.
    pub async fn try_publish(
        &self,
        exchange: &str,
        key: &str,
        body: impl AsRef<[u8]>,
        properties: BasicProperties,
        limit: Duration,
    ) -> Result<(), String> {
        // Mandatory: a message without a queue is confirmed too, and would be lost in silence.
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let publish = async {
            let confirm = self
                .channel
                .basic_publish(exchange.into(), key.into(), options, body.as_ref(), properties);
            confirm.await?.await
        };
        let confirmation = timeout(limit, publish)
            .await
            .map_err(|_| format!("no confirm within {limit:?}"))?;
        let confirmation = confirmation.map_err(|error| error.to_string())?;
        match (confirmation.is_ack(), confirmation.take_message()) {
            (true, None) => Ok(()),
            (true, Some(_)) => Err("no queue takes it".into()),
            (false, _) => Err("the broker refuses it".into()),
        }
    }

    /// Declares a durable quorum queue.
    ///
    /// # Panics
    /// If the broker refuses.
    pub async fn declare_quorum_queue(&self, name: &str) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        self.channel
            .queue_declare(name.into(), options, arguments)
            .await
            .expect("a queue");
    }

    /// Declares an exclusive queue that the broker names, and consumes from it.
    ///
    /// # Panics
    /// If the broker refuses.
    pub async fn reply_queue(&self) -> ReplyQueue {
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let queue = self
            .channel
            .queue_declare("".into(), options, FieldTable::default())
            .await
            .expect("a queue");
        let consume = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = self
            .channel
            .basic_consume(queue.name().clone(), "".into(), consume, FieldTable::default())
            .await;
        ReplyQueue {
            name: queue.name().to_string(),
            consumer: consumer.expect("a consumer"),
        }
    }

    /// Direct replies to what is published here: for those who may declare no queue.
    ///
    /// # Panics
    /// If the broker refuses.
    pub async fn direct_replies(&self) -> ReplyQueue {
        const DIRECT: &str = "amq.rabbitmq.reply-to";
        let consume = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = self
            .channel
            .basic_consume(DIRECT.into(), "".into(), consume, FieldTable::default());
        ReplyQueue {
            name: DIRECT.to_owned(),
            consumer: consumer.await.expect("a consumer"),
        }
    }

    /// Injects a client message and returns the answer: publishes it under `message` with a reply queue of its own.
    pub async fn request(&self, body: &Value) -> Message {
        let mut replies = self.reply_queue().await;
        self.publish("message", body.to_string(), replies.properties()).await;
        replies.next(ANSWER_LIMIT).await
    }

    /// Takes the first message out of a queue, if there is one.
    ///
    /// # Panics
    /// If there is no such queue.
    pub async fn get(&self, queue: &str) -> Option<Message> {
        let got = self
            .channel
            .basic_get(queue.into(), BasicGetOptions { no_ack: true })
            .await
            .expect("the queue");
        got.map(|message| Message {
            body: message.data.clone(),
            properties: message.properties.clone(),
            redelivered: message.redelivered,
        })
    }

    /// Takes the next dead letter of the namespace, which has `limit` to come.
    pub async fn dead_letter(&self, limit: Duration) -> Message {
        let queue = format!("{}.dead", self.namespace);
        eventually(limit, "a dead letter", async || self.get(&queue).await).await
    }

    /// How many messages of a queue are ready now.
    ///
    /// # Panics
    /// If there is no such queue.
    pub async fn count(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let state = self
            .channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .expect("the queue");
        state.message_count()
    }

    /// Empties a queue.
    ///
    /// # Panics
    /// If there is no such queue.
    pub async fn purge(&self, queue: &str) -> u32 {
        self.channel
            .queue_purge(queue.into(), QueuePurgeOptions::default())
            .await
            .expect("the queue")
    }

    /// Deletes a queue with what is in it.
    ///
    /// # Panics
    /// If the broker refuses.
    pub async fn delete(&self, queue: &str) {
        self.channel
            .queue_delete(queue.into(), QueueDeleteOptions::default())
            .await
            .expect("the queue");
    }
}

/// A queue of one's own, for answers.
#[derive(Debug)]
pub struct ReplyQueue {
    name: String,
    consumer: Consumer,
}

impl ReplyQueue {
    /// Its name, which goes into `reply_to`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Properties that ask for an answer here.
    #[must_use]
    pub fn properties(&self) -> BasicProperties {
        BasicProperties::default().with_reply_to(self.name.as_str().into())
    }

    /// The next message.
    ///
    /// # Panics
    /// If none comes within `limit`.
    pub async fn next(&mut self, limit: Duration) -> Message {
        self.try_next(limit)
            .await
            .unwrap_or_else(|| panic!("no answer in {} within {limit:?}", self.name))
    }

    /// The next message, if one comes within `limit`.
    ///
    /// # Panics
    /// If the connection breaks.
    pub async fn try_next(&mut self, limit: Duration) -> Option<Message> {
        let delivery = timeout(limit, self.consumer.next()).await.ok()?;
        let delivery = delivery
            .expect("the queue is still there")
            .expect("the connection holds");
        let redelivered = delivery.redelivered;
        Some(Message {
            body: delivery.data,
            properties: delivery.properties,
            redelivered,
        })
    }
}

/// Runs one of Debian's `amqp-publish`, `amqp-get`, `amqp-consume` against `url`, within 10 s.
///
/// # Panics
/// If it is not installed, or does not end in time.
pub async fn amqp_tool(program: &str, url: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.arg(format!("--url={url}")).args(arguments).kill_on_drop(true);
    timeout(10.s(), command.output())
        .await
        .expect("the tool ends")
        .expect("amqp-tools is installed (tests/run does it)")
}
