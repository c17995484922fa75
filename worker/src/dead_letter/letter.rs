//! The dead letter itself: the message without its token, and why it is dead.

use bytes::Bytes;
use shared::bus::{Message, Properties, Value};
use shared::wire::seal::SEALED;

use super::redact;
use crate::message::MAX_FORWARDED_BYTES;
use crate::message::origin::{HEADER_FIRST_SEEN, HEADER_ORIGIN};

/// Why it is dead: what the broker says, or the code of the refusal that no one would have heard.
const HEADER_REASON: &str = "reason";
/// How often it was delivered to be processed.
const HEADER_COUNT: &str = "count";
/// The queue in which it failed.
const HEADER_QUEUE: &str = "queue";

/// The longest text of an AMQP property (a "short string", AMQP 0-9-1 §4.2.5.3).
const MAX_PROPERTY_BYTES: usize = 255;

/// Why a message is dead-lettered, and what is known of its life.
pub(super) struct DeadLetterInfo {
    pub(super) reason: String,
    pub(super) first_seen_s: u64,
    pub(super) count: u32,
    pub(super) queue: String,
}

/// The message without its token and without what would make it a request again.
pub(super) fn dead_letter(message: &Message, info: DeadLetterInfo) -> Message {
    let mut body = redact::body(&message.body);
    // Cut only now: half a token has no token's shape.
    body.truncate(MAX_FORWARDED_BYTES);
    let Properties {
        content_type,
        kind,
        message_id,
        correlation_id,
        reply_to: _,
        timestamp_s,
        expiration: _,
        headers,
    } = &message.properties;
    Message {
        body: Bytes::from(body),
        properties: Properties {
            content_type: property(content_type.as_deref()),
            kind: property(kind.as_deref()),
            message_id: property(message_id.as_deref()),
            correlation_id: property(correlation_id.as_deref()),
            reply_to: None,
            timestamp_s: *timestamp_s,
            expiration: None,
            headers: info.headers().into_iter().chain(kept_headers(headers)).collect(),
        },
    }
}

/// The message as it is, sealed. No one reads a token in it who has no key.
pub(super) fn sealed_letter(message: &Message, info: DeadLetterInfo) -> Message {
    let mut letter = dead_letter(message, info);
    letter.body = message.body.slice(..message.body.len().min(MAX_FORWARDED_BYTES));
    letter.properties.content_type = Some(SEALED.to_owned());
    letter
}

impl DeadLetterInfo {
    fn headers(self) -> [(String, Value); 4] {
        let first_seen_s = i64::try_from(self.first_seen_s).unwrap_or(i64::MAX);
        [
            (HEADER_REASON.to_owned(), Value::Text(self.reason)),
            (HEADER_FIRST_SEEN.to_owned(), Value::Integer(first_seen_s)),
            (HEADER_COUNT.to_owned(), Value::Integer(i64::from(self.count))),
            (HEADER_QUEUE.to_owned(), Value::Text(self.queue)),
        ]
    }
}

/// What a terminator says of the connection (`shared::wire::envelope::request`): the claims of anyone who is on it, and by what it
/// can be resumed, are no one else's to read.
const OF_THE_CONNECTION: [&str; 3] = ["grant", "principal", "resume"];

/// How many bytes of the sender's own headers are kept: with all the rest they fit into the smallest frame that a broker may
/// agree upon (4,096 bytes, AMQP 0-9-1 §4.2.3).
const MOST_HEADER_BYTES: usize = 2_048;

/// The sender's own headers, as far as there is room. The broker's are about a journey that is over, and ours are written
/// anew.
fn kept_headers(headers: &[(String, Value)]) -> impl Iterator<Item = (String, Value)> {
    let ours = [
        HEADER_REASON,
        HEADER_FIRST_SEEN,
        HEADER_COUNT,
        HEADER_QUEUE,
        HEADER_ORIGIN,
    ];
    let is_kept = move |name: &str| {
        let left_out = ours.contains(&name) || OF_THE_CONNECTION.contains(&name) || name.starts_with("x-");
        !left_out && redact::text(name) == name
    };
    headers
        .iter()
        .filter(move |(name, _)| is_kept(name))
        .map(|(name, value)| match value {
            Value::Text(text) => (name.clone(), Value::Text(redact::text(text).into_owned())),
            other => (name.clone(), other.clone()),
        })
        .scan(MOST_HEADER_BYTES, |room, (name, value)| {
            let text = match &value {
                Value::Text(text) => text.len(),
                _ => size_of::<i64>(),
            };
            let left = room.checked_sub(name.len() + text);
            *room = left.unwrap_or(*room);
            Some(left.map(|_| (name, value)))
        })
        .flatten()
}

fn property(text: Option<&str>) -> Option<String> {
    let mut text = redact::text(text?).into_owned();
    while text.len() > MAX_PROPERTY_BYTES {
        text.pop();
    }
    Some(text)
}
