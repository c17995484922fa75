//! Claims about the whole, by subject. They go in through the socket or the queue, and never look inside.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the functions that claims share are test code, and fail as claims do"
)]

pub(crate) mod authentication;
pub(crate) mod faults;
pub(crate) mod handlers;
mod harness;
pub(crate) mod hostile;
pub(crate) mod interfaces;
pub(crate) mod operating;
mod promises;
pub(crate) mod pushes;
pub(crate) mod sockets;
