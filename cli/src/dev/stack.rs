//! One terminator and two workers, wired as they are in production, on whatever bus and store there is.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use shared::bus::Bus;
use shared::bus::memory::MemoryBus;
use shared::bus::rabbitmq::{Access, MOST_BODY, RabbitmqBus, RabbitmqConfig};
use shared::bus::topology::{Names, Topology};
use shared::service::clock::SystemClock;
use shared::service::config;
use terminator::admin::console::ConsoleView;
use terminator::{StartError, Terminator, TerminatorConfig};
use worker::app::embedded::{self, KeyRefreshing};
use worker::config::{HandlerKind, WorkerConfig};
use worker::store::{self, Store};
use worker::token::Verifier;

use super::DevArgs;
use super::journey::Journeys;
use super::state::Addresses;
use super::workers::{DRAIN_TIMEOUT, Workers, config_with};
use crate::support::dev_key::SecretFile;

/// Development tokens are few.
const TOKEN_CACHE_CAPACITY: usize = 1_000;

/// Where messages wait.
pub(super) enum Broker {
    /// In this process.
    Memory(MemoryBus),
    /// In RabbitMQ.
    Rabbitmq {
        access: Access,
        topology: Topology,
        batches: Option<Names>,
    },
}

impl Broker {
    /// The broker that is asked for, or one within this process.
    pub(super) fn new(args: &DevArgs, config: &WorkerConfig) -> Self {
        let names = Names::new(args.namespace.as_str());
        let mut topology = names.common();
        topology.queues.extend(names.retries(config.max_deliveries));
        if config.handler == HandlerKind::Amqp {
            // Before an application is there to declare them.
            topology.exchanges.push(names.app_exchange());
            topology.queues.push(names.rejected());
        }
        if config.broker.connection_events.is_some() {
            topology.extend(names.events());
        }
        if args.amqp_url.is_none() {
            let bus = MemoryBus::new(&topology);
            return Self::Memory(match config.broker.batches() {
                Some(names) => bus.with_batches(names),
                None => bus,
            });
        }
        Self::Rabbitmq {
            access: Access::of(&config.broker.amqp_url),
            topology,
            batches: config.broker.batches(),
        }
    }

    /// A bus for one of its users, who may close it.
    pub(super) fn bus(&self, user: &str) -> Arc<dyn Bus> {
        match self {
            Self::Memory(bus) => Arc::new(bus.clone()),
            Self::Rabbitmq {
                access,
                topology,
                batches,
            } => Arc::new(RabbitmqBus::new(RabbitmqConfig {
                access: access.clone(),
                name: format!("countersign dev, {user}"),
                topology: topology.clone(),
                most_body: MOST_BODY,
                batches: batches.clone(),
            })),
        }
    }
}

/// The terminator and its workers.
pub(super) struct Stack {
    terminator: Terminator,
    pub(super) workers: Arc<Workers>,
    pub(super) store: Arc<dyn Store>,
    _keys: Keys,
}

impl Stack {
    /// Starts them. `page` may open sockets, wherever it is.
    pub(super) async fn start(
        args: &DevArgs,
        config: &WorkerConfig,
        broker: &Broker,
        page: SocketAddr,
        journeys: &Journeys,
    ) -> anyhow::Result<Self> {
        let store = open_store(config)?;
        let (verifier, keys) = verifier(args).await?;
        let terminator = start_terminator(args, broker, page, journeys).await?;
        let bus = broker.bus("workers");
        let workers = Workers::start(args, config, bus, store.clone(), verifier, journeys.clone())?;
        Ok(Self {
            terminator,
            workers: Arc::new(workers),
            store,
            _keys: keys,
        })
    }

    /// Where clients connect.
    pub(super) const fn addr(&self) -> SocketAddr {
        self.terminator.addr()
    }

    /// From where its connections can be seen.
    pub(super) fn console_view(&self) -> ConsoleView {
        self.terminator.console_view()
    }

    /// Ends the terminator first: the workers answer what it still has on its way.
    pub(super) async fn end(self) {
        self.terminator.shutdown();
        self.terminator.join().await;
        self.workers.end().await;
    }
}

async fn start_terminator(
    args: &DevArgs,
    broker: &Broker,
    page: SocketAddr,
    journeys: &Journeys,
) -> anyhow::Result<Terminator> {
    let listen = args.listen.to_string();
    let addresses = Addresses {
        page,
        socket: args.listen,
    };
    // Our page, and that of anyone who develops one.
    let origins = [&addresses.origins()[..], &args.allowed_origins].concat().join(",");
    let config: TerminatorConfig = config::from_pairs([
        ("namespace", args.namespace.as_str()),
        ("listen", &listen),
        ("admin-listen", "off"),
        ("allowed-origins", &origins),
        ("push-ack", if args.push_ack { "on" } else { "off" }),
        ("connection-events", &args.connection_events),
        // Anyone who tries things out thinks for longer than a client does.
        ("auth-timeout", "off"),
        ("drain-timeout", DRAIN_TIMEOUT),
    ])
    .map_err(|errors| anyhow!("{errors}"))?;
    let parts = terminator::Parts {
        listener: Some(journeys.of_terminator()),
        ..terminator::Parts::of(broker.bus("terminator"))
    };
    Terminator::bind_with(config, parts).await.map_err(|error| match error {
        StartError::Listen { address, source } => anyhow::Error::new(source).context(format!(
            "cannot listen on {address} for WebSockets; choose another port with --listen"
        )),
        other => other.into(),
    })
}

fn open_store(config: &WorkerConfig) -> anyhow::Result<Arc<dyn Store>> {
    let settings = store::Settings {
        url: config.store_url.expose(),
        namespace: config.broker.namespace.as_str().to_owned(),
        timeout: config.store_timeout,
        leeway: config.jwt_leeway,
        max_revocations: config.max_revocations,
    };
    store::open(&settings, Arc::new(SystemClock)).context("--store-url")
}

/// Verifies tokens of the development key, and of one's own provider.
async fn verifier(args: &DevArgs) -> anyhow::Result<(Arc<Verifier>, Keys)> {
    let file = SecretFile::create().context("cannot write the development key to a temporary file")?;
    let config = config_with(args, &args.policies, &file.entry())?;
    let config = WorkerConfig {
        token_cache_capacity: TOKEN_CACHE_CAPACITY,
        ..config
    };
    let (verifier, refreshing) = embedded::verifier(&config).await?;
    let keys = Keys {
        _refreshing: refreshing,
        _development: file,
    };
    Ok((verifier, keys))
}

/// Keeps keys up to date, and the file of the development key where it is looked for.
struct Keys {
    _refreshing: KeyRefreshing,
    _development: SecretFile,
}
