//! One terminator and two workers, wired as they are in production, on whatever bus and store there is.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use shared::bus::Bus;
use shared::bus::memory::MemoryBus;
use shared::bus::rabbitmq::{RabbitmqBus, RabbitmqConfig};
use shared::bus::topology::{Names, Topology};
use shared::clock::SystemClock;
use shared::config;
use terminator::{StartError, Terminator, TerminatorConfig};
use worker::config::WorkerConfig;
use worker::identity::Issuer;
use worker::store::{self, Store};
use worker::token::{KeySource, Keys, Rules, Verifier};
use worker::{Echo, Parts, Worker};

use super::DevArgs;
use super::page::Addresses;
use crate::dev_key::{self, SecretFile};

/// Two, so that what must hold among several workers holds here, too.
const WORKERS: usize = 2;

/// Development tokens are few.
const TOKEN_CACHE: usize = 1_000;

/// How long messages on their way may take when it ends: whoever develops does not like to wait.
const DRAIN_TIMEOUT: &str = "3s";

/// Where messages wait.
pub(super) enum Broker {
    /// In this process.
    Memory(MemoryBus),
    /// In RabbitMQ.
    Rabbitmq { urls: Vec<String>, topology: Topology },
}

impl Broker {
    /// The broker that is asked for, or one within this process.
    pub(super) fn new(args: &DevArgs, config: &WorkerConfig) -> Self {
        let names = Names::new(args.namespace.as_str());
        let mut topology = names.common();
        topology.queues.push(names.retry(config.max_deliveries));
        if args.amqp_url.is_none() {
            return Self::Memory(MemoryBus::new(&topology));
        }
        let urls = config
            .broker
            .amqp_url
            .iter()
            .map(|url| url.expose().to_owned())
            .collect();
        Self::Rabbitmq { urls, topology }
    }

    /// A bus for one of its users, who may close it.
    pub(super) fn bus(&self, user: &str) -> Arc<dyn Bus> {
        match self {
            Self::Memory(bus) => Arc::new(bus.clone()),
            Self::Rabbitmq { urls, topology } => Arc::new(RabbitmqBus::new(RabbitmqConfig {
                urls: urls.clone(),
                name: format!("countersign dev, {user}"),
                topology: topology.clone(),
            })),
        }
    }
}

/// The terminator and its workers.
pub(super) struct Stack {
    terminator: Terminator,
    workers: Vec<Worker>,
    workers_bus: Arc<dyn Bus>,
}

impl Stack {
    /// Starts them. `page` may open sockets, wherever it is.
    pub(super) async fn start(
        args: &DevArgs,
        config: &WorkerConfig,
        broker: &Broker,
        page: SocketAddr,
    ) -> anyhow::Result<Self> {
        let store = open_store(config)?;
        let verifier = Arc::new(verifier()?);
        let terminator = start_terminator(args, broker, page).await?;
        let workers_bus = broker.bus("workers");
        let worker = || {
            let parts = Parts {
                bus: workers_bus.clone(),
                store: store.clone(),
                verifier: verifier.clone(),
                issuers: config.issuers(),
                clock: Arc::new(SystemClock),
                limits: config.limits(),
            };
            Worker::start_with(parts, Echo)
        };
        let workers = std::iter::repeat_with(worker).take(WORKERS).collect();
        Ok(Self {
            terminator,
            workers,
            workers_bus,
        })
    }

    /// Where clients connect.
    pub(super) const fn addr(&self) -> SocketAddr {
        self.terminator.addr()
    }

    /// Ends the terminator first: the workers answer what it still has on its way.
    pub(super) async fn end(self) {
        self.terminator.shutdown();
        self.terminator.join().await;
        for worker in &self.workers {
            worker.shutdown();
        }
        for worker in self.workers {
            worker.join().await;
        }
        self.workers_bus.close().await;
    }
}

async fn start_terminator(args: &DevArgs, broker: &Broker, page: SocketAddr) -> anyhow::Result<Terminator> {
    let listen = args.listen.to_string();
    let addresses = Addresses {
        page,
        socket: args.listen,
    };
    // Pages of the same host are let in by default, ours and that of whoever develops one.
    let origins = if addresses.share_a_host() {
        String::new()
    } else {
        addresses.origins().join(",")
    };
    let config: TerminatorConfig = config::from_pairs([
        ("namespace", args.namespace.as_str()),
        ("listen", &listen),
        ("admin-listen", "off"),
        ("allowed-origins", &origins),
        ("drain-timeout", DRAIN_TIMEOUT),
    ])
    .map_err(|errors| anyhow!("{errors}"))?;
    let bound = Terminator::bind_on(config, broker.bus("terminator")).await;
    bound.map_err(|error| match error {
        StartError::Listen { address, source } => anyhow::Error::new(source).context(format!(
            "cannot listen on {address} for WebSockets; choose another port with --listen"
        )),
        other => other.into(),
    })
}

/// What each of the workers is told, read and checked as a worker of its own would.
pub(super) fn worker_config(args: &DevArgs) -> anyhow::Result<WorkerConfig> {
    let amqp_url = args.amqp_url.as_deref().map(|url| ("amqp-url", url));
    let pairs = [
        ("namespace", args.namespace.as_str()),
        ("store-url", args.store_url.as_deref().unwrap_or("memory:")),
        ("drain-timeout", DRAIN_TIMEOUT),
        // Required of every worker; ours is given its verifier ready-made.
        ("jwt-keys", "the development key"),
        ("jwt-issuer", dev_key::ISSUER),
        ("jwt-audience", dev_key::AUDIENCE),
    ];
    config::from_pairs(pairs.into_iter().chain(amqp_url)).map_err(|errors| anyhow!("{errors}"))
}

fn open_store(config: &WorkerConfig) -> anyhow::Result<Arc<dyn Store>> {
    let settings = store::Settings {
        url: config.store_url.expose(),
        namespace: config.broker.namespace.as_str().to_owned(),
        timeout: config.store_timeout,
        leeway: config.jwt_leeway,
    };
    store::open(&settings, Arc::new(SystemClock)).context("--store-url")
}

/// Verifies tokens of the development key, and no others.
fn verifier() -> anyhow::Result<Verifier> {
    Verifier::self_test()?;
    let file = SecretFile::create().context("cannot write the development key to a temporary file")?;
    let source: KeySource = file.path().to_string_lossy().parse()?;
    let keys = Keys::load(&[source], &[Issuer::new(dev_key::ISSUER)], &[]).map_err(|errors| anyhow!("{errors}"))?;
    Ok(Verifier::new(
        keys,
        Rules::new(vec![dev_key::AUDIENCE.to_owned()]),
        TOKEN_CACHE,
    ))
}
