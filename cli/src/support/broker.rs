//! Reaching the broker, or saying why not.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use shared::bus::rabbitmq::{MOST_BODY, RabbitmqBus, RabbitmqConfig};
use shared::bus::topology::Topology;
use shared::bus::{Bus as _, Link};
use tokio::time::timeout;

/// The time for reaching the broker and declaring what is needed: quorum queues of a starting cluster take seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Which broker, and what on it.
#[derive(Clone, Debug, Args)]
pub(crate) struct BrokerArgs {
    /// The broker; several nodes of a cluster are separated by commas.
    #[arg(
        long,
        value_name = "URL",
        env = "COUNTERSIGN_AMQP_URL",
        hide_env_values = true,
        value_delimiter = ',',
        default_value = "amqp://127.0.0.1:5672/%2f"
    )]
    pub(crate) amqp_url: Vec<String>,
    /// The prefix of every exchange and queue.
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", default_value = "countersign")]
    pub(crate) namespace: String,
}

/// Connects, and declares `topology`.
///
/// # Errors
/// If that does not succeed in time.
pub(crate) async fn connect(urls: Vec<String>, topology: Topology) -> anyhow::Result<RabbitmqBus> {
    let bus = RabbitmqBus::new(RabbitmqConfig {
        urls,
        name: "countersign".to_owned(),
        topology,
        most_body: MOST_BODY,
        batches: None,
    });
    wait_until_up(&bus).await?;
    Ok(bus)
}

/// Waits until the connections are there, and the consumers subscribed.
///
/// # Errors
/// If they are not in time.
pub(crate) async fn wait_until_up(bus: &RabbitmqBus) -> anyhow::Result<()> {
    let mut link = bus.link();
    if timeout(CONNECT_TIMEOUT, link.wait_for(Link::is_up)).await.is_ok() {
        return Ok(());
    }
    let present = link.borrow().clone();
    match present {
        Link::Up => Ok(()),
        Link::Blocked => bail!("the broker takes nothing: it is out of memory or disk"),
        Link::Away(reason) => bail!("cannot use the broker: {reason}; check --amqp-url"),
    }
}
