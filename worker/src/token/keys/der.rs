//! As much of DER (X.690) as tells keys and certificates from all else.

/// Tags of X.690 §8.
pub(in crate::token) const INTEGER: u8 = 0x02;
pub(in crate::token) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(in crate::token) const SEQUENCE: u8 = 0x30;

/// One SEQUENCE that is all of the content, of well-formed values.
pub(in crate::token) fn is_der(content: &[u8]) -> bool {
    let Some((0x30, mut values, [])) = value(content) else {
        return false;
    };
    if values.is_empty() {
        return false;
    }
    while !values.is_empty() {
        match value(values) {
            Some((_, _, rest)) => values = rest,
            None => return false,
        }
    }
    true
}

/// Whether it begins as public keys, private keys and certificates do, even if something is missing or follows: a SEQUENCE
/// of a SEQUENCE, or of a long INTEGER or a version. Of random bytes, so begin one in 2^22.
pub(in crate::token) fn begins_like_key(der: &[u8]) -> bool {
    match header(der) {
        Some((SEQUENCE, inner)) => match header(inner) {
            Some((SEQUENCE, first)) => matches!(first, [OBJECT_IDENTIFIER, ..] | [0xa0, 3, INTEGER, ..]),
            Some((INTEGER, _)) => matches!(inner, [_, 0x81 | 0x82, ..] | [_, 1, 0..=3, SEQUENCE | INTEGER | 4, ..]),
            _ => false,
        },
        _ => false,
    }
}

/// The tag of the first value, and what follows its length.
fn header(der: &[u8]) -> Option<(u8, &[u8])> {
    match der {
        [tag, 0..=0x7f, rest @ ..] | [tag, 0x81, _, rest @ ..] | [tag, 0x82, _, _, rest @ ..] => Some((*tag, rest)),
        _ => None,
    }
}

/// The first value in DER (X.690 §8.1): tag, content and what follows it. Tags of several bytes are in no key.
pub(in crate::token) fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (
                bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)),
                rest,
            )
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
