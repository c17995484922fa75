//! Asks by the queue, as any other service would, and waits for the answer in a queue of its own.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use shared::bus::topology::Names;
use shared::bus::{Bus, Consumer, Message, Properties, PublishError, PublishTimeout, Publisher, Route, Value};
use shared::wire::envelope::JSON;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long the broker may take to confirm.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the answer may take, a busy handler's included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// One answer is awaited at a time; those of who left early come between.
const PREFETCH: u16 = 16;

/// Asks, one question after the other.
pub(crate) struct RpcClient {
    publisher: Publisher,
    exchange: String,
    reply_to: String,
    answers: Mutex<Consumer>,
}

/// What is asked.
pub(super) struct Request<'a> {
    /// The routing key.
    pub(super) key: &'a str,
    /// By which its answer is known.
    pub(super) name: &'a str,
    pub(super) message_id: Option<String>,
    pub(super) headers: Vec<(String, Value)>,
    pub(super) body: Bytes,
}

impl RpcClient {
    /// Begins to listen for answers.
    pub(crate) fn new(bus: &dyn Bus, names: &Names) -> Self {
        let queue = names.inject_queue(rand::random());
        Self {
            publisher: bus.publisher(PublishTimeout::Limited(PATIENCE)),
            exchange: names.exchange().name,
            reply_to: queue.name.clone(),
            answers: Mutex::new(bus.consumer(queue, PREFETCH)),
        }
    }

    /// Asks. `taken` is called when the queue has the question. The answer is nothing if none came in time.
    ///
    /// # Errors
    /// If the queue does not take it.
    pub(super) async fn ask(
        &self,
        question: Request<'_>,
        taken: impl FnOnce(),
    ) -> Result<Option<Box<RawValue>>, PublishError> {
        let mut answers = self.answers.lock().await;
        let name = question.name;
        let route = Route::new(&self.exchange, question.key);
        let message = Message {
            body: question.body,
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                message_id: question.message_id,
                correlation_id: Some(name.to_owned()),
                reply_to: Some(self.reply_to.clone()),
                headers: question.headers,
                ..Properties::default()
            },
        };
        self.publisher.publish(route, message).await?;
        taken();
        Ok(timeout(ANSWER_TIMEOUT, answer_to(&mut answers, name))
            .await
            .ok()
            .flatten())
    }
}

/// The answer to the question of this name; what is left of others is thrown away.
async fn answer_to(answers: &mut Consumer, name: &str) -> Option<Box<RawValue>> {
    loop {
        let mut delivery = answers.recv().await?;
        let message = delivery.take_message();
        delivery.ack();
        if message.properties.correlation_id.as_deref() == Some(name) {
            return serde_json::from_slice(&message.body).ok();
        }
    }
}
