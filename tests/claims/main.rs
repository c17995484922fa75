//! Claims about the whole, by subject. They go in through the socket or the queue, and never look inside.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the functions that claims share are test code, and fail as claims do"
)]

pub(crate) mod authentication;
mod clocks;
mod explained;
pub(crate) mod faults;
pub(crate) mod handlers;
mod harness;
pub(crate) mod hostile;
pub(crate) mod interfaces;
mod no_gap;
pub(crate) mod operating;
mod promises;
mod provider_events;
mod push_shards;
pub(crate) mod pushes;
mod real_provider;
mod rotation;
mod sealing;
mod sharing;
pub(crate) mod sockets;
