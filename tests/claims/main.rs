//! Claims about the whole, by subject. They go in through the socket or the queue, and never look inside.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the functions that claims share are test code, and fail as claims do"
)]

mod broker_faults;
mod bus;
mod drain;
mod frames;
mod garbage;
mod handshake;
mod harness;
mod injection;
mod keys;
mod kills;
mod limits;
mod message;
mod permissions;
mod poison;
mod secrecy;
mod settings;
mod start;
mod store;
mod store_faults;
mod tls;
mod tokens;
mod topology;
