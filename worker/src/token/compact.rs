//! A token's three parts.
//!
//! The compact serialization of RFC 7515 §3.1 and §7.1, and only its canonical
//! spelling: were padding or stray trailing bits let in, one token would have
//! many texts, each with a digest of its own.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Reason;

/// Parts of a JWE, RFC 7516 §3.1.
const ENCRYPTED_PARTS: usize = 5;

/// A token taken apart; nothing of it is verified.
pub(super) struct Compact<'a> {
    pub(super) header: Vec<u8>,
    pub(super) payload: Vec<u8>,
    /// What was signed: header, dot and payload, as they were sent.
    pub(super) signed: &'a str,
    /// As it was sent, known to be canonical.
    pub(super) signature: &'a str,
}

/// What stands before a token in an `Authorization` header.
const SCHEME: &str = "Bearer ";

impl<'a> Compact<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, Reason> {
        if has_scheme(token) {
            return Err(Reason::Bearer);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Reason::Parts)?;
        let (header, payload) = signed.split_once('.').ok_or(Reason::Parts)?;
        if payload.contains('.') {
            let encrypted = token.split('.').take(ENCRYPTED_PARTS + 1).count() == ENCRYPTED_PARTS;
            return Err(if encrypted { Reason::Encrypted } else { Reason::Parts });
        }
        decode(signature)?;
        Ok(Self {
            header: decode(header)?,
            payload: decode(payload)?,
            signed,
            signature,
        })
    }
}

/// Schemes are compared without case (RFC 9110 §11.1).
fn has_scheme(token: &str) -> bool {
    token
        .get(..SCHEME.len())
        .is_some_and(|first| first.eq_ignore_ascii_case(SCHEME))
}

fn decode(part: &str) -> Result<Vec<u8>, Reason> {
    if part.is_empty() {
        return Err(Reason::Parts);
    }
    // This engine refuses padding, line breaks and trailing bits.
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(token: &str) -> Option<Reason> {
        Compact::parse(token).err()
    }

    #[test]
    fn the_value_of_a_header_is_refused_as_what_it_is() {
        for token in ["Bearer e30.e30.e30", "bearer x", "BEARER "] {
            assert_eq!(refusal(token), Some(Reason::Bearer), "{token}");
        }
        for token in ["Bearer", "Bearere30.e30.e30", "", "Bearér e30"] {
            assert_ne!(refusal(token), Some(Reason::Bearer), "{token}");
        }
    }

    #[test]
    fn three_parts_are_taken_apart() {
        let compact = Compact::parse("e30.e30x.AA").unwrap();
        assert_eq!((&*compact.header, &*compact.payload), (&b"{}"[..], &b"{}1"[..]));
        assert_eq!((compact.signed, compact.signature), ("e30.e30x", "AA"));
    }

    #[test]
    fn any_other_number_of_parts_is_refused() {
        for token in [
            "",
            "e30",
            "e30.e30",
            "e30.e30.AA.AA",
            "a.b.c.d.e.f",
            "..",
            ".e30.AA",
            "e30..AA",
            "e30.e30.",
        ] {
            assert_eq!(refusal(token), Some(Reason::Parts), "{token}");
        }
        assert_eq!(refusal("e30.AA.AA.AA.AA"), Some(Reason::Encrypted));
        assert_eq!(refusal("e30..AA.AA.AA"), Some(Reason::Encrypted));
    }

    #[test]
    fn a_second_spelling_of_the_same_bytes_is_refused() {
        for token in [
            "e30=.e30.AA",
            "e30.e30.AA==",
            "e30.e30.AB",
            "e31.e30.AA",
            "e30.e3 0.AA",
            "e30.e30.A/",
            "e30.e30.A",
        ] {
            assert_eq!(refusal(token), Some(Reason::Encoding), "{token}");
        }
    }
}
