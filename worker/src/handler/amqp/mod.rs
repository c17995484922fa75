//! Messages for applications on the broker: `amqp`.
//!
//! Each is published to the topic exchange `<ns>.app`, under its `type`, and
//! the application answers as to any request by AMQP: to `reply_to`, with the
//! `correlation_id`. What the message says of itself goes as it came; who sent it
//! stands in headers, as the token proved it; the token goes nowhere.
//!
//! | property | |
//! |---|---|
//! | body | the payload; `null` if there is none |
//! | `type`, and the routing key | the message's `type` |
//! | `message_id` | the same each time that the message is delivered; absent if it cannot be told |
//! | `reply_to`, `correlation_id` | where the answer goes, and by what it is known |
//! | `expiration` | how long anyone waits for the answer: a message that has waited for longer is dropped |
//! | header `issuer`, `subject` | who sent it |
//! | header `claims` | the token's claims, a JSON text of at most `jwt-max-size` |
//! | header `timeout-ms` | how long the sender still waits, in milliseconds, if they have said so |
//! | header `id` | the client's own name for the message, if it has one |
//! | header `connection` | the connection that sent it, if one did |
//!
//! The answers come to a queue of this worker's own. Not to that of its revocations, which would wait behind them, and
//! where an application could write what is believed; and not by direct reply-to, which would need one channel to publish
//! and to consume, and we publish on a connection that the broker may block.

mod rejected;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use shared::bus::topology::{Names, Queue};
use shared::bus::{Bus, Consumer, Message, Properties, PublishError, PublishTimeout, Publisher, Route, Value};
use shared::service::chance;
use shared::wire::envelope::JSON;
use shared::wire::protocol::{Effect, ErrorCode};
use tokio::task::JoinSet;
use tracing::debug;

use self::waiting::Waiting;
use super::idempotency::fingerprint;
use super::upstream::metrics::{CallOutcome, Calls};
use super::upstream::reply::{self, MAX_ANSWER_BYTES, Refusal, Unreadable};
use super::{Answers, Handler, HandlerError, Presence, Request};
use crate::auth::rights::Allowed;

/// The header that says how long the message's sender still waits, in milliseconds.
const TIMEOUT_MS: &str = "timeout-ms";

/// The `type` of an answer that is a refusal: `{"code", "message", "details"?, "temporary"?, "retry_after_ms"?}`.
const TYPE_ERROR: &str = "error";

/// The header of an answer that says that another follows. They are passed on when all are there.
const MORE: &str = "more";

/// Answers are handed over as they come.
const REPLIES_PREFETCH: u16 = 256;
/// One is answered after the other.
const REJECTED_PREFETCH: u16 = 16;

/// Publishes messages, and waits for the answers.
pub(crate) struct Amqp {
    exchange: String,
    reply_to: String,
    publisher: Publisher,
    waiting: Arc<Waiting>,
    calls: Arc<Calls>,
    limit: Duration,
    /// No one else can tell by what an answer is known.
    secret: [u8; 16],
    /// Hands over the answers. It ends with this value.
    _reader: JoinSet<()>,
}

impl Amqp {
    /// `replies` is this worker's queue for the answers, `limit` when a call is cancelled because it took too long.
    pub(crate) fn begin(bus: &dyn Bus, names: &Names, replies: Queue, limit: Duration) -> Self {
        let (waiting, calls) = (Arc::<Waiting>::default(), Arc::new(Calls::new(limit)));
        let reply_to = replies.name.clone();
        let mut reader = JoinSet::new();
        reader.spawn(read(
            bus.consumer(replies, REPLIES_PREFETCH),
            waiting.clone(),
            calls.clone(),
        ));
        reader.spawn(rejected::answer(
            bus.consumer(names.rejected(), REJECTED_PREFETCH),
            bus.replier(PublishTimeout::Limited(limit)),
            names.clone(),
        ));
        Self {
            exchange: names.app_exchange().name,
            reply_to,
            publisher: bus.publisher(PublishTimeout::Limited(limit)),
            waiting,
            calls,
            limit,
            secret: chance::bits().to_be_bytes(),
            _reader: reader,
        }
    }

    fn message(&self, request: &Request<'_>, correlation_id: &str) -> Message {
        let text = |name: &str, text: String| (name.to_owned(), Value::Text(text));
        let identity = request.identity;
        // Claims came as JSON, so they can be written as JSON.
        let mut headers = vec![text(
            "claims",
            serde_json::to_string(request.claims).unwrap_or_default(),
        )];
        if identity.is_anonymous() {
            headers.push(("anonymous".to_owned(), Value::Flag(true)));
        } else {
            headers.push(text("issuer", identity.issuer.as_str().to_owned()));
            headers.push(text("subject", identity.subject.as_str().to_owned()));
        }
        headers.extend(request.id.map(|id| text("id", id.to_owned())));
        headers.extend(
            request
                .forwarded_id
                .map(|forwarded_id| text("connection", forwarded_id.connection.to_string())),
        );
        headers.extend(
            request
                .trace_headers()
                .into_iter()
                .map(|(name, value)| text(name, value)),
        );
        let left = request.time_left.map(|left| left.min(self.limit));
        if let Some(left) = request.time_left {
            let ms = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
            headers.push((TIMEOUT_MS.to_owned(), Value::Integer(ms)));
        }
        let payload = request.payload.map_or("null", |payload| payload.get());
        Message {
            body: Bytes::copy_from_slice(payload.as_bytes()),
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                kind: Some(request.kind.to_owned()),
                message_id: request.idempotency_key(),
                correlation_id: Some(correlation_id.to_owned()),
                reply_to: Some(self.reply_to.clone()),
                expiration: Some(left.unwrap_or(self.limit)),
                headers,
                ..Properties::default()
            },
        }
    }

    /// By what the answer is known: anyone who answers without having been asked would have to guess it. The same message, sent
    /// again with a token that allows the same, has the same, so that a late answer to the first answers the second.
    fn correlation_id(&self, request: &Request<'_>) -> String {
        let key = request
            .idempotency_key()
            .filter(|_| request.named && request.id.is_some());
        let Some(key) = key else {
            return format!("{:032x}", chance::bits());
        };
        let allowed = serde_json::to_string(&Allowed::of(request.claims)).unwrap_or_default();
        let digest = Sha256::new()
            .chain_update(self.secret)
            .chain_update(key)
            .chain_update(fingerprint(request.kind, request.payload))
            .chain_update(allowed);
        hex::encode(digest.finalize())
    }

    async fn ask(&self, request: &Request<'_>) -> Result<Vec<Message>, PublishError> {
        let correlation_id = self.correlation_id(request);
        // What was asked before under that name may have been answered when no one waited any more.
        if let Some(answer) = self.waiting.late(&correlation_id) {
            return Ok(vec![answer]);
        }
        let message = self.message(request, &correlation_id);
        let mut expected = self.waiting.expect(correlation_id);
        let published = self
            .publisher
            .publish(Route::new(&self.exchange, request.kind), message);
        tokio::select! {
            biased;
            // It may come before the broker has confirmed the request.
            Some(answers) = expected.answers() => Ok(answers),
            published = published => {
                published?;
                expected.answers().await.ok_or(PublishError::Ended)
            }
        }
    }
}

/// Hands over answers until there will be none. What no one waits for any more is counted.
async fn read(mut replies: Consumer, waiting: Arc<Waiting>, calls: Arc<Calls>) {
    while let Some(mut delivery) = replies.recv().await {
        let answer = delivery.take_message();
        delivery.ack();
        let correlation_id = answer.properties.correlation_id.clone().unwrap_or_default();
        // A refusal is the last word.
        let more = !is_refusal(&answer) && matches!(answer.properties.header(MORE), Some(Value::Flag(true)));
        if !waiting.settle(&correlation_id, answer, more) {
            calls.late();
            debug!("an application's answer came too late, or twice");
        }
    }
}

impl Handler for Amqp {
    async fn handle(&self, request: Request<'_>) -> Result<Answers, HandlerError> {
        let call = self.calls.begin(request.time_left);
        let (outcome, said) = match self.ask(&request).await {
            Ok(answers) => match answers.last().filter(|last| is_refusal(last)) {
                Some(refusal) => refused(&refusal.body),
                None => answered(&answers, request.id),
            },
            Err(reason) => (CallOutcome::Unreachable, Err(unpublished(reason))),
        };
        call.end(outcome);
        said
    }
}

fn is_refusal(answer: &Message) -> bool {
    answer.properties.kind.as_deref() == Some(TYPE_ERROR)
}

/// Several are as good as the worst of them: all are passed on, or none.
fn answered(answers: &[Message], id: Option<&str>) -> (CallOutcome, Result<Answers, HandlerError>) {
    let bytes: usize = answers.iter().map(|answer| answer.body.len()).sum();
    let read = |answer: &Message| reply::said(&answer.body, answer.properties.content_type.as_deref(), id);
    let said = answers
        .iter()
        .try_fold(Answers::none(), |said, answer| Ok(said.and(read(answer)?)));
    match said.and_then(|said| (bytes <= MAX_ANSWER_BYTES).then_some(said).ok_or(Unreadable)) {
        Ok(said) => (CallOutcome::Answered, Ok(said)),
        Err(Unreadable) => {
            let error = HandlerError::new(ErrorCode::Internal, Unreadable.to_string()).having(Effect::Unknown);
            (CallOutcome::InvalidResponse, Err(error))
        }
    }
}

fn refused(body: &[u8]) -> (CallOutcome, Result<Answers, HandlerError>) {
    let said = Refusal::read(body);
    // A code of its own says what is wrong with the message.
    let usual = if said.has_own() {
        ErrorCode::BadRequest
    } else {
        ErrorCode::Internal
    };
    let error = said.or(usual, "the application refused the message", false);
    let outcome = match error.temporary {
        true => CallOutcome::Failed,
        false => CallOutcome::Refused,
    };
    (outcome, Err(error))
}

fn unpublished(reason: PublishError) -> HandlerError {
    match reason {
        // It costs nothing to ask again, and a client may call a message anything.
        PublishError::Unroutable => HandlerError::new(
            ErrorCode::Busy,
            "no application takes messages of this `type` at the moment",
        )
        .showing(Presence::Unknown)
        .having(Effect::None),
        PublishError::Refused => HandlerError::new(ErrorCode::Busy, "too much waits for the application already")
            .showing(Presence::Silent)
            .having(Effect::None),
        // It may have been taken, and the broker gone before it said so.
        PublishError::Away | PublishError::Ended => {
            HandlerError::new(ErrorCode::Busy, "the application cannot be reached at the moment")
                .showing(Presence::Unknown)
                .having(Effect::Unknown)
        }
        PublishError::Malformed => HandlerError::new(ErrorCode::Internal, "the message cannot be published"),
    }
}
