//! Poison burns no neighbour.
//!
//! A message that is delivered again may be the one that killed the worker which
//! had it, together with all its neighbours. So nothing that was given back is
//! processed where it is: it is moved to `<namespace>.retry`, or, if it is no
//! client's, to `<namespace>.injected.retry`. Of each of them a worker takes one at
//! a time, and there the delivery count is its own.

use std::sync::Arc;

use shared::bus::topology::{Names, keys};
use shared::bus::{Delivery, Message, PublishError, Publisher, Route, Value};
use shared::service::clock::Timestamp;
use shared::service::trace::headers::{TRACEPARENT, TRACESTATE};

use crate::message::origin::{self, HEADER_FIRST_SEEN, HEADER_ORIGIN};

/// The longest header that is kept of what an injector wrote: a `tracestate` may have 512 characters (W3C Trace Context §3.3.1.5).
const MOST_BYTES: usize = 1_024;

/// Puts messages where they are processed alone.
pub(crate) struct RetryPublisher {
    /// For clients' messages.
    publisher: Publisher,
    /// For others'.
    replier: Publisher,
    internal: Arc<str>,
}

impl RetryPublisher {
    pub(crate) fn new(publisher: Publisher, replier: Publisher, names: &Names) -> Self {
        Self {
            publisher,
            replier,
            internal: names.internal_exchange().name.into(),
        }
    }

    /// Puts it there too, and waits until that is confirmed. It is for the caller to acknowledge.
    ///
    /// # Errors
    /// If it could not be put there.
    pub(crate) async fn copy(&self, delivery: &Delivery, now: Timestamp) -> Result<(), PublishError> {
        let (publisher, key) = match origin::is_forwarded(delivery, &self.internal) {
            true => (&self.publisher, keys::RETRY),
            false => (&self.replier, keys::INJECTED),
        };
        let moved = moved(delivery, &self.internal, now);
        publisher.publish(Route::new(&self.internal, key), moved).await
    }
}

/// The message as it is moved: as it came, and with where and when it came from. What it said
/// itself about those, or in the broker's name, is dropped, because there it would be believed. Of what an injector
/// wrote only the headers that mean something are kept: the rest is of any size, and would grow each time.
fn moved(delivery: &Delivery, internal: &str, now: Timestamp) -> Message {
    let key = if origin::is_forwarded(delivery, internal) {
        keys::FORWARD
    } else {
        keys::MESSAGE
    };
    let first_seen_s = origin::first_seen_s(delivery, internal).unwrap_or(now.as_secs());
    let mut message = delivery.message.clone();
    let headers = &mut message.properties.headers;
    let means_something = |name: &str, value: &Value| match key {
        keys::FORWARD => true,
        _ => {
            [TRACEPARENT, TRACESTATE].contains(&name) && matches!(value, Value::Text(text) if text.len() <= MOST_BYTES)
        }
    };
    headers.retain(|(name, value)| {
        let of_movers = name == HEADER_ORIGIN || name == HEADER_FIRST_SEEN || name.starts_with("x-");
        !of_movers && means_something(name, value)
    });
    let first_seen_s = i64::try_from(first_seen_s).unwrap_or(i64::MAX);
    headers.push((HEADER_ORIGIN.to_owned(), Value::Text(key.to_owned())));
    headers.push((HEADER_FIRST_SEEN.to_owned(), Value::Integer(first_seen_s)));
    message
}
