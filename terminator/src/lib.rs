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
//! - `context` is what all connections share, `drain` how they end at a shutdown, [`program`] the process, `without_socket` a
//!   terminator within another one.

pub(crate) mod accept;
pub mod admin;
pub(crate) mod broker;
pub mod config;
pub(crate) mod connection;
mod context;
mod drain;
pub(crate) mod events;
pub mod program;
pub(crate) mod session;
pub(crate) mod timers;
mod without_socket;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use shared::bus::rabbitmq::{Access, RabbitmqBus, RabbitmqConfig};
use shared::bus::topology::Names;
use shared::bus::{Bus, PublishTimeout};
use shared::credentials::{Credential, CredentialError, Keeping};
use shared::service::admin::{Admin, AdminError, Readiness, watch_broker};
use shared::service::clock::{Clock, SystemClock};
use shared::service::config::Config;
use shared::service::telemetry::TelemetryError;
use shared::service::trace::{TraceError, Tracer};
use shared::wire::envelope::run;
use shared::wire::id::TerminatorId;
use shared::wire::seal::Sealer;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::config::Order;
pub use self::config::TerminatorConfig;
use self::connection::Rules;
use self::drain::Drain;
pub use self::without_socket::read_handshake;
use crate::accept::arrivals::PerAddress;
use crate::accept::connection_factory::ConnectionFactory;
use crate::accept::doors::{Door, ListenAddress};
use crate::accept::entrance::Entrance;
use crate::accept::listener::{Acceptor, Limits, Listener};
use crate::accept::open_files::{self, OpenFiles};
use crate::accept::origin::AllowedOrigins;
use crate::accept::proxies::Proxies;
use crate::admin::console::ConsoleView;
use crate::admin::message_event;
use crate::admin::metrics::Metrics;
use crate::broker::announcing::Announcer;
use crate::broker::budget::Budgets;
use crate::broker::forward::Forwarder;
use crate::broker::phase::Phase;
use crate::broker::reply_consumer::ReplyConsumer;
use crate::broker::shards::Shards;
use crate::broker::undelivered::UndeliveredPublisher;
use crate::connection::registry::Registry;
use crate::context::{ConnectionLimits, TerminatorContext};

/// How long the last words to the broker may take: acknowledgements, and which connections are gone.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

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

/// All that a terminator runs on, from the moment when connections may come.
struct Runtime {
    bus: Arc<dyn Bus>,
    acceptor: Arc<Acceptor>,
    /// Whether fewer files may be open than `max-connections` needs.
    has_few_files: bool,
    console_view: ConsoleView,
    phase: Arc<watch::Sender<Phase>>,
    connections: TaskTracker,
    /// Those that run until the last connection has gone.
    background: Vec<JoinHandle<()>>,
    publish_timeout: Duration,
    drain: Drain,
}

impl Runtime {
    /// Opens it. The phase is [`Phase::Waiting`] until it is served.
    fn open(
        config: TerminatorConfig,
        parts: Parts,
        (tls, sealer, files): (Option<Credential<TlsAcceptor>>, Sealer, OpenFiles),
        tracer: Tracer,
    ) -> Self {
        let Parts {
            bus,
            clock,
            id,
            listener,
        } = parts;
        let metrics = Arc::new(Metrics::new());
        let names = Names::new(config.broker.namespace.as_str());
        let return_queue = names.return_queue(id);
        info!(terminator = %id, return_queue = return_queue.name, "terminator starts");
        let shares = ConnectionLimits {
            max_in_flight: config.max_in_flight,
            unauthenticated_in_flight: config.unauthenticated_in_flight,
            send_queue_bytes: config.send_queue_bytes.bytes(),
            send_queue_bytes_total: config.send_queue_bytes_total.bytes(),
            auth_timeout: config.auth_timeout,
            answer_timeout: config.answer_timeout,
            run: match (config.order, config.broker.batches()) {
                (Order::None, _) => None,
                // Anyone who cannot read batches cannot read runs.
                (Order::Connection, None) => Some(1),
                (Order::Connection, Some(_)) => Some(run::MOST_ENTRIES),
            },
        };
        let form = config.broker.connection_events;
        let (events, told) = form
            .map(|form| crate::events::publisher::channel(&names, form, &metrics))
            .unzip();
        let common = TerminatorContext::new(clock, metrics.clone(), shares, tracer)
            .telling(events)
            .heard_by(listener);
        let common = Arc::new(common);
        let (undelivered, given_back) = UndeliveredPublisher::new(&names, common.observer.clone());
        let registry = Arc::new(Registry::new(id, common));

        // The consumer first: what it declares must be there before anyone is asked to answer into it.
        let answers = bus.consumer(return_queue.clone(), crate::broker::PREFETCH);
        let publisher = bus.publisher(PublishTimeout::Limited(config.publish_timeout));
        let rooms = Budgets::new(
            config.receive_queue_bytes_total.bytes(),
            config.unauthenticated_in_flight_bytes.bytes(),
            config.max_in_flight,
        );
        let forwarder = Forwarder::new(
            publisher,
            undelivered.clone(),
            Shards::new(&names, config.broker.message_shards),
            return_queue.name,
            metrics,
            rooms,
            sealer.clone(),
        )
        .with_push_ack(config.push_ack);
        let (phase, phases) = watch::channel(Phase::Waiting);
        // What is given back waits as long as it must; it ends when no one can give back any more.
        tokio::spawn(crate::broker::undelivered::run(
            given_back,
            bus.publisher(PublishTimeout::Endless),
        ));
        if let Some(told) = told {
            // The same of events: until no connection is left that could have any.
            tokio::spawn(told.run(bus.publisher(PublishTimeout::Endless)));
        }
        let forwarder = Arc::new(forwarder);
        let (epochs, heard) = watch::channel(None);
        let (entered, known) = mpsc::unbounded_channel();
        let announcer = Announcer {
            registry: registry.clone(),
            forwarder: forwarder.clone(),
            epochs: heard,
            entered: known,
            link: bus.link(),
            renewals: answers.renewals(),
        };
        let background = vec![
            tokio::spawn(ReplyConsumer::new(registry.clone(), undelivered, epochs, entered, sealer).run(answers)),
            tokio::spawn(crate::timers::turning::turn(registry.clone(), phases.clone())),
            tokio::spawn(announcer.run()),
        ];
        let console_view = ConsoleView::new(&registry);
        let (publish_timeout, drain) = (config.publish_timeout, Drain::of(&config));
        let sockets = ConnectionFactory {
            registry,
            forwarder,
            phase: phases,
            rules: Rules {
                idle_timeout: config.idle_timeout,
                messages_per_second: config.messages_per_second.and_then(NonZeroU32::new),
                unauthenticated_messages_per_second: config
                    .unauthenticated_messages_per_second
                    .and_then(NonZeroU32::new),
            },
        };
        let limits = Limits {
            allowed_origins: AllowedOrigins {
                listed: config.allowed_origins,
                tls: config.tls_cert.is_some(),
            },
            max_connections: files.max_connections,
            max_connections_per_ip: config.max_connections_per_ip,
            handshakes: PerAddress {
                pending: config.max_handshakes_per_ip,
                per_second: config.handshakes_per_second_per_ip.and_then(NonZeroU32::new),
            },
            proxies: Proxies {
                trusted: config.trusted_proxies,
                header: config.forwarded_header,
                protocol: config.proxy_protocol,
            },
            max_handshake_size: config.max_handshake_size.bytes(),
            max_message_size: config.max_message_size.bytes(),
            handshake_timeout: config.handshake_timeout,
        };
        Self {
            bus,
            acceptor: Arc::new(Acceptor::new(tls, limits, Arc::new(sockets))),
            has_few_files: files.is_short,
            console_view,
            phase: Arc::new(phase),
            connections: TaskTracker::new(),
            background,
            publish_timeout,
            drain,
        }
    }

    /// Serves who comes until the shutdown, and then lets all go. Tells whether all went in time.
    async fn serve(self, doors: Vec<Door>, readiness: Readiness, shutdown: CancellationToken) -> bool {
        let followers = TaskTracker::new();
        followers.spawn(crate::broker::phase::follow(
            self.bus.link(),
            self.phase.clone(),
            self.publish_timeout,
        ));
        let broker = readiness.check("broker");
        followers.spawn(watch_broker("terminator", broker, self.bus.link()));
        let full = CancellationToken::new();
        if self.has_few_files {
            let files = open_files::watch(readiness.check("files"), self.acceptor.connections());
            tokio::spawn(full.clone().run_until_cancelled_owned(files));
        }
        let telling = self.acceptor.refusals().keep_telling();
        tokio::spawn(full.clone().run_until_cancelled_owned(telling));
        let mut listening = JoinSet::new();
        for door in doors {
            let listener = Listener {
                door,
                acceptor: self.acceptor.clone(),
                tasks: self.connections.clone(),
            };
            listening.spawn(listener.run(full.clone()));
        }
        shutdown.cancelled().await;

        readiness.draining();
        self.drain.until_routing_has_moved().await;
        full.cancel();
        while listening.join_next().await.is_some() {}
        let in_time = self.drain.run(&self.connections, &self.phase).await;
        // Publishers must go before the bus can close: they go with their connections, with the door and with these.
        drop(self.acceptor);
        for task in self.background {
            task.abort();
            let _ = task.await;
        }
        drop(self.phase);
        if timeout(FAREWELL_TIMEOUT, self.bus.close()).await.is_err() {
            warn!("timed out while sending the last messages to the broker");
        }
        in_time
    }
}

#[cfg(test)]
mod tests;
