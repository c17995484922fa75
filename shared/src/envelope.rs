//! What crosses the broker around a client's bytes, which are the AMQP body untouched.
//!
//! | | forwarded (terminator to worker) | answer (worker to whoever asked) |
//! |---|---|---|
//! | exchange, key | `<namespace>.internal`, `forward` | default exchange, the `reply_to` |
//! | `correlation_id` | the stamp: `<connection>.<sequence>` | the question's, as it came |
//! | `reply_to` | the terminator's return queue | |
//! | `type` | `message`, or `closed` | |
//! | `timestamp` | when the terminator received it, seconds | |
//! | header `index` | | which answer of several; absent: 0 |
//! | header `more` | | whether another follows; absent: this one settles the question |
//!
//! An answer with an empty body is only a settlement: there is nothing to write.
//!
//! Stamps are believed because of the exchange that they came through, never
//! for what they say: an injector may publish to `<namespace>`, and by the
//! broker's permissions not to `<namespace>.internal`.

use bytes::Bytes;

use crate::bus::{Message, Properties, Value};
use crate::clock::Timestamp;
use crate::id::Stamp;

/// The media type of a client message and of an answer: one JSON text (RFC 8259).
pub const JSON: &str = "application/json";

const TYPE_MESSAGE: &str = "message";
const TYPE_CLOSED: &str = "closed";
const HEADER_INDEX: &str = "index";
const HEADER_MORE: &str = "more";

/// What a terminator tells the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A client sent the body.
    Message,
    /// The connection has closed; the sequence is one past its last message.
    Closed,
}

/// The message that carries a client's bytes to the workers.
pub fn forwarded(stamp: Stamp, notice: Notice, body: Bytes, reply_to: &str, received: Timestamp) -> Message {
    let kind = match notice {
        Notice::Message => TYPE_MESSAGE,
        Notice::Closed => TYPE_CLOSED,
    };
    Message {
        body,
        properties: Properties {
            content_type: Some(JSON.to_owned()),
            kind: Some(kind.to_owned()),
            correlation_id: Some(stamp.to_string()),
            reply_to: Some(reply_to.to_owned()),
            timestamp_s: Some(received.as_secs()),
            ..Properties::default()
        },
    }
}

/// The stamp and notice of a message that came from a terminator; nothing if it is not of that shape.
pub fn read_forwarded(properties: &Properties) -> Option<(Stamp, Notice)> {
    let stamp = properties.correlation_id.as_deref()?.parse().ok()?;
    let notice = match properties.kind.as_deref()? {
        TYPE_MESSAGE => Notice::Message,
        TYPE_CLOSED => Notice::Closed,
        _ => return None,
    };
    Some((stamp, notice))
}

/// Which answer of a question this is, and whether another follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// From 0.
    pub index: u32,
    /// If not, this answer settles the question.
    pub more: bool,
}

impl Part {
    /// The only answer.
    pub const ONLY: Self = Self { index: 0, more: false };
}

/// An answer. `correlation_id` comes back as the question had it.
pub fn answer(correlation_id: Option<String>, part: Part, body: Bytes) -> Message {
    let mut headers = Vec::new();
    if part.index > 0 {
        headers.push((HEADER_INDEX.to_owned(), Value::Integer(i64::from(part.index))));
    }
    if part.more {
        headers.push((HEADER_MORE.to_owned(), Value::Flag(true)));
    }
    Message {
        body,
        properties: Properties {
            content_type: Some(JSON.to_owned()),
            correlation_id,
            headers,
            ..Properties::default()
        },
    }
}

/// Which answer of which question this is; nothing if it is none.
pub fn read_answer(properties: &Properties) -> Option<(Stamp, Part)> {
    let stamp = properties.correlation_id.as_deref()?.parse().ok()?;
    let index = match properties.header(HEADER_INDEX) {
        None => 0,
        Some(Value::Integer(index)) => u32::try_from(*index).ok()?,
        Some(_) => return None,
    };
    let more = matches!(properties.header(HEADER_MORE), Some(Value::Flag(true)));
    Some((stamp, Part { index, more }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ConnectionId, Sequence, TerminatorId};

    fn stamp() -> Stamp {
        let connection = ConnectionId {
            terminator: TerminatorId::random(),
            number: 7,
        };
        Stamp {
            connection,
            sequence: Sequence::new(41),
        }
    }

    #[test]
    fn a_forwarded_message_reads_back_with_its_stamp() {
        for notice in [Notice::Message, Notice::Closed] {
            let sent = stamp();
            let message = forwarded(sent, notice, Bytes::new(), "q", Timestamp::from_secs(5));
            assert_eq!(read_forwarded(&message.properties), Some((sent, notice)));
        }
    }

    #[test]
    fn an_answer_reads_back_with_its_place() {
        let asked = stamp();
        for part in [
            Part::ONLY,
            Part { index: 0, more: true },
            Part { index: 3, more: false },
        ] {
            let message = answer(Some(asked.to_string()), part, Bytes::from_static(b"{}"));
            assert_eq!(read_answer(&message.properties), Some((asked, part)));
        }
    }

    #[test]
    fn an_only_answer_needs_no_header() {
        assert!(answer(None, Part::ONLY, Bytes::new()).properties.headers.is_empty());
    }

    #[test]
    fn what_is_not_of_the_shape_is_not_read() {
        let mut properties = answer(Some(stamp().to_string()), Part::ONLY, Bytes::new()).properties;
        properties.headers.push((HEADER_INDEX.to_owned(), Value::Integer(-1)));
        assert_eq!(read_answer(&properties), None);
        assert_eq!(read_forwarded(&Properties::default()), None);
    }
}
