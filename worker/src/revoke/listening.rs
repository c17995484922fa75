//! How a worker hears of revocations, and reads those that were said before.
//!
//! It reads them all from the store once its own queue is there: what is said later
//! comes through the queue. It reads them again whenever the broker is back, and every
//! now and then, because a queue is only a queue. If it was away for so long that its
//! queue may be gone, it knows nothing until it has read them.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::{Consumer, Link};
use shared::clock::Clock;
use shared::envelope::Return;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use crate::agreement::Agreement;
use crate::outbound::metrics::Counters;
use crate::revoked::Revoked;
use crate::store::Store;

/// How often all are read again.
const RELOAD_PERIOD: Duration = Duration::from_secs(30);
/// When the store is asked again if it did not answer: nobody is let in meanwhile.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// A worker's queue outlives it for 180 s; one that was away for nearly that long takes no chances.
const TRUSTED_WITHOUT_BROKER: Duration = Duration::from_secs(150);

pub(crate) struct Listening {
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Arc<Counters>,
    /// Workers tell each other their rules the same way.
    pub(crate) agreement: Arc<Agreement>,
}

impl Listening {
    /// Runs for ever. `consumer` is that of the worker's own queue, on the bus that `link` is of.
    pub(crate) async fn run(self, mut consumer: Consumer, link: watch::Receiver<Link>) {
        tokio::select! {
            biased;
            () = self.hear(&mut consumer) => {}
            () = self.read(link) => {}
        }
    }

    async fn hear(&self, consumer: &mut Consumer) {
        while let Some(delivery) = consumer.recv().await {
            match Return::read(&delivery.message) {
                Some(Return::Revoked(revocation)) => {
                    self.counters.heard();
                    self.revoked.add(revocation, self.clock.now());
                    self.counters.known(self.revoked.len());
                }
                Some(Return::Rules(rules)) => self.agreement.hear(rules, Instant::now()),
                _ => {}
            }
            delivery.ack();
        }
    }

    async fn read(&self, mut link: watch::Receiver<Link>) {
        loop {
            self.until_up(&mut link).await;
            self.load().await;
            tokio::select! {
                biased;
                () = sleep(RELOAD_PERIOD) => {}
                () = until(&mut link, false) => {}
            }
        }
    }

    /// Waits for the broker, and forgets that all is known when that takes too long.
    async fn until_up(&self, link: &mut watch::Receiver<Link>) {
        let patience = sleep_until(Instant::now() + TRUSTED_WITHOUT_BROKER);
        tokio::pin!(patience);
        loop {
            tokio::select! {
                biased;
                () = until(link, true) => return,
                () = &mut patience, if !patience.is_elapsed() => self.revoked.unload(),
            }
        }
    }

    async fn load(&self) {
        loop {
            match self.store.revocations().await {
                Ok(all) => {
                    debug!(count = all.len(), "the revocations are read");
                    self.revoked.load(all, self.clock.now());
                    self.counters.known(self.revoked.len());
                    return;
                }
                Err(reason) => {
                    self.counters.retried();
                    self.revoked.missed();
                    info!(%reason, "the revocations cannot be read; will keep trying");
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
}

/// Waits until the broker is there, or until it is not. When the bus has ended, that is never.
async fn until(link: &mut watch::Receiver<Link>, up: bool) {
    let ended = link.wait_for(|link| link.is_up() == up).await.is_err();
    if ended {
        std::future::pending::<()>().await;
    }
}
