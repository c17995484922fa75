//! What a worker promises, checked through the queue on the embedded bus.

mod along;
mod clocks;
mod connection;
mod failing;
mod fixture;
mod idempotency;
mod inbound;
mod lifecycle;
mod losses;
mod outbound;
mod queue;
mod relaying;
mod revocations;
mod sender;
mod sharing;
