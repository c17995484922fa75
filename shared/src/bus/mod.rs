//! The bus: how terminator and worker reach each other.
//!
//! One interface with two implementations: [`rabbitmq`], which is the real one, and
//! [`memory`], which lives in one process and keeps the same semantics, because
//! `dev` and the simulator stand on it. One conformance suite runs against both. What an
//! implementation is made of is public, so that tests can have one of their own.
//!
//! What either implementation promises:
//!
//! - a publication is *settled* once: confirmed by the queue, or refused with the reason;
//! - it outlives a lost connection: what was not confirmed is published again, in order, until its
//!   patience ends, so a consumer may see it twice and must know it by its `correlation_id`;
//! - a delivery is *settled* once: acknowledged, or (dropped unsettled) given back and delivered again,
//!   to anyone, at most as often as the queue's delivery limit allows;
//! - publications of one publisher to one queue arrive in order.

mod ack_batch;
pub mod batch;
pub(crate) mod consumer;
pub(crate) mod delivery;
mod direct_reply;
pub mod memory;
mod message;
mod publisher;
pub mod rabbitmq;
mod replier;
mod reply_queues;
pub mod suspicion;
pub mod topology;

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;

/// The header of a dead-lettered message that says in which queue the broker gave it up last. No one but the broker says so.
pub const DEATH_QUEUE: &str = "x-death-queue";
/// The same for why: `expired`, `maxlen` or `delivery_limit` (<https://www.rabbitmq.com/docs/dlx>).
pub const DEATH_REASON: &str = "x-death-reason";
/// The same for the exchange through which it had come to that queue.
pub const DEATH_EXCHANGE: &str = "x-death-exchange";

/// The header of a message around which something stands that is not AMQP 0-9-1 (a short string that is not UTF-8,
/// §4.2.5.3), or that goes on where it should end. That is left out, and this says so.
pub const UNREADABLE: &str = "unreadable";

pub use self::consumer::{Consumer, ConsumerBackend};
pub use self::delivery::{Delivery, Settlement};
use self::message::set_expiration;
pub use self::message::{EXPIRATION, Message, Properties, Value};
pub use self::publisher::{Confirm, Publication, PublishError, Publisher, Receipt, Route, Waiting};
pub use self::replier::Replier;
pub use self::reply_queues::ReplyQueues;
use self::topology::Queue;
pub use crate::bus::delivery::whole::Whole;

/// Whether the broker can be reached at the moment, and takes what it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// It can.
    Up,
    /// It is there but takes nothing: it has run out of memory or disk (`connection.blocked`).
    Blocked,
    /// It cannot be reached, or refuses us; the reason is for people.
    Away(Arc<str>),
}

impl Link {
    /// Whether a publication would leave at once.
    pub fn is_up(&self) -> bool {
        *self == Self::Up
    }
}

/// How long a publication may stay unconfirmed before it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishTimeout {
    /// As long as this, and at once while the broker has been away for as long.
    Limited(std::time::Duration),
    /// For ever: the one who published cannot do without.
    Endless,
}

/// A broker, or what stands in for one.
///
/// Must be used within a tokio runtime. Publishers and consumers end when their
/// handles are dropped; the connections end with the bus itself.
pub trait Bus: Send + Sync + 'static {
    /// A new publisher with a channel of its own. Its publications arrive in the order of their submission.
    fn publisher(&self, patience: PublishTimeout) -> Publisher;

    /// The same for what goes where someone else says: what the broker does not like of that costs no other publisher its
    /// connection.
    fn replier(&self, patience: PublishTimeout) -> Publisher {
        self.publisher(patience)
    }

    /// The same for direct replies, which cost no other replier its connection either.
    fn direct_replier(&self, patience: PublishTimeout) -> Publisher {
        self.replier(patience)
    }

    /// A new consumer of `queue`, which is declared first. At most `prefetch` deliveries are unsettled at a time.
    fn consumer(&self, queue: Queue, prefetch: u16) -> Consumer;

    /// The same for a queue that others read, too, so that each has its share: here `prefetch` are messages, of which each
    /// delivery of the broker may hold many.
    fn shared_consumer(&self, queue: Queue, prefetch: u16) -> Consumer {
        self.consumer(queue, prefetch)
    }

    /// Whether someone consumes the queue of this name at the moment, as far as can be found out within seconds: a queue that
    /// is not there is consumed by no one, and one that cannot be asked about counts as that.
    fn is_consumed<'a>(&'a self, queue: &'a str) -> Looking<'a>;

    /// Whether there is a queue of this name, as far as can be found out within seconds.
    fn is_there<'a>(&'a self, queue: &'a str) -> Looking<'a>;

    /// Whether the broker says that there is no queue of this name. What cannot be found out within seconds is not so.
    fn is_gone<'a>(&'a self, queue: &'a str) -> Looking<'a>;

    /// Whether publications leave and deliveries come at the moment.
    fn link(&self) -> watch::Receiver<Link>;

    /// Waits until all publishers and consumers are dropped and what they had to say is said, then disconnects.
    fn close(&self) -> Closing<'_>;
}

/// A look at a queue.
pub type Looking<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// The end of a bus.
pub type Closing<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
