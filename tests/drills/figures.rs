//! What is held where, and how it is written down.

use std::{fs, sync::Arc, time::Duration};

use tests::Stack;
use tokio::{task::JoinHandle, time::interval};

/// How often it is looked at.
const PERIOD: Duration = Duration::from_millis(250);

/// The most bytes that were held while someone watched.
#[derive(Clone, Copy, Default)]
pub(crate) struct Held {
    pub(crate) terminator: u64,
    pub(crate) worker: u64,
    pub(crate) store: u64,
    pub(crate) queues: u64,
}

/// Anyone who watches.
pub(crate) struct Watch(JoinHandle<()>, Arc<std::sync::Mutex<Held>>);

impl Watch {
    pub(crate) fn begin(stack: &Arc<Stack>) -> Self {
        let most = Arc::new(std::sync::Mutex::new(Held::default()));
        let (stack, seen) = (stack.clone(), most.clone());
        let watching = tokio::spawn(async move {
            let mut ticks = interval(PERIOD);
            let before = store_bytes(&stack).await;
            loop {
                ticks.tick().await;
                let store = store_bytes(&stack).await.saturating_sub(before);
                let mut seen = seen.lock().unwrap();
                seen.terminator = seen.terminator.max(resident(stack.terminators()[0].id()));
                seen.worker = seen.worker.max(resident(stack.workers()[0].id()));
                seen.store = seen.store.max(store);
            }
        });
        Self(watching, most)
    }

    /// What was held at most; in the queues, what is there now.
    pub(crate) async fn end(self, stack: &Stack) -> Held {
        let queues = stack.broker().queue_bytes(stack.namespace()).await;
        self.0.abort();
        let most = *self.1.lock().unwrap();
        Held { queues, ..most }
    }
}

/// A process' resident memory.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1_024
}

async fn store_bytes(stack: &Stack) -> u64 {
    let Ok(mut store) = stack.store().connect().await else {
        return 0;
    };
    let told: Result<String, _> = redis::cmd("INFO").arg("memory").query_async(&mut store).await;
    let told = told.unwrap_or_default();
    let line = told.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
}

/// The 99th percentile.
pub(crate) fn p99(of: &[Duration]) -> Duration {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    let place = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64() * 1_000.0)
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}
