//! A client message, read strictly.
//!
//! What a message says decides what is done in its sender's name, so there is
//! one reading of it or none: a member that is written twice, a lone surrogate
//! or a wrong type refuses the message, with a sentence that says what to fix.
//! A member that is not known is let pass, so that newer clients may talk to
//! older workers; one of ours that is `null` is absent.
//!
//! The types under `auth.` are the protocol's own. A terminator does not parse, but
//! it lets nothing pass a frame that holds the bytes `auth.`, and tells of each frame
//! whether one with a `"token"` is under way before it; so what spells either otherwise is refused, because it would not
//! have been waited for.
//!
//! The payload is the application's and is kept as it was written. serde_json
//! skips it without looking at its depth or its escapes, so [`scan`] does, once
//! over the whole text and without recursion: anyone who parses the payload later
//! finds nothing in it that would exhaust a stack.

pub(crate) mod deadline;
mod members;
pub(crate) mod of_run;
pub(crate) mod opening;
pub(crate) mod origin;
mod scan;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::wire::id::ConnectionId;
use shared::wire::object::Object;
use shared::wire::protocol::{ErrorBody, ErrorCode, MAX_ID_BYTES, RESERVED_PREFIX, TOKEN_MEMBER};
use shared::wire::request_id::RequestId;
use shared::wire::tag::ResumeSecret;

use self::members::{Members, Shape};

/// The largest body that is looked at of what outsiders and applications send: 1 MiB = 1,024 * 1,024 bytes.
pub(crate) const MAX_BODY_BYTES: usize = 1_024 * 1_024;

/// The largest message of a client: the most that terminators can be set to let in by `max-message-size`.
pub(crate) const MAX_FORWARDED_BYTES: usize = 16 * MAX_BODY_BYTES;

/// What the one who published a message is told around which something stands that no one can read (AMQP 0-9-1 §4.2.5.3).
pub(crate) const NOT_AMQP: &str =
    "the properties of the message are not AMQP 0-9-1: each short string in them must be UTF-8";

/// The longest that a client may say it waits: a day.
const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1_000;

/// The longest `type`, in bytes: it is a name, and goes wherever names go.
const MAX_TYPE_BYTES: usize = 128;

/// Proves who the client is, for the connection.
const AUTHENTICATE: &str = "auth.authenticate";

/// Logs the connection out.
const LOGOUT: &str = "auth.logout";
/// What clients called it first.
const FORGET: &str = "auth.forget";

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The application.
    Application,
    /// Us: the token proves who the client is from now on.
    Authenticate,
    /// Us: the client is no one from now on.
    Forget,
}

/// By what a client proves that it had another connection: the `resume` that it was told there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResumeKey {
    /// The connection that it had.
    pub(crate) connection: ConnectionId,
    /// What only its client was told.
    pub(crate) secret: ResumeSecret,
}

/// A message that is one.
pub(crate) struct ClientMessage<'a> {
    /// The client's own name for it.
    pub(crate) id: Option<RequestId<'a>>,
    /// The application's name for what is to be done.
    pub(crate) kind: Cow<'a, str>,
    /// Whom it is for, as its `type` says.
    pub(crate) purpose: Purpose,
    /// The JWT, not yet looked at.
    pub(crate) token: Option<Cow<'a, str>>,
    /// One JSON text, as it was written.
    pub(crate) payload: Option<&'a RawValue>,
    /// How long its sender waits, from its receipt on.
    pub(crate) timeout: Option<Duration>,
}

/// A message that is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed<'a> {
    /// Its `id`, where it could be read all the same.
    pub(crate) id: Option<RequestId<'a>>,
    /// What is wrong with it.
    pub(crate) fault: Fault,
}

/// What is wrong with a message. The texts go to the client, and never repeat what it wrote.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// [`MAX_BODY_BYTES`], [`MAX_FORWARDED_BYTES`].
    #[error("the message is larger than {0} bytes")]
    TooLarge(usize),
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
    /// A fraction, an object, …
    #[error("`id` is neither a string nor an integer")]
    NotAnId,
    /// What was given up has no such name.
    #[error("`cancel` is not the `id` of a message")]
    Cancel,
    /// Negative, a fraction, 0, or more than a day.
    #[error("`timeout_ms` is not a whole number from 1 to {MAX_TIMEOUT_MS}")]
    Timeout,
    /// A name without a character.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// A name over its limit.
    #[error("`{0}` is longer than {1} bytes")]
    TooLong(&'static str, usize),
    /// The protocol's own types are not for the application.
    #[error("unknown auth. type: types that begin with `{RESERVED_PREFIX}` are the protocol's own")]
    Reserved,
    /// A terminator must be able to see it without parsing.
    #[error("a type that begins with `{RESERVED_PREFIX}` must be written without escapes")]
    Escaped,
    /// The same for the member that may say who the connection is.
    #[error("the name of the member `token` must be written without escapes")]
    EscapedToken,
    /// It is not what an answer told as `resume`.
    #[error("the `resume` in the payload is not a valid key")]
    Resume,
}

impl Fault {
    /// What the client is told.
    pub(crate) fn error(&self) -> ErrorBody {
        let code = match self {
            Self::TooLarge(_) => ErrorCode::TooLarge,
            _ => ErrorCode::BadRequest,
        };
        ErrorBody::new(code, self.to_string())
    }
}

impl Malformed<'_> {
    /// What the client is told.
    pub(crate) fn error(&self) -> ErrorBody {
        self.fault.error()
    }
}

impl<'a> ClientMessage<'a> {
    /// Reads a message of at most that many bytes.
    ///
    /// # Errors
    /// If it is none: the first fault found, and the `id` if one could be read.
    pub(crate) fn parse(body: &'a [u8], most_bytes: usize) -> Result<Self, Malformed<'a>> {
        let nameless = |fault| Malformed { id: None, fault };
        if body.len() > most_bytes {
            return Err(nameless(Fault::TooLarge(most_bytes)));
        }
        let text = std::str::from_utf8(body).map_err(|_| nameless(Fault::NotUtf8))?;
        let (members, shape) = Members::read(text);
        let checked = shape.map_err(Fault::from).and_then(|()| scan::scan(text));
        checked.and_then(|()| Self::meaning(&members, text)).map_err(|fault| {
            // An id is told even if the rest is beyond repair, but not if there are two.
            let id = members.id.filter(|_| fault != Fault::Repeated("`id`"));
            let id = id.filter(is_there).and_then(|raw| request_id(raw).ok());
            Malformed { id, fault }
        })
    }

    fn meaning(members: &Members<'a>, text: &str) -> Result<Self, Fault> {
        if let Some(member) = members.repeated {
            return Err(Fault::Repeated(member));
        }
        let id = members.id.filter(is_there).map(request_id).transpose()?;
        let kind = members.kind.filter(is_there).ok_or(Fault::NoType)?;
        let kind = name("type", kind, MAX_TYPE_BYTES)?;
        let purpose = match &*kind {
            AUTHENTICATE => Purpose::Authenticate,
            LOGOUT | FORGET => Purpose::Forget,
            other if other.starts_with(RESERVED_PREFIX) => return Err(Fault::Reserved),
            _ => Purpose::Application,
        };
        if purpose != Purpose::Application && !text.contains(RESERVED_PREFIX) {
            return Err(Fault::Escaped);
        }
        if members.token.is_some_and(|raw| is_there(&raw)) && !text.contains(TOKEN_MEMBER) {
            return Err(Fault::EscapedToken);
        }
        let token = members.token.filter(is_there);
        let token = token.map(|raw| string("token", raw)).transpose()?;
        let timeout = members.timeout_ms.filter(is_there).map(timeout).transpose()?;
        Ok(Self {
            id,
            kind,
            purpose,
            token,
            payload: members.payload,
            timeout,
        })
    }

    /// What a message without a `type` gives up: `{"cancel": ID}`. One with a `type` gives up nothing, whatever it says.
    ///
    /// # Errors
    /// What is wrong with the message.
    pub(crate) fn given_up(body: &'a [u8], malformed: Malformed<'a>) -> Result<RequestId<'a>, Malformed<'a>> {
        let text = Some(body).filter(|_| malformed.fault == Fault::NoType);
        let members = text.and_then(|body| std::str::from_utf8(body).ok()).map(Members::read);
        let Some(raw) = members.and_then(|(members, _)| members.cancel).filter(is_there) else {
            return Err(malformed);
        };
        request_id(raw).map_err(|_| Malformed {
            fault: Fault::Cancel,
            ..malformed
        })
    }

    /// The connection that this one resumes, if the payload names one: `{"resume": "<connection>.<secret>"}`.
    ///
    /// # Errors
    /// If there is one that was never told.
    pub(crate) fn resume(&self) -> Result<Option<ResumeKey>, Fault> {
        let Some(payload) = self.payload else { return Ok(None) };
        let payload: Option<Object<AuthenticatePayload<'_>>> =
            serde_json::from_str(payload.get()).map_err(|_| Fault::Resume)?;
        let Some(text) = payload.and_then(|Object(payload)| payload.resume) else {
            return Ok(None);
        };
        let (connection, secret) = text.rsplit_once('.').ok_or(Fault::Resume)?;
        let (Ok(connection), Ok(secret)) = (connection.parse(), secret.parse()) else {
            return Err(Fault::Resume);
        };
        Ok(Some(ResumeKey { connection, secret }))
    }
}

/// What `auth.authenticate` may say besides its token. Members that are not known are let pass.
#[derive(Deserialize)]
struct AuthenticatePayload<'a> {
    #[serde(borrow, default)]
    resume: Option<Cow<'a, str>>,
}

/// As the client is told it, and shows it again.
impl fmt::Display for ResumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.connection, self.secret)
    }
}

/// The one JSON text in `body`, read as strictly as a message is: what a producer wants written, whatever it means.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn payload(body: &[u8]) -> Result<&RawValue, Fault> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Fault::TooLarge(MAX_BODY_BYTES));
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

/// Whether a member says anything: many serialisers write `null` where there is nothing. A `payload` is the application's,
/// `null` or not.
fn is_there(raw: &&RawValue) -> bool {
    raw.get() != "null"
}

fn request_id(raw: &RawValue) -> Result<RequestId<'_>, Fault> {
    if raw.get().starts_with('"') {
        return name("id", raw, MAX_ID_BYTES).map(RequestId::text);
    }
    let id = RequestId::integer(raw.get()).map_err(|_| Fault::NotAnId)?;
    if id.as_str().len() > MAX_ID_BYTES {
        return Err(Fault::TooLong("id", MAX_ID_BYTES));
    }
    Ok(id)
}

fn timeout(raw: &RawValue) -> Result<Duration, Fault> {
    let ms = raw.get().parse().map_err(|_| Fault::Timeout)?;
    let is_within = (1..=MAX_TIMEOUT_MS).contains(&ms);
    is_within.then(|| Duration::from_millis(ms)).ok_or(Fault::Timeout)
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
