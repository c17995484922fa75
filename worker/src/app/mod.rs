//! Starts a worker, consumes its queues, and ends it.

pub(crate) mod background;
pub(crate) mod consumers;
pub mod embedded;
pub(crate) mod parts;
pub mod program;
pub(crate) mod queue_consumer;
pub(crate) mod shards;
pub(crate) mod sharing;
pub(crate) mod start;
