//! Whether somebody consumes a queue.
//!
//! A passive declaration tells (AMQP 0-9-1 §1.7.2.1): it needs no permission, and
//! changes nothing. For a queue that is not there the broker closes the channel, so
//! each look has one of its own.

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::time::timeout;

use super::connection::{Connections, Generation};
use super::convert::short;

/// Three round trips, on a broker that has much to do. Whoever asks has somebody waiting.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the queue has a consumer. What cannot be found out is answered with no.
pub(super) async fn is_consumed(connections: Connections, queue: &str) -> bool {
    let Some(generation) = connections.borrow().clone() else {
        return false;
    };
    let consumers = timeout(LOOK_TIMEOUT, consumers(&generation, queue)).await;
    matches!(consumers, Ok(Some(1..)))
}

async fn consumers(generation: &Generation, queue: &str) -> Option<u32> {
    let name = short(queue).ok()?;
    let channel = generation.connection.create_channel().await.ok()?;
    let options = QueueDeclareOptions {
        passive: true,      // Nothing is to come into being.
        durable: false,     // The broker does not look at this and the next two.
        exclusive: false,   //
        auto_delete: false, //
        nowait: false,      // The answer is what we want.
    };
    // If there is no such queue, the channel is gone with this.
    let state = channel.queue_declare(name, options, FieldTable::default()).await.ok()?;
    let count = state.consumer_count();
    let _ = channel.close(200, "looked".into()).await;
    Some(count)
}
