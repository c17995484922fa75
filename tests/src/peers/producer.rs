//! A backend that pushes and revokes, and hears what became of it: by AMQP, or on a bus within this process.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::future::join_all;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use shared::bus::{Bus, Consumer, Properties, PublishTimeout, Publisher, Route, topology::Names};
use tokio::time::{Instant, timeout};

use super::client::ANSWER_LIMIT;
use super::queue::{Queue, ReplyQueue};

/// A push to be.
#[derive(Debug, Clone)]
pub struct Push {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    id: Option<String>,
}

impl Push {
    /// For all connections of a subject of the only issuer.
    #[must_use]
    pub fn to(subject: &str, payload: impl Into<Value>) -> Self {
        Self::by("subject", subject, payload)
    }

    /// For each of these subjects.
    #[must_use]
    pub fn to_each(subjects: &[&str], payload: impl Into<Value>) -> Self {
        Self::by("subjects", &serde_json::json!(subjects).to_string(), payload)
    }

    /// For one connection.
    #[must_use]
    pub fn to_connection(connection: &str, payload: impl Into<Value>) -> Self {
        Self::by("connection", connection, payload)
    }

    fn by(header: &str, value: &str, payload: impl Into<Value>) -> Self {
        Self {
            headers: vec![(header.to_owned(), value.to_owned())],
            body: payload.into().to_string().into_bytes(),
            id: None,
        }
    }

    /// A subject of this issuer.
    #[must_use]
    pub fn issuer(mut self, issuer: &str) -> Self {
        self.headers.push(("issuer".to_owned(), issuer.to_owned()));
        self
    }

    /// Its `message_id`.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    /// This very body, be it JSON or not.
    #[must_use]
    pub fn raw(mut self, body: &str) -> Self {
        self.body = body.as_bytes().to_vec();
        self
    }
}

/// Publishes to the exchange of a namespace, and has a queue of its own for what becomes of it.
pub struct Producer {
    transport: Transport,
    asked: u64,
    /// Outcomes that no one has asked for yet, by their correlation.
    waiting: VecDeque<(String, Value)>,
}

#[expect(clippy::large_enum_variant, reason = "a claim has one or two of them")]
enum Transport {
    Amqp(Queue, ReplyQueue),
    Embedded {
        publisher: Publisher,
        exchange: String,
        reply_to: String,
        outcomes: Consumer,
    },
}

impl Producer {
    /// By AMQP.
    pub async fn on(queue: Queue) -> Self {
        let replies = queue.reply_queue().await;
        Self::at(Transport::Amqp(queue, replies))
    }

    /// Within this process.
    #[must_use]
    pub fn within(bus: &Arc<dyn Bus>, names: &Names) -> Self {
        let replies = names.inject_queue(rand::random());
        Self::at(Transport::Embedded {
            publisher: bus.publisher(PublishTimeout::Endless),
            exchange: names.exchange().name,
            reply_to: replies.name.clone(),
            outcomes: bus.consumer(replies, 64),
        })
    }

    fn at(transport: Transport) -> Self {
        Self {
            transport,
            asked: 0,
            waiting: VecDeque::new(),
        }
    }

    /// Pushes, and returns the first that is told of it: `{"outcome": …}`.
    ///
    /// # Panics
    /// If nothing is within 10 s.
    pub async fn push(&mut self, push: &Push) -> Value {
        let correlation = self.send(push).await;
        self.outcome_of(&correlation, ANSWER_LIMIT).await
    }

    /// Pushes a payload to a subject, and returns the outcome's name.
    pub async fn push_to(&mut self, subject: &str, payload: impl Into<Value>) -> Value {
        self.push(&Push::to(subject, payload)).await["outcome"].clone()
    }

    /// Pushes, and returns under which correlation outcomes will come.
    ///
    /// # Panics
    /// If it is not confirmed.
    pub async fn send(&mut self, push: &Push) -> String {
        self.publish("push", &push.headers, push.id.as_deref(), &push.body)
            .await
    }

    /// Pushes all of them in this order, without waiting for one before the next.
    pub async fn burst(&mut self, pushes: &[Push]) -> Vec<String> {
        let correlations: Vec<_> = pushes
            .iter()
            .map(|_| {
                self.asked += 1;
                format!("asked-{}", self.asked)
            })
            .collect();
        let publications = pushes.iter().zip(&correlations).map(|(push, correlation)| {
            self.transport
                .publish("push", &push.headers, push.id.as_deref(), &push.body, correlation)
        });
        join_all(publications).await;
        correlations
    }

    /// Revokes, and waits until it is acknowledged.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn revoke(&mut self, what: &Value) {
        let outcome = self.try_revoke(what).await;
        assert_eq!(outcome["outcome"], "revoked", "{what}: {outcome}");
    }

    /// Tries to revoke, and returns what is told of it.
    pub async fn try_revoke(&mut self, what: &Value) -> Value {
        let correlation = self.publish("revoke", &[], None, what.to_string().as_bytes()).await;
        self.outcome_of(&correlation, ANSWER_LIMIT).await
    }

    /// Asserts that nothing has been told but what was asked for: not before the outcome of something that has none to wait for.
    ///
    /// # Panics
    /// If something else has.
    pub async fn expect_no_outcome(&mut self) {
        let nobody = format!("{:016x}.1", 0);
        self.push(&Push::to_connection(&nobody, Value::Null)).await;
        assert!(self.waiting.is_empty(), "{:?}", self.waiting);
    }

    /// The next outcome under that correlation.
    ///
    /// # Panics
    /// If none comes within `limit`.
    pub async fn outcome_of(&mut self, correlation: &str, limit: Duration) -> Value {
        let deadline = Instant::now() + limit;
        loop {
            let known = self.waiting.iter().position(|(of, _)| of == correlation);
            if let Some((_, outcome)) = known.and_then(|place| self.waiting.remove(place)) {
                return outcome;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(came) = timeout(left, self.transport.next()).await else {
                panic!(
                    "no outcome of {correlation} within {limit:?}; what came: {:?}",
                    self.waiting
                )
            };
            self.waiting.push_back(came);
        }
    }

    async fn publish(&mut self, key: &str, headers: &[(String, String)], id: Option<&str>, body: &[u8]) -> String {
        self.asked += 1;
        let correlation = format!("asked-{}", self.asked);
        self.transport.publish(key, headers, id, body, &correlation).await;
        correlation
    }
}

impl Transport {
    async fn publish(&self, key: &str, headers: &[(String, String)], id: Option<&str>, body: &[u8], correlation: &str) {
        match self {
            Self::Amqp(queue, replies) => {
                let mut table = FieldTable::default();
                for (name, value) in headers {
                    table.insert(name.as_str().into(), AMQPValue::LongString(value.as_str().into()));
                }
                let mut properties: BasicProperties = replies
                    .properties()
                    .with_correlation_id(correlation.into())
                    .with_headers(table);
                if let Some(id) = id {
                    properties = properties.with_message_id(id.into());
                }
                queue.publish(key, body, properties).await;
            }
            Self::Embedded {
                publisher,
                exchange,
                reply_to,
                ..
            } => {
                let text = |value: &String| shared::bus::Value::Text(value.clone());
                let properties = Properties {
                    message_id: id.map(str::to_owned),
                    correlation_id: Some(correlation.to_owned()),
                    reply_to: Some(reply_to.clone()),
                    headers: headers
                        .iter()
                        .map(|(name, value)| (name.clone(), text(value)))
                        .collect(),
                    ..Properties::default()
                };
                let body = body.to_vec().into();
                let message = shared::bus::Message { body, properties };
                let published = publisher.publish(Route::new(exchange, key), message).await;
                published.unwrap_or_else(|problem| panic!("not published under {key}: {problem}"));
            }
        }
    }

    /// Cancel-safe, as both queues are.
    async fn next(&mut self) -> (String, Value) {
        let (correlation, body) = match self {
            Self::Amqp(_, replies) => {
                let message = replies.next(Duration::MAX).await;
                let correlation = message.properties.correlation_id().as_ref().map(ToString::to_string);
                (correlation, message.body)
            }
            Self::Embedded { outcomes, .. } => {
                let mut delivery = outcomes.recv().await.expect("the bus is there");
                let message = delivery.take_message();
                delivery.ack();
                (message.properties.correlation_id, message.body.to_vec())
            }
        };
        let outcome = serde_json::from_slice(&body).unwrap_or_else(|error| {
            panic!(
                "an outcome that is not JSON ({error}): {}",
                String::from_utf8_lossy(&body)
            )
        });
        (correlation.unwrap_or_default(), outcome)
    }
}
