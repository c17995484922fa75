//! What was held too long, and what no one asked for meanwhile.
//!
//! Every worker reaps, each at moments of its own: so that one is enough, and two seldom
//! tell the same.

use std::sync::Arc;
use std::time::Duration;

use shared::service::chance;
use shared::service::clock::Timestamp;
use tracing::debug;

use super::{Outbound, OutboundError};

/// How often a worker looks, give or take a half: what is told late by seconds has waited for minutes.
const PERIOD: Duration = Duration::from_secs(5);
/// How many mailboxes are looked at in one go.
const MAILBOXES_AT_A_TIME: u64 = 256;
/// How many goes there are at most, while each finds that many: 4,096 mailboxes each time. The rest comes next time.
const MOST_GOES: usize = 16;

impl Outbound {
    /// Runs for ever.
    pub(crate) async fn reap(self: Arc<Self>) {
        loop {
            tokio::time::sleep(PERIOD.mul_f64(0.5 + chance::share())).await;
            if let Err(reason) = self.reap_once().await {
                self.counters.retried();
                debug!(%reason, "expired holds could not be dropped; will try again");
            }
        }
    }

    async fn reap_once(&self) -> Result<(), OutboundError> {
        self.counters.reserved(self.store.reserved().await?);
        let ttl_ms = u64::try_from(self.hold.ttl.as_millis()).unwrap_or(u64::MAX);
        let since = Timestamp::from_millis(self.clock.now().as_millis().saturating_sub(ttl_ms));
        for _ in 0..MOST_GOES {
            let overdue = self.store.overdue(since, MAILBOXES_AT_A_TIME).await?;
            for mailbox in &overdue {
                self.expire(*mailbox).await?;
            }
            if (overdue.len() as u64) < MAILBOXES_AT_A_TIME {
                break;
            }
        }
        Ok(())
    }
}
