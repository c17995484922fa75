//! Whether the broker is there, told on the admin port: as a check of `/readyz`, and in two metrics.

use metrics::{counter, gauge};
use tokio::sync::watch;

use super::CheckHandle;
use crate::bus::Link;

/// Keeps the check and the metrics `countersign_<program>_broker_up` and `countersign_<program>_broker_reconnects_total` in
/// step with the link, until the bus ends.
pub async fn watch_broker(program: &str, check: CheckHandle, mut link: watch::Receiver<Link>) {
    let up = gauge!(format!("countersign_{program}_broker_up"));
    let reconnects = counter!(format!("countersign_{program}_broker_reconnects_total"));
    // The first connection is no reconnect.
    let (mut was_up, mut was_ever_up) = (false, false);
    loop {
        let is_up = match &*link.borrow_and_update() {
            Link::Up => {
                check.ok();
                true
            }
            Link::Blocked => {
                check.failing("the broker takes nothing: it is short of memory or disk");
                false
            }
            Link::Away(reason) => {
                check.failing(reason.as_ref());
                false
            }
        };
        up.set(if is_up { 1.0 } else { 0.0 });
        reconnects.increment(u64::from(is_up && !was_up && was_ever_up));
        (was_up, was_ever_up) = (is_up, was_ever_up || is_up);
        if link.changed().await.is_err() {
            return;
        }
    }
}
