//! What the verifier asks when it does not know a key: may it yet come?
//!
//! Issuers rotate their keys, so a `kid` that is unknown may be a minute old. To
//! call its token invalid would send its holder away for good; to ask the issuer
//! each time would let anybody have us ask. So the verifier only raises its hand,
//! and whoever keeps the keys asks when it is time, and then lowers it for a while.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Between the verifier, which must not wait, and the refresher of its keys.
#[derive(Debug)]
pub(in crate::token) struct RefreshSignal {
    /// Holds one question at most, however many ask.
    wanted: Notify,
    settled: AtomicBool,
}

impl RefreshSignal {
    /// Nobody could answer: keys that are unknown stay so.
    pub(in crate::token) const fn settled() -> Self {
        Self {
            wanted: Notify::const_new(),
            settled: AtomicBool::new(true),
        }
    }

    /// Whether all keys that there are have just been asked for. To be asked *before* the keys are looked at.
    pub(in crate::token) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Wants the keys to be fetched anew.
    pub(in crate::token) fn ask(&self) {
        self.wanted.notify_one();
    }

    /// Waits until somebody has asked. Safe to be cancelled.
    pub(in crate::token) async fn asked(&self) {
        self.wanted.notified().await;
    }

    /// Says whether it is settled. If it is, the keys that were found are in place already.
    pub(in crate::token) fn settle(&self, settled: bool) {
        self.settled.store(settled, Ordering::Release);
    }
}
