//! What a worker answers to a request: one or several messages, of which the last settles it.
//!
//! | header | |
//! |---|---|
//! | `index` | which answer of several; absent: 0 |
//! | `more` | whether another follows; absent: this one settles the request |
//! | `identity` | the identity for which it may be written, and no other; absent: any reader |
//! | `live`, `principal` | the connection has this grant as of the request |
//! | `forgotten` | the connection has none as of the request |
//! | `held` | the request is held, for so many milliseconds, and `reason` says why |
//! | `id` | the client's own name for a request that is held: if the hold loses it, it is refused by that |
//! | `id-is-integer` | that name is an integer |
//! | `retry-request` | the request cannot be decided yet; the body is the request's own |
//! | `attempt` | the request had been sent back once |
//! | `remaining` | of a release: so many of the messages that it means are still held |
//! | `close` | the connection is to be closed with this status code, after the body |
//!
//! An answer with an empty body is only a settlement: there is nothing to write. The body of the answer to a release is
//! what that came to ([`Release`](super::Release)), and is not written either.

use bytes::Bytes;

use super::{Headers, InvalidHeader, JSON, flag, number, parsed, text};
use crate::bus::{Message, Properties};
use crate::wire::grant::Grant;
use crate::wire::id::MessageId;
use crate::wire::protocol::{CloseCode, Reason};
use crate::wire::request_id::RequestId;
use crate::wire::tag::IdentityTag;

const INDEX: &str = "index";
const MORE: &str = "more";
const FOR: &str = "identity";
const LIVE: &str = "live";
const PRINCIPAL: &str = "principal";
const FORGOTTEN: &str = "forgotten";
const HELD: &str = "held";
const REASON: &str = "reason";
const ID: &str = "id";
const ID_IS_INTEGER: &str = "id-is-integer";
const SEND_AGAIN: &str = "retry-request";
const SECOND: &str = "attempt";
const LEFT: &str = "remaining";
const CLOSE: &str = "close";

/// Which answer of a request this is, and whether another follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub index: u32,
    /// If not, this answer settles the request.
    pub more: bool,
}

impl Part {
    /// The only answer.
    pub const ONLY: Self = Self { index: 0, more: false };
}

/// What becomes of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// It is handled or refused.
    #[default]
    Done,
    /// It waits for a fresh token.
    Held {
        /// Why it may not be handled yet.
        reason: Reason,
        /// For how long, in milliseconds.
        hold_ms: u64,
    },
    /// It cannot be decided yet: the terminator forwards the body once more when all that came before is settled.
    Again,
}

/// What has become of the connection's authentication by the request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all have a grant, and none is kept")]
pub enum Change {
    /// It has this grant.
    Live {
        /// The facts.
        grant: Grant,
        /// For workers alone.
        principal: String,
    },
    /// It has none: the client has logged out.
    Forgotten,
}

/// One answer, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its place among the answers.
    pub part: Part,
    /// On whose behalf it may be written.
    pub identity: Option<IdentityTag>,
    /// What has become of the connection.
    pub change: Option<Change>,
    /// What has become of the request.
    pub verdict: Verdict,
    /// Whether it answers the request's second sending.
    pub second: bool,
    /// Of a request that is held: the client's own name for it.
    pub id: Option<RequestId<'static>>,
    /// Of a release: how many of the messages that it means are still held.
    pub left: u64,
    /// Whether the connection is to be closed, and how.
    pub close: Option<CloseCode>,
}

impl Reply {
    /// The only answer, which changes nothing.
    pub const ONLY: Self = Self {
        part: Part::ONLY,
        identity: None,
        change: None,
        verdict: Verdict::Done,
        second: false,
        id: None,
        left: 0,
        close: None,
    };

    /// The message that carries it. `correlation_id` comes back as the request had it.
    pub fn to_message(&self, correlation_id: Option<String>, body: Bytes) -> Message {
        let (held, reason) = match self.verdict {
            Verdict::Held { reason, hold_ms } => (hold_ms.max(1), Some(reason.as_str())),
            Verdict::Done | Verdict::Again => (0, None),
        };
        let (facts, principal) = match &self.change {
            Some(Change::Live { grant, principal }) => (Some(grant.to_facts()), Some(principal.as_str())),
            Some(Change::Forgotten) | None => (None, None),
        };
        let headers = Headers::default()
            .number(INDEX, u64::from(self.part.index))
            .flag(MORE, self.part.more)
            .text(FOR, self.identity)
            .text(LIVE, facts)
            .text(PRINCIPAL, principal)
            .flag(FORGOTTEN, self.change == Some(Change::Forgotten))
            .number(HELD, held)
            .text(REASON, reason)
            .flag(SEND_AGAIN, self.verdict == Verdict::Again)
            .flag(SECOND, self.second)
            .text(ID, self.id.as_ref())
            .flag(ID_IS_INTEGER, self.id.as_ref().is_some_and(RequestId::is_integer))
            .number(LEFT, self.left)
            .number(CLOSE, self.close.map_or(0, |code| u64::from(code.code())));
        Message {
            body,
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                correlation_id,
                headers: headers.0,
                ..Properties::default()
            },
        }
    }

    /// Which request this answers, and how; none if it is no answer.
    pub fn read(properties: &Properties) -> Option<(MessageId, Self)> {
        let message_id = properties.correlation_id.as_deref()?.parse().ok()?;
        Self::try_read(properties).ok().map(|answer| (message_id, answer))
    }

    fn try_read(properties: &Properties) -> Result<Self, InvalidHeader> {
        let change = match text(properties, LIVE)? {
            Some(facts) => Some(Change::Live {
                grant: Grant::from_facts(facts).ok_or(InvalidHeader)?,
                principal: text(properties, PRINCIPAL)?.unwrap_or_default().to_owned(),
            }),
            None => flag(properties, FORGOTTEN).then_some(Change::Forgotten),
        };
        let verdict = match number(properties, HELD)? {
            0 if flag(properties, SEND_AGAIN) => Verdict::Again,
            0 => Verdict::Done,
            hold_ms => Verdict::Held {
                reason: parsed(properties, REASON)?.ok_or(InvalidHeader)?,
                hold_ms,
            },
        };
        let close = match number(properties, CLOSE)? {
            0 => None,
            code => Some(CloseCode::from_code(code).ok_or(InvalidHeader)?),
        };
        Ok(Self {
            part: Part {
                index: u32::try_from(number(properties, INDEX)?).map_err(|_| InvalidHeader)?,
                more: flag(properties, MORE),
            },
            identity: parsed(properties, FOR)?,
            change,
            verdict,
            second: flag(properties, SECOND),
            id: request_id(properties)?,
            left: number(properties, LEFT)?,
            close,
        })
    }
}

fn request_id(properties: &Properties) -> Result<Option<RequestId<'static>>, InvalidHeader> {
    let Some(id) = text(properties, ID)?.map(str::to_owned) else {
        return Ok(None);
    };
    if flag(properties, ID_IS_INTEGER) {
        RequestId::integer(id).map(Some).map_err(|_| InvalidHeader)
    } else {
        Ok(Some(RequestId::text(id)))
    }
}
