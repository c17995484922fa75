//! How a queue is: whether it is there, whether someone consumes it, and whether something waits in it.
//!
//! A passive declaration tells (AMQP 0-9-1 §1.7.2.1): it needs no permission, and
//! changes nothing. For a queue that is not there the broker closes the channel, so
//! each look has one of its own.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::FieldTable;
use tokio::time::timeout;

use super::connection::{Connections, Generation};
use super::convert::short;

/// Three round trips, on a broker that has much to do. Anyone who asks has someone waiting.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the queue has a consumer. What cannot be found out is answered with no.
pub(super) async fn is_consumed(connections: Connections, queue: &str) -> bool {
    let Some(generation) = connections.borrow().clone() else {
        return false;
    };
    let looked = timeout(LOOK_TIMEOUT, at(&generation, queue)).await;
    matches!(looked, Ok(Ok(Looked { consumers: 1.., .. })))
}

/// Whether the broker says that there is no such queue (`NOT_FOUND`). What cannot be found out is answered with no.
pub(super) async fn is_gone(connections: Connections, queue: &str) -> bool {
    let Some(generation) = connections.borrow().clone() else {
        return false;
    };
    let looked = timeout(LOOK_TIMEOUT, at(&generation, queue)).await;
    let is_missing = |error: &lapin::Error| match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => {
            matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND))
        }
        _ => false,
    };
    matches!(looked, Ok(Err(error)) if is_missing(&error))
}

/// How many AMQP messages wait in each of these queues. One that is not there, or of which no one says, is left out.
pub(super) async fn waiting(connections: Connections, queues: &[String]) -> Vec<(String, u32)> {
    let Some(generation) = connections.borrow().clone() else {
        return Vec::new();
    };
    let mut waiting = Vec::new();
    for queue in queues {
        if let Ok(Ok(Looked { ready, .. })) = timeout(LOOK_TIMEOUT, at(&generation, queue)).await {
            waiting.push((queue.clone(), ready));
        }
    }
    waiting
}

/// How a queue is, as far as the node knows. One that does not reach its leader knows of nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looked {
    pub(super) consumers: u32,
    /// How many messages wait for a consumer.
    pub(super) ready: u32,
}

/// Looks at a queue.
///
/// # Errors
/// If it is not there, or no one says.
pub(super) async fn at(generation: &Generation, queue: &str) -> lapin::Result<Looked> {
    let Ok(name) = short(queue) else {
        return Ok(Looked::default());
    };
    let channel = generation.connection.create_channel().await?;
    let options = QueueDeclareOptions {
        passive: true,      // Nothing is to come into being.
        durable: false,     // The broker does not look at this and the next two.
        exclusive: false,   //
        auto_delete: false, //
        nowait: false,      // The answer is what we want.
    };
    // If there is no such queue, the channel is gone with this.
    let state = channel.queue_declare(name, options, FieldTable::default()).await?;
    let looked = Looked {
        consumers: state.consumer_count(),
        ready: state.message_count(),
    };
    let _ = channel.close(200, "looked".into()).await;
    Ok(looked)
}
