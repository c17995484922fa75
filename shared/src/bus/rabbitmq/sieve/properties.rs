//! What stands around a message, as far as it can be read (AMQP 0-9-1 §1.8.3.1, §4.2.5, §4.2.6.1).

use bytes::{BufMut, BytesMut};

use crate::bus::UNREADABLE;

/// How deep a value of a header may be nested; RabbitMQ's own are nested three deep.
const MOST_DEPTH: usize = 16;

/// The most bytes of a header of someone's own, where there is not room for all: none that means something is longer.
const MOST_HEADER: usize = 1_024;
/// The same for the broker's own (`x-death`), which are worth more.
const MOST_OF_BROKER: usize = 8_192;

/// The two bits of the flags that are no property's.
const NO_PROPERTY: u16 = 0b11;

/// What comes after the flags, from the highest bit on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FieldType {
    Text,
    Table,
    Octet,
    Time,
}

const KINDS: [FieldType; 14] = [
    FieldType::Text,  // content-type
    FieldType::Text,  // content-encoding
    FieldType::Table, // headers
    FieldType::Octet, // delivery-mode
    FieldType::Octet, // priority
    FieldType::Text,  // correlation-id
    FieldType::Text,  // reply-to
    FieldType::Text,  // expiration
    FieldType::Text,  // message-id
    FieldType::Time,  // timestamp
    FieldType::Text,  // type
    FieldType::Text,  // user-id
    FieldType::Text,  // app-id
    FieldType::Text,  // cluster-id
];

const HEADERS: usize = 2;

/// Adds to `out`, in at most about `room` bytes, what can be read of the flags and properties.
pub(super) fn sift(properties: &[u8], room: usize, out: &mut BytesMut) {
    if properties.len() <= room && is_readable(properties) {
        out.extend_from_slice(properties);
        return;
    }
    let (fields, complete) = fields(properties);
    let mut flags = 0_u16;
    let mut kept = BytesMut::new();
    let mut all_readable = complete;
    for (index, field) in fields.iter().enumerate() {
        let is_kept = match (KINDS.get(index), field) {
            (Some(FieldType::Text), Some(text)) => {
                let readable = str::from_utf8(text).is_ok();
                all_readable &= readable;
                readable
            }
            (_, field) => field.is_some(),
        };
        if is_kept {
            flags |= 0x8000 >> index;
        }
    }
    flags |= 0x8000 >> HEADERS;
    let others = fields.iter().flatten().map(|field| field.len() + 1).sum::<usize>();
    let of_table = fields.get(HEADERS).copied().flatten();
    let others = others - of_table.map_or(0, |table| table.len() + 1);
    let room = room.saturating_sub(others + 64);
    for (index, (kind, field)) in KINDS.iter().zip(&fields).enumerate() {
        if flags & (0x8000 >> index) == 0 {
            continue;
        }
        match kind {
            FieldType::Table => {
                let table = headers(of_table.unwrap_or_default(), all_readable, room);
                kept.put_u32(u32::try_from(table.len()).unwrap_or(u32::MAX));
                kept.extend_from_slice(&table);
            }
            FieldType::Text => {
                let text = field.unwrap_or_default();
                kept.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
                kept.extend_from_slice(text);
            }
            FieldType::Octet | FieldType::Time => kept.extend_from_slice(field.unwrap_or_default()),
        }
    }
    out.put_u16(flags);
    out.extend_from_slice(&kept);
}

/// Replaces what is not UTF-8 in the exchange and the routing key of a `basic.deliver` (§1.8.3.9): a fanout exchange of
/// someone's own takes any key.
pub(super) fn repair_delivery(method: &mut [u8]) {
    const BASIC_DELIVER: [u8; 4] = [0, 60, 0, 60];
    /// The delivery tag and whether it was delivered before.
    const BETWEEN: usize = 9;
    let Some((method, rest)) = method.split_first_chunk_mut::<4>() else {
        return;
    };
    if *method != BASIC_DELIVER {
        return;
    }
    let Some(rest) = repair_text(rest).and_then(|rest| rest.get_mut(BETWEEN..)) else {
        return;
    };
    repair_text(rest).and_then(repair_text);
}

/// Repairs one short string, and returns what comes behind it.
fn repair_text(bytes: &mut [u8]) -> Option<&mut [u8]> {
    let (length, rest) = bytes.split_first_mut()?;
    let (text, rest) = rest.split_at_mut_checked(usize::from(*length))?;
    if str::from_utf8(text).is_err() {
        text.iter_mut()
            .filter(|byte| !byte.is_ascii())
            .for_each(|byte| *byte = b'?');
    }
    Some(rest)
}

/// Whether lapin reads all of it, to the last byte.
fn is_readable(properties: &[u8]) -> bool {
    let (fields, complete) = fields(properties);
    let readable = |(kind, field): (&FieldType, &Option<&[u8]>)| match (kind, field) {
        (FieldType::Text, Some(text)) => str::from_utf8(text).is_ok(),
        (FieldType::Table, Some(table)) => entries(table).all(|entry| entry.is_some()),
        _ => true,
    };
    complete && KINDS.iter().zip(&fields).all(readable)
}

/// Each property's bytes, those of texts and of the table without their length; and whether there is each that the flags
/// promise, and nothing behind.
fn fields(properties: &[u8]) -> ([Option<&[u8]>; KINDS.len()], bool) {
    let mut fields = [None; KINDS.len()];
    let Some((flags, mut rest)) = properties.split_first_chunk::<2>() else {
        return (fields, false);
    };
    let flags = u16::from_be_bytes(*flags);
    for (index, (kind, field)) in KINDS.iter().zip(&mut fields).enumerate() {
        if flags & (0x8000 >> index) == 0 {
            continue;
        }
        let taken = match kind {
            FieldType::Text => take_text(&mut rest),
            FieldType::Table => take_long(&mut rest),
            FieldType::Octet => take(&mut rest, 1),
            FieldType::Time => take(&mut rest, 8),
        };
        if taken.is_none() {
            return (fields, false);
        }
        *field = taken;
    }
    (fields, rest.is_empty() && flags & NO_PROPERTY == 0)
}

/// The entries of a table, each with its name; nothing for one that cannot be read, which is the last if its end is unknown.
fn entries(table: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    let mut rest = table;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let whole = rest;
        let name = take_text(&mut rest);
        let readable = name.and_then(|_| skip_value(&mut rest, 0));
        let Some(readable) = readable else {
            rest = &[];
            return Some(None);
        };
        let entry = whole.get(..whole.len() - rest.len());
        let name = name.filter(|name| str::from_utf8(name).is_ok() && readable);
        Some(name.zip(entry))
    })
}

/// The table without what cannot be read, and without what there is no room for; with a word about what is missing besides.
fn headers(table: &[u8], all_readable: bool, room: usize) -> BytesMut {
    let mut kept = BytesMut::new();
    if !all_readable {
        kept.put_u8(u8::try_from(UNREADABLE.len()).unwrap_or(u8::MAX));
        kept.extend_from_slice(UNREADABLE.as_bytes());
        kept.extend_from_slice(b"t\x01");
    }
    for (name, entry) in entries(table).flatten() {
        let most = if name.starts_with(b"x-") {
            MOST_OF_BROKER
        } else {
            MOST_HEADER
        };
        let fits = table.len() <= room || entry.len() <= most;
        if fits && kept.len() + entry.len() <= room && name != UNREADABLE.as_bytes() {
            kept.extend_from_slice(entry);
        }
    }
    kept
}

/// Goes past a value; whether lapin knows it. None if no one knows where it ends.
fn skip_value(rest: &mut &[u8], depth: usize) -> Option<bool> {
    let (kind, behind) = rest.split_first()?;
    *rest = behind;
    let length = match kind {
        b't' | b'b' | b'B' => 1,
        b's' | b'U' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'L' | b'l' | b'd' | b'T' => 8,
        b'D' => 5,
        b'V' => 0,
        b'S' | b'x' => return take_long(rest).map(|_| true),
        b'F' | b'A' => {
            let within = take_long(rest)?;
            return Some(depth < MOST_DEPTH && is_known(*kind, within, depth + 1));
        }
        _ => return None,
    };
    take(rest, length).map(|_| true)
}

/// Whether lapin knows all values in a table or an array.
fn is_known(kind: u8, mut within: &[u8], depth: usize) -> bool {
    while !within.is_empty() {
        if kind == b'F' && take_text(&mut within).is_none_or(|name| str::from_utf8(name).is_err()) {
            return false;
        }
        if skip_value(&mut within, depth) != Some(true) {
            return false;
        }
    }
    true
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(taken)
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = *take(rest, 1)?.first()?;
    take(rest, usize::from(length))
}

fn take_long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take(rest, 4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    take(rest, usize::try_from(length).ok()?)
}
