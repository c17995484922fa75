//! The workers, who can be told otherwise while everything runs.
//!
//! A worker's settings are for its life. Other settings mean other workers: the
//! new ones begin before the old ones end, so that nothing waits meanwhile.

use std::sync::{Arc, PoisonError};

use anyhow::anyhow;
use clap::Args;
use serde::{Deserialize, Serialize};
use shared::bus::Bus;
use shared::service::clock::SystemClock;
use shared::service::config;
use tokio::sync::Mutex;
use worker::admin::recent_decisions::RecentDecisions;
use worker::config::WorkerConfig;
use worker::store::Store;
use worker::token::Verifier;
use worker::{Parts, Worker};

use super::DevArgs;
use super::journey::Journeys;
use crate::support::broker;

/// Two, so that what must hold among several workers holds here, too.
const COUNT: usize = 2;

/// Those that work, those that have been replaced, and those before these.
const MOST_NOTED: usize = 3 * COUNT;

/// How long messages on their way may take when it ends: anyone who develops does not like to wait.
pub(super) const DRAIN_TIMEOUT: &str = "3s";

/// Tokens are watched as they expire, on one clock: theirs.
const LEEWAY: &str = "0s";

/// How the workers decide: settings of theirs, as they are written.
#[derive(Clone, Debug, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Policies {
    /// How clients authenticate: per-message, explicit or both. Like all of these settings, it can be changed on the
    /// page.
    #[arg(long, value_name = "STRATEGY", default_value = "both")]
    strategy: String,
    /// What happens to messages without valid authentication: ignore, close or reauthenticate; TYPE=POLICY sets another
    /// for some types: reauthenticate,typing=ignore.
    #[arg(long, value_name = "POLICY", default_value = "reauthenticate")]
    on_unauthenticated: String,
    /// What happens to replies and pushes for an expired connection: the same three.
    #[arg(long, value_name = "POLICY", default_value = "reauthenticate")]
    on_expired_push: String,
    /// How long messages, replies and pushes are held.
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    hold_ttl: String,
}

/// The workers, and how they decide.
pub(super) struct Workers {
    args: DevArgs,
    bus: Arc<dyn Bus>,
    store: Arc<dyn Store>,
    verifier: Arc<Verifier>,
    journeys: Journeys,
    /// What they have noted, and those before them.
    noted: std::sync::Mutex<Vec<RecentDecisions>>,
    /// Locked as long as they change.
    employed: Mutex<Employed>,
}

/// Who works, and as whom.
struct Employed {
    policies: Policies,
    workers: Vec<Worker>,
}

impl Workers {
    /// Starts them, as `config` has it.
    pub(super) fn start(
        args: &DevArgs,
        config: &WorkerConfig,
        bus: Arc<dyn Bus>,
        store: Arc<dyn Store>,
        verifier: Arc<Verifier>,
        journeys: Journeys,
    ) -> anyhow::Result<Self> {
        let employed = Employed {
            policies: args.policies.clone(),
            workers: Vec::new(),
        };
        let mut all = Self {
            args: args.clone(),
            bus,
            store,
            verifier,
            journeys,
            noted: std::sync::Mutex::default(),
            employed: Mutex::new(employed),
        };
        let first = all.employ(config)?;
        all.employed.get_mut().workers = first;
        Ok(all)
    }

    /// How they decide at the moment.
    pub(super) async fn policies(&self) -> Policies {
        self.employed.lock().await.policies.clone()
    }

    /// What was decided lately, by each of them and of those before.
    pub(super) fn noted(&self) -> Vec<RecentDecisions> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets others decide, who do as they are told here. What is on its way is not lost.
    ///
    /// # Errors
    /// If the settings are none.
    pub(super) async fn change(&self, policies: Policies) -> anyhow::Result<()> {
        let config = worker_config(&self.args, &policies)?;
        let mut employed = self.employed.lock().await;
        let successors = self.employ(&config)?;
        employed.policies = policies;
        let retired = std::mem::replace(&mut employed.workers, successors);
        end(retired).await;
        Ok(())
    }

    /// Ends them, and what they worked with.
    pub(super) async fn end(&self) {
        end(std::mem::take(&mut self.employed.lock().await.workers)).await;
        broker::hang_up(&*self.bus).await;
    }

    fn employ(&self, config: &WorkerConfig) -> anyhow::Result<Vec<Worker>> {
        let worker = || {
            let parts = Parts {
                bus: self.bus.clone(),
                store: self.store.clone(),
                verifier: self.verifier.clone(),
                issuers: config.issuers(),
                clock: Arc::new(SystemClock),
                limits: config.limits(),
                sealing: worker::Sealing::OFF,
                listener: Some(self.journeys.of_worker()),
            };
            Worker::start_configured_with(parts, &config.handler)
        };
        let workers = std::iter::repeat_with(worker).take(COUNT);
        let workers: Vec<Worker> = workers.collect::<Result<_, _>>()?;
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.extend(workers.iter().map(Worker::recent_decisions));
        let surplus = noted.len().saturating_sub(MOST_NOTED);
        noted.drain(..surplus);
        drop(noted);
        Ok(workers)
    }
}

async fn end(workers: Vec<Worker>) {
    for worker in &workers {
        worker.shutdown();
    }
    for worker in workers {
        worker.join().await;
    }
}

/// What each of the workers is told, read and checked as a worker of its own would.
///
/// # Errors
/// What is wrong with it, by the names of the settings.
pub(super) fn worker_config(args: &DevArgs, policies: &Policies) -> anyhow::Result<WorkerConfig> {
    config_with(args, policies, "the development key")
}

/// The same, with where the development key is.
///
/// # Errors
/// What is wrong with it, by the names of the settings.
pub(super) fn config_with(args: &DevArgs, policies: &Policies, key: &str) -> anyhow::Result<WorkerConfig> {
    let (keys, issuers, audiences) = (args.own.keys(key), args.own.issuers(), args.own.audiences());
    let amqp_url = args.amqp_url.as_deref().map(|url| ("amqp-url", url));
    let pairs = [
        ("namespace", args.namespace.as_str()),
        ("store-url", args.store_url.as_deref().unwrap_or("memory:")),
        ("drain-timeout", DRAIN_TIMEOUT),
        ("jwt-leeway", LEEWAY),
        ("strategy", &policies.strategy),
        ("on-unauthenticated", &policies.on_unauthenticated),
        ("on-expired-push", &policies.on_expired_push),
        ("hold-ttl", &policies.hold_ttl),
        ("handler", &args.own.handler),
        ("idempotency-window", &args.own.idempotency_window),
        ("connection-events", &args.connection_events),
        // Required of every worker; ours is given its verifier ready-made.
        ("jwt-keys", &keys),
        ("jwt-issuer", &issuers),
        ("jwt-audience", &audiences),
    ];
    config::from_pairs(pairs.into_iter().chain(amqp_url)).map_err(|errors| anyhow!("{errors}"))
}
