//! The terminator: it holds the sockets, forwards what comes out of them, and writes what comes back. It holds no
//! policy, parses no message, validates no token, and knows nothing of the worker but the queue.
//!
//! - `accept`: who may connect, TLS, the opening handshake.
//! - `connection`: one socket, from upgrade to close, and the registry of all.
//! - `session`: what a connection has become by all that it sent and all that came for it: its state machine.
//! - `broker`: forwards messages, consumes replies, returns what cannot be written, follows the broker.
//! - `events`: what happens to connections, told outside.
//! - `timers`: when something is due, for all connections.
//! - [`admin`]: metrics, and the console's view.
//! - `runtime` joins these and serves; `context` is what all connections share, `drain` how they end at a shutdown, [`program`]
//!   the process, `without_socket` a terminator within another one.

pub(crate) mod accept;
pub mod admin;
pub(crate) mod broker;
pub mod config;
pub(crate) mod connection;
mod context;
mod drain;
pub(crate) mod events;
pub mod program;
mod runtime;
pub(crate) mod session;
pub(crate) mod timers;
mod without_socket;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use shared::bus::Bus;
use shared::bus::rabbitmq::{Access, RabbitmqBus, RabbitmqConfig};
use shared::credentials::{CredentialError, Keeping};
use shared::service::admin::{Admin, AdminError};
use shared::service::clock::{Clock, SystemClock};
use shared::service::config::Config;
use shared::service::telemetry::TelemetryError;
use shared::service::trace::{TraceError, Tracer};
use shared::wire::id::TerminatorId;
use shared::wire::seal::Sealer;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::config::TerminatorConfig;
use self::runtime::Runtime;
pub use self::without_socket::read_handshake;
use crate::accept::doors::{Door, ListenAddress};
use crate::accept::entrance::Entrance;
use crate::admin::console::ConsoleView;
use crate::admin::message_event;

/// Where a terminator is that does not listen by TCP.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A running terminator.
pub struct Terminator {
    addr: SocketAddr,
    urls: Vec<String>,
    admin: Admin,
    console_view: ConsoleView,
    shutdown: CancellationToken,
    served: JoinHandle<bool>,
    tracer: Tracer,
    _keeping: Keeping,
    door: without_socket::Door,
}

/// Why a terminator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address for clients cannot be listened on.
    #[error("listen: cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: ListenAddress,
        /// What the operating system says.
        source: io::Error,
    },
    /// Neither can the one for health and metrics.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// There is no gathering of metrics.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Nor is there a way for traces.
    #[error("otlp-endpoint: {0}")]
    Trace(#[from] TraceError),
    /// A password, a certificate or a key cannot be used.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

impl StartError {
    /// Whether the settings are at fault, rather than the machine.
    pub const fn is_configuration(&self) -> bool {
        matches!(self, Self::Credential(_))
    }
}

impl Terminator {
    /// Starts a terminator on RabbitMQ. It accepts connections at once, and reads from them as soon as the broker is
    /// there.
    ///
    /// # Errors
    /// An address that cannot be listened on, or files that cannot be used.
    pub async fn bind(config: TerminatorConfig) -> Result<Self, StartError> {
        Self::bind_by(config, Arc::new(SystemClock)).await
    }

    /// The same by another clock than the machine's.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn bind_by(config: TerminatorConfig, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let mut entrance = Entrance::open(&config).await?;
        let access = Access::load(&config.broker, &mut entrance.credentials)?;
        let bus = RabbitmqBus::new(RabbitmqConfig::of_program("terminator", &config.broker, access));
        let parts = Parts {
            clock,
            ..Parts::of(Arc::new(bus))
        };
        Self::start(config, parts, entrance)
    }

    /// Starts a terminator on a bus that is there already.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn bind_on(config: TerminatorConfig, bus: Arc<dyn Bus>) -> Result<Self, StartError> {
        Self::bind_with(config, Parts::of(bus)).await
    }

    /// Starts a terminator on parts that are there already.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn bind_with(config: TerminatorConfig, parts: Parts) -> Result<Self, StartError> {
        let entrance = Entrance::open(&config).await?;
        Self::start(config, parts, entrance)
    }

    fn start(config: TerminatorConfig, parts: Parts, entrance: Entrance) -> Result<Self, StartError> {
        let Entrance {
            tls,
            doors,
            files,
            admin,
            readiness,
            console,
            mut credentials,
        } = entrance;
        let shutdown = CancellationToken::new();
        let scheme = if tls.is_some() { "wss" } else { "ws" };
        let (addr, urls) = (
            doors.iter().find_map(Door::addr).unwrap_or(NOWHERE),
            doors.iter().filter_map(|door| door.url(scheme)).collect(),
        );
        let tracer = Tracer::start(&config.tracing, &TerminatorConfig::PROGRAM, &parts.id.to_string())?;
        let sealer = Sealer::load(
            &config.broker.seal_keys,
            config.broker.namespace.as_str(),
            &mut credentials,
        )?;
        let runtime = Runtime::open(config, parts, (tls, sealer, files), tracer.clone());
        let console_view = runtime.console_view.clone();
        if let Some(console) = console {
            console.show(Arc::new(console_view.clone()));
        }
        Ok(Self {
            addr,
            urls,
            admin,
            console_view,
            shutdown: shutdown.clone(),
            door: without_socket::Door::of(&runtime),
            served: tokio::spawn(runtime.serve(doors, readiness, shutdown)),
            tracer,
            _keeping: credentials.keep(),
        })
    }

    /// Where clients connect by TCP, the first place of several. Without any it means nothing.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where clients connect, as URLs.
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Where health and metrics are, unless that is off.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.addr()
    }

    /// From where its connections can be seen.
    pub fn console_view(&self) -> ConsoleView {
        self.console_view.clone()
    }

    /// Begins to drain.
    pub fn shutdown(&self) {
        self.shutdown.cancel();
    }

    /// Waits until it has drained. Tells whether it did before its deadline.
    pub async fn join(self) -> bool {
        let in_time = self.served.await.unwrap_or(false);
        self.tracer.end().await;
        self.admin.shutdown();
        self.admin.join().await;
        in_time
    }
}

/// What a terminator stands on, but for its settings.
pub struct Parts {
    /// The way to the workers.
    pub bus: Arc<dyn Bus>,
    /// By which tokens are dated.
    pub clock: Arc<dyn Clock>,
    /// Whose connections they are.
    pub id: TerminatorId,
    /// Who gets each event of a message as it happens.
    pub listener: Option<message_event::Listener>,
}

impl Parts {
    /// Of a terminator that is a process of its own.
    pub fn of(bus: Arc<dyn Bus>) -> Self {
        Self {
            bus,
            clock: Arc::new(SystemClock),
            id: TerminatorId::random(),
            listener: None,
        }
    }
}

#[cfg(test)]
mod tests;
