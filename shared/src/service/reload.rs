//! The request to read files again: SIGHUP, for all that follow files.

use std::sync::LazyLock;

use tokio::signal::unix::Signal;
use tokio::sync::watch;

/// How often this process was told to read its files again.
static RELOADS: LazyLock<watch::Sender<u64>> = LazyLock::new(|| watch::Sender::new(0));

/// Changes whenever this process is told to read its files again, by SIGHUP.
pub fn reloads() -> watch::Receiver<u64> {
    RELOADS.subscribe()
}

/// Tells of each of these signals. SIGHUP no longer ends the process.
pub(super) async fn reload_on(mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        tracing::info!(signal = "SIGHUP", "credentials are read again");
        RELOADS.send_modify(|count| *count += 1);
    }
}
