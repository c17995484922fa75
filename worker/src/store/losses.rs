//! Notices that the store may have lost what it had, and has everyone bring back what they know.
//!
//! This worker's own part hears of it here: its revocations are written back, and what it
//! has recorded of connections it forgets to have recorded. Terminators are told by a
//! broadcast, and announce their connections. Any worker may tell them: of several that
//! do, the first counts. A worker that dies over it is followed by another, since the
//! store knows whether anyone was told.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::topology::{Names, keys};
use shared::bus::{PublishError, Publisher, Route};
use shared::wire::envelope;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::outbound::metrics::Counters;
use crate::store::{Epoch, Store, StoreError};

/// How often the store is asked. It costs one call of a script.
const PERIOD: Duration = Duration::from_secs(1);

/// How many losses of the store were seen by this worker, for anyone who has something to bring back.
#[derive(Clone)]
pub(crate) struct Losses(watch::Receiver<u64>);

/// Who looks for them.
pub(crate) struct Watcher {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) publisher: Publisher,
    pub(crate) names: Names,
    pub(crate) counters: Arc<Counters>,
    pub(crate) seen: watch::Sender<u64>,
}

/// Why no one could be told.
#[derive(Debug, thiserror::Error)]
enum Untold {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] PublishError),
}

impl Losses {
    /// None yet; and where they are counted.
    pub(crate) fn none() -> (watch::Sender<u64>, Self) {
        let (seen, losses) = watch::channel(0);
        (seen, Self(losses))
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits for the next one; for ever, if no one looks for them any more.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Watcher {
    /// Runs for ever.
    pub(crate) async fn run(self) {
        let mut last = None;
        loop {
            match self.store.epoch().await {
                Ok(epoch) => {
                    match last {
                        Some(last) if last != epoch.id => {
                            warn!(
                                "the store was emptied, or another server answers for it: what it may have lost is restored"
                            );
                            self.counters.epoch_began();
                            self.seen.send_modify(|seen| *seen += 1);
                        }
                        // It is new, or has just begun anew and no one has told of it.
                        None if !epoch.announced => self.seen.send_modify(|seen| *seen += 1),
                        Some(_) | None => {}
                    }
                    last = Some(epoch.id);
                    if !epoch.announced
                        && let Err(reason) = self.announce(epoch).await
                    {
                        debug!(%reason, "the store's epoch could not be sent to terminators; will try again");
                    }
                }
                Err(reason) => debug!(%reason, "the store does not tell its epoch"),
            }
            sleep(PERIOD).await;
        }
    }

    async fn announce(&self, epoch: Epoch) -> Result<(), Untold> {
        let route = Route::new(&self.names.internal_exchange().name, keys::REVOKED);
        let message = envelope::epoch(envelope::Epoch { epoch: epoch.id });
        match self.publisher.publish(route, message).await {
            // No one listens, so no one has a connection to announce.
            Ok(()) | Err(PublishError::Unroutable) => {}
            Err(reason) => return Err(reason.into()),
        }
        Ok(self.store.announced(epoch).await?)
    }
}
