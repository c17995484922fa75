//! A running system, whatever it stands on: what the claims about the policies need of it.
//!
//! Two implementations: a [`Stack`] of real programs on RabbitMQ and Redis, and [`Embedded`], the same terminator and workers
//! within this process on the memory bus and store, as `countersign dev` runs them.

use std::{net::SocketAddr, sync::Arc};

use shared::bus::Bus;
use shared::bus::memory::MemoryBus;
use shared::bus::topology::{Names, Topology};
use shared::service::clock::SystemClock;
use shared::service::config;
use terminator::{Terminator, TerminatorConfig};
use worker::{
    Parts, Worker,
    config::WorkerConfig,
    store,
    token::{KeySource, Keys, Verifier},
};

use crate::handler::Poisoned;
use crate::peers::client::Client;
use crate::peers::producer::Producer;
use crate::stack::{Settings, Stack, for_strangers, known_to, settings, token_settings};

/// Two, so that what must hold among several workers is tried.
const WORKERS: usize = 2;

/// A system with a terminator and two workers, whose handler is [`Poisoned`].
pub trait Rig: Sized {
    /// Starts one with these settings, for the programs that know them.
    fn start(settings: &[(&str, &str)]) -> impl Future<Output = Self>;

    /// A client of its terminator.
    fn client(&self) -> impl Future<Output = Client>;

    /// A backend.
    fn producer(&self) -> impl Future<Output = Producer>;
}

impl Rig for Stack {
    async fn start(settings: &[(&str, &str)]) -> Self {
        let builder = Self::builder().poisoned_workers(WORKERS);
        let builder = builder.settings(settings);
        builder.start().await
    }

    async fn client(&self) -> Client {
        Self::client(self).await
    }

    async fn producer(&self) -> Producer {
        Self::producer(self).await
    }
}

/// Terminator and workers within this process. They end with this value.
pub struct Embedded {
    bus: Arc<dyn Bus>,
    names: Names,
    address: SocketAddr,
    // Dropped, both give back at once what they have.
    _terminator: Terminator,
    _workers: Vec<Worker>,
}

impl Rig for Embedded {
    async fn start(given: &[(&str, &str)]) -> Self {
        let (of_terminator, of_worker) = divided(given);
        let terminator_config: TerminatorConfig = read(&of_terminator);
        let worker_config: WorkerConfig = read(&of_worker);
        let names = Names::new(worker_config.broker.namespace.as_str());
        let mut topology: Topology = names.common();
        topology.queues.extend(names.retries(worker_config.max_deliveries));
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(&topology).with_batches(names.clone()));
        let terminator = Terminator::bind_on(terminator_config, bus.clone())
            .await
            .expect("a terminator");
        let store = store::open(&store_settings(&worker_config), Arc::new(SystemClock)).expect("a store");
        let verifier = Arc::new(verifier(&worker_config));
        let worker = || {
            let parts = Parts {
                bus: bus.clone(),
                store: store.clone(),
                verifier: verifier.clone(),
                issuers: worker_config.issuers(),
                clock: Arc::new(SystemClock),
                limits: worker_config.limits(),
                sealing: worker::Sealing::OFF,
                listener: None,
            };
            Worker::start_with(parts, Poisoned)
        };
        let workers = std::iter::repeat_with(worker).take(WORKERS).collect();
        Self {
            address: terminator.addr(),
            bus,
            names,
            _terminator: terminator,
            _workers: workers,
        }
    }

    async fn client(&self) -> Client {
        Client::to_address(self.address)
            .open()
            .await
            .expect("the terminator accepts the connection")
    }

    async fn producer(&self) -> Producer {
        Producer::within(&self.bus, &self.names)
    }
}

/// What the terminator is told, and what the workers are.
fn divided(given: &[(&str, &str)]) -> (Settings, Settings) {
    let common = settings(&[("admin-listen", "off"), ("namespace", "embedded")]);
    let mut of_terminator = [common.clone(), settings(&[("listen", "127.0.0.1:0")]), for_strangers()].concat();
    let mut of_worker = [common, settings(&[("store-url", "memory:")]), token_settings()].concat();
    for (name, value) in given {
        let (terminator_knows, worker_knows) = known_to(name);
        assert!(terminator_knows || worker_knows, "there is no setting {name}");
        let pair = ((*name).to_owned(), (*value).to_owned());
        if terminator_knows {
            replace(&mut of_terminator, &pair);
        }
        if worker_knows {
            replace(&mut of_worker, &pair);
        }
    }
    (of_terminator, of_worker)
}

fn replace(settings: &mut Settings, pair: &(String, String)) {
    settings.retain(|(name, _)| *name != pair.0);
    settings.push(pair.clone());
}

fn read<T: config::Config>(settings: &Settings) -> T {
    let pairs = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    config::from_pairs(pairs).unwrap_or_else(|errors| panic!("{errors}"))
}

fn store_settings(config: &WorkerConfig) -> store::Settings {
    store::Settings {
        url: config.store_url.expose(),
        namespace: config.broker.namespace.as_str().to_owned(),
        timeout: config.store_timeout,
        leeway: config.jwt_leeway,
        max_revocations: config.max_revocations,
    }
}

fn verifier(config: &WorkerConfig) -> Verifier {
    Verifier::self_test().expect("a sound build");
    let sources: Vec<KeySource> = config
        .jwt_keys
        .iter()
        .map(|entry| entry.expose().parse().expect("a key"))
        .collect();
    let keys = Keys::load(&sources, &config.issuers(), &[]).unwrap_or_else(|errors| panic!("{errors}"));
    Verifier::new(keys, config.token_rules(), config.token_cache_capacity)
}
