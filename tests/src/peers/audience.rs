//! Who hears what happens to connections: a queue that is bound to `<namespace>.events`, as presence or an audit log has one.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lapin::options::{BasicGetOptions, QueueBindOptions};
use lapin::types::FieldTable;
use serde_json::Value;

use crate::peers::queue::{Message, Queue};
use crate::wait::eventually;

/// An event as it was heard.
#[derive(Debug, Clone)]
pub struct Heard {
    /// Under which routing key.
    pub key: String,
    /// What it says.
    pub event: Value,
    /// With all properties, and the others that came in the same array.
    pub message: Message,
}

/// A durable queue of one's own that is bound to all events of connections.
#[derive(Debug)]
pub struct Audience {
    queue: Queue,
    name: String,
    /// What came in an array behind what was heard last.
    behind: Mutex<VecDeque<Heard>>,
}

impl Audience {
    /// Declares it, on the broker that `queue` is connected to.
    ///
    /// # Panics
    /// If the broker refuses, or there is no such exchange.
    pub async fn on(queue: Queue, namespace: &str) -> Self {
        let name = format!("{namespace}-audience");
        queue.declare_quorum_queue(&name).await;
        let exchange = format!("{namespace}.events");
        queue
            .channel()
            .queue_bind(
                name.as_str().into(),
                exchange.as_str().into(),
                "connection.*".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("a binding to the exchange for events");
        Self {
            queue,
            name,
            behind: Mutex::default(),
        }
    }

    /// The same queue by another connection, as after a restart of the broker.
    #[must_use]
    pub fn by(self, queue: Queue) -> Self {
        Self { queue, ..self }
    }

    /// The next event, passed over what is only told again: a store that is new to its workers may have lost what it never had.
    ///
    /// # Panics
    /// If none comes within `limit`.
    pub async fn next(&self, limit: Duration) -> Heard {
        loop {
            let heard = eventually(limit, "an event", async || self.at_once().await).await;
            if heard.event["again"] != true {
                return heard;
            }
        }
    }

    /// The next event, if it is there already.
    pub async fn at_once(&self) -> Option<Heard> {
        let behind = || self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heard) = behind().pop_front() {
            return Some(heard);
        }
        let got = self
            .queue
            .channel()
            .basic_get(self.name.as_str().into(), BasicGetOptions { no_ack: true })
            .await
            .expect("the queue")?;
        let message = Message {
            body: got.data.clone(),
            properties: got.properties.clone(),
            redelivered: got.redelivered,
        };
        let events = match message.json() {
            Value::Array(events) => events,
            event => vec![event],
        };
        let mut heard = events.into_iter().map(|event| Heard {
            key: got.routing_key.to_string(),
            event,
            message: message.clone(),
        });
        let first = heard.next();
        behind().extend(heard);
        first
    }

    /// All events of a connection up to its end, each once, and in between those of others, which are dropped.
    ///
    /// # Panics
    /// If it takes longer than `limit`.
    pub async fn until_closed(&self, connection: &str, limit: Duration) -> Vec<Heard> {
        let mut all: Vec<Heard> = Vec::new();
        loop {
            let heard = self.next(limit).await;
            let sequence = |heard: &Heard| heard.event["sequence"].as_u64().expect("a sequence");
            let is_known = all.iter().any(|known| sequence(known) == sequence(&heard));
            if heard.event["connection"] != connection || is_known {
                continue;
            }
            let is_end = heard.key == "connection.closed";
            all.push(heard);
            if is_end {
                return all;
            }
        }
    }
}
