//! One message, as any AMQP 0-9-1 broker carries it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

/// A body and what stands around it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The bytes, which no one between the two ends looks at.
    pub body: Bytes,
    /// What stands around them.
    pub properties: Properties,
}

/// The media type of a batch: many messages in one.
pub const BATCH_CONTENT_TYPE: &str = "application/vnd.countersign.batch";

/// The header of a batch that cannot be read; it says why.
pub const UNREADABLE_BATCH: &str = "unreadable-batch";

/// The header that says how long a message that was delivered might have waited, in milliseconds, where its publisher had said so.
pub const EXPIRATION: &str = "expiration";

/// Has them say so, and nothing else.
pub(super) fn set_expiration(headers: &mut Vec<(String, Value)>, ms: i64) {
    headers.retain(|(name, _)| name != EXPIRATION);
    headers.push((EXPIRATION.to_owned(), Value::Integer(ms)));
}

/// The message properties of AMQP 0-9-1 (§1.8.3.1) that are used here, in their usual sense.
///
/// Each text is at most 255 bytes; a longer one is refused at publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// The body's media type.
    pub content_type: Option<String>,
    /// `type`: which kind of message it is.
    pub kind: Option<String>,
    /// The message's own name. A publisher gives one to a message that has none.
    pub message_id: Option<String>,
    /// What an answer repeats, so that the asker knows its request.
    pub correlation_id: Option<String>,
    /// The queue where an answer is wanted.
    pub reply_to: Option<String>,
    /// When it began, in seconds since the Unix epoch.
    pub timestamp_s: Option<u64>,
    /// How long it may wait in a queue. It is between anyone who publishes it and the broker: what was delivered has none, but a
    /// header [`EXPIRATION`] that says what it was.
    pub expiration: Option<Duration>,
    /// What has no property of its own.
    pub headers: Vec<(String, Value)>,
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text of any length.
    Text(String),
    /// Any of the integer types.
    Integer(i64),
    /// True or false.
    Flag(bool),
    /// A type that nothing here looks at. It is not published again.
    Other,
}

impl Message {
    /// Whether it is many in one, and can be taken apart.
    pub fn is_batch(&self) -> bool {
        let properties = &self.properties;
        properties.content_type.as_deref() == Some(BATCH_CONTENT_TYPE) && properties.header(UNREADABLE_BATCH).is_none()
    }
}

impl Properties {
    /// The header called `name`.
    pub fn header(&self, name: &str) -> Option<&Value> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// The body may hold a token, so only its size is shown.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("body_bytes", &self.body.len())
            .field("properties", &self.properties)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_never_printed() {
        let message = Message {
            body: Bytes::from_static(b"eyJhbGciOi"),
            properties: Properties::default(),
        };
        assert!(!format!("{message:?}").contains("eyJ"));
    }
}
