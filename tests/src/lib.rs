//! The harness: the words in which claims about the whole are written.
//!
//! A claim goes in through the socket or the queue, and looks at what comes out, never inside. So everything here is
//! real: RabbitMQ and Redis nodes that a claim may kill or freeze, the shipped `terminator` and `worker` as processes,
//! clients, and tokens good and bad. Nothing outlives the test process (`watchdog`), and nothing waits by sleeping:
//! claims await conditions ([`wait`]).
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a harness fails a claim by a panic, as an assertion does"
)]

pub mod wait;

pub mod stack;

pub mod lateness;

pub mod effect;

pub mod handler;

pub mod rig;

pub use crate::peers::amqp::{RawProperties, RawPublisher};
pub mod history;

pub mod drill;
pub mod nodes;
pub mod peers;
pub mod servers;
pub mod skip;
pub mod tokens;

pub use crate::nodes::cluster::Cluster;
pub use crate::nodes::program::Program;
pub use crate::nodes::rabbitmq::{Broker, shared_broker};
pub use crate::nodes::redis::{Store, shared_store};
pub use crate::peers::client::Client;
pub use crate::peers::load::Load;
pub use crate::peers::producer::{Producer, Push};
pub use crate::peers::queue::Queue;
pub use crate::peers::tool::tool;
pub use crate::servers::app::App;
pub use crate::servers::authlib::Authlib;
pub use crate::servers::collector::Collector;
pub use crate::servers::key_server::KeyServer;
pub use crate::servers::openid::OpenId;
pub use crate::servers::provider::Provider;
pub use crate::servers::upstream::Upstream;
pub use crate::tokens::auth::connection_of;
pub use crate::tokens::key::{Algorithm, Key, test_keys};
pub use crate::tokens::token::token_for;
pub use drill::Drill;
pub use history::{Event, History};
pub use rig::{Embedded, Rig};
pub use skip::skip;
pub use stack::Stack;
pub use wait::{Span, eventually};
