//! What content looks like that is not known to be a key.
//!
//! An error can then say what to do about it, and nothing that was made to be shown to others is taken for a secret. What
//! is encoded is decoded and looked at again: a public key in base64 is as public as it is in DER.

pub(in crate::token) mod form;

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::de::IgnoredAny;

use super::der::{begins_like_key, is_der};

pub(in crate::token) const BEGIN: &str = "-----BEGIN ";

/// As others wrap and cut it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Shorter runs of letters hold no key: the shortest, of Ed25519, has 60 in base64. And 30 random bytes are text by
/// chance once in 2^30 times.
const LEAST_ENCODED: usize = 40;
/// Base64 in base64 is seen; deeper nesting has no use.
const MOST_LAYERS: usize = 3;

/// Beginnings of files that are exchanged: gzip, zip, bzip2, xz, zstd, 7z, a Java keystore, PDF, PNG, JPEG, ELF.
const FORMATS: [&[u8]; 12] = [
    b"\x1f\x8b\x08",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"BZh",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf\x27\x1c",
    b"\xfe\xed\xfe\xed",
    b"%PDF-",
    b"\x89PNG\r\n",
    b"\xff\xd8\xff",
    b"\x7fELF",
];

/// What something is that is not known to be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// Nothing, or white space alone.
    Empty,
    /// RFC 8259.
    Json,
    /// A page for a browser, or XML.
    Markup,
    /// RFC 4253 §6.6, RFC 4716; the base64 of one alone, too.
    Ssh,
    /// RFC 7468.
    Pem,
    /// X.690, whole or cut.
    Der,
    /// RFC 9580.
    OpenPgp,
    /// RFC 7519.
    Jwt,
    /// An archive, an image, a program: a file of a format that begins by its name.
    Format,
    /// PEM or DER in base64 or hexadecimal.
    EncodedKey,
    /// Something else of these in base64 or hexadecimal.
    Encoded,
    /// Several words or lines, an address, or what a tool prints of a key.
    Prose,
    /// One word, which may be anything.
    Text,
    /// Anything else.
    Binary,
}

impl Looks {
    /// Whether only the one who made it may know it.
    pub(in crate::token) const fn may_be_secret(self) -> bool {
        matches!(self, Self::Text | Self::Binary)
    }

    /// How a public key that is there is brought into a form that is read.
    pub(in crate::token) const fn advice(self) -> Option<&'static str> {
        match self {
            Self::Ssh => Some("convert it to PEM: ssh-keygen -e -m PKCS8 -f FILE (not for Ed25519)"),
            Self::Pem => Some("remove what is before its line with BEGIN"),
            Self::EncodedKey => Some("decode it (base64 -d, xxd -r -p)"),
            _ => None,
        }
    }
}

impl fmt::Display for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "an empty file",
            Self::Json => "JSON",
            Self::Markup => "HTML or XML",
            Self::Ssh => "an SSH key",
            Self::Pem => "PEM",
            Self::Der => "DER",
            Self::OpenPgp => "an OpenPGP key",
            Self::Jwt => "a token (JWT)",
            Self::Format => "an archive or another file of a known format",
            Self::EncodedKey => "a key or certificate in base64 or hexadecimal",
            Self::Encoded => "base64 or hexadecimal of something public",
            Self::Prose => "text for people (several words or lines, or a tool's output)",
            Self::Text => "text",
            Self::Binary => "binary data",
        })
    }
}

/// What content looks like.
pub(in crate::token) fn looks(content: &[u8]) -> Looks {
    looks_below(content, MOST_LAYERS)
}

fn looks_below(content: &[u8], layers: usize) -> Looks {
    let trimmed = trim_start(content).trim_ascii_end();
    if trimmed.is_empty() {
        return Looks::Empty;
    }
    // PEM may stand behind explanatory text (RFC 7468 §2).
    if contains(content, BEGIN) {
        return Looks::Pem;
    }
    if is_ssh(trimmed) {
        return Looks::Ssh;
    }
    if is_der(content) || begins_like_key(content) {
        return Looks::Der;
    }
    if FORMATS.iter().any(|format| content.starts_with(format)) {
        return Looks::Format;
    }
    if is_openpgp(content) {
        return Looks::OpenPgp;
    }
    match str::from_utf8(trimmed) {
        Ok(text) => of_text(text, layers),
        Err(_) if is_of_another_charset(trimmed) => Looks::Prose,
        Err(_) => Looks::Binary,
    }
}

fn of_text(text: &str, layers: usize) -> Looks {
    if text.starts_with('<') {
        return Looks::Markup;
    }
    let is_json = text.starts_with(['{', '[', '"']) && serde_json::from_str::<IgnoredAny>(text).is_ok();
    // A set that was cut is no better a secret.
    if is_json || text.starts_with("{\"") {
        return Looks::Json;
    }
    if is_token(text) {
        return Looks::Jwt;
    }
    if let Some(encoded) = of_encoded(text, layers) {
        return encoded;
    }
    if text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) || is_output(text) {
        return Looks::Prose;
    }
    Looks::Text
}

/// RFC 4253 §6.6: its type, with a length of four bytes before; and what stands for that in files.
fn is_ssh(content: &[u8]) -> bool {
    let begins = |word: &str| content.starts_with(word.as_bytes());
    let is_type = |name: &[u8]| {
        ["ssh-", "ecdsa-sha2-", "sk-"]
            .iter()
            .any(|kind| name.starts_with(kind.as_bytes()))
    };
    ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "---- BEGIN SSH2"]
        .into_iter()
        .any(begins)
        || ["ssh-rsa AAAA", "ssh-ed25519 AAAA", "ecdsa-sha2-nistp"]
            .into_iter()
            .any(|word| contains(content, word))
        || content
            .strip_prefix(b"\0\0\0")
            .and_then(|rest| rest.get(1..))
            .is_some_and(is_type)
}

/// RFC 9580 §4.2, §5.5: a packet that is a key, of a version and an algorithm that there are, made since 2000. A short one
/// must be whole; of a long one the end may be missing.
fn is_openpgp(content: &[u8]) -> bool {
    let (length, body) = match content {
        [0x94 | 0x98, length, body @ ..] | [0xc5 | 0xc6, length @ 0..=191, body @ ..] => (usize::from(*length), body),
        [0x95 | 0x99, high @ 1..=7, low, body @ ..] => (usize::from(*high) << 8 | usize::from(*low), body),
        [0xc5 | 0xc6, high @ 192..=199, low, body @ ..] => {
            (((usize::from(*high) - 192) << 8) + usize::from(*low) + 192, body)
        }
        _ => return false,
    };
    // What follows is another packet.
    let is_whole = body.len() == length || body.get(length).is_some_and(|next| next & 0x80 != 0);
    let is_cut = length > 255 && body.len() < length;
    // A key on a curve has 38 bytes at least.
    length >= 38
        && (is_whole || is_cut)
        && matches!(
            body,
            [3 | 4 | 6, 0x38..=0x7f, _, _, _, 1..=3 | 16..=19 | 22 | 25..=28, ..]
        )
}

/// RFC 7515 §3.1: the header comes first.
fn is_token(text: &str) -> bool {
    let header = text
        .split_once('.')
        .and_then(|(header, _)| BASE64.decode(alike(header)).ok());
    header.is_some_and(|header| serde_json::from_slice::<HashMap<String, IgnoredAny>>(&header).is_ok())
}

/// What is in the longest runs of letters and digits, if that is base64 or hexadecimal of anything that is no secret.
fn of_encoded(text: &str, layers: usize) -> Option<Looks> {
    let layers = layers.checked_sub(1)?;
    let joined: String = text.split_whitespace().collect();
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "+/-_".contains(letter);
    let runs = joined.split(|letter| !is_letter(letter));
    runs.filter(|run| run.len() >= LEAST_ENCODED)
        .filter_map(decoded)
        .find_map(|content| match looks_below(&content, layers) {
            Looks::Text | Looks::Binary | Looks::Empty => None,
            Looks::Ssh => Some(Looks::Ssh),
            Looks::Pem | Looks::Der | Looks::EncodedKey => Some(Looks::EncodedKey),
            _ => Some(Looks::Encoded),
        })
}

fn decoded(run: &str) -> Option<Vec<u8>> {
    if run.bytes().all(|letter| letter.is_ascii_hexdigit()) {
        let digit = |letter: &u8| char::from(*letter).to_digit(16);
        let pair = |pair: &[u8]| match pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        };
        return run.as_bytes().chunks_exact(2).map(pair).collect();
    }
    // One letter alone behind the last four is no byte; what was cut may have one.
    let whole = run.len() - usize::from(run.len() % 4 == 1);
    BASE64.decode(alike(run.get(..whole)?)).ok()
}

/// RFC 4648 §5 written as §4.
fn alike(base64url: &str) -> String {
    base64url.replace('-', "+").replace('_', "/")
}

/// An address, a modulus as OpenSSL prints it, or bytes with colons between, as in fingerprints.
fn is_output(text: &str) -> bool {
    let is_pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
    text.contains("://") || text.starts_with("Modulus=") || text.split(':').all(is_pair)
}

/// UTF-16, or nearly all of it ASCII with spaces: random bytes are so once in 10^8 times.
fn is_of_another_charset(content: &[u8]) -> bool {
    let printable = content
        .iter()
        .filter(|byte| matches!(byte, b' '..=b'~' | b'\t'..=b'\r'))
        .count();
    let is_mostly_ascii = printable * 10 >= content.len() * 9 && content.iter().any(u8::is_ascii_whitespace);
    content.starts_with(b"\xff\xfe") && content.contains(&0) || content.starts_with(b"\xfe\xff\0") || is_mostly_ascii
}

fn contains(content: &[u8], word: &str) -> bool {
    content.windows(word.len()).any(|window| window == word.as_bytes())
}

/// Without the byte order mark and white space that editors put first.
pub(in crate::token) fn trim_start(content: &[u8]) -> &[u8] {
    content
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(content)
        .trim_ascii_start()
}
