//! `POST /inject`: a message by the queue, as any other service would send it.
//!
//! It waits for the answer in a queue of its own, as the contract tells
//! injectors to. One at a time: an injected message has no connection whose name
//! could tell its journey from another's.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::bus::topology::{Names, keys};
use shared::bus::{Bus, Consumer, Message, Patience, Properties, Publication, PublishError, Publisher, Receipt, Route};
use shared::envelope::JSON;
use tokio::sync::broadcast::Receiver;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;
use tracing::debug;

use super::journey::{Journeys, Stage, TARGET};
use super::page::Page;

/// How long the broker may take to confirm.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the answer may take, a busy handler's included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the worker may take to tell that its answer was confirmed, once the answer is here.
const LAST_STAGE_TIMEOUT: Duration = Duration::from_secs(1);
/// One answer is awaited at a time; those of who left early come between.
const PREFETCH: u16 = 16;

/// Sends by the queue, and waits for the answer.
pub(crate) struct Injector {
    publisher: Publisher,
    route: Route,
    reply_to: String,
    answers: Mutex<Answers>,
}

struct Answers {
    consumer: Consumer,
    asked: u64,
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
    /// Begins to listen for answers.
    pub(crate) fn new(bus: &dyn Bus, names: &Names) -> Self {
        let queue = names.inject_queue(rand::random());
        Self {
            publisher: bus.publisher(Patience::Limited(PATIENCE)),
            route: Route::new(&names.exchange().name, keys::MESSAGE),
            reply_to: queue.name.clone(),
            answers: Mutex::new(Answers {
                consumer: bus.consumer(queue, PREFETCH),
                asked: 0,
            }),
        }
    }

    async fn ask(&self, message: &RawValue, journeys: &Journeys) -> Result<Injected, PublishError> {
        let mut answers = self.answers.lock().await;
        answers.asked += 1;
        let stamp = format!("injected-{}", answers.asked);
        let _named = journeys.name_injected(&stamp);
        let mut stages = journeys.watch();
        debug!(target: TARGET, stage = "inject", stamp, bytes = message.get().len());
        self.publish(&stamp, message).await?;
        let answer = timeout(ANSWER_TIMEOUT, answers.to(&stamp)).await.ok().flatten();
        if answer.is_some() {
            debug!(target: TARGET, stage = "fetch", stamp);
            // The name must stay until the worker has told its last.
            let _ = timeout(LAST_STAGE_TIMEOUT, returned(&mut stages, &stamp)).await;
        }
        Ok(Injected { stamp, answer })
    }

    async fn publish(&self, stamp: &str, message: &RawValue) -> Result<(), PublishError> {
        let (settle, settled) = oneshot::channel();
        let name = stamp.to_owned();
        let receipt: Receipt = Box::new(move |outcome| {
            if outcome.is_ok() {
                debug!(target: TARGET, stage = "queue", stamp = name);
            }
            // Whoever asked may have left.
            let _ = settle.send(outcome);
        });
        let publication = Publication {
            route: self.route.clone(),
            message: self.message(stamp, message),
            receipt,
        };
        self.publisher.submit(publication).await;
        settled.await.unwrap_or(Err(PublishError::Ended))
    }

    fn message(&self, stamp: &str, text: &RawValue) -> Message {
        Message {
            body: text.get().to_owned().into(),
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                correlation_id: Some(stamp.to_owned()),
                reply_to: Some(self.reply_to.clone()),
                ..Properties::default()
            },
        }
    }
}

impl Answers {
    /// The answer to the message of this name; what is left of others is thrown away.
    async fn to(&mut self, stamp: &str) -> Option<Box<RawValue>> {
        loop {
            let mut delivery = self.consumer.recv().await?;
            let message = delivery.take_message();
            delivery.ack();
            if message.properties.correlation_id.as_deref() == Some(stamp) {
                return serde_json::from_slice(&message.body).ok();
            }
        }
    }
}

async fn returned(stages: &mut Receiver<Arc<Stage>>, stamp: &str) {
    while let Ok(stage) = stages.recv().await {
        if stage.stamp == stamp && stage.stage == "return" {
            return;
        }
    }
}

pub(super) async fn inject(
    State(page): State<Arc<Page>>,
    Json(message): Json<Box<RawValue>>,
) -> Result<Json<Injected>, (StatusCode, String)> {
    let injected = page.injector.ask(&message, &page.journeys).await;
    let refused = |error: PublishError| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    injected.map(Json).map_err(refused)
}
