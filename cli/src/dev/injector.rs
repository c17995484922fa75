//! Sends a message by the queue, as any other service would.
//!
//! One at a time: an injected message has no connection whose name could tell its
//! journey from another's.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use shared::bus::topology::keys;
use shared::bus::{Message, Properties, PublishError};
use shared::wire::envelope::JSON;
use tokio::sync::Mutex;
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

use super::backend::Backend;
use super::journey::{Journeys, Stage};
use crate::support::rpc_client::One;

/// How long the worker may take to tell that its answer was confirmed, once the answer is here.
const LAST_STAGE_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends by the queue, and waits for the answer.
pub(crate) struct Injector {
    backend: Backend,
    /// How many there were. Locked as long as one is on its way.
    count: Mutex<u64>,
}

/// What came of a message.
#[derive(Serialize)]
pub(super) struct Injected {
    /// The name of its journey.
    message_id: String,
    /// The answer; none if none came in time.
    answer: Option<Box<RawValue>>,
}

impl Injector {
    /// Sends through `backend`.
    pub(crate) fn new(backend: Backend) -> Self {
        Self {
            backend,
            count: Mutex::new(0),
        }
    }

    pub(super) async fn inject(&self, message: &RawValue, journeys: &Journeys) -> Result<Injected, PublishError> {
        let mut count = self.count.lock().await;
        *count += 1;
        let message_id = format!("injected-{count}");
        let _named = journeys.name_injected(&message_id);
        let mut stages = journeys.watch();
        journeys.add("inject", &message_id, json!({"bytes": message.get().len()}));
        let request = Message {
            body: message.get().to_owned().into(),
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                ..Properties::default()
            },
        };
        let request = One::new(request).when_taken({
            let (journeys, message_id) = (journeys.clone(), message_id.clone());
            move || journeys.add("queue", &message_id, ())
        });
        let answer = self.backend.ask(keys::MESSAGE, request).await?;
        if answer.is_some() {
            journeys.add("fetch", &message_id, ());
            // The name must stay until the worker has told its last.
            let _ = timeout(LAST_STAGE_TIMEOUT, returned(&mut stages, &message_id)).await;
        }
        Ok(Injected { message_id, answer })
    }
}

async fn returned(stages: &mut Receiver<Arc<Stage>>, message_id: &str) {
    while let Ok(stage) = stages.recv().await {
        if stage.message_id == message_id && stage.stage == "return" {
            return;
        }
    }
}
