//! What a file holds, as its bytes tell.
//!
//! JWKS, PEM and DER are told apart by parsing. What is none of them is called by
//! what it looks like, so that an error helps, and so that nothing that was made to
//! be shown to others is taken for a secret.

use std::fmt;

pub(in crate::token) const BEGIN: &str = "-----BEGIN ";

/// What a file with keys is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::token) enum Form {
    /// RFC 7517 §5.
    Jwks,
    /// RFC 7468.
    Pem,
    /// X.690.
    Der,
    /// None of these.
    Other(Looks),
}

/// What something is that is not known to be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// Nothing, or white space alone.
    Empty,
    /// RFC 8259.
    Json,
    /// A page for a browser, or XML.
    Markup,
    /// RFC 4253 §6.6, RFC 4716.
    Ssh,
    /// RFC 7468.
    Pem,
    /// X.690.
    Der,
    /// Anything else that can be read.
    Text,
    /// Anything else.
    Binary,
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
            Self::Text => "text",
            Self::Binary => "binary data",
        })
    }
}

impl Form {
    /// The form of a file's content.
    pub(in crate::token) fn of(content: &[u8]) -> Self {
        let text = trim_start(content);
        if text.starts_with(b"{") {
            Self::Jwks
        } else if text.starts_with(BEGIN.trim_end().as_bytes()) {
            Self::Pem
        } else if is_der(content) {
            Self::Der
        } else {
            Self::Other(looks(content))
        }
    }
}

/// What content looks like.
pub(in crate::token) fn looks(content: &[u8]) -> Looks {
    let trimmed = trim_start(content).trim_ascii_end();
    let holds = |word: &str| content.windows(word.len()).any(|window| window == word.as_bytes());
    let begins = |word: &str| trimmed.starts_with(word.as_bytes());
    if trimmed.is_empty() {
        return Looks::Empty;
    }
    // PEM may stand behind explanatory text (RFC 7468 §2).
    if holds(BEGIN) {
        return Looks::Pem;
    }
    if ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "---- BEGIN SSH2"]
        .into_iter()
        .any(begins)
        || ["ssh-rsa AAAA", "ssh-ed25519 AAAA", "ecdsa-sha2-nistp"]
            .into_iter()
            .any(holds)
    {
        return Looks::Ssh;
    }
    if is_der(content) {
        return Looks::Der;
    }
    match str::from_utf8(trimmed) {
        Err(_) => Looks::Binary,
        Ok(text) if text.starts_with('<') => Looks::Markup,
        Ok(text)
            if text.starts_with(['{', '[', '"']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() =>
        {
            Looks::Json
        }
        // A page or a set that was cut is no better a secret.
        Ok(text) if text.starts_with("{\"") => Looks::Json,
        Ok(_) => Looks::Text,
    }
}

/// One SEQUENCE that is all of the content, of well-formed values.
fn is_der(content: &[u8]) -> bool {
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

/// Without the byte order mark and white space that editors put first.
pub(in crate::token) fn trim_start(content: &[u8]) -> &[u8] {
    content
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(content)
        .trim_ascii_start()
}
