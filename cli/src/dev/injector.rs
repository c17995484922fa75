//! Sends a message by the queue, as any other service would.
//!
//! One at a time: an injected message has no connection whose name could tell its
//! journey from another's.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use shared::bus::PublishError;
use shared::bus::topology::keys;
use tokio::sync::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;
use tracing::debug;

use super::client::{Request, RpcClient};
use super::journey::{Journeys, Stage, TARGET};

/// How long the worker may take to tell that its answer was confirmed, once the answer is here.
const LAST_STAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends by the queue, and waits for the answer.
pub(crate) struct Injector {
    client: RpcClient,
    /// How many there were. Locked as long as one is on its way.
    count: Mutex<u64>,
}

/// What came of a message.
#[derive(Serialize)]
pub(super) struct Injected {
    /// The name of its journey.
    stamp: String,
    /// The answer; nothing if none came in time.
    answer: Option<Box<RawValue>>,
}

impl Injector {
    /// Sends through `client`.
    pub(crate) fn new(client: RpcClient) -> Self {
        Self {
            client,
            count: Mutex::new(0),
        }
    }

    pub(super) async fn inject(&self, message: &RawValue, journeys: &Journeys) -> Result<Injected, PublishError> {
        let mut count = self.count.lock().await;
        *count += 1;
        let stamp = format!("injected-{count}");
        let _named = journeys.name_injected(&stamp);
        let mut stages = journeys.watch();
        debug!(target: TARGET, stage = "inject", stamp, bytes = message.get().len());
        let question = Request {
            key: keys::MESSAGE,
            name: &stamp,
            message_id: None,
            headers: Vec::new(),
            body: message.get().to_owned().into(),
        };
        let taken = || debug!(target: TARGET, stage = "queue", stamp);
        let answer = self.client.ask(question, taken).await?;
        if answer.is_some() {
            debug!(target: TARGET, stage = "fetch", stamp);
            // The name must stay until the worker has told its last.
            let _ = timeout(LAST_STAGE_TIMEOUT, returned(&mut stages, &stamp)).await;
        }
        Ok(Injected { stamp, answer })
    }
}

async fn returned(stages: &mut Receiver<Arc<Stage>>, stamp: &str) {
    while let Ok(stage) = stages.recv().await {
        if stage.stamp == stamp && stage.stage == "return" {
            return;
        }
    }
}
