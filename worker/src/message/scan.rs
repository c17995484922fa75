//! What skipping a JSON value does not see: how deep it is, and whether its escapes are Unicode.
//!
//! One pass over a text that is known to be JSON, in constant space.

use memchr::memchr2;

use super::Fault;

/// How deep a message may nest, its own object counted: as deep as serde_json reads, so that neither a
/// handler nor a client, who gets it back within a reply, finds one that it cannot parse.
pub(super) const MAX_DEPTH: u32 = 127;

/// Refuses a text that nests too deep or has a lone surrogate.
pub(super) fn scan(json: &str) -> Result<(), Fault> {
    scan_within(json, 0)
}

/// The same for a text that will stand `depth` levels deep in another.
pub(super) fn scan_within(json: &str, depth: u32) -> Result<(), Fault> {
    let bytes = json.as_bytes();
    let (mut at, mut depth) = (0, depth);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Fault::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => at = skip_string(bytes, at)?,
            _ => {}
        }
    }
    Ok(())
}

/// Where the string ends that begins at `at`, behind its opening quote.
fn skip_string(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    while let Some(next) = bytes.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += next;
        if bytes.get(at) == Some(&b'"') {
            return Ok(at + 1);
        }
        at = skip_escape(bytes, at)?;
    }
    Ok(bytes.len())
}

/// Where the escape ends that begins at `at` with its backslash, a surrogate pair being one (RFC 8259 §7).
fn skip_escape(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match code_unit(bytes, at) {
        None => Ok(at + 2),
        Some(0xD800..=0xDBFF) => match code_unit(bytes, at + 6) {
            Some(0xDC00..=0xDFFF) => Ok(at + 12),
            _ => Err(Fault::LoneSurrogate),
        },
        Some(0xDC00..=0xDFFF) => Err(Fault::LoneSurrogate),
        Some(_) => Ok(at + 6),
    }
}

/// The number in a `\uXXXX` at `at`.
fn code_unit(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    digits
        .iter()
        .try_fold(0, |unit, &digit| Some(unit * 16 + char::from(digit).to_digit(16)?))
}
