//! Reaching the broker, or saying why not.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use shared::bus::rabbitmq::{Access, MOST_BODY, RabbitmqBus, RabbitmqConfig};
use shared::bus::topology::Topology;
use shared::bus::{Bus, Link};
use shared::credentials::{Credentials, Register};
use shared::service::config::{Batch, BrokerConfig, Namespace, OneOrMore, Value as _};
use shared::wire::seal::Sealer;
use tokio::time::timeout;

use crate::files::{self, FileArg};

/// The time for reaching the broker and declaring what is needed: quorum queues of a starting cluster take seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// For the last confirms and acknowledgements.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Hangs up. What the broker does not confirm in time is not worth waiting for: a broker that is away would never do it.
pub(crate) async fn hang_up(bus: &dyn Bus) {
    let _ = timeout(CLOSE_TIMEOUT, bus.close()).await;
}

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
    amqp_url: Vec<String>,
    /// A file with the name of the broker's user; it replaces the user in --amqp-url.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_AMQP_USERNAME_FILE", default_value = "off", value_parser = files::parse)]
    amqp_username_file: FileArg,
    /// A file with the password of the broker's user, likewise: it stands in no list of processes.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_AMQP_PASSWORD_FILE", default_value = "off", value_parser = files::parse)]
    amqp_password_file: FileArg,
    /// The CA certificates by which an amqps:// broker is believed, instead of those of this machine.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_AMQP_CA", default_value = "off", value_parser = files::parse)]
    amqp_ca: FileArg,
    /// The certificate that we show the broker.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_AMQP_CERT", default_value = "off", value_parser = files::parse)]
    amqp_cert: FileArg,
    /// Its private key.
    #[arg(long, value_name = "FILE", env = "COUNTERSIGN_AMQP_KEY", default_value = "off", value_parser = files::parse)]
    amqp_key: FileArg,
    /// The files of the keys that messages are sealed with, comma separated: `inspect dead` uses them to open messages
    /// that workers could not.
    #[arg(long, value_name = "FILES", env = "COUNTERSIGN_SEAL_KEYS", value_delimiter = ',')]
    seal_keys: Vec<PathBuf>,
    /// The prefix of every exchange and queue.
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", default_value = "countersign")]
    pub(crate) namespace: String,
}

impl BrokerArgs {
    /// How the broker is reached.
    ///
    /// # Errors
    /// What is wrong with the address, or with a file.
    pub(crate) fn access(&self) -> anyhow::Result<Access> {
        let broker = BrokerConfig {
            amqp_url: OneOrMore::parse(&self.amqp_url.join(",")).map_err(|want| anyhow!("--amqp-url: want {want}"))?,
            amqp_username_file: self.amqp_username_file.0.clone(),
            amqp_password_file: self.amqp_password_file.0.clone(),
            amqp_ca: self.amqp_ca.0.clone(),
            amqp_cert: self.amqp_cert.0.clone(),
            amqp_key: self.amqp_key.0.clone(),
            namespace: Namespace::parse(&self.namespace).map_err(|want| anyhow!("--namespace: want {want}"))?,
            seal_keys: self.seal_keys.clone(),
            batch: Batch::Off,
            message_shards: 1,
            connection_events: None,
        };
        if let Some(conflict) = broker.conflicts().first() {
            bail!("--{} {}", conflict.setting, conflict.problem);
        }
        Ok(Access::load(&broker, &mut Credentials::new(&Register::default()))?)
    }
}

impl BrokerArgs {
    /// By what sealed letters are opened.
    ///
    /// # Errors
    /// What is wrong with a file.
    pub(crate) fn sealer(&self) -> anyhow::Result<Sealer> {
        let files: Vec<_> = self
            .seal_keys
            .iter()
            .filter(|path| !path.as_os_str().is_empty())
            .cloned()
            .collect();
        Ok(Sealer::load(
            &files,
            &self.namespace,
            &mut Credentials::new(&Register::default()),
        )?)
    }
}

/// A broker by its URL alone.
///
/// # Errors
/// That it is none.
pub(crate) fn at(url: &str) -> anyhow::Result<Access> {
    Access::of_urls(&[url]).map_err(|want| anyhow!("--amqp-url: {want}"))
}

/// Connects, and declares `topology`.
///
/// # Errors
/// If that does not succeed in time.
pub(crate) async fn connect(access: Access, topology: Topology) -> anyhow::Result<RabbitmqBus> {
    let bus = RabbitmqBus::new(RabbitmqConfig {
        access,
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
