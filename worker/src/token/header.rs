//! What a token says about itself, before anything of it is verified.
//!
//! The header is the sender's, so it chooses nothing: it may name one of our
//! keys and one of that key's algorithms. Members that would change the meaning
//! of the rest are refused even where RFC 7515 §4 would let us ignore them, because
//! their sender expects something we do not do. Members that bring or name keys of
//! the sender's choice (`jku`, `jwk`, `x5u`, `x5c`, `x5t`) mean nothing here: issuers
//! write them for others, and they are neither fetched nor looked at.

use serde_json::Value;

use super::claims::members::Members;
use super::claims::token_type;
use super::{Algorithm, Reason, TokenType};

/// RFC 7515 §4.1, RFC 7516 §4.1, RFC 7797 §3. We know no extension, so whatever is `crit` is one we do not (RFC 7515 §4.1.11).
const FORBIDDEN: [&str; 5] = ["crit", "zip", "enc", "b64", "cty"];

/// The two members that choose among our keys.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
}

impl Header {
    /// Reads a header of one of these types, or, where none is named, of the usual ones.
    pub(super) fn parse(json: &[u8], types: &[TokenType]) -> Result<Self, Reason> {
        let members = Members::parse(json).ok_or(Reason::Header)?;
        Self::of(&members, |typ| token_type::check(typ, types))
    }

    /// Reads a header of whatever type, and the type, if it tells one.
    pub(super) fn with_type(json: &[u8]) -> Result<(Self, Option<String>), Reason> {
        let members = Members::parse(json).ok_or(Reason::Header)?;
        let mut told = None;
        let header = Self::of(&members, |typ| {
            told = typ
                .map(|typ| typ.as_str().ok_or(Reason::Type))
                .transpose()?
                .map(str::to_owned);
            Ok(())
        })?;
        Ok((header, told))
    }

    fn of(members: &Members, check_type: impl FnOnce(Option<&Value>) -> Result<(), Reason>) -> Result<Self, Reason> {
        if let Some(name) = FORBIDDEN.into_iter().find(|name| members.get(name).is_some()) {
            return Err(Reason::ForbiddenMember(name));
        }
        check_type(members.get("typ"))?;
        let algorithm = match members.get("alg") {
            // An algorithm we do not know, `none` among them, has no name here.
            Some(Value::String(name)) => name.parse().map_err(|_| Reason::Algorithm)?,
            _ => return Err(Reason::HeaderMember("alg")),
        };
        let kid = match members.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(Reason::HeaderMember("kid")),
        };
        Ok(Self { algorithm, kid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &[u8]) -> Result<Header, Reason> {
        Header::parse(json, &[])
    }

    fn refusal(json: &str) -> Option<Reason> {
        parse(json.as_bytes()).err()
    }

    #[test]
    fn a_header_names_its_algorithm_and_key() {
        let header = parse(br#"{"alg":"ES256","kid":"k","typ":"JWT","x":[1]}"#).unwrap();
        assert_eq!((header.algorithm, header.kid.as_deref()), (Algorithm::ES256, Some("k")));
        assert_eq!(parse(br#"{"alg":"EdDSA"}"#).unwrap().kid, None);
    }

    #[test]
    fn a_header_that_is_no_object_with_unique_members_is_refused() {
        for json in [
            "",
            "[]",
            r#""HS256""#,
            r#"{"alg":"HS256","alg":"HS256"}"#,
            r#"{"alg":"HS256"}x"#,
        ] {
            assert_eq!(refusal(json), Some(Reason::Header), "{json}");
        }
    }

    #[test]
    fn none_and_unknown_algorithms_are_refused() {
        for alg in [
            "none", "None", "NONE", "hs256", "ES512", "HS256 ", "", "RSA-OAEP", "dir",
        ] {
            assert_eq!(
                refusal(&format!(r#"{{"alg":"{alg}"}}"#)),
                Some(Reason::Algorithm),
                "{alg}"
            );
        }
        for json in ["{}", r#"{"alg":null}"#, r#"{"alg":["HS256"]}"#, r#"{"alg":256}"#] {
            assert_eq!(refusal(json), Some(Reason::HeaderMember("alg")), "{json}");
        }
    }

    #[test]
    fn only_the_types_of_signed_tokens_are_accepted() {
        for typ in [
            "JWT",
            "jwt",
            "at+jwt",
            "AT+JWT",
            "application/jwt",
            "Application/At+Jwt",
        ] {
            assert_eq!(refusal(&format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#)), None, "{typ}");
        }
        for typ in [
            "",
            "JWS",
            "dpop+jwt",
            "application/",
            "application/application/jwt",
            "text/jwt",
            "ééééééé",
        ] {
            assert_eq!(
                refusal(&format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#)),
                Some(Reason::Type),
                "{typ}"
            );
        }
        assert_eq!(refusal(r#"{"alg":"HS256","typ":null}"#), Some(Reason::Type));
    }

    #[test]
    fn members_that_bring_keys_are_passed_over_whatever_they_are() {
        for name in ["jku", "x5u", "jwk", "x5c", "x5t", "x5t#S256"] {
            for value in ["null", "[]", "\"https://evil.example/\"", "{\"kty\":\"oct\"}"] {
                let json = format!(r#"{{"alg":"HS256","kid":"k","{name}":{value}}}"#);
                let header = parse(json.as_bytes()).unwrap();
                assert_eq!(
                    (header.algorithm, header.kid.as_deref()),
                    (Algorithm::HS256, Some("k")),
                    "{json}"
                );
            }
        }
    }

    #[test]
    fn members_that_change_what_a_token_means_are_refused() {
        for name in FORBIDDEN {
            for value in ["null", "[]", "\"x\"", "true"] {
                let json = format!(r#"{{"alg":"HS256","{name}":{value}}}"#);
                assert_eq!(refusal(&json), Some(Reason::ForbiddenMember(name)), "{json}");
            }
        }
    }

    #[test]
    fn a_kid_that_is_no_string_is_refused() {
        assert_eq!(refusal(r#"{"alg":"HS256","kid":1}"#), Some(Reason::HeaderMember("kid")));
        assert_eq!(
            refusal(r#"{"alg":"HS256","kid":null}"#),
            Some(Reason::HeaderMember("kid"))
        );
    }
}
