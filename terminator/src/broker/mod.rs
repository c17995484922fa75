//! The way to the workers and back: what a client sent is forwarded, replies are consumed, and what cannot be written
//! is returned.

pub(crate) mod announcing;
pub(crate) mod budget;
pub(crate) mod forward;
pub(crate) mod forward_span;
pub(crate) mod phase;
pub(crate) mod reply_consumer;
pub(crate) mod shards;
pub(crate) mod undelivered;

/// How many replies the broker delivers that are not yet written to their sockets.
pub(crate) const PREFETCH: u16 = 8_192;
