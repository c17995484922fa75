//! What a worker that is a process of its own has besides: an admin door, and somebody who looks whether all is well.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::admin::{Admin, AdminError, CheckHandle, Console, Readiness, watch_broker};
use shared::bus::Bus;
use shared::bus::rabbitmq::RabbitmqBus;
use shared::telemetry;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::noted::Noted;
use crate::start::StartError;
use crate::store::Store;
use crate::token::{Keeper, Standing};

/// How often the store is asked whether it is there: as often as an orchestrator asks us.
const PING_PERIOD: Duration = Duration::from_secs(1);

/// How long the broker may take over the end of its connections.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Outside {
    admin: Admin,
    readiness: Readiness,
    bus: Arc<RabbitmqBus>,
    _watchers: JoinSet<()>,
}

/// The open door, before there is anything behind it.
pub(crate) struct Door {
    admin: Admin,
    readiness: Readiness,
    broker: CheckHandle,
    store: CheckHandle,
    keys: CheckHandle,
    console: Option<Console>,
}

impl Door {
    /// Opens it, not ready. An address that is taken is known before anything is consumed.
    pub(crate) async fn open(listen: Option<SocketAddr>, console: bool) -> Result<Self, StartError> {
        let readiness = Readiness::new();
        let (broker, store, keys) = (
            readiness.check("broker"),
            readiness.check("store"),
            readiness.check("keys"),
        );
        let metrics = telemetry::metrics()?;
        let console = console.then(|| Console::new("worker", metrics.clone(), readiness.clone()));
        let admin = Admin::bind(listen, readiness.clone(), metrics, console.clone()).await;
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
    pub(crate) fn watch(self, bus: Arc<RabbitmqBus>, store: Arc<dyn Store>, keeper: Keeper, noted: &Noted) -> Outside {
        if let Some(console) = self.console {
            console.show(Arc::new(noted.clone()));
        }
        let mut watchers = JoinSet::new();
        watchers.spawn(watch_broker("worker", self.broker, bus.link()));
        watchers.spawn(watch_store(self.store, store));
        watchers.spawn(watch_keys(self.keys, keeper.standing()));
        watchers.spawn(keeper.run());
        Outside {
            admin: self.admin,
            readiness: self.readiness,
            bus,
            _watchers: watchers,
        }
    }
}

impl Outside {
    pub(crate) fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.addr()
    }

    /// Says that the worker is about to end.
    pub(crate) fn draining(&self) {
        self.readiness.draining();
    }

    /// Disconnects and shuts the door, when there is nobody left behind it.
    pub(crate) async fn close(self) {
        if tokio::time::timeout(CLOSE_TIMEOUT, self.bus.close()).await.is_err() {
            warn!("the broker did not let us go in time");
        }
        self.admin.shutdown();
        self.admin.join().await;
    }
}

async fn watch_store(check: CheckHandle, store: Arc<dyn Store>) {
    let mut was_there = true;
    loop {
        let ping = store.ping().await;
        match (&ping, was_there) {
            (Ok(()), false) => info!("the store is there again"),
            (Err(reason), true) => warn!(%reason, "the store is away; who needs it is told `auth_unavailable`"),
            _ => {}
        }
        was_there = ping.is_ok();
        match ping {
            Ok(()) => check.ok(),
            Err(reason) => check.failing(reason.to_string()),
        }
        tokio::time::sleep(PING_PERIOD).await;
    }
}

/// Keeps the check in step with the keys, until nobody keeps them any more.
async fn watch_keys(check: CheckHandle, mut standing: watch::Receiver<Standing>) {
    loop {
        match &*standing.borrow_and_update() {
            Ok(()) => check.ok(),
            Err(missing) => check.failing(missing.as_str()),
        }
        if standing.changed().await.is_err() {
            return;
        }
    }
}
