//! What a worker that is a process of its own has besides: an admin door, and someone who looks whether all is well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use shared::bus::rabbitmq::RabbitmqBus;
use shared::bus::topology::{Queue, QueueKind, Topology};
use shared::bus::{Bus, Link};
use shared::credentials::{Credentials, Keeping, Register};
use shared::service::admin::{Admin, AdminError, CheckHandle, Console, Readiness, watch_broker};
use shared::service::config::Config;
use shared::service::repetition::Repetitions;
use shared::service::telemetry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::recent_decisions::RecentDecisions;
use crate::app::start::StartError;
use crate::config::WorkerConfig;
use crate::store::Store;
use crate::token::{KeyHealth, KeyRefresher};

/// How often the store is asked whether it is there: as often as an orchestrator asks us.
const PING_PERIOD: Duration = Duration::from_secs(1);

/// How often the queues are looked at: as often as Prometheus asks us.
const QUEUES_PERIOD: Duration = Duration::from_secs(15);

/// How long the broker may take over the end of its connections.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct AdminServices {
    admin: Admin,
    readiness: Readiness,
    bus: Arc<RabbitmqBus>,
    _keeping: Keeping,
    watchers: JoinSet<()>,
}

/// The open door, before there is anything behind it.
pub(crate) struct AdminListener {
    admin: Admin,
    readiness: Readiness,
    broker: CheckHandle,
    store: CheckHandle,
    keys: CheckHandle,
    console: Option<Console>,
}

impl AdminListener {
    /// Opens it, not ready. An address that is taken is known before anything is consumed.
    pub(crate) async fn open(config: &WorkerConfig, credentials: Register) -> Result<Self, StartError> {
        let readiness = Readiness::new();
        let (broker, store, keys) = (
            readiness.check("broker"),
            readiness.check("store"),
            readiness.check("keys"),
        );
        let metrics = telemetry::metrics()?;
        telemetry::tell_version(WorkerConfig::PROGRAM.name, WorkerConfig::PROGRAM.version);
        let console = config
            .console
            .then(|| Console::new("worker", metrics.clone(), readiness.clone()));
        let admin = Admin::bind(
            config.admin_listen,
            readiness.clone(),
            metrics,
            credentials,
            console.clone(),
            &config.admin_allowed_hosts,
        )
        .await;
        Ok(Self {
            admin: admin.map_err(|error: AdminError| StartError::Admin(error))?,
            readiness,
            broker,
            store,
            keys,
            console,
        })
    }

    /// Looks after the broker, the store and the keys from now on, and shows what is noted.
    pub(crate) fn watch(
        self,
        bus: Arc<RabbitmqBus>,
        queues: Vec<(String, String)>,
        store: Arc<dyn Store>,
        (refresher, credentials): (KeyRefresher, Credentials),
        recent_decisions: &RecentDecisions,
    ) -> AdminServices {
        if let Some(console) = self.console {
            console.show(Arc::new(recent_decisions.clone()));
        }
        let mut watchers = JoinSet::new();
        watchers.spawn(watch_broker("worker", self.broker, bus.link()));
        watchers.spawn(watch_store(self.store, store));
        watchers.spawn(watch_queues(bus.clone(), queues));
        watchers.spawn(watch_keys(self.keys, refresher.health()));
        watchers.spawn(refresher.run());
        AdminServices {
            admin: self.admin,
            readiness: self.readiness,
            bus,
            _keeping: credentials.keep(),
            watchers,
        }
    }
}

impl AdminServices {
    pub(crate) fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.addr()
    }

    /// Says that the worker is about to end.
    pub(crate) fn draining(&self) {
        self.readiness.draining();
    }

    /// Disconnects and shuts the door, when there is no one left behind it.
    pub(crate) async fn close(mut self) {
        // Anyone who waits for a connection keeps the bus from ending, if there is none.
        self.watchers.shutdown().await;
        // What could not be published waits for a broker without end, and where there is none no one has to be told good-bye.
        let is_away = matches!(*self.bus.link().borrow(), Link::Away(_));
        if !is_away && tokio::time::timeout(CLOSE_TIMEOUT, self.bus.close()).await.is_err() {
            warn!("timed out while closing the broker connection");
        }
        self.admin.shutdown();
        self.admin.join().await;
    }
}

/// Keeps the check and the metric in step with the store. One that takes no writes is of no use to anyone.
async fn watch_store(check: CheckHandle, store: Arc<dyn Store>) {
    let up = gauge!("countersign_worker_store_up");
    let told = Repetitions::default();
    let mut was_there = true;
    loop {
        let there = store.writable().await;
        match &there {
            Ok(()) => {
                if !was_there {
                    info!("the store is available again");
                }
                check.ok();
            }
            Err(reason) => {
                let reason = reason.to_string();
                if let Some(untold) = told.admit(&reason, Instant::now()) {
                    warn!(
                        reason,
                        untold, "messages that need the store are refused with `auth_unavailable`"
                    );
                }
                check.failing(reason);
            }
        }
        was_there = there.is_ok();
        up.set(if was_there { 1.0 } else { 0.0 });
        tokio::time::sleep(PING_PERIOD).await;
    }
}

/// The queues that all workers share, of those that this one declares: what the metric calls each, and its name. A queue
/// of one process expires after it.
pub(crate) fn watched(namespace: &str, declared: &Topology) -> Vec<(String, String)> {
    let is_shared = |queue: &&Queue| matches!(&queue.kind, QueueKind::Quorum(limits) if limits.expires.is_none());
    let labelled = |queue: &Queue| {
        let label = queue.name.strip_prefix(namespace)?.strip_prefix('.')?;
        Some((label.to_owned(), queue.name.clone()))
    };
    declared.queues.iter().filter(is_shared).filter_map(labelled).collect()
}

/// Tells how many AMQP messages wait in each queue: in `countersign.messages` for workers, in `countersign.dead` for people.
async fn watch_queues(bus: Arc<RabbitmqBus>, queues: Vec<(String, String)>) {
    let names: Vec<_> = queues.iter().map(|(_, name)| name.clone()).collect();
    loop {
        let waiting = bus.waiting(&names).await;
        // Right after the start there is no broker yet.
        let period = if waiting.is_empty() { PING_PERIOD } else { QUEUES_PERIOD };
        for (name, count) in waiting {
            if let Some((label, _)) = queues.iter().find(|(_, known)| *known == name) {
                gauge!("countersign_worker_queue_messages", "queue" => label.clone()).set(f64::from(count));
            }
        }
        tokio::time::sleep(period).await;
    }
}

/// Keeps the check in step with the keys, until no one keeps them any more.
async fn watch_keys(check: CheckHandle, mut health: watch::Receiver<KeyHealth>) {
    loop {
        match &*health.borrow_and_update() {
            Ok(()) => check.ok(),
            Err(missing) => check.failing(missing.as_str()),
        }
        if health.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use shared::bus::rabbitmq::Access;
    use shared::service::config;

    use super::*;
    use crate::app::start::rabbitmq;
    use crate::handler::builtin::Application;

    /// The labels of the queues that a worker with these settings watches.
    fn labels(settings: &[(&str, &str)]) -> BTreeSet<String> {
        let needed = [("jwt-keys", "/k"), ("jwt-issuer", "https://a"), ("jwt-audience", "app")];
        let pairs = needed.into_iter().chain(settings.iter().copied());
        let config = config::from_pairs::<WorkerConfig>(pairs).expect("settings");
        let access = Access::load(&config.broker, &mut Credentials::new(&Register::default())).expect("no files");
        let topology = rabbitmq(&config, access, &Application::Amqp(1)).topology;
        watched("countersign", &topology)
            .into_iter()
            .map(|(label, name)| {
                assert_eq!(name, format!("countersign.{label}"));
                label
            })
            .collect()
    }

    #[test]
    fn every_queue_that_all_workers_share_is_watched() {
        let always = [
            "messages",
            "retry",
            "failed",
            "injected",
            "injected.retry",
            "injected.failed",
            "dead",
            "undelivered",
            "pushes",
            "revocations",
            "rejected",
        ];
        let always: BTreeSet<_> = always.map(str::to_owned).into();
        assert_eq!(labels(&[]), always);
        let settings = [
            ("message-shards", "3"),
            ("push-shards", "2"),
            ("connection-events", "on"),
        ];
        let by_setting = ["messages.1", "messages.2", "push.0", "push.1", "open"];
        let by_setting: BTreeSet<_> = by_setting.map(str::to_owned).into();
        let more: BTreeSet<_> = labels(&settings).difference(&always).cloned().collect();
        assert_eq!(more, by_setting);
    }
}
