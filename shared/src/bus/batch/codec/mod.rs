//! The bytes of a batch: pure.
//!
//! ```text
//! batch   = version (1 byte, 1)  count (1)  entry*         1 to 64 entries, up to the end
//! entry   = flags (2)  [deliveries (4)]  text* [timestamp (8)]  headers  length (4)  body
//! text    = length (1)  UTF-8                              content type, type, message id, correlation id, reply to
//! headers = count (1)  (name text, kind (1), value)*       value: length (4) and UTF-8, 8 bytes, or 1 byte
//! ```
//!
//! Numbers are big-endian. Two bits of `flags` say of each text, and of the headers, whether there are none, whether they
//! follow, or whether they are those of the entry before, which is what most of them are.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::CONTENT_TYPE;
use crate::bus::{Message, Properties, Value};

/// The most messages in a batch: one bit each in a word.
pub(crate) const MOST_ENTRIES: usize = 64;

/// The most bytes of a batch, counted as if no entry shared anything with the one before: a broker moves 64 KiB about as fast
/// as it moves one.
pub(super) const MOST_BYTES: usize = 64 * 1_024;

/// The most that is read: anyone who sends more is no terminator and no worker.
const MOST_READ: usize = 2 * MOST_BYTES;

const VERSION: u8 = 1;
/// The version and the count.
const HEAD: usize = 2;

/// A short text (AMQP 0-9-1 §4.2.5.3).
const MOST_TEXT: usize = u8::MAX as usize;
const MOST_HEADERS: usize = u8::MAX as usize;

/// What is around a body at the most, besides texts and headers.
const FIXED: usize = 2 + 4 + 8 + 1 + 4;

const ABSENT: u16 = 0;
const GIVEN: u16 = 1;
const SAME: u16 = 2;
/// Two bits each.
const TEXTS: u16 = 5;
const HEADERS_SHIFT: u16 = 2 * TEXTS;
const TIMESTAMP: u16 = 1 << 12;
const DELIVERIES: u16 = 1 << 13;
const KNOWN: u16 = (1 << 14) - 1;

const TEXT: u8 = 0;
const INTEGER: u8 = 1;
const FLAG: u8 = 2;

/// One message of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchEntry {
    pub(super) message: Message,
    /// How often it was delivered in batches before this one.
    pub(super) deliveries: u32,
}

/// Why bytes are no batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    #[error("a batch of more than {MOST_READ} bytes")]
    TooLarge,
    #[error("a batch of a version that is not known: an older program reads what a newer one wrote")]
    Version,
    #[error("a batch that is cut off")]
    Cut,
    #[error("a batch without an entry")]
    Empty,
    #[error("a batch of more than {MOST_ENTRIES} entries, or of more than it says")]
    TooMany,
    #[error("a batch with flags that are not known")]
    Flags,
    #[error("a batch with a text that is not UTF-8")]
    NotUtf8,
    #[error("a batch within a batch")]
    Nested,
}

/// How many bytes the message takes in a batch at the most; none if it cannot be in one.
pub(super) fn size(message: &Message) -> Option<usize> {
    measure(message).filter(|size| *size < MOST_BYTES)
}

/// The same for a message of any size.
fn measure(message: &Message) -> Option<usize> {
    let Properties {
        content_type,
        expiration,
        headers,
        ..
    } = &message.properties;
    let nested = content_type.as_deref() == Some(CONTENT_TYPE);
    // How long it may wait is between anyone who publishes it and the broker, which sees the batch alone.
    if nested || expiration.is_some() || headers.len() > MOST_HEADERS {
        return None;
    }
    let mut size = FIXED + message.body.len();
    for text in texts(&message.properties).into_iter().flatten() {
        size += short(text)?;
    }
    for (name, value) in headers {
        size += short(name)? + 1;
        size += match value {
            Value::Text(text) => 4 + text.len(),
            Value::Integer(_) => 8,
            Value::Flag(_) | Value::Other => 1,
        };
    }
    Some(size)
}

fn short(text: &str) -> Option<usize> {
    (text.len() <= MOST_TEXT).then_some(1 + text.len())
}

const fn texts(properties: &Properties) -> [&Option<String>; TEXTS as usize] {
    let Properties {
        content_type,
        kind,
        message_id,
        correlation_id,
        reply_to,
        ..
    } = properties;
    [content_type, kind, message_id, correlation_id, reply_to]
}

/// A batch of these, each of which has a [`size`]; `bytes` is about how long it will be.
pub(super) fn encode<'a>(entries: impl Iterator<Item = (&'a Message, u32)>, bytes: usize) -> Bytes {
    let mut batch = BytesMut::with_capacity(bytes + HEAD);
    batch.put_slice(&[VERSION, 0]);
    let (mut before, mut count) = (None, 0);
    for (message, deliveries) in entries {
        put(&mut batch, message, deliveries, before);
        before = Some(&message.properties);
        count += 1;
    }
    if let Some(place) = batch.get_mut(1) {
        *place = count;
    }
    batch.freeze()
}

/// How many messages a batch says are in it, at least one.
pub(crate) fn count(batch: &[u8]) -> usize {
    batch
        .get(1)
        .map_or(1, |count| usize::from(*count).clamp(1, MOST_ENTRIES))
}

fn put(batch: &mut BytesMut, message: &Message, deliveries: u32, before: Option<&Properties>) {
    let properties = &message.properties;
    let (texts, those_before) = (texts(properties), before.map(texts));
    let mut flags = 0;
    for (place, text) in (0_u16..).zip(texts) {
        let same = || those_before.and_then(|before| before.get(usize::from(place)).copied()) == Some(text);
        let state = if text.is_none() {
            ABSENT
        } else if same() {
            SAME
        } else {
            GIVEN
        };
        flags |= state << (2 * place);
    }
    let headers = match before {
        _ if properties.headers.is_empty() => ABSENT,
        Some(before) if before.headers == properties.headers => SAME,
        _ => GIVEN,
    };
    flags |= headers << HEADERS_SHIFT;
    if properties.timestamp_s.is_some() {
        flags |= TIMESTAMP;
    }
    if deliveries > 0 {
        flags |= DELIVERIES;
    }
    batch.put_u16(flags);
    if deliveries > 0 {
        batch.put_u32(deliveries);
    }
    for (place, text) in (0_u16..).zip(texts) {
        if let Some(text) = text
            && (flags >> (2 * place)) & 3 == GIVEN
        {
            put_short(batch, text);
        }
    }
    if let Some(seconds) = properties.timestamp_s {
        batch.put_u64(seconds);
    }
    if headers == GIVEN {
        put_headers(batch, &properties.headers);
    }
    // Both lengths were measured by `size`.
    batch.put_u32(u32::try_from(message.body.len()).unwrap_or(u32::MAX));
    batch.put_slice(&message.body);
}

fn put_headers(batch: &mut BytesMut, headers: &[(String, Value)]) {
    let published = || headers.iter().filter(|(_, value)| *value != Value::Other);
    batch.put_u8(u8::try_from(published().count()).unwrap_or(u8::MAX));
    for (name, value) in published() {
        put_short(batch, name);
        match value {
            Value::Text(text) => {
                batch.put_u8(TEXT);
                batch.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                batch.put_slice(text.as_bytes());
            }
            Value::Integer(number) => {
                batch.put_u8(INTEGER);
                batch.put_i64(*number);
            }
            Value::Flag(flag) => {
                batch.put_u8(FLAG);
                batch.put_u8(u8::from(*flag));
            }
            Value::Other => {}
        }
    }
}

fn put_short(batch: &mut BytesMut, text: &str) {
    batch.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
    batch.put_slice(text.as_bytes());
}

/// The messages of a batch, whose bodies are parts of its own.
///
/// # Errors
/// Why it is none. All of it is read, or nothing.
pub(super) fn decode(batch: &Bytes) -> Result<Vec<BatchEntry>, Broken> {
    if batch.len() > MOST_READ {
        return Err(Broken::TooLarge);
    }
    let mut rest = batch.clone();
    if rest.try_get_u8().map_err(|_| Broken::Cut)? != VERSION {
        return Err(Broken::Version);
    }
    let count = usize::from(rest.try_get_u8().map_err(|_| Broken::Cut)?);
    match count {
        0 => return Err(Broken::Empty),
        1..=MOST_ENTRIES => {}
        _ => return Err(Broken::TooMany),
    }
    let mut entries: Vec<BatchEntry> = Vec::with_capacity(count);
    let mut total = 0;
    for _ in 0..count {
        let entry = take(&mut rest, entries.last().map(|entry| &entry.message.properties))?;
        if entry.message.properties.content_type.as_deref() == Some(CONTENT_TYPE) {
            return Err(Broken::Nested);
        }
        // What is shared is written once, and read as often as it is shared.
        total += measure(&entry.message).ok_or(Broken::TooLarge)?;
        if total > MOST_READ {
            return Err(Broken::TooLarge);
        }
        entries.push(entry);
    }
    if rest.has_remaining() {
        return Err(Broken::TooMany);
    }
    Ok(entries)
}

fn take(rest: &mut Bytes, before: Option<&Properties>) -> Result<BatchEntry, Broken> {
    let flags = rest.try_get_u16().map_err(|_| Broken::Cut)?;
    if flags & !KNOWN != 0 {
        return Err(Broken::Flags);
    }
    let deliveries = match flags & DELIVERIES {
        0 => 0,
        _ => rest.try_get_u32().map_err(|_| Broken::Cut)?,
    };
    let mut text = |place: u16, before: Option<&Option<String>>| match (flags >> (2 * place)) & 3 {
        ABSENT => Ok(None),
        GIVEN => take_short(rest).map(Some),
        SAME => before.cloned().ok_or(Broken::Flags),
        _ => Err(Broken::Flags),
    };
    let content_type = text(0, before.map(|before| &before.content_type))?;
    let kind = text(1, before.map(|before| &before.kind))?;
    let message_id = text(2, before.map(|before| &before.message_id))?;
    let correlation_id = text(3, before.map(|before| &before.correlation_id))?;
    let reply_to = text(4, before.map(|before| &before.reply_to))?;
    let timestamp_s = match flags & TIMESTAMP {
        0 => None,
        _ => Some(rest.try_get_u64().map_err(|_| Broken::Cut)?),
    };
    let headers = match (flags >> HEADERS_SHIFT) & 3 {
        ABSENT => Vec::new(),
        GIVEN => take_headers(rest)?,
        SAME => before.ok_or(Broken::Flags)?.headers.clone(),
        _ => return Err(Broken::Flags),
    };
    let length = rest.try_get_u32().map_err(|_| Broken::Cut)? as usize;
    Ok(BatchEntry {
        message: Message {
            body: take_bytes(rest, length)?,
            properties: Properties {
                content_type,
                kind,
                message_id,
                correlation_id,
                reply_to,
                timestamp_s,
                expiration: None,
                headers,
            },
        },
        deliveries,
    })
}

fn take_headers(rest: &mut Bytes) -> Result<Vec<(String, Value)>, Broken> {
    let count = rest.try_get_u8().map_err(|_| Broken::Cut)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let name = take_short(rest)?;
        let value = match rest.try_get_u8().map_err(|_| Broken::Cut)? {
            TEXT => {
                let length = rest.try_get_u32().map_err(|_| Broken::Cut)? as usize;
                Value::Text(take_text(rest, length)?)
            }
            INTEGER => Value::Integer(rest.try_get_i64().map_err(|_| Broken::Cut)?),
            FLAG => Value::Flag(rest.try_get_u8().map_err(|_| Broken::Cut)? != 0),
            _ => return Err(Broken::Flags),
        };
        headers.push((name, value));
    }
    Ok(headers)
}

fn take_short(rest: &mut Bytes) -> Result<String, Broken> {
    let length = rest.try_get_u8().map_err(|_| Broken::Cut)?;
    take_text(rest, usize::from(length))
}

fn take_text(rest: &mut Bytes, length: usize) -> Result<String, Broken> {
    let text = take_bytes(rest, length)?;
    str::from_utf8(&text).map(str::to_owned).map_err(|_| Broken::NotUtf8)
}

fn take_bytes(rest: &mut Bytes, length: usize) -> Result<Bytes, Broken> {
    if length > rest.len() {
        return Err(Broken::Cut);
    }
    Ok(rest.split_to(length))
}

#[cfg(test)]
mod tests;
