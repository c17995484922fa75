//! A client message, read strictly.
//!
//! What a message says decides what is done in its sender's name, so there is
//! one reading of it or none: a member that is written twice, a lone surrogate
//! or a wrong type refuses the message, with a sentence that says what to mend.
//! A member that is not known is let pass, so that newer clients may talk to
//! older workers.
//!
//! The payload is the application's and is kept as it was written. serde_json
//! skips it without looking at its depth or its escapes, so [`scan`] does, once
//! over the whole text and without recursion: whoever parses the payload later
//! finds nothing in it that would exhaust a stack.

mod members;
mod scan;

use std::borrow::Cow;

use serde_json::value::RawValue;
use shared::protocol::{ErrorBody, ErrorCode, MAX_ID_BYTES, RESERVED_PREFIX};

use self::members::{Members, Shape};

/// The largest body that is looked at: 1 MiB = 1,024 * 1,024 bytes.
pub(crate) const MAX_BODY_BYTES: usize = 1_024 * 1_024;

/// The longest `type`, in bytes: it is a name, and goes wherever names go.
const MAX_TYPE_BYTES: usize = 128;

/// A message that is one.
pub(crate) struct ClientMessage<'a> {
    /// The client's own name for it.
    pub(crate) id: Option<Cow<'a, str>>,
    /// The application's name for what is to be done.
    pub(crate) kind: Cow<'a, str>,
    /// The JWT, not yet looked at.
    pub(crate) token: Option<Cow<'a, str>>,
    /// One JSON text, as it was written.
    pub(crate) payload: Option<&'a RawValue>,
}

/// A message that is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed<'a> {
    /// Its `id`, where it could be read all the same.
    pub(crate) id: Option<Cow<'a, str>>,
    /// What is wrong with it.
    pub(crate) fault: Fault,
}

/// What is wrong with a message. The texts go to the client, and never repeat what it wrote.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// [`MAX_BODY_BYTES`].
    #[error("the message is larger than {MAX_BODY_BYTES} bytes")]
    TooLarge,
    /// RFC 8259 §8.1.
    #[error("the message is not UTF-8")]
    NotUtf8,
    /// RFC 8259 §2.
    #[error("the message is not JSON: {0}")]
    NotJson(String),
    /// RFC 8259 §4.
    #[error("the message is not a JSON object")]
    NotAnObject,
    /// RFC 8259 §9 lets a parser set a limit.
    #[error("the message is nested more than {} levels deep", scan::MAX_DEPTH)]
    TooDeep,
    /// RFC 8259 §8.2.
    #[error("the message has a lone surrogate in a string")]
    LoneSurrogate,
    /// RFC 8259 §4 leaves open which of two would count.
    #[error("the message has a member twice: {0}")]
    Repeated(&'static str),
    /// Only the name says what to do.
    #[error("the message has no `type`")]
    NoType,
    /// A member that must be a string.
    #[error("`{0}` is not a string")]
    NotAString(&'static str),
    /// A name without a character.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// A name over its limit.
    #[error("`{0}` is longer than {1} bytes")]
    TooLong(&'static str, usize),
    /// The protocol's own types are not for the application.
    #[error("unknown auth. type: types that begin with `{RESERVED_PREFIX}` are the protocol's own")]
    Reserved,
}

impl Malformed<'_> {
    /// What the client is told.
    pub(crate) fn error(&self) -> ErrorBody {
        let code = match self.fault {
            Fault::TooLarge => ErrorCode::TooLarge,
            _ => ErrorCode::BadRequest,
        };
        ErrorBody::new(code, self.fault.to_string())
    }
}

impl<'a> ClientMessage<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// If it is none: the first fault found, and the `id` if one could be read.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Malformed<'a>> {
        let nameless = |fault| Malformed { id: None, fault };
        if body.len() > MAX_BODY_BYTES {
            return Err(nameless(Fault::TooLarge));
        }
        let text = std::str::from_utf8(body).map_err(|_| nameless(Fault::NotUtf8))?;
        let (members, shape) = Members::read(text);
        let checked = shape.map_err(Fault::from).and_then(|()| scan::scan(text));
        checked.and_then(|()| Self::meaning(&members)).map_err(|fault| {
            // An id is told even if the rest is beyond repair, but not if there are two.
            let id = members.id.filter(|_| fault != Fault::Repeated("`id`"));
            let id = id.and_then(|raw| name("id", raw, MAX_ID_BYTES).ok());
            Malformed { id, fault }
        })
    }

    fn meaning(members: &Members<'a>) -> Result<Self, Fault> {
        if let Some(member) = members.repeated {
            return Err(Fault::Repeated(member));
        }
        let id = members.id.map(|raw| name("id", raw, MAX_ID_BYTES)).transpose()?;
        let kind = name("type", members.kind.ok_or(Fault::NoType)?, MAX_TYPE_BYTES)?;
        if kind.starts_with(RESERVED_PREFIX) {
            return Err(Fault::Reserved);
        }
        let token = members.token.map(|raw| string("token", raw)).transpose()?;
        Ok(Self {
            id,
            kind,
            token,
            payload: members.payload,
        })
    }
}

/// The one JSON text in `body`, read as strictly as a message is: what a producer wants written, whatever it means.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn payload(body: &[u8]) -> Result<&RawValue, Fault> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Fault::TooLarge);
    }
    let text = std::str::from_utf8(body).map_err(|_| Fault::NotUtf8)?;
    // What fails here is syntax, so the text repeats nothing of it.
    let payload: &RawValue = serde_json::from_str(text).map_err(|error| Fault::NotJson(error.to_string()))?;
    // As a member of the message that is made of it, it is one level deeper.
    scan::scan_within(text, 1)?;
    Ok(payload)
}

impl From<Shape> for Fault {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::NotJson(why) => Self::NotJson(why),
            Shape::NotAnObject => Self::NotAnObject,
        }
    }
}

fn string<'a>(member: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, Fault> {
    if !raw.get().starts_with('"') {
        return Err(Fault::NotAString(member));
    }
    members::text(raw).ok_or(Fault::LoneSurrogate)
}

fn name<'a>(member: &'static str, raw: &'a RawValue, max_bytes: usize) -> Result<Cow<'a, str>, Fault> {
    let text = string(member, raw)?;
    if text.is_empty() {
        Err(Fault::Empty(member))
    } else if text.len() > max_bytes {
        Err(Fault::TooLong(member, max_bytes))
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
