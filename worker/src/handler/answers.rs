//! What a handler has to say: answers, or why there are none.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use shared::wire::protocol::{Details, Effect, ErrorCode};

/// The most answers that one message may have.
pub const MAX_ANSWERS: usize = 1_024;

/// What a handler has to say to a message, in order: answers, of which each becomes a `reply`, and what it pushes along with
/// them to the one who asked.
#[derive(Debug, Default)]
pub struct Answers(pub(super) Vec<Said>);

/// One thing that a handler says.
#[derive(Debug)]
pub(crate) enum Said {
    /// An answer, with its payload if there is one.
    Reply(Option<Box<RawValue>>),
    /// A push.
    Push(Along),
}

/// One push that goes along.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Along {
    /// For whom.
    pub(crate) to: Whom,
    /// What the client sees as its `id`: the same each time that the message is handled.
    pub(crate) id: String,
    /// What it says.
    pub(crate) payload: Box<RawValue>,
}

/// For whom a push is that goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Whom {
    /// The connection that asked.
    Connection,
    /// All live connections of the identity that asked.
    Identity,
    /// Someone else. That cannot be.
    Others,
}

impl Along {
    pub(super) fn to(to: Whom, payload: Box<RawValue>) -> Self {
        Self {
            to,
            id: String::new(),
            payload,
        }
    }
}

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
        Self(vec![Said::Reply(payload)])
    }

    /// A `push` to the connection that asked, which is written there before whatever is [added](Self::and) to it. There can
    /// be [128](super::MAX_PUSHES) with the answers to one message, of 1 MiB in all; more, or one with an injected message,
    /// which has no connection, is a mistake of the handler's, and its client is told `internal`.
    ///
    /// # Errors
    /// `internal` if the value cannot be written as JSON.
    pub fn push_to_connection(payload: &impl serde::Serialize) -> Result<Self, HandlerError> {
        Self::push(Whom::Connection, payload)
    }

    /// The same to all connections that the identity has now. The others have it in their own time. With an injected message
    /// it is as any push is, and waits for the identity's next connection if it has none. With a message that is no one's it
    /// is a mistake.
    ///
    /// # Errors
    /// `internal` if the value cannot be written as JSON.
    pub fn push_to_identity(payload: &impl serde::Serialize) -> Result<Self, HandlerError> {
        Self::push(Whom::Identity, payload)
    }

    fn push(to: Whom, payload: &impl serde::Serialize) -> Result<Self, HandlerError> {
        let raw = to_raw_value(payload)
            .map_err(|_| HandlerError::new(ErrorCode::Internal, "the push cannot be written as JSON"))?;
        Ok(Self::along(Along::to(to, raw)))
    }

    /// One push.
    pub(crate) fn along(push: Along) -> Self {
        Self(vec![Said::Push(push)])
    }

    /// Adds another.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// All of it, in order.
    pub(crate) fn said(&self) -> &[Said] {
        &self.0
    }

    /// The pushes, in order.
    pub(crate) fn pushes(&self) -> impl Iterator<Item = &Along> {
        self.0.iter().filter_map(|said| match said {
            Said::Push(push) => Some(push),
            Said::Reply(_) => None,
        })
    }

    /// Leaves the pushes out.
    pub(crate) fn keep_replies(&mut self) {
        self.0.retain(|said| matches!(said, Said::Reply(_)));
    }
}

/// Why a handler has no answer. The client sees all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", self.word())]
pub struct HandlerError {
    /// For programs; what the client is told, unless there is a code of the application's own.
    pub code: ErrorCode,
    /// The application's own code, as it writes it.
    pub(crate) own: Option<String>,
    /// What it says besides, for programs.
    pub(crate) details: Option<Details>,
    /// For people.
    pub message: String,
    /// Whether the same message may well succeed later, unchanged.
    pub temporary: bool,
    /// When to try again, from now.
    pub retry_after: Option<Duration>,
    /// What it shows of the application.
    pub(crate) presence: Presence,
    /// What is known of the message's effect; none if the application knows, and has said what it says.
    pub(crate) effect: Option<Effect>,
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
            effect: None,
            own: None,
            details: None,
        }
    }

    /// An error of the application's own: `out_of_stock` goes to the client as `app.out_of_stock`. The code has 1 to 64
    /// letters, digits, `.`, `_` and `-`; one that is not so, or is one of ours, is a mistake of the handler's, and its client is told
    /// `internal`.
    pub fn own(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            own: Some(code.into()),
            ..Self::new(ErrorCode::BadRequest, message)
        }
    }

    /// Says more, for programs: at most 16 KiB of JSON.
    ///
    /// # Errors
    /// `internal` if the value cannot be written as JSON.
    pub fn detailed(mut self, details: &impl serde::Serialize) -> Result<Self, Self> {
        let raw = to_raw_value(details)
            .map_err(|_| Self::new(ErrorCode::Internal, "the details cannot be written as JSON"))?;
        self.details = Some(Details(raw));
        Ok(self)
    }

    fn word(&self) -> &str {
        self.own.as_deref().unwrap_or(self.code.as_str())
    }

    /// Says what is known of the message's effect.
    #[must_use]
    pub(crate) const fn having(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
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
