//! Declaring exchanges and queues: each option with its reason.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ErrorKind, ExchangeKind};

use crate::bus::topology::{Exchange, ExchangeKind as Kind, Limits, Overflow, Queue, QueueKind, Topology};

/// `PRECONDITION_FAILED` (AMQP 0-9-1 §1.2): it is there already, and declared otherwise.
const PRECONDITION_FAILED: u16 = 406;

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

/// Declares all of it on a channel of its own.
pub(super) async fn topology(connection: &Connection, topology: &Topology) -> Result<(), DeclareError> {
    let channel = connection
        .create_channel()
        .await
        .map_err(|error| DeclareError::new("a channel", &error))?;
    for exchange in &topology.exchanges {
        declare_exchange(&channel, exchange).await?;
    }
    for declared in &topology.queues {
        queue(&channel, declared).await?;
    }
    // The channel has done its work; if it does not close, it goes with its connection.
    let _ = channel.close(200, "declared".into()).await;
    Ok(())
}

async fn declare_exchange(channel: &Channel, exchange: &Exchange) -> Result<(), DeclareError> {
    let options = ExchangeDeclareOptions {
        passive: false,     // Whoever starts first makes it.
        durable: true,      // It outlives a restart of the broker, as the queues do.
        auto_delete: false, // It outlives its last binding.
        internal: false,    // Clients publish to it.
        nowait: false,      // A refusal must be heard.
    };
    let name = exchange.name.as_str().into();
    let kind = match exchange.kind {
        Kind::Direct => ExchangeKind::Direct,
        Kind::Topic => ExchangeKind::Topic,
    };
    channel
        .exchange_declare(name, kind, options, FieldTable::default())
        .await
        .map_err(|error| DeclareError::new(&format!("exchange {}", exchange.name), &error))
}

/// Declares one queue and its bindings.
pub(super) async fn queue(channel: &Channel, queue: &Queue) -> Result<(), DeclareError> {
    let failed = |error| DeclareError::new(&format!("queue {}", queue.name), &error);
    let exclusive = queue.kind == QueueKind::Exclusive;
    let options = QueueDeclareOptions {
        passive: false,         // Whoever starts first makes it.
        durable: !exclusive,    // A quorum queue must be; an exclusive one cannot outlive its connection.
        exclusive,              // Nobody else reads an injector's answers.
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

fn quorum_arguments(limits: &Limits) -> FieldTable {
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
