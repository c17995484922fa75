//! How a worker hears of revocations, and reads those that were said before.
//!
//! It reads them all from the store once its own queue is there: what is said later
//! comes through the queue. It reads them again whenever the broker is back, and every
//! now and then, because a queue is only a queue. If it was away, or has stood still or slept, for so long that its
//! queue may be gone, it knows nothing until it has read them.
//!
//! A store is only a store, too: what it has lost is written back at each reading, and
//! at once when it is seen to have lost something.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::{Consumer, Link};
use shared::wire::envelope::Return;
use shared::wire::revocation::{MOST_AT_A_TIME, TRUSTED_WITHOUT_BROKER};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, error, info, warn};

use super::known::{Revoked, lacking};
use crate::app::sharing::Sharing;
use crate::auth::agreement::Agreement;
use crate::outbound::{Outbound, OutboundError};
use crate::process::given_up::GivenUp;
use crate::store::losses::Losses;

/// How often all are read again.
const RELOAD_PERIOD: Duration = Duration::from_secs(30);
/// How long all are not read again, as a multiple of what a reading took: many revocations do not keep the store busy.
const PAUSE_PER_READING: u32 = 20;
/// When all are read once more after the store has lost something.
const SECOND_LOOK: Duration = Duration::from_secs(2);
/// How often it is seen that this process runs. Each message looks, too.
const BEAT: Duration = Duration::from_secs(5);
/// When the store is asked again if it did not answer: no one is let in meanwhile.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

pub(crate) struct RevocationSync {
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) outbound: Arc<Outbound>,
    /// Workers tell each other their rules the same way.
    pub(crate) agreement: Arc<Agreement>,
    /// And what clients have given up.
    pub(crate) given_up: Arc<GivenUp>,
    /// And what each can spare.
    pub(crate) sharing: Arc<Sharing>,
    pub(crate) losses: Losses,
}

impl RevocationSync {
    /// Runs for ever. `consumer` is that of the worker's own queue, on the bus that `link` is of.
    pub(crate) async fn run(self, mut consumer: Consumer, link: watch::Receiver<Link>) {
        tokio::select! {
            biased;
            () = self.hear(&mut consumer) => {}
            () = self.read(link, self.losses.clone()) => {}
            () = self.beat() => {}
        }
    }

    async fn hear(&self, consumer: &mut Consumer) {
        while let Some(delivery) = consumer.recv().await {
            match Return::read(&delivery.message) {
                Some(Return::Revoked(revocations)) => {
                    self.outbound.counters.heard(revocations.len());
                    self.revoked.add(&revocations, self.outbound.clock.now());
                    self.outbound.counters.known(self.revoked.len());
                }
                Some(Return::Rules(rules)) => self.agreement.hear(rules, Instant::now()),
                Some(Return::Cancelled(cancel)) => _ = self.given_up.give_up(&cancel, Instant::now()),
                Some(Return::Load(load)) => self.sharing.hear(&load),
                _ => {}
            }
            delivery.ack();
        }
    }

    /// Sees, while nothing is handled, that this process runs.
    async fn beat(&self) {
        loop {
            sleep(BEAT).await;
            self.revoked.runs(self.outbound.clock.now());
        }
    }

    async fn read(&self, mut link: watch::Receiver<Link>, mut losses: Losses) {
        loop {
            self.until_up(&mut link).await;
            let began = Instant::now();
            self.load().await;
            let pause = RELOAD_PERIOD.max(began.elapsed() * PAUSE_PER_READING);
            tokio::select! {
                biased;
                () = sleep(pause) => {}
                () = self.revoked.until_doubted() => info!("this process has stood still for long: all revocations are read again"),
                () = until(&mut link, false) => {}
                () = losses.next() => {
                    // What was just being revoked may not be known here before long.
                    self.load().await;
                    sleep(SECOND_LOOK).await;
                }
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
            match self.try_load().await {
                Ok(()) => return,
                Err(reason) => {
                    self.outbound.counters.retried();
                    self.revoked.missed();
                    info!(%reason, "the revocations cannot be read; will keep trying");
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn try_load(&self) -> Result<(), OutboundError> {
        let Outbound {
            store, clock, counters, ..
        } = &*self.outbound;
        // What is known before was stored before.
        let known = self.revoked.in_force(clock.now());
        let stored = store.revocations().await?;
        debug!(count = stored.len(), "the revocations are read");
        self.revoked.load(&stored, clock.now());
        let lacking = lacking(known, &stored);
        counters.known(self.revoked.len());
        if lacking.is_empty() {
            return Ok(());
        }
        let kept = store.revoke(&lacking).await?;
        let count = lacking.len().saturating_sub(kept.refused.len());
        warn!(count, "the store had lost revocations; they are written back");
        counters.wrote_back(count);
        if !kept.refused.is_empty() {
            error!(
                count = kept.refused.len(),
                "the store lacks revocations and accepts no more: max-revocations are in force"
            );
        }
        // The one who has started since has read a store that lacked them.
        for some in lacking.chunks(MOST_AT_A_TIME) {
            self.outbound.broadcast_revocations(some).await?;
        }
        Ok(())
    }
}

/// Waits until the broker is there, or until it is not. When the bus has ended, that is never.
async fn until(link: &mut watch::Receiver<Link>, up: bool) {
    let ended = link.wait_for(|link| link.is_up() == up).await.is_err();
    if ended {
        std::future::pending::<()>().await;
    }
}
