//! Declaring exchanges and queues: each option with its reason.
//!
//! What this process has declared and bound once is only looked for later: while a node of a cluster stands still, the
//! others answer whether a queue is there, and do not bind it for more than a minute, even if it is bound
//! (RabbitMQ 3.10). If it is gone, so are its bindings, and it is declared anew.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};
use tokio::sync::watch;

use crate::bus::topology::{Exchange, ExchangeKind as Chooses, Limits, Overflow, Queue, QueueKind, Topology};

/// `PRECONDITION_FAILED` (AMQP 0-9-1 §1.2): it is there already, and declared otherwise.
const PRECONDITION_FAILED: u16 = 406;

/// `NOT_FOUND`: it is not there.
const NOT_FOUND: u16 = 404;

/// The names of what this process has declared, and how it was bound. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Declared {
    known: Arc<Mutex<Known>>,
    exchanges_lost: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    bound: HashMap<String, Bound>,
    /// What was there once and was gone, until someone asks.
    lost: HashSet<String>,
}

/// The bindings of a queue, and those that it had once; none of an exchange.
type Bound = [Vec<(String, String)>; 2];

impl Declared {
    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // Nothing under this lock panics half-way through a change.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn knows(&self, name: &str, bound: &Bound) -> bool {
        self.known().bound.get(name) == Some(bound)
    }

    fn add(&self, name: &str, bound: Bound) {
        self.known().bound.insert(name.to_owned(), bound);
    }

    fn remove(&self, name: &str) {
        let mut known = self.known();
        if let Some((name, _)) = known.bound.remove_entry(name) {
            known.lost.insert(name);
        }
    }

    /// An exchange is gone, and everything that was bound to it is bound no more.
    fn clear(&self) {
        let mut known = self.known();
        let all = std::mem::take(&mut known.bound);
        known.lost.extend(all.into_keys());
        drop(known);
        self.exchanges_lost.send_modify(|count| *count += 1);
    }

    /// Changes when an exchange was gone, and every binding to it: anyone who consumes a queue has to bind it again.
    pub(super) fn exchanges_lost(&self) -> watch::Receiver<u64> {
        self.exchanges_lost.subscribe()
    }

    /// Whether it was gone, or not bound any more, since this was asked last.
    pub(super) fn take_lost(&self, name: &str) -> bool {
        self.known().lost.remove(name)
    }
}

/// Why something could not be declared.
#[derive(Debug, thiserror::Error)]
pub(super) enum DeclareError {
    /// It is there with other arguments.
    #[error(
        "{what} exists with other arguments ({detail}); delete it if it is empty and unused, or choose another `namespace`"
    )]
    Conflict { what: String, detail: String },
    /// Anything else.
    #[error("cannot declare {what}: {source_text}")]
    Failed { what: String, source_text: String },
}

impl DeclareError {
    /// What came of declaring `what`.
    pub(super) fn new(what: &str, error: &lapin::Error) -> Self {
        let (what, text) = (what.to_owned(), error.to_string());
        match error.kind() {
            ErrorKind::ProtocolError(protocol) if protocol.get_id() == PRECONDITION_FAILED => Self::Conflict {
                what,
                detail: protocol.get_message().to_string(),
            },
            _ => Self::Failed {
                what,
                source_text: text,
            },
        }
    }
}

/// Declares all of it.
pub(super) async fn topology(
    connection: &Connection,
    topology: &Topology,
    declared: &Declared,
) -> Result<(), DeclareError> {
    for exchange in &topology.exchanges {
        let was_declared = declared.knows(&exchange.name, &Bound::default());
        if !is_there(connection, &exchange.name, &Bound::default(), declared, Kind::Exchange).await? {
            if was_declared {
                // Its bindings went with it.
                declared.clear();
            }
            let channel = open(connection).await?;
            declare_exchange(&channel, exchange).await?;
            leave(&channel).await;
            declared.add(&exchange.name, Bound::default());
        }
    }
    for one in &topology.queues {
        queue(connection, one, declared).await?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Kind {
    Exchange,
    Queue,
}

/// Whether something that this process has declared is still there.
async fn is_there(
    connection: &Connection,
    name: &str,
    bound: &Bound,
    declared: &Declared,
    kind: Kind,
) -> Result<bool, DeclareError> {
    if !declared.knows(name, bound) {
        return Ok(false);
    }
    let channel = open(connection).await?;
    let looked = match kind {
        Kind::Exchange => look_for_exchange(&channel, name).await,
        Kind::Queue => look_for_queue(&channel, name).await,
    };
    match looked {
        Ok(()) => {
            leave(&channel).await;
            Ok(true)
        }
        // The channel is gone with this.
        Err(error) if is(&error, NOT_FOUND) => {
            declared.remove(name);
            Ok(false)
        }
        Err(error) => Err(DeclareError::new(name, &error)),
    }
}

async fn look_for_queue(channel: &Channel, name: &str) -> lapin::Result<()> {
    let options = QueueDeclareOptions {
        passive: true, // The broker looks at nothing else then.
        ..QueueDeclareOptions::default()
    };
    let looked = channel.queue_declare(name.into(), options, FieldTable::default());
    looked.await.map(|_| ())
}

async fn look_for_exchange(channel: &Channel, name: &str) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions {
        passive: true, // Nor here.
        ..ExchangeDeclareOptions::default()
    };
    let looked = channel.exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default());
    looked.await
}

fn is(error: &lapin::Error, code: u16) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(protocol) if protocol.get_id() == code)
}

async fn open(connection: &Connection) -> Result<Channel, DeclareError> {
    let channel = connection.create_channel().await;
    channel.map_err(|error| DeclareError::new("a channel", &error))
}

/// The channel has done its work; if it does not close, it goes with its connection.
async fn leave(channel: &Channel) {
    let _ = channel.close(200, "declared".into()).await;
}

async fn declare_exchange(channel: &Channel, exchange: &Exchange) -> Result<(), DeclareError> {
    let options = ExchangeDeclareOptions {
        passive: false,     // Anyone who starts first makes it.
        durable: true,      // It outlives a restart of the broker, as the queues do.
        auto_delete: false, // It outlives its last binding.
        internal: false,    // Clients publish to it.
        nowait: false,      // A refusal must be heard.
    };
    let name = exchange.name.as_str().into();
    let kind = match exchange.kind {
        Chooses::Direct => ExchangeKind::Direct,
        Chooses::Topic => ExchangeKind::Topic,
    };
    channel
        .exchange_declare(name, kind, options, FieldTable::default())
        .await
        .map_err(|error| DeclareError::new(&format!("exchange {}", exchange.name), &error))
}

/// Declares one queue and its bindings, unless it is there as this process has declared it.
pub(super) async fn queue(connection: &Connection, queue: &Queue, declared: &Declared) -> Result<(), DeclareError> {
    let bound = [queue.bindings.clone(), queue.former_bindings.clone()];
    if is_there(connection, &queue.name, &bound, declared, Kind::Queue).await? {
        return Ok(());
    }
    let channel = open(connection).await?;
    declare_queue(&channel, queue).await?;
    leave(&channel).await;
    if queue.kind != QueueKind::Exclusive {
        declared.add(&queue.name, bound);
    }
    Ok(())
}

async fn declare_queue(channel: &Channel, queue: &Queue) -> Result<(), DeclareError> {
    let failed = |error| DeclareError::new(&format!("queue {}", queue.name), &error);
    let exclusive = queue.kind == QueueKind::Exclusive;
    let options = QueueDeclareOptions {
        passive: false,         // Anyone who starts first makes it.
        durable: !exclusive,    // A quorum queue must be; an exclusive one cannot outlive its connection.
        exclusive,              // No one else reads an injector's answers.
        auto_delete: exclusive, // A quorum queue waits for its consumers.
        nowait: false,          // A refusal must be heard.
    };
    let arguments = match &queue.kind {
        QueueKind::Quorum(limits) => quorum_arguments(limits),
        QueueKind::Exclusive => FieldTable::default(),
    };
    channel
        .queue_declare(queue.name.as_str().into(), options, arguments)
        .await
        .map_err(failed)?;
    for (exchange, key) in &queue.bindings {
        channel
            .queue_bind(
                queue.name.as_str().into(),
                exchange.as_str().into(),
                key.as_str().into(),
                QueueBindOptions { nowait: false },
                FieldTable::default(),
            )
            .await
            .map_err(failed)?;
    }
    for (exchange, key) in &queue.former_bindings {
        // One that is not there is no error.
        channel
            .queue_unbind(
                queue.name.as_str().into(),
                exchange.as_str().into(),
                key.as_str().into(),
                FieldTable::default(),
            )
            .await
            .map_err(failed)?;
    }
    Ok(())
}

/// The arguments of a quorum queue with these limits.
pub fn quorum_arguments(limits: &Limits) -> FieldTable {
    let mut arguments = FieldTable::default();
    let mut set = |name: &str, value: AMQPValue| {
        arguments.insert(name.into(), value);
    };
    let text = |text: &str| AMQPValue::LongString(text.into());
    set("x-queue-type", text("quorum"));
    if let Some(limit) = limits.delivery_limit {
        // Before RabbitMQ 4 there is none unless it is set.
        set(
            "x-delivery-limit",
            AMQPValue::LongInt(i32::try_from(limit).unwrap_or(i32::MAX)),
        );
    }
    if let Some(ttl) = limits.message_ttl {
        set(
            "x-message-ttl",
            AMQPValue::LongLongInt(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX)),
        );
    }
    if let Some(expires) = limits.expires {
        set(
            "x-expires",
            AMQPValue::LongLongInt(i64::try_from(expires.as_millis()).unwrap_or(i64::MAX)),
        );
    }
    if limits.single_active_consumer {
        set("x-single-active-consumer", AMQPValue::Boolean(true));
    }
    let overflow = limits.max_length.map(|(_, overflow)| overflow);
    if let Some((most, _)) = limits.max_length {
        set("x-max-length", AMQPValue::LongLongInt(i64::from(most)));
    }
    if let Some(most) = limits.max_length_bytes {
        set(
            "x-max-length-bytes",
            AMQPValue::LongLongInt(i64::try_from(most).unwrap_or(i64::MAX)),
        );
    }
    if let Some((exchange, key)) = &limits.dead_letter {
        set("x-dead-letter-exchange", text(exchange));
        set("x-dead-letter-routing-key", text(key));
        // At most once is the default, and loses what it moves when a node dies.
        set("x-dead-letter-strategy", text("at-least-once"));
    }
    // At-least-once dead-lettering works with `reject-publish` only.
    if limits.dead_letter.is_some() || overflow == Some(Overflow::RejectPublish) {
        set("x-overflow", text("reject-publish"));
    } else if overflow == Some(Overflow::DropHead) {
        set("x-overflow", text("drop-head"));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> Bound {
        [vec![("exchange".to_owned(), "key".to_owned())], Vec::new()]
    }

    #[test]
    fn what_was_declared_is_lost_when_its_exchange_is_and_that_is_told_once() {
        let declared = Declared::default();
        let mut lost = declared.exchanges_lost();
        for exchange in ["first", "second"] {
            declared.add(exchange, Bound::default());
        }
        declared.add("queue", bound());
        assert!(declared.knows("first", &Bound::default()) && declared.knows("queue", &bound()));
        assert!(!declared.take_lost("queue"));
        assert!(!lost.has_changed().unwrap());
        declared.clear();
        assert!(lost.has_changed().unwrap());
        lost.mark_unchanged();
        assert!(!declared.knows("queue", &bound()));
        assert!(declared.take_lost("queue"));
        assert!(!declared.take_lost("queue"), "it is told once");
    }
}
