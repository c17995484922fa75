//! The way to Redis: one multiplexed connection, or one to each node of a cluster.
//!
//! The crate's connection manager mends a broken socket by itself, in the
//! background. It does not mend what a server refused: a password that is wrong
//! at the moment, a server that still loads its data, or a primary that became a
//! replica would stay its answer for ever. Here such an answer starts a new
//! manager, at most one a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterConfig;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, IntoConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult, Value,
};
use tokio::time::Instant;

use crate::store::StoreError;

/// The longest that one attempt to connect may take, TLS handshake and AUTH included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Attempts at one reconnection, 100 to 250 ms apart: about a second. When they
/// are used up, the next command fails at once and starts the next reconnection.
const CONNECT_ATTEMPTS: usize = 6;
const CONNECT_DELAY_LEAST: Duration = Duration::from_millis(100);
const CONNECT_DELAY_MOST: Duration = Duration::from_millis(250);

/// How often a cluster's command may follow a moved slot before it fails.
const CLUSTER_RETRIES: u32 = 3;

/// Commands on their way at once; those beyond wait their turn, within their timeout.
const COMMANDS_IN_FLIGHT: usize = 1_024;

/// The least time from one replacement of the manager to the next.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// How long what was sent may stay without TCP's acknowledgement. A peer that
/// vanished without a word would otherwise hold the connection for many minutes.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MOST: Duration = Duration::from_secs(5);

/// How Redis is reached.
pub(super) enum Link {
    Single(Box<Single>),
    /// With the nodes that the URL names.
    Cluster(ClusterConnection, String),
}

/// The connection to a single Redis, and what it takes to begin anew.
pub(super) struct Single {
    client: Client,
    at: String,
    config: ConnectionManagerConfig,
    current: Mutex<(ConnectionManager, Instant)>,
}

/// One command's handle on the link.
pub(super) enum Wire {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Link {
    /// A link to `url`, which connects when it is first used.
    pub(super) fn open(url: &str, timeout: Duration) -> Result<Self, StoreError> {
        if let Some(nodes) = url.strip_prefix("redis-cluster://") {
            let hosts = nodes.rsplit('@').next().unwrap_or_default().to_owned();
            return cluster(nodes, timeout).map(|connection| Self::Cluster(connection, hosts));
        }
        if !(url.starts_with("redis://") || url.starts_with("rediss://")) {
            return Err(StoreError::BadUrl(
                "must be memory:, redis://…, rediss://… or redis-cluster://…",
            ));
        }
        Single::open(url, timeout).map(Box::new).map(Self::Single)
    }

    pub(super) const fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(..))
    }

    /// Host and port, or those of the cluster's nodes.
    pub(super) fn at(&self) -> &str {
        match self {
            Self::Single(single) => &single.at,
            Self::Cluster(_, hosts) => hosts,
        }
    }

    /// Connects once more, beside the connection that there is, to see why that fails; nothing if this does not.
    pub(super) async fn connect(&self) -> Option<RedisError> {
        match self {
            Self::Single(single) => {
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(CONNECT_TIMEOUT));
                let connected = single
                    .client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await;
                connected.err()
            }
            Self::Cluster(..) => None,
        }
    }

    pub(super) fn wire(&self) -> Wire {
        match self {
            Self::Single(single) => Wire::Single(single.manager()),
            Self::Cluster(connection, _) => Wire::Cluster(connection.clone()),
        }
    }

    /// Takes notice of a command's failure.
    pub(super) fn failed(&self, error: &RedisError) {
        match self {
            Self::Single(single) if !error.is_io_error() => single.renew(),
            Self::Single(_) | Self::Cluster(..) => {}
        }
    }
}

impl Single {
    fn open(url: &str, timeout: Duration) -> Result<Self, StoreError> {
        let info = url.into_connection_info().map_err(malformed)?.set_tcp_settings(tcp());
        let client = Client::open(info).map_err(malformed)?;
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(timeout))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(CONNECT_ATTEMPTS)
            .set_min_delay(CONNECT_DELAY_LEAST)
            .set_max_delay(CONNECT_DELAY_MOST)
            .set_pipeline_buffer_size(COMMANDS_IN_FLIGHT)
            .set_concurrency_limit(COMMANDS_IN_FLIGHT);
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone()).map_err(malformed)?;
        Ok(Self {
            at: client.get_connection_info().addr().to_string(),
            client,
            config,
            current: Mutex::new((manager, Instant::now())),
        })
    }

    fn manager(&self) -> ConnectionManager {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Begins anew, unless that was done a moment ago. What is on its way ends on the old connection.
    fn renew(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1.elapsed() < RENEW_EVERY {
            return;
        }
        if let Ok(manager) = ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone()) {
            *current = (manager, Instant::now());
        }
    }
}

/// A connection to the cluster of which `nodes` names some: `[user:password@]host[:port],host[:port],…`.
fn cluster(nodes: &str, timeout: Duration) -> Result<ClusterConnection, StoreError> {
    let (credentials, hosts) = nodes
        .rsplit_once('@')
        .map_or(("", nodes), |(before, hosts)| (before, hosts));
    let at = if credentials.is_empty() { "" } else { "@" };
    let seeds = hosts.split(',').map(|host| format!("redis://{credentials}{at}{host}"));
    let client = redis::cluster::ClusterClient::builder(seeds)
        .tcp_settings(tcp())
        .connection_timeout(CONNECT_TIMEOUT)
        .response_timeout(timeout)
        .retries(CLUSTER_RETRIES)
        .connection_concurrency_limit(COMMANDS_IN_FLIGHT)
        .build()
        .map_err(malformed)?;
    let config = ClusterConfig::new()
        .set_connection_timeout(CONNECT_TIMEOUT)
        .set_response_timeout(timeout);
    Ok(client.get_pending_async_connection_with_config(config))
}

fn tcp() -> TcpSettings {
    // Commands are small and waited for: Nagle's algorithm would hold each back for the last one's acknowledgement.
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED_MOST);
    settings
}

/// The parser's own words may quote the URL, and the password in it.
fn malformed(_: RedisError) -> StoreError {
    StoreError::BadUrl("not a well-formed Redis URL")
}

/// In which slot of a cluster something with this hash tag is: the CRC-16 (XMODEM) of it, modulo 16,384.
pub(super) fn slot_of(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let next = crc << 1;
            if crc & 0x8000 == 0 { next } else { next ^ 0x1021 }
        })
    });
    crc % 16_384
}

impl Wire {
    /// Waits until one replica has all that was written by this connection before, for so long at most. Tells how many
    /// have it, where the keys with that hash tag are.
    pub(super) async fn replicas(&mut self, tag: &str, longest: Duration) -> RedisResult<u64> {
        let mut command = redis::cmd("WAIT");
        // Zero would be without an end.
        command.arg(1).arg(super::millis(longest).max(1));
        let replicas = match self {
            Self::Single(manager) => manager.req_packed_command(&command).await?,
            Self::Cluster(connection) => {
                let route = Route::new(slot_of(tag), SlotAddr::Master);
                let node = SingleNodeRoutingInfo::SpecificNode(route);
                connection.route_command(command, RoutingInfo::SingleNode(node)).await?
            }
        };
        Ok(redis::from_redis_value(replicas)?)
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(manager) => manager.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(manager) => manager.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(manager) => manager.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
