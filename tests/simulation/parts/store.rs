//! The store as one worker sees it, in bad weather: slow, now and then away, and for a dead worker silent.
//!
//! An operation that fails may have been carried out or not, as with a store that
//! is reached over a network.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use testkit::chaos::LatencyModel;
use testkit::rng::Rng;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use worker::store::{Around, Call, Store, StoreError};

/// One worker's way to the store that all share.
pub(crate) struct ChaosStore {
    pub(crate) shared: Arc<dyn Store>,
    pub(crate) latency: LatencyModel,
    /// How many operations in a hundred fail, shared by all so that it can be ended.
    pub(crate) failing: Arc<AtomicU64>,
    /// The worker is dead.
    pub(crate) gone: CancellationToken,
    pub(crate) rng: Mutex<Rng>,
}

impl ChaosStore {
    async fn through<T>(&self, operation: Call<'_, T>) -> Result<T, StoreError> {
        let (there, back, fails_before, fails_after) = {
            let mut rng = self.rng.lock().expect("no holder panics");
            let failing = self.failing.load(Ordering::Relaxed);
            (
                self.latency.delay(&mut rng),
                self.latency.delay(&mut rng),
                rng.chance(failing),
                rng.chance(failing),
            )
        };
        sleep(there).await;
        self.alive().await;
        if fails_before {
            return Err(away());
        }
        let result = operation.await;
        sleep(back).await;
        self.alive().await;
        if fails_after { Err(away()) } else { result }
    }

    /// For ever, if the worker is dead: it does nothing any more, and learns nothing.
    async fn alive(&self) {
        if self.gone.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }
}

fn away() -> StoreError {
    StoreError::Unavailable("bad latency".into())
}

impl Around for ChaosStore {
    fn inner(&self) -> &dyn Store {
        &*self.shared
    }

    fn around<'a, T: Send + 'a>(&'a self, _: &'static str, call: Call<'a, T>) -> Call<'a, T> {
        Box::pin(self.through(call))
    }
}
