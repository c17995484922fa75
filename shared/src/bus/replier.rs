//! The way to those whom someone else names.

use std::sync::{Arc, LazyLock};

use super::{Bus, PublishTimeout, Publisher, direct_reply};

/// Publishes to queues that others have named.
///
/// Direct replies leave by a connection of their own: one for a process of a node that the broker does not know costs the connection on
/// which it comes, and the replies of those who have named a queue must not wait for a new one.
pub struct Replier {
    to_queues: Publisher,
    /// From the first that is wanted.
    to_processes: LazyLock<Publisher, Box<dyn FnOnce() -> Publisher + Send>>,
}

impl Replier {
    /// One with channels of its own.
    pub fn new(bus: &Arc<dyn Bus>, timeout: PublishTimeout) -> Self {
        let to_queues = bus.replier(timeout);
        let bus = Arc::downgrade(bus);
        Self {
            to_queues,
            to_processes: LazyLock::new(Box::new(move || match bus.upgrade() {
                Some(bus) => bus.direct_replier(timeout),
                None => Publisher::new().0,
            })),
        }
    }

    /// The publisher that reaches what a `reply_to` names.
    pub fn to(&self, reply_to: &str) -> &Publisher {
        match direct_reply::is_name(reply_to) {
            true => &self.to_processes,
            false => &self.to_queues,
        }
    }
}
