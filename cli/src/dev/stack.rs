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
use worker::auth::identity::Issuer;
use worker::config::WorkerConfig;
use worker::store::{self, Store};
use worker::token::{KeySource, Keys, Rules, Verifier};

use super::DevArgs;
use super::state::Addresses;
use super::workers::{DRAIN_TIMEOUT, Workers};
use crate::support::dev_key::{self, SecretFile};

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
        let verifier = Arc::new(verifier(config)?);
        let terminator = start_terminator(args, broker, page).await?;
        let workers = Workers::start(args, config, broker.bus("workers"), store.clone(), verifier);
        Ok(Self {
            terminator,
            workers: Arc::new(workers),
            store,
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

async fn start_terminator(args: &DevArgs, broker: &Broker, page: SocketAddr) -> anyhow::Result<Terminator> {
    let listen = args.listen.to_string();
    let addresses = Addresses {
        page,
        socket: args.listen,
    };
    // Our page, and that of whoever develops one.
    let origins = [&addresses.origins()[..], &args.allowed_origins].concat().join(",");
    let config: TerminatorConfig = config::from_pairs([
        ("namespace", args.namespace.as_str()),
        ("listen", &listen),
        ("admin-listen", "off"),
        ("allowed-origins", &origins),
        // Whoever tries things out thinks for longer than a client does.
        ("auth-timeout", "off"),
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

/// Verifies tokens of the development key, and no others.
fn verifier(config: &WorkerConfig) -> anyhow::Result<Verifier> {
    Verifier::self_test()?;
    let file = SecretFile::create().context("cannot write the development key to a temporary file")?;
    let source: KeySource = file.entry().parse()?;
    let keys = Keys::load(&[source], &[Issuer::new(dev_key::ISSUER)], &[]).map_err(|errors| anyhow!("{errors}"))?;
    let rules = Rules {
        leeway: config.jwt_leeway,
        ..Rules::new(vec![dev_key::AUDIENCE.to_owned()])
    };
    Ok(Verifier::new(keys, rules, TOKEN_CACHE_CAPACITY))
}
