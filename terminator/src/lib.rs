//! The terminator: it holds the sockets, forwards what comes out of them, and
//! writes what comes back. It holds no policy, parses no message, validates no
//! token, and knows nothing of the worker but the queue.
//!
//! In the order of a message's life: `listener` accepts, `handshake` and
//! `upgrade` open the socket (`origin` says whose), `connection` serves
//! it, `forward` stamps and publishes, `returns` brings the answers,
//! `peer` and `in_flight` see that each is written once. `phase` follows
//! the broker and the shutdown.

mod binding;
mod bounce;
pub mod config;
mod connection;
mod forward;
mod guard;
mod handshake;
mod held;
mod in_flight;
mod listener;
mod metrics;
mod notices;
mod origin;
mod outbound;
mod peer;
mod phase;
pub mod program;
mod recent;
mod refuse;
mod registry;
mod returns;
mod sockets;
mod tls;
mod upgrade;
mod wheel;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use shared::admin::{Admin, AdminError, Readiness, watch_broker};
use shared::bus::rabbitmq::{RabbitmqBus, RabbitmqConfig};
use shared::bus::topology::Names;
use shared::bus::{Bus, Patience};
use shared::id::TerminatorId;
use shared::telemetry::{self, TelemetryError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use self::config::TerminatorConfig;
use self::connection::Rules;
use self::forward::Forwarder;
use self::listener::{Limits, Listener};
use self::metrics::Metrics;
use self::origin::AllowedOrigins;
use self::phase::Phase;
use self::registry::Registry;
use self::sockets::Sockets;
pub use self::tls::TlsError;

/// How many sockets of a draining terminator are told to go per second: their clients come back somewhere else.
const DRAINED_PER_SECOND: usize = 1_000;
/// How long the last words to the broker may take: acknowledgements, and which connections are gone.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// A running terminator.
pub struct Terminator {
    addr: SocketAddr,
    admin: Admin,
    shutdown: CancellationToken,
    served: JoinHandle<bool>,
}

/// Why a terminator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address for clients cannot be listened on.
    #[error("listen: cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// Neither can the one for health and metrics.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// There is no gathering of metrics.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The certificate or its key is no good.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl StartError {
    /// Whether the settings are at fault, rather than the machine.
    pub const fn is_configuration(&self) -> bool {
        matches!(self, Self::Tls(_))
    }
}

impl Terminator {
    /// Starts a terminator on RabbitMQ. It accepts connections at once, and reads from them as soon as the broker is
    /// there.
    ///
    /// # Errors
    /// An address that cannot be listened on, or TLS files that cannot be used.
    pub async fn bind(config: TerminatorConfig) -> Result<Self, StartError> {
        let bus = Arc::new(RabbitmqBus::new(RabbitmqConfig::of_program(
            "terminator",
            &config.broker,
        )));
        Self::bind_on(config, bus).await
    }

    /// Starts a terminator on a bus that is there already.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn bind_on(config: TerminatorConfig, bus: Arc<dyn Bus>) -> Result<Self, StartError> {
        raise_file_limit();
        let tls = match (&config.tls_cert, &config.tls_key) {
            (Some(certificate), Some(key)) => Some(tls::acceptor(certificate, key)?),
            _ => None,
        };
        let failed = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let socket = TcpListener::bind(config.listen).await.map_err(failed)?;
        let addr = socket.local_addr().map_err(failed)?;
        let readiness = Readiness::new();
        let admin = Admin::bind(config.admin_listen, readiness.clone(), telemetry::metrics()?).await?;
        let shutdown = CancellationToken::new();
        let run = Run {
            config,
            bus,
            socket,
            tls,
            readiness,
            shutdown: shutdown.clone(),
        };
        Ok(Self {
            addr,
            admin,
            shutdown,
            served: tokio::spawn(run.serve()),
        })
    }

    /// Where clients connect.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where health and metrics are, unless that is off.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.addr()
    }

    /// Begins to drain.
    pub fn shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Waits until it has drained. Tells whether it did before its deadline.
    pub async fn join(self) -> bool {
        let in_time = self.served.await.unwrap_or(false);
        self.admin.shutdown();
        self.admin.join().await;
        in_time
    }
}

/// All that a terminator runs on.
struct Run {
    config: TerminatorConfig,
    bus: Arc<dyn Bus>,
    socket: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    readiness: Readiness,
    shutdown: CancellationToken,
}

impl Run {
    async fn serve(self) -> bool {
        let metrics = Arc::new(Metrics::new());
        let names = Names::new(self.config.broker.namespace.as_str());
        let terminator = TerminatorId::random();
        let registry = Arc::new(Registry::new(terminator));
        let return_queue = names.return_queue(terminator);
        info!(%terminator, return_queue = return_queue.name, "terminator starts");

        // The consumer first: what it declares must be there before anybody is asked to answer into it.
        let answers = self.bus.consumer(return_queue.clone(), returns::PREFETCH);
        let publisher = self.bus.publisher(Patience::Limited(self.config.broker_patience));
        let forwarder = Arc::new(Forwarder::new(publisher, &names, return_queue.name, metrics.clone()));
        let (phase, phases) = watch::channel(Phase::Waiting);
        let phase = Arc::new(phase);

        let background = TaskTracker::new();
        let returning = tokio::spawn(returns::run(answers, registry.clone(), metrics.clone()));
        background.spawn(phase::follow(
            self.bus.link(),
            phase.clone(),
            self.config.broker_patience,
        ));
        background.spawn(watch_broker(
            "terminator",
            self.readiness.check("broker"),
            self.bus.link(),
        ));

        let connections = TaskTracker::new();
        let (bus, readiness, shutdown) = (self.bus.clone(), self.readiness.clone(), self.shutdown.clone());
        let drain_timeout = self.config.drain_timeout;
        let listener = self.listener(registry, forwarder, phases, connections.clone());
        let listening = background.spawn(listener.run(shutdown.clone()));
        shutdown.cancelled().await;

        readiness.draining();
        let _ = listening.await;
        let in_time = drain(&connections, &phase, drain_timeout).await;
        // Publishers have gone with their connections; the consumer must go before the bus can close.
        returning.abort();
        let _ = returning.await;
        drop(phase);
        if timeout(FAREWELL_TIMEOUT, bus.close()).await.is_err() {
            warn!("the broker did not take our last words in time");
        }
        in_time
    }

    fn listener(
        self,
        registry: Arc<Registry>,
        forwarder: Arc<Forwarder>,
        phase: watch::Receiver<Phase>,
        tasks: TaskTracker,
    ) -> Listener {
        let config = self.config;
        let sockets = Arc::new(Sockets {
            registry,
            forwarder,
            phase,
            rules: Rules {
                idle_timeout: config.idle_timeout,
                messages_per_second: config.messages_per_second.and_then(NonZeroU32::new),
            },
            max_in_flight: config.max_in_flight,
            send_queue_bytes: config.send_queue_bytes.bytes(),
        });
        let limits = Limits {
            allowed_origins: AllowedOrigins(config.allowed_origins),
            max_connections: config.max_connections,
            max_connections_per_ip: config.max_connections_per_ip,
            max_message_size: config.max_message_size.bytes(),
            handshake_timeout: config.handshake_timeout,
        };
        Listener {
            socket: self.socket,
            tls: self.tls,
            limits,
            sockets,
            tasks,
        }
    }
}

/// Lets every connection go in its turn, or at the deadline. Tells whether all went in time.
async fn drain(connections: &TaskTracker, phase: &watch::Sender<Phase>, deadline: Duration) -> bool {
    let spread = spread(connections.len(), deadline);
    info!(connections = connections.len(), ?spread, ?deadline, "draining");
    connections.close();
    phase::set(phase, Phase::Draining { spread });
    let in_time = timeout(deadline, connections.wait()).await.is_ok();
    if !in_time {
        warn!(
            connections = connections.len(),
            "the deadline has come; closing what is left"
        );
        phase::set(phase, Phase::Over);
        // Each says good-bye within its own limits.
        let _ = timeout(FAREWELL_TIMEOUT, connections.wait()).await;
    }
    in_time
}

/// Over which time to spread the closing: a thousand a second, but half the deadline at most.
fn spread(connections: usize, deadline: Duration) -> Duration {
    let at_full_rate = Duration::from_millis(connections as u64 * 1_000 / DRAINED_PER_SECOND as u64);
    at_full_rate.min(deadline / 2)
}

/// Each socket takes a file: as many as the operating system lets this process have.
fn raise_file_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!(%error, "cannot raise the limit of open files");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_connections_go_at_once_and_many_in_waves() {
        let deadline = Duration::from_secs(20);
        assert!(spread(10, deadline) <= Duration::from_millis(10));
        assert_eq!(spread(5_000, deadline), Duration::from_secs(5));
        assert_eq!(spread(1_000_000, deadline), Duration::from_secs(10));
    }
}
