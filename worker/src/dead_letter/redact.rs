//! Taking tokens out of what is kept for people to look at.
//!
//! Pure. Better a host name too many than a token too few: whatever could hold
//! a token goes, wherever it stands and however its characters are escaped.
//!
//! The least signature that any key here accepts is 32 bytes (HS256, RFC 7518
//! §3.2), 43 characters of base64url. So a text of base64url characters with two
//! dots that is shorter than `LEAST_TOKEN` is no token that anyone would accept.

use std::borrow::Cow;
use std::fmt;

use serde::Serializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde_json::value::RawValue;

/// What stands where a token stood.
const REDACTED: &str = "[redacted]";

/// Two dots, 32 bytes of signature, and at least something before it: well below 1 + 1 + 1 + 1 + 43.
const LEAST_TOKEN: usize = 40;

/// How base64url spells `{"`, with which nearly every JWT begins.
const USUAL_START: &[u8] = b"eyJ";

/// A client message without its token, however that is spelled, and without anything of a token's shape.
pub fn body(body: &[u8]) -> Vec<u8> {
    match without_token_member(body) {
        Some(rest) => bytes(&rest),
        None => bytes(body),
    }
}

/// A text without anything of a token's shape.
pub(crate) fn text(text: &str) -> Cow<'_, str> {
    let redacted = bytes(text.as_bytes());
    if redacted == text.as_bytes() {
        return Cow::Borrowed(text);
    }
    // Only whole ASCII characters were taken out.
    Cow::Owned(String::from_utf8_lossy(&redacted).into_owned())
}

/// The text without each run of base64url characters and dots that could be, or hold, a token.
fn bytes(text: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let mut run = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let start = at;
        run.clear();
        while let Some((character, length)) = character(text, at).filter(|(character, _)| is_of_token(*character)) {
            run.push(character);
            at += length;
        }
        if at == start {
            at += 1;
            kept.extend(text.get(start..at).unwrap_or_default());
        } else if holds_token(&run) {
            kept.extend_from_slice(REDACTED.as_bytes());
        } else {
            kept.extend(text.get(start..at).unwrap_or_default());
        }
    }
    kept
}

/// The character at `at`, and how many bytes spell it: one, or six if it is escaped (RFC 8259 §7).
fn character(text: &[u8], at: usize) -> Option<(u8, usize)> {
    let plain = *text.get(at)?;
    let escaped = || {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let unit = digits
            .iter()
            .try_fold(0, |unit, &digit| Some(unit * 16 + char::from(digit).to_digit(16)?))?;
        u8::try_from(unit).ok()
    };
    Some(escaped().map_or((plain, 1), |character| (character, 6)))
}

const fn is_of_token(character: u8) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, b'-' | b'_' | b'.')
}

fn holds_token(run: &[u8]) -> bool {
    let dots = run.iter().filter(|&&character| character == b'.').count();
    let starts = || run.windows(USUAL_START.len()).any(|window| window == USUAL_START);
    (dots >= 2 && run.len() >= LEAST_TOKEN) || (dots >= 1 && starts())
}

/// The object written anew without its member `token`; none if it is no object.
fn without_token_member(body: &[u8]) -> Option<Vec<u8>> {
    let members = serde_json::from_slice::<Members<'_>>(body).ok()?;
    let mut rest = Vec::with_capacity(body.len());
    let mut json = serde_json::Serializer::new(&mut rest);
    let mut map = json.serialize_map(None).ok()?;
    for (key, value) in members.0.iter().filter(|(key, _)| key != "token") {
        map.serialize_entry(key, value).ok()?;
    }
    SerializeMap::end(map).ok()?;
    Some(rest)
}

/// All members in their order, even those that are there twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Deserialize<'a> for Members<'a> {
    fn deserialize<D: Deserializer<'a>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'a> Visitor<'a> for MembersVisitor {
    type Value = Members<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn redacted(text: &str) -> String {
        String::from_utf8(body(text.as_bytes())).unwrap()
    }

    /// A token that could be accepted: any header and claims, 32 bytes or more of signature.
    fn token() -> impl Strategy<Value = String> {
        let bytes = |least, most| proptest::collection::vec(any::<u8>(), least..most);
        (bytes(1, 40), bytes(1, 80), bytes(32, 64)).prop_map(|(header, claims, signature)| {
            [header, claims, signature]
                .map(|part| URL_SAFE_NO_PAD.encode(part))
                .join(".")
        })
    }

    /// Spells a text with some of its characters escaped.
    fn spelled(text: &str, escaped: &[bool]) -> String {
        text.chars()
            .zip(escaped.iter().cycle())
            .map(|(character, escaped)| {
                if *escaped {
                    format!("\\u{:04X}", u32::from(character))
                } else {
                    character.to_string()
                }
            })
            .collect()
    }

    fn unescaped(text: &[u8]) -> String {
        let (mut plain, mut at) = (String::new(), 0);
        while let Some((byte, length)) = character(text, at) {
            plain.push(char::from(byte));
            at += length;
        }
        plain
    }

    #[test]
    fn the_token_goes_and_the_rest_stays_as_it_was() {
        let message = format!(r#"{{"id":"i","token":"{TOKEN}","payload":{{"n":1.50,"s":"a\nb"}},"type":"x"}}"#);
        assert_eq!(
            redacted(&message),
            r#"{"id":"i","payload":{"n":1.50,"s":"a\nb"},"type":"x"}"#
        );
    }

    #[test]
    fn the_member_goes_however_it_is_spelled_and_whatever_it_holds() {
        for member in [
            r#""t\u006fken":"opaque""#,
            r#""token":{"deep":"opaque"}"#,
            r#""token":"opaque","token":"opaque""#,
        ] {
            assert_eq!(redacted(&format!(r#"{{"a":1,{member}}}"#)), r#"{"a":1}"#);
        }
    }

    #[test]
    fn a_token_anywhere_else_goes_too() {
        for text in [
            format!(r#"{{"payload":{{"copy":"{TOKEN}"}}}}"#),
            format!(r#"{{"{TOKEN}":1}}"#),
            format!("Bearer {TOKEN}"),
            format!(r#"{{"token":"{TOKEN}"#),
            format!("[[[\"x{TOKEN}\""),
        ] {
            assert!(
                !redacted(&text).contains("dBjftJ") && !redacted(&text).contains("eyJ"),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_token_stays() {
        for text in [
            "www.example.com",
            "1.2.3",
            r#"{"a":"b.c.d"}"#,
            "Grüße",
            "countersign.return.0123456789abcdef",
        ] {
            assert_eq!(redacted(text), text);
        }
    }

    proptest! {
        #[test]
        fn no_token_survives_in_any_text(
            token in token(), escaped: Vec<bool>, before: String, after: String, as_member: bool,
        ) {
            let escaped = if escaped.is_empty() { vec![false] } else { escaped };
            let spelled = spelled(&token, &escaped);
            let message = if as_member {
                format!(r#"{{"type":"x","other":["{spelled}"]}}"#)
            } else {
                format!("{before}{spelled}{after}")
            };
            let rest = unescaped(&body(message.as_bytes()));
            let signature = token.rsplit('.').next().unwrap_or_default();
            prop_assert!(!rest.contains(signature), "{rest}");
            prop_assert!(!rest.contains(&token), "{rest}");
        }

        #[test]
        fn what_was_redacted_has_nothing_left_to_redact(message: Vec<u8>, token in token()) {
            let message = [message, token.into_bytes()].concat();
            let once = body(&message);
            prop_assert_eq!(body(&once), once);
        }
    }
}
