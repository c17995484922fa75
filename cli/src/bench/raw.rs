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

use std::time::Duration;

use anyhow::{Context as _, bail};
use shared::bus::rabbitmq::{RabbitmqBus, RabbitmqConfig};
use shared::bus::topology::{Names, Queue, Topology};
use shared::bus::{Bus, Link};
use shared::id::TerminatorId;
use tokio::time::timeout;

pub(crate) use self::echo::{RawEchoArgs, run as run_echo};
pub(crate) use self::producer::{Producer, prefetch};

const DECLARE_TIMEOUT: Duration = Duration::from_secs(20);

/// The two queues of the raw path, declared as a terminator and a worker would.
#[derive(Clone, Debug)]
pub(crate) struct RawQueues {
    pub(crate) request: Queue,
    pub(crate) answer: Queue,
}

impl RawQueues {
    /// Declares them under a namespace of their own.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses.
    pub(crate) async fn declare(url: &str, namespace: &str) -> anyhow::Result<Self> {
        let names = Names::new(namespace);
        let queues = Self {
            request: names.messages(),
            answer: names.return_queue(TerminatorId::random()),
        };
        let mut topology = names.common();
        topology.queues = vec![queues.request.clone(), queues.answer.clone()];
        declare(url, topology).await?;
        Ok(queues)
    }
}

/// Lets the bus declare, so that the arguments are its own.
async fn declare(url: &str, topology: Topology) -> anyhow::Result<()> {
    let bus = RabbitmqBus::new(RabbitmqConfig {
        urls: vec![url.to_owned()],
        name: "countersign bench".to_owned(),
        topology,
    });
    let mut link = bus.link();
    let up = timeout(DECLARE_TIMEOUT, link.wait_for(Link::is_up)).await.is_ok();
    let present = link.borrow().clone();
    bus.close().await;
    match present {
        Link::Away(reason) if !up => bail!("cannot use the broker: {reason}; check --amqp-url"),
        Link::Blocked => bail!("the broker takes nothing: it is out of memory or disk"),
        _ => Ok(()),
    }
}

/// Connects with the name that the management page shows.
async fn connect(url: &str, name: &str) -> anyhow::Result<lapin::Connection> {
    let properties = lapin::ConnectionProperties::default().with_connection_name(name.into());
    lapin::Connection::connect(url, properties)
        .await
        .context("cannot connect to the broker; check --amqp-url")
}
