//! What an application does with a message whose sender is proved.
//!
//! A handler sees the identity of *that message's* token (or, if it has none, of its
//! connection's authentication), and never the token.
//! Whatever it does, its worker lives: an error, a panic or too long a silence
//! is one `error` to the client.

mod echo;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use shared::id::Stamp;
use shared::protocol::{ErrorBody, ErrorCode};

pub use self::echo::Echo;
use crate::identity::Identity;

/// The most answers that one message may have.
pub const MAX_ANSWERS: usize = 1_024;

/// A message, and who sent it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Request<'a> {
    /// In whose name the message is: whom its token speaks for, or, if it has none, its connection's authentication.
    pub identity: &'a Identity,
    /// Every claim of the token that proved it, as the issuer wrote them.
    pub claims: &'a Map<String, Value>,
    /// The message's `type`: 1 to 128 bytes, not beginning with `auth.`.
    pub kind: &'a str,
    /// The client's own name for the message: 1 to 128 bytes.
    pub id: Option<&'a str>,
    /// One JSON text, as the client wrote it, at most 126 levels deep.
    pub payload: Option<&'a RawValue>,
    /// Which message of which connection it is; nothing if it was injected. A message that is delivered
    /// again (effects are at least once) has the stamp that it had.
    pub stamp: Option<Stamp>,
}

impl Request<'_> {
    /// What is to be told to whoever the handler asks, so that they go on with the message's trace: see
    /// [`trace::headers`](crate::trace::headers).
    pub fn trace_headers(&self) -> Vec<(&'static str, String)> {
        crate::trace::headers()
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

/// The answers to a message, in order. Each becomes a `reply`.
#[derive(Debug, Default)]
pub struct Answers(Vec<Option<Box<RawValue>>>);

impl Answers {
    /// No answer: the client hears nothing.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// One answer.
    ///
    /// # Errors
    /// `internal` if the value cannot be written as JSON.
    pub fn one(payload: &impl serde::Serialize) -> Result<Self, HandlerError> {
        let raw = to_raw_value(payload)
            .map_err(|_| HandlerError::new(ErrorCode::Internal, "the answer cannot be written as JSON"))?;
        Ok(Self::raw(Some(raw)))
    }

    /// One answer that is JSON already; without a payload it says only that the message was handled.
    pub fn raw(payload: Option<Box<RawValue>>) -> Self {
        Self(vec![payload])
    }

    /// Adds another.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The payloads, in order.
    pub(crate) fn payloads(&self) -> &[Option<Box<RawValue>>] {
        &self.0
    }
}

/// Why a handler has no answer. The client sees all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.as_str())]
pub struct HandlerError {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// Whether the same message may well succeed later, unchanged.
    pub temporary: bool,
}

impl HandlerError {
    /// An error as temporary as its code is.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            temporary: code.is_temporary(),
        }
    }

    /// Says whether the same message may well succeed later, unchanged.
    #[must_use]
    pub const fn temporary(mut self, temporary: bool) -> Self {
        self.temporary = temporary;
        self
    }
}

impl From<HandlerError> for ErrorBody {
    fn from(error: HandlerError) -> Self {
        Self {
            temporary: error.temporary,
            ..Self::new(error.code, error.message)
        }
    }
}

/// What an application does with messages. Many are handled at a time, in no order.
pub trait Handler: Send + Sync + 'static {
    /// Handles one message. It may be called again for the same message after a crash, so effects are at least once.
    ///
    /// # Errors
    /// What the client is told instead of an answer.
    fn handle(&self, request: Request<'_>) -> impl Future<Output = Result<Answers, HandlerError>> + Send;
}

type Handling<'a> = Pin<Box<dyn Future<Output = Result<Answers, HandlerError>> + Send + 'a>>;

trait Erased: Send + Sync {
    fn handle<'a>(&'a self, request: Request<'a>) -> Handling<'a>;
}

impl<H: Handler> Erased for H {
    fn handle<'a>(&'a self, request: Request<'a>) -> Handling<'a> {
        // The call itself may panic, so it waits for the first poll, which is guarded.
        Box::pin(async move { Handler::handle(self, request).await })
    }
}

/// Any handler, guarded.
pub(crate) struct Guarded {
    handler: Box<dyn Erased>,
    timeout: Duration,
}

/// Why the handler did not answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It said so.
    Error(HandlerError),
    /// It panicked.
    Panic,
    /// It took too long, and was cancelled.
    Timeout,
    /// It gave more than [`MAX_ANSWERS`] answers.
    TooManyAnswers,
}

impl Failure {
    /// A word for it, for traces.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Error(error) => error.code.as_str(),
            Self::Panic => "panic",
            Self::Timeout => "timeout",
            Self::TooManyAnswers => "too_many_answers",
        }
    }

    /// What the client is told.
    pub(crate) fn into_error(self) -> ErrorBody {
        match self {
            Self::Error(error) => error.into(),
            Self::Panic | Self::TooManyAnswers => ErrorBody::new(ErrorCode::Internal, "something went wrong here"),
            Self::Timeout => ErrorBody::new(ErrorCode::Busy, "the message took too long to handle"),
        }
    }
}

impl Guarded {
    pub(crate) fn new(handler: impl Handler, timeout: Duration) -> Self {
        Self {
            handler: Box::new(handler),
            timeout,
        }
    }

    /// Handles one message, within the time.
    pub(crate) async fn handle(&self, request: Request<'_>) -> Result<Answers, Failure> {
        // What a handler shares with itself, and leaves broken by a panic, it must guard itself.
        let handling = AssertUnwindSafe(self.handler.handle(request)).catch_unwind();
        match tokio::time::timeout(self.timeout, handling).await {
            Err(_) => Err(Failure::Timeout),
            Ok(Err(_)) => Err(Failure::Panic),
            Ok(Ok(Err(error))) => Err(Failure::Error(error)),
            Ok(Ok(Ok(answers))) if answers.0.len() > MAX_ANSWERS => Err(Failure::TooManyAnswers),
            Ok(Ok(Ok(answers))) => Ok(answers),
        }
    }
}
