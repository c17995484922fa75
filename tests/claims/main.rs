//! Claims about the whole, by subject. They go in through the socket or the queue, and never look inside.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the functions that claims share are test code, and fail as claims do"
)]

mod bus;
mod frames;
mod handshake;
mod harness;
mod keys;
mod limits;
mod message;
mod settings;
mod start;
mod tls;
mod tokens;
