//! The messages of a run, each as it would have come alone, and the rest of it as a run: pure.

use shared::bus::topology::keys;
use shared::bus::{Delivery, Message, Properties, Value};
use shared::wire::envelope::request::RECEIVED_MS;
use shared::wire::envelope::run::{self, Entry};
use shared::wire::envelope::{ForwardedMessage, JSON};

use super::origin::{HEADER_FIRST_SEEN, HEADER_ORIGIN};

/// The entries of a run from `place` on, as the run that goes on by `key`; none if there are none.
pub(crate) fn rest_of(
    delivery: &Delivery,
    first: &ForwardedMessage,
    entries: &[Entry],
    place: usize,
    key: &str,
) -> Option<Message> {
    let rest = entries.get(place..)?;
    let head = rest.first()?;
    let forwarded = run::request_at(first, place, head);
    let reply_to = delivery.message.properties.reply_to.as_deref().unwrap_or_default();
    let mut message = run::to_message(&forwarded, rest, reply_to);
    if key == keys::RETRY {
        message.properties.headers.extend(moved_headers(delivery, head));
    }
    Some(message)
}

/// By what is known later where it came from, and when.
fn moved_headers(delivery: &Delivery, head: &Entry) -> [(String, Value); 2] {
    let first_seen = delivery.message.properties.header(HEADER_FIRST_SEEN).cloned();
    let received = i64::try_from(head.received.as_secs()).unwrap_or(i64::MAX);
    [
        (HEADER_ORIGIN.to_owned(), Value::Text(keys::FORWARD.to_owned())),
        (
            HEADER_FIRST_SEEN.to_owned(),
            first_seen.unwrap_or(Value::Integer(received)),
        ),
    ]
}

/// One message of a run, as it would have come alone.
pub(crate) fn message_of(run: &Message, forwarded: &ForwardedMessage, entry: &Entry) -> Message {
    let around = &run.properties;
    let received = i64::try_from(entry.received.as_millis()).unwrap_or(i64::MAX);
    let received = (RECEIVED_MS.to_owned(), Value::Integer(received));
    Message {
        body: entry.body.clone(),
        properties: Properties {
            content_type: Some(JSON.to_owned()),
            kind: Some("message".to_owned()),
            correlation_id: Some(forwarded.message_id.to_string()),
            reply_to: around.reply_to.clone(),
            timestamp_s: Some(entry.received.as_secs()),
            headers: entry.trace.iter().cloned().chain([received]).collect(),
            ..Properties::default()
        },
    }
}
