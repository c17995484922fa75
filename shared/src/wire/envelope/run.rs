//! A run: consecutive messages of one connection, which one worker handles one after the other.
//!
//! It is one message on its way: what the broker, a retry or a dead letter does, it does to the whole. What is said around
//! it is said of its first message, and of all others by the same words, but for what its body has of each.
//!
//! ```text
//! run   = version (1 byte, 1)  count (1)  entry*       2 to 64 entries, up to the end
//! entry = flags (1)  received (8)  [text] [text]  length (4)  body
//! text  = length (2)  UTF-8                            traceparent, tracestate
//! ```
//!
//! Numbers are big-endian; `received` is in milliseconds since the Unix epoch.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::ForwardedMessage;
use super::request::MessageKind;
use crate::bus::{Message, Value};
use crate::service::clock::Timestamp;
use crate::service::trace::headers::{TRACEPARENT, TRACESTATE};
use crate::wire::id::{MessageId, Sequence};

/// The media type of a run.
pub const RUN: &str = "application/vnd.countersign.run";

/// The most messages in a run.
pub const MOST_ENTRIES: usize = 64;

/// How many bytes of texts a run has at the most. With all that is said around it, it then goes together with others still.
pub const MOST_BYTES: usize = 32 * 1_024;

/// The most that is read: a run is no longer than its texts and what is said of each.
const MOST_READ: usize = 128 * 1_024;

const VERSION: u8 = 1;
const UNSETTLED: u8 = 1;
const PARENT: u8 = 2;
const STATE: u8 = 4;
const KNOWN: u8 = UNSETTLED | PARENT | STATE;

/// One message of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the client sent.
    pub body: Bytes,
    /// When its terminator received it.
    pub received: Timestamp,
    /// Whether an earlier message, by which this one may have to be decided, is not yet settled.
    pub unsettled: bool,
    /// In which trace it is: `traceparent` and `tracestate`, where it is traced.
    pub trace: Vec<(String, Value)>,
}

/// Why bytes are no run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is longer than any run.
    #[error("a run of more than {MOST_READ} bytes")]
    TooLarge,
    /// A newer program wrote it.
    #[error("a run of a version that is not known: an older program reads what a newer one wrote")]
    Version,
    /// It ends too early.
    #[error("a run that is cut off")]
    Cut,
    /// It has none, too many, or more than it says.
    #[error("a run of no message, of more than {MOST_ENTRIES}, or of more than it says")]
    Count,
    /// It has what no program of ours writes.
    #[error("a run with flags or texts that cannot be read")]
    Unreadable,
}

/// The message that carries the run to the workers. `first` is what is told of its first message.
pub fn to_message(first: &ForwardedMessage, entries: &[Entry], reply_to: &str) -> Message {
    let received = entries.first().map_or(Timestamp::default(), |entry| entry.received);
    let forwarded = ForwardedMessage {
        notice: MessageKind::Run,
        ..first.clone()
    };
    let mut message = forwarded.to_message(encode(entries), reply_to, received);
    message.properties.content_type = Some(RUN.to_owned());
    message
}

/// The bytes of these.
pub fn encode(entries: &[Entry]) -> Bytes {
    let bytes = entries.iter().map(|entry| entry.body.len() + 16).sum::<usize>();
    let mut run = BytesMut::with_capacity(bytes + 2);
    run.put_slice(&[VERSION, u8::try_from(entries.len()).unwrap_or(u8::MAX)]);
    for entry in entries {
        let text = |name| {
            entry.trace.iter().find_map(|(other, value)| match value {
                Value::Text(text) if other == name && text.len() <= usize::from(u16::MAX) => Some(text),
                _ => None,
            })
        };
        let (parent, state) = (text(TRACEPARENT), text(TRACESTATE));
        let flag = |bit, is_set| if is_set { bit } else { 0 };
        run.put_u8(flag(UNSETTLED, entry.unsettled) | flag(PARENT, parent.is_some()) | flag(STATE, state.is_some()));
        run.put_u64(entry.received.as_millis());
        for text in [parent, state].into_iter().flatten() {
            run.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
            run.put_slice(text.as_bytes());
        }
        run.put_u32(u32::try_from(entry.body.len()).unwrap_or(u32::MAX));
        run.put_slice(&entry.body);
    }
    run.freeze()
}

/// The messages of a run, whose bodies are parts of its own; at least one.
///
/// # Errors
/// Why it is none. All of it is read, or nothing.
pub fn decode(run: &Bytes) -> Result<Vec<Entry>, Broken> {
    if run.len() > MOST_READ {
        return Err(Broken::TooLarge);
    }
    let mut rest = run.clone();
    if rest.try_get_u8().map_err(|_| Broken::Cut)? != VERSION {
        return Err(Broken::Version);
    }
    let count = usize::from(rest.try_get_u8().map_err(|_| Broken::Cut)?);
    if !(1..=MOST_ENTRIES).contains(&count) {
        return Err(Broken::Count);
    }
    let entries = (0..count).map(|_| take(&mut rest)).collect::<Result<_, _>>()?;
    if rest.has_remaining() {
        return Err(Broken::Count);
    }
    Ok(entries)
}

fn take(rest: &mut Bytes) -> Result<Entry, Broken> {
    let flags = rest.try_get_u8().map_err(|_| Broken::Cut)?;
    if flags & !KNOWN != 0 {
        return Err(Broken::Unreadable);
    }
    let received = rest.try_get_u64().map_err(|_| Broken::Cut)?;
    let mut trace = Vec::new();
    for (bit, name) in [(PARENT, TRACEPARENT), (STATE, TRACESTATE)] {
        if flags & bit != 0 {
            let length = rest.try_get_u16().map_err(|_| Broken::Cut)?;
            let text = bytes(rest, usize::from(length))?;
            let text = str::from_utf8(&text).map_err(|_| Broken::Unreadable)?;
            trace.push((name.to_owned(), Value::Text(text.to_owned())));
        }
    }
    let length = rest.try_get_u32().map_err(|_| Broken::Cut)? as usize;
    Ok(Entry {
        body: bytes(rest, length)?,
        received: Timestamp::from_millis(received),
        unsettled: flags & UNSETTLED != 0,
        trace,
    })
}

fn bytes(rest: &mut Bytes, length: usize) -> Result<Bytes, Broken> {
    if length > rest.len() {
        return Err(Broken::Cut);
    }
    Ok(rest.split_to(length))
}

/// What is told of the message at `place` of a run, of whose first message `first` is told.
#[must_use]
pub fn request_at(first: &ForwardedMessage, place: usize, entry: &Entry) -> ForwardedMessage {
    let sequence = first.message_id.sequence.get().saturating_add(place as u64);
    let mut snapshot = first.snapshot.clone();
    snapshot.unsettled = entry.unsettled;
    ForwardedMessage {
        message_id: MessageId {
            sequence: Sequence::new(sequence),
            ..first.message_id
        },
        notice: MessageKind::Message,
        snapshot,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let trace = proptest::collection::vec("[a-z0-9-]{1,60}", 0..3).prop_map(|texts| {
            let names = [TRACEPARENT, TRACESTATE].into_iter();
            names
                .zip(texts)
                .map(|(name, text)| (name.to_owned(), Value::Text(text)))
                .collect()
        });
        (
            proptest::collection::vec(any::<u8>(), 0..200),
            any::<u64>(),
            any::<bool>(),
            trace,
        )
            .prop_map(|(body, received, unsettled, trace)| Entry {
                body: body.into(),
                received: Timestamp::from_millis(received),
                unsettled,
                trace,
            })
    }

    proptest! {
        #[test]
        fn a_run_is_read_as_it_was_written(entries in proptest::collection::vec(entry(), 1..=MOST_ENTRIES)) {
            let written = encode(&entries);
            prop_assert_eq!(decode(&written), Ok(entries));
            for cut in [1, written.len() / 2, written.len() - 1] {
                prop_assert!(decode(&written.slice(..cut)).is_err());
            }
        }

        #[test]
        fn whatever_bytes_come_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(entries) = decode(&Bytes::from(bytes.clone())) {
                prop_assert_eq!(encode(&entries), bytes);
            }
        }
    }

    #[test]
    fn nothing_is_read_beyond_the_bounds() {
        let long = vec![0; MOST_READ + 1];
        assert_eq!(decode(&long.into()), Err(Broken::TooLarge));
        for count in [0, 65, 255] {
            assert_eq!(decode(&vec![VERSION, count].into()), Err(Broken::Count));
        }
        assert_eq!(decode(&vec![2, 1].into()), Err(Broken::Version));
    }
}
