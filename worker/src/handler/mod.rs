//! What an application does with a message whose sender is proved.
//!
//! A handler sees the identity of *that message's* token (or, if it has none, of its
//! connection's authentication), and never the token.
//! Whatever it does, its worker lives: an error, a panic or too long a silence
//! is one `error` to the client. And whatever it is, it is not asked about a message
//! whose token lacks a scope that the settings require.
//!
//! An application in Rust is a [`Handler`]. For all others there are handlers that
//! hand its messages over, `http` and `amqp`, which share what is in `upstream`;
//! `relay` needs none.

mod along;
mod answers;
mod echo;
mod own;

mod upstream;

mod amqp;
mod http;

mod relay;

pub(crate) mod breaker;
pub(crate) mod builtin;
pub(crate) mod idempotency;
pub(crate) mod places;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use shared::service::clock::Timestamp;
use shared::wire::id::ConnectionId;
pub use shared::wire::id::MessageId;
pub use shared::wire::protocol::ErrorCode;
use shared::wire::protocol::{Effect, ErrorBody};
use tokio_util::sync::CancellationToken;

pub use self::along::MAX_PUSHES;
pub(crate) use self::answers::{Along, Whom};
pub use self::answers::{Answers, HandlerError, MAX_ANSWERS};
pub(crate) use self::answers::{Presence, Said};
pub use self::echo::Echo;
pub(crate) use self::own::Improper;
use crate::auth::identity::Identity;
use crate::config::{Reading, RequiredScopes};
use crate::message::deadline;

/// A message, and who sent it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Request<'a> {
    /// On whose behalf the message is: whom its token speaks for, or, if it has none, its connection's authentication.
    /// Of a public message that no one has proved it is [anonymous](Identity::is_anonymous).
    pub identity: &'a Identity,
    /// Every claim of the token that proved it, as the issuer wrote them.
    pub claims: &'a Map<String, Value>,
    /// The client (RFC 6749 §2) that the message's own token was issued to, or else that of its connection's, by the claims
    /// that `jwt-client-claims` names; none if they name none.
    pub client: Option<&'a str>,
    /// The message's `type`: 1 to 128 bytes, not beginning with `auth.`.
    pub kind: &'a str,
    /// The client's own name for the message: 1 to 128 bytes.
    pub id: Option<&'a str>,
    /// One JSON text, as the client wrote it, at most 126 levels deep.
    pub payload: Option<&'a RawValue>,
    /// Which message of which connection it is; none if it was injected. A message that is delivered
    /// again (effects are at least once) has the message id that it had.
    pub forwarded_id: Option<MessageId>,
    /// The `message_id` of one that was injected, if it has one.
    pub message_id: Option<&'a str>,
    /// How long its sender still waits, if they have said so (`timeout_ms`). The handler is dropped at its next `await` when
    /// that is over, as it is after `handler-timeout`.
    pub time_left: Option<Duration>,
    /// The same as a moment.
    pub(crate) deadline: Option<Timestamp>,
    /// Is cancelled when its sender has given it up.
    pub(crate) given_up: Option<&'a CancellationToken>,
    /// The connection that is answered, which may be another than the one that it came by.
    pub(crate) answered_on: Option<ConnectionId>,
    /// Whether its `id` names it beyond its connection: where `idempotency-window` is on.
    pub(crate) named: bool,
}

impl Request<'_> {
    /// What is to be told to anyone who the handler asks, so that they go on with the message's trace: see
    /// [`trace::headers`](crate::process::trace::headers).
    pub fn trace_headers(&self) -> Vec<(&'static str, String)> {
        crate::process::trace::headers()
    }

    /// A name for the message that it has each time that it comes, and that no other message has: up to 64 visible
    /// characters of ASCII. Where `idempotency-window` is on and the client gave the message an `id`, it is made of the identity,
    /// the client of its token and that `id`: the same when the client sends it again, on whatever connection. Else, and for strangers, it is
    /// the same only each time that the message is delivered. None if there is none to be had: of an injected message
    /// whose producer gave it no `message_id`. When such a one comes again, it may have one that it had not at first.
    ///
    /// Effects are at least once, and by this they become once: anyone who keeps the keys of what is done need not do it
    /// again.
    pub fn idempotency_key(&self) -> Option<String> {
        // Someone else, or another client, may use the same id for something else; and strangers are no one in particular.
        let named = self.named && !self.identity.is_anonymous();
        let digest = Sha256::new().chain_update(self.identity.tag().to_string());
        let digest = match (self.id.filter(|_| named), self.forwarded_id) {
            // No `message_id` has a NUL.
            (Some(id), _) => digest.chain_update([0]).chain_update(id),
            (None, Some(forwarded_id)) => return Some(forwarded_id.to_string()),
            (None, None) => digest.chain_update(self.message_id?),
        };
        let digest = match self.client {
            // The length goes last, so that no two pairs have one text.
            Some(client) => digest
                .chain_update(client)
                .chain_update((client.len() as u64).to_be_bytes()),
            None => digest,
        };
        Some(hex::encode(digest.finalize()))
    }

    /// The payload as a value of the application's; `null` stands in for one that is missing.
    ///
    /// # Errors
    /// `bad_request` if it is not of that shape. The text does not repeat the payload.
    pub fn payload_as<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        let text = self.payload.map_or("null", RawValue::get);
        serde_json::from_str(text).map_err(|_| {
            HandlerError::new(
                ErrorCode::BadRequest,
                "the payload does not have the shape that this `type` needs",
            )
        })
    }
}

/// What an application does with messages.
///
/// A program with a handler of its own is a worker with all settings of `worker` but `handler`:
/// [`program::run_with`](crate::app::program::run_with) is its `main`, as `examples/orders.rs` shows.
///
/// - Many messages are handled at a time (the setting `concurrency`). Those of one connection are handled one after the other,
///   in the order in which the terminator received them, if terminators run with `order = connection`, the default. With
///   `order = none`, and among connections, there is no order; [`Request::forwarded_id`] says which message came first.
/// - Effects are at least once: when a worker dies, its messages are handled again. [`Request::idempotency_key`] is then
///   the same.
/// - What it [pushes along](Answers::push_to_connection) is written to the one who asked before the answer; what it publishes
///   elsewhere has no order with it.
/// - A handler that takes longer than `handler-timeout`, or than its client waits ([`Request::time_left`]), is dropped at its next `await`, and its client told
///   `busy` or `deadline_exceeded`; one that panics, `internal`.
/// - While all of `concurrency` are at work, or its share for the message's `type` or identity is, nothing more of that is
///   begun. What must not wait for that should not be awaited in here.
/// - When several in a row have taken too long, no message of that `type` is handled for some seconds: clients are told
///   `busy`.
///
/// ```
/// use worker::{Answers, ErrorCode, Handler, HandlerError, Request};
///
/// struct Greeter;
///
/// impl Handler for Greeter {
///     async fn handle(&self, request: Request<'_>) -> Result<Answers, HandlerError> {
///         let greeting: String = request.payload_as()?;
///         if greeting.is_empty() {
///             return Err(HandlerError::new(ErrorCode::BadRequest, "say something"));
///         }
///         Answers::one(&format!("{greeting}, {}!", request.identity.subject.as_str()))
///     }
/// }
/// # use std::sync::Arc;
/// # use serde_json::{Value, json};
/// # use shared::bus::memory::MemoryBus;
/// # use shared::bus::topology::Names;
/// # use shared::bus::{Bus, Message, PublishTimeout, Properties, Route};
/// # use shared::service::clock::SystemClock;
/// # use worker::config::WorkerConfig;
/// # use worker::token::{Keys, Rules, Verifier};
/// # use worker::{Parts, Worker, store};
/// #
/// # const SECRET: &[u8] = b"a-secret-of-more-than-32-bytes,for-tests";
/// #
/// # fn parts() -> Parts {
/// #     let key = std::env::temp_dir().join(format!("greeter-{}", std::process::id()));
/// #     std::fs::write(&key, SECRET).unwrap();
/// #     let keys = format!("hmac:{}", key.display());
/// #     let settings = [("jwt-keys", keys.as_str()), ("jwt-issuer", "i"), ("jwt-audience", "greeter")];
/// #     let config: WorkerConfig = shared::service::config::from_pairs(settings).unwrap();
/// #     let keys = Keys::load(&[keys.parse().unwrap()], &config.issuers(), &[]).unwrap();
/// #     std::fs::remove_file(&key).unwrap();
/// #     let store = store::Settings {
/// #         url: "memory:".to_owned(),
/// #         namespace: "countersign".to_owned(),
/// #         timeout: config.store_timeout,
/// #         leeway: config.jwt_leeway,
/// #         max_revocations: config.max_revocations,
/// #     };
/// #     Parts {
/// #         bus: Arc::new(MemoryBus::new(&Names::new("countersign").common())),
/// #         store: store::open(&store, Arc::new(SystemClock)).unwrap(),
/// #         verifier: Arc::new(Verifier::new(keys, Rules::new(vec!["greeter".to_owned()]), 1)),
/// #         issuers: config.issuers(),
/// #         clock: Arc::new(SystemClock),
/// #         limits: config.limits(),
/// #         sealing: worker::Sealing::OFF,
/// #         listener: None,
/// #     }
/// # }
/// #
/// # fn token_of(subject: &str) -> String {
/// #     let exp = jsonwebtoken::get_current_timestamp() + 60;
/// #     let claims = json!({"iss": "i", "aud": "greeter", "sub": subject, "exp": exp});
/// #     let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
/// #     jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
/// # }
/// #
/// # async fn ask(bus: &dyn Bus, message: Value) -> Value {
/// #     let replies = Names::new("countersign").inject_queue(1);
/// #     let mut answers = bus.consumer(replies.clone(), 1);
/// #     let properties = Properties { reply_to: Some(replies.name), ..Properties::default() };
/// #     let message = Message { body: message.to_string().into(), properties };
/// #     let route = Route::new("countersign", "message");
/// #     bus.publisher(PublishTimeout::Endless).publish(route, message).await.unwrap();
/// #     let answer = answers.recv().await.unwrap();
/// #     serde_json::from_slice(&answer.message.body).unwrap()
/// # }
/// #
/// # #[tokio::main]
/// # async fn main() {
/// # let parts = parts();
/// # let bus = parts.bus.clone();
///
/// // `parts` is where it stands: a broker, a store, keys.
/// let worker = Worker::start_with(parts, Greeter);
/// let message = json!({"type": "greet", "token": token_of("alice"), "payload": "Hello"});
/// assert_eq!(ask(&*bus, message).await, json!({"type": "reply", "payload": "Hello, alice!"}));
/// # drop(worker);
/// # }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Handles one message.
    ///
    /// # Errors
    /// What the client is told instead of an answer.
    fn handle(&self, request: Request<'_>) -> impl Future<Output = Result<Answers, HandlerError>> + Send;
}

type Handling<'a> = Pin<Box<dyn Future<Output = Result<Answers, HandlerError>> + Send + 'a>>;

/// Any handler.
pub(crate) trait Erased: Send + Sync {
    fn handle<'a>(&'a self, request: Request<'a>) -> Handling<'a>;
}

impl<H: Handler> Erased for H {
    fn handle<'a>(&'a self, request: Request<'a>) -> Handling<'a> {
        // The call itself may panic, so it waits for the first poll, which is guarded.
        Box::pin(async move { Handler::handle(self, request).await })
    }
}

/// Any handler, guarded.
pub(crate) struct HandlerRunner {
    handler: Box<dyn Erased>,
    timeout: Duration,
    scopes: RequiredScopes,
    reading: Reading,
}

/// Why the handler did not answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It said so: what its client is told, and what that shows of it.
    Error(Box<ErrorBody>, Presence),
    /// It panicked.
    Panic,
    /// It took too long, and was cancelled.
    Timeout,
    /// No one waits for it any more, and it was cancelled; and what that shows of it.
    Deadline(Presence),
    /// Its sender has given the message up, and it was cancelled.
    GivenUp,
    /// It gave more than [`MAX_ANSWERS`] answers.
    TooManyAnswers,
    /// It said what cannot be passed on.
    Improper(Improper),
}

impl Failure {
    /// A word for it, for traces.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Error(error, _) => error.code.as_str(),
            Self::Improper(_) => "improper",
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::GivenUp => "given_up",
            Self::Deadline(_) => "deadline",
            Self::TooManyAnswers => "too_many_answers",
        }
    }

    /// What the client is told.
    pub(crate) fn into_error(self) -> ErrorBody {
        match self {
            Self::Error(error, _) => *error,
            Self::Panic | Self::TooManyAnswers | Self::Improper(_) => {
                ErrorBody::new(ErrorCode::Internal, "internal error").having(Effect::Unknown)
            }
            Self::Deadline(_) => deadline::exceeded(true),
            Self::GivenUp => deadline::cancelled(true),
            Self::Timeout => {
                ErrorBody::new(ErrorCode::Busy, "the message took too long to handle").having(Effect::Unknown)
            }
        }
    }
}

impl HandlerRunner {
    pub(crate) fn new(handler: Box<dyn Erased>, timeout: Duration, scopes: RequiredScopes, reading: Reading) -> Self {
        Self {
            handler,
            timeout,
            scopes,
            reading,
        }
    }

    /// Why the message's token does not allow what its type needs, if so.
    pub(crate) fn forbids(&self, request: &Request<'_>) -> Option<ErrorBody> {
        let issuer = &request.identity.issuer;
        let scope = self
            .scopes
            .lacking(request.kind, issuer, request.claims, &self.reading)?;
        let why = format!("the token lacks the scope `{scope}`, which messages of this `type` need");
        Some(ErrorBody::new(ErrorCode::Forbidden, why))
    }

    /// Handles one message, within the time.
    pub(crate) async fn handle(&self, request: Request<'_>) -> Result<Answers, Failure> {
        // What a handler shares with itself, and leaves broken by a panic, it must guard itself.
        let handling = AssertUnwindSafe(self.handler.handle(request)).catch_unwind();
        let left = request.time_left.filter(|left| *left < self.timeout);
        match tokio::time::timeout(left.unwrap_or(self.timeout), handling).await {
            Err(_) => Err(match left {
                // That a client has little patience says nothing of the application.
                Some(left) if left < self.timeout / 2 => Failure::Deadline(Presence::Unknown),
                Some(_) => Failure::Deadline(Presence::Silent),
                None => Failure::Timeout,
            }),
            Ok(Err(_)) => Err(Failure::Panic),
            Ok(Ok(Err(error))) => {
                let presence = error.presence;
                let error = own::to_body(error).map_err(Failure::Improper)?;
                Err(Failure::Error(Box::new(error), presence))
            }
            Ok(Ok(Ok(mut answers))) => {
                along::check(&answers, &request).map_err(Failure::Improper)?;
                if answers.said().len() > MAX_ANSWERS {
                    return Err(Failure::TooManyAnswers);
                }
                along::name(&mut answers, &request);
                Ok(answers)
            }
        }
    }
}

#[cfg(test)]
mod tests;
