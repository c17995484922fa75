//! An application on the broker, that takes messages and answers as a claim wants it.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use tokio::time::timeout;

use crate::peers::client::ANSWER_LIMIT;
use crate::peers::queue::{Message, Queue};
use crate::stack::Stack;

/// One application, with a queue of its own.
#[derive(Debug)]
pub struct App {
    queue: Queue,
    name: String,
    consumer: Option<Consumer>,
}

impl App {
    /// One that takes the messages whose `type` is of that pattern.
    pub async fn start(stack: &Stack, pattern: &str) -> Self {
        let mut app = Self::idle(stack, pattern).await;
        app.consume().await;
        app
    }

    /// One whose queue is there, and that takes nothing yet.
    ///
    /// # Panics
    /// If the broker refuses.
    pub async fn idle(stack: &Stack, pattern: &str) -> Self {
        Self::idle_on(stack.queue().await, stack.namespace(), pattern).await
    }

    /// The same on a connection of its own, as another user perhaps.
    ///
    /// # Panics
    /// If the broker refuses.
    pub async fn idle_on(queue: Queue, namespace: &str, pattern: &str) -> Self {
        let name = format!("{namespace}-app-{:08x}", rand::random::<u32>());
        queue.declare_quorum_queue(&name).await;
        let exchange = format!("{namespace}.app");
        queue
            .channel()
            .queue_bind(
                name.as_str().into(),
                exchange.as_str().into(),
                pattern.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("a worker has declared the exchange");
        Self {
            queue,
            name,
            consumer: None,
        }
    }

    /// Takes messages from now on.
    ///
    /// # Panics
    /// If the broker refuses.
    pub async fn consume(&mut self) {
        let consumer = self.queue.channel().basic_consume(
            self.name.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        self.consumer = Some(consumer.await.expect("a consumer"));
    }

    /// How many messages wait for it.
    pub async fn waiting(&self) -> u32 {
        self.queue.count(&self.name).await
    }

    /// The next message, acknowledged.
    ///
    /// # Panics
    /// If none comes within 10 s.
    pub async fn next(&mut self) -> Message {
        let consumer = self.consumer.as_mut().expect("it takes messages");
        let delivery = timeout(ANSWER_LIMIT, consumer.next()).await.expect("a message");
        let delivery = delivery.expect("the queue is there").expect("the connection holds");
        delivery
            .ack(BasicAckOptions::default())
            .await
            .expect("the channel is there");
        Message {
            body: delivery.data,
            properties: delivery.properties,
            redelivered: delivery.redelivered,
        }
    }

    /// Answers a message, by plain RPC.
    pub async fn answer(&self, asked: &Message, body: impl AsRef<[u8]>) {
        self.say(asked, body, BasicProperties::default()).await;
    }

    /// Answers with a refusal.
    pub async fn refuse(&self, asked: &Message, body: &Value) {
        let properties = BasicProperties::default().with_type("error".into());
        self.say(asked, body.to_string(), properties).await;
    }

    /// Says that, with those properties.
    ///
    /// # Panics
    /// If the message names no place for an answer.
    pub async fn say(&self, asked: &Message, body: impl AsRef<[u8]>, properties: BasicProperties) {
        let reply_to = asked.properties.reply_to().as_ref().expect("reply_to").to_string();
        let correlation_id = asked.properties.correlation_id().clone().expect("correlation_id");
        let properties = properties.with_correlation_id(correlation_id);
        self.queue.publish_to("", &reply_to, body, properties).await;
    }

    /// Whether nothing more comes within `span`.
    pub async fn is_left_alone_for(&mut self, span: Duration) -> bool {
        let consumer = self.consumer.as_mut().expect("it takes messages");
        timeout(span, consumer.next()).await.is_err()
    }
}

/// A header that is a text.
#[must_use]
pub fn text(message: &Message, name: &str) -> Option<String> {
    match message.header(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}
