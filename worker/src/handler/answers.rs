//! What a handler has to say: answers, or why there are none.

use std::time::Duration;

use serde_json::value::{RawValue, to_raw_value};
use shared::protocol::{ErrorBody, ErrorCode};

/// The most answers that one message may have.
pub const MAX_ANSWERS: usize = 1_024;

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
    /// When to try again, from now.
    pub retry_after: Option<Duration>,
    /// What it shows of the application.
    pub(crate) presence: Presence,
}

/// What an error shows of the application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It has said so itself.
    #[default]
    There,
    /// It is not there.
    Silent,
    /// Nothing: it is others' fault.
    Unknown,
}

impl Presence {
    pub(crate) const fn is_there(self) -> Option<bool> {
        match self {
            Self::There => Some(true),
            Self::Silent => Some(false),
            Self::Unknown => None,
        }
    }
}

impl HandlerError {
    /// An error as temporary as its code is.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            temporary: code.is_temporary(),
            retry_after: None,
            presence: Presence::There,
        }
    }

    /// Says what it shows of the application.
    #[must_use]
    pub(crate) const fn showing(mut self, presence: Presence) -> Self {
        self.presence = presence;
        self
    }

    /// Says when to try again, from now.
    #[must_use]
    pub const fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
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
        let after = error.retry_after;
        Self {
            temporary: error.temporary,
            retry_after_ms: after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            ..Self::new(error.code, error.message)
        }
    }
}
