//! The yardstick: a bare two-hop echo over the same broker, by lapin alone.
//!
//! This process publishes to a quorum queue, another publishes what it gets to a
//! second one, and this process takes it from there: the same queues, arguments
//! and guarantees (persistent, mandatory, confirmed, acknowledged only after the
//! confirm) as the real thing, and as fast as lapin can be made to go. What
//! Countersign adds to this is its own price.

mod echo;
mod pipe;
mod producer;

use anyhow::Context as _;
use shared::bus::Bus as _;
use shared::bus::topology::{Names, Queue};

use shared::wire::id::TerminatorId;

pub(crate) use self::echo::{RawEchoArgs, run as run_echo};
pub(crate) use self::producer::{Producer, prefetch};
use crate::support::broker;

/// How the bare echo sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// One message in each AMQP message.
    Single,
    /// All that there are at a moment, as the bus does.
    Packed,
}

impl Echo {
    /// What it is called in the table.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Single => "bare AMQP",
            Self::Packed => "bare, packed",
        }
    }
}

/// The two queues of the raw path, in a namespace of their own.
#[derive(Clone, Debug)]
pub(crate) struct RawQueues {
    pub(crate) namespace: String,
    pub(crate) request: Queue,
    pub(crate) answer: Queue,
}

impl RawQueues {
    /// Names them.
    pub(crate) fn new() -> Self {
        let namespace = format!("countersign-bench-raw-{:08x}", rand::random::<u32>());
        let names = Names::new(&namespace);
        Self {
            request: names.messages(),
            answer: names.return_queue(TerminatorId::random()),
            namespace,
        }
    }

    /// Lets the bus declare them, as for a terminator and a worker, so that their arguments are the bus's own.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub(crate) async fn declare(&self, url: &str) -> anyhow::Result<()> {
        let mut topology = Names::new(&self.namespace).common();
        topology.queues = vec![self.request.clone(), self.answer.clone()];
        broker::connect(broker::at(url)?, topology).await?.close().await;
        Ok(())
    }
}

/// Connects with the name that the management page shows.
async fn connect(url: &str, name: &str) -> anyhow::Result<lapin::Connection> {
    let properties = lapin::ConnectionProperties::default().with_connection_name(name.into());
    lapin::Connection::connect(url, properties)
        .await
        .context("cannot connect to the broker; check --amqp-url")
}
