//! The harness: the words in which claims about the whole are written.
//!
//! A claim goes in through the socket or the queue, and looks at what comes out, never inside. So everything here is
//! real: RabbitMQ and Redis nodes that a claim may kill or freeze, the shipped `terminator` and `worker` as processes,
//! clients, and tokens good and bad. Nothing outlives the test process ([`watchdog`]), and nothing waits by sleeping:
//! claims await conditions ([`wait`]).
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a harness fails a claim by a panic, as an assertion does"
)]

pub mod watchdog;

pub mod process;

pub mod wait;

pub mod port;

pub mod rabbitmq;

pub mod cluster;

pub mod redis;

pub mod http;

pub mod program;
/// The tool for people, as a shell runs it.
pub mod tool;

pub mod stack;

pub mod key;

pub mod certificate;

pub mod key_server;
/// An identity provider, as claims want it.
pub mod provider;

pub mod collector;

pub mod token;

pub mod client;

pub mod auth;

pub mod raw;

pub mod queue;

pub mod lateness;

pub mod producer;

pub mod effect;

pub mod handler;

pub mod upstream;

pub mod amqp;

pub mod app;

pub mod rig;

pub mod load;

pub use amqp::{RawProperties, RawPublisher};
pub mod history;

pub mod drill;

pub use app::App;
pub use auth::connection_of;
pub use client::Client;
pub use cluster::Cluster;
pub use collector::Collector;
pub use drill::Drill;
pub use history::{Event, History};
pub use key::{Algorithm, Key, test_keys};
pub use key_server::KeyServer;
pub use load::Load;
pub use producer::{Producer, Push};
pub use program::Program;
pub use provider::Provider;
pub use queue::Queue;
pub use rabbitmq::{Broker, shared_broker};
pub use redis::{Store, shared_store};
pub use rig::{Embedded, Rig};
pub use stack::Stack;
pub use token::token_for;
pub use tool::tool;
pub use upstream::Upstream;
pub use wait::{Span, eventually};
