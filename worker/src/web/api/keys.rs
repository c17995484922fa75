//! The keys of backends, in a file: one a line, with a name and with what it allows.
//!
//! ```text
//! # name    key, or its SHA-256                          what it allows
//! billing   sha256:9f86d081884c7d659a2feaa0c55ad015a3bf…  push
//! support   vN0pFZ1bq7m3…                                push,revoke,inspect
//! ```
//!
//! Pure. What is presented is compared by its digest with every key, in a time that tells nothing. No text here repeats
//! anything of a line but its number.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::token::{Digest, check_secret};

/// The most keys of a file: each request is compared with all.
const MOST_KEYS: usize = 1_000;
/// Of a key, in bytes.
const MOST_BYTES: usize = 256;
/// What stands before a digest.
const SHA256: &str = "sha256:";
/// Of a key's name, in bytes.
const MOST_NAME_BYTES: usize = 64;

/// A part of what there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    /// To push.
    Push,
    /// To revoke.
    Revoke,
    /// To look at connections.
    Inspect,
}

impl Right {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Push, Self::Revoke, Self::Inspect];

    /// Its name, in the file and in scopes.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Revoke => "revoke",
            Self::Inspect => "inspect",
        }
    }
}

/// One key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// What the log calls it.
    pub(super) name: Arc<str>,
    digest: [u8; 32],
    rights: Vec<Right>,
}

impl Key {
    /// Whether it may do that.
    pub(super) fn allows(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }
}

/// The keys of a file.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with which line.
    pub(super) fn read(content: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|_| "is not UTF-8".to_owned())?;
        let mut keys: Vec<Key> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| format!("line {}: {why}", number + 1);
            let key = key(line).map_err(|why| wrong(&why))?;
            if keys.iter().any(|other| other.name == key.name) {
                return Err(wrong("another line has this name"));
            }
            if keys.iter().any(|other| other.digest == key.digest) {
                return Err(wrong("another line has this key"));
            }
            keys.push(key);
        }
        match keys.len() {
            0 => Err("has no key: want lines of NAME KEY RIGHTS".to_owned()),
            1..=MOST_KEYS => Ok(Self(keys)),
            _ => Err(format!("has more than {MOST_KEYS} keys")),
        }
    }

    /// The key that this is, if it is one.
    pub(super) fn find(&self, presented: &str) -> Option<&Key> {
        let digest = Digest::of(presented);
        let mut found = None;
        // All of them, so that the time does not tell which.
        for key in &self.0 {
            if verify_slices_are_equal(&key.digest, digest.as_bytes()).is_ok() {
                found = Some(key);
            }
        }
        found
    }
}

fn key(line: &str) -> Result<Key, String> {
    let mut words = line.split_ascii_whitespace();
    let (Some(name), Some(key), Some(rights), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err("want NAME KEY RIGHTS, separated by spaces".to_owned());
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.len() > MOST_NAME_BYTES || !name.bytes().all(plain) {
        return Err("a name is 1 to 64 letters, digits, `.`, `_` or `-`".to_owned());
    }
    let digest = match key.strip_prefix(SHA256) {
        Some(digits) => digest(digits).ok_or("want the 64 hexadecimal digits of a SHA-256 after `sha256:`")?,
        None => *Digest::of(secret(key)?).as_bytes(),
    };
    let rights = rights.split(',').map(|word| {
        let right = Right::ALL.into_iter().find(|right| right.as_str() == word);
        right.ok_or_else(|| "want `push`, `revoke` or `inspect`, comma separated, as its rights".to_owned())
    });
    Ok(Key {
        name: name.into(),
        digest,
        rights: rights.collect::<Result<_, _>>()?,
    })
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    hex::decode_to_slice(digits, &mut digest).ok()?;
    Some(digest)
}

/// A key that stands there itself: RFC 6750, section 2.1, and nothing that could be guessed.
fn secret(key: &str) -> Result<&str, String> {
    let (text, padding) = key.split_at(key.trim_end_matches('=').len());
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if key.len() > MOST_BYTES || padding.len() > 2 || !text.bytes().all(allowed) {
        return Err("a key is 32 to 256 letters, digits or `-._~+/`".to_owned());
    }
    check_secret(key.as_bytes()).map_err(|fault| format!("the key {fault}"))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "vN0pFZ1bq7m3xT9sLk4dRw8yCg2hUj6a";

    fn read(text: &str) -> Result<Keys, String> {
        Keys::read(text.as_bytes())
    }

    #[test]
    fn a_key_is_found_as_it_is_or_by_its_digest_and_allows_what_stands_there() {
        let digest = Digest::of("another key, of which only the digest stands there");
        let file = format!("# keys\n\nbilling sha256:{digest} push\nsupport\t{SECRET}  inspect,revoke\n");
        let keys = read(&file).unwrap();
        let found = |text: &str| keys.find(text).map(|key| key.name.to_string());
        assert_eq!(found(SECRET).as_deref(), Some("support"));
        assert_eq!(
            found("another key, of which only the digest stands there").as_deref(),
            Some("billing")
        );
        for wrong in ["", "billing", &SECRET[1..], &format!("{SECRET}="), &digest.to_string()] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
        let rights = |text: &str| Right::ALL.map(|right| keys.find(text).unwrap().allows(right));
        assert_eq!(rights(SECRET), [false, true, true]);
    }

    #[test]
    fn a_wrong_line_is_told_by_its_number_and_not_by_its_text() {
        let twice = format!("a {SECRET} push\na {SECRET}x push");
        let same = format!("a {SECRET} push\nb {SECRET} push");
        for (file, line) in [
            ("", ""),
            ("# none\n", ""),
            ("a", "line 1"),
            (&format!("a {SECRET}"), "line 1"),
            (&format!("\na {SECRET} push more"), "line 2"),
            (&format!("a {SECRET} write"), "line 1"),
            (&format!("a {SECRET} push,"), "line 1"),
            (&format!("a\u{e9} {SECRET} push"), "line 1"),
            ("a short push", "line 1"),
            ("a aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa push", "line 1"),
            ("a sha256:12 push", "line 1"),
            (&format!("a {} push", SECRET.repeat(9)), "line 1"),
            (&twice, "line 2"),
            (&same, "line 2"),
        ] {
            let fault = read(file).err().unwrap_or_else(|| panic!("{file}"));
            assert!(fault.starts_with(line), "{file}: {fault}");
            assert!(!fault.contains(SECRET), "{fault}");
        }
    }
}
