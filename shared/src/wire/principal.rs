//! Whose authentication a principal is: the names in it, for anyone who tells of a connection.
//!
//! Workers write the principal (see [`grant`](super::grant)) and are alone to decide by it. A terminator keeps it unread, except to
//! name the connection's identity in its events: these names, and none of the other claims.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::connection_event::IdentityNames;

/// The names in a principal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalNames {
    /// Whose it is.
    pub identity: IdentityNames,
    /// The `jti` of its token (RFC 7519 §4.1.7).
    pub jti: Option<String>,
    /// Its `sid`, the session with the issuer (OpenID Connect Front-Channel Logout 1.0 §3).
    pub sid: Option<String>,
}

/// A principal's text, as far as it is read here.
#[derive(Deserialize)]
struct Text {
    c: Claims,
    /// The subject, where another claim than `sub` names it.
    #[serde(default)]
    s: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default, deserialize_with = "text")]
    sub: Option<String>,
    #[serde(default, deserialize_with = "text")]
    jti: Option<String>,
    #[serde(default, deserialize_with = "text")]
    sid: Option<String>,
}

/// A claim that is no text says nothing.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}

impl PrincipalNames {
    /// The names in that text; none if it has none.
    pub fn of(principal: &str) -> Option<Self> {
        let Text { c: claims, s } = serde_json::from_str(principal).ok()?;
        Some(Self {
            identity: IdentityNames {
                issuer: claims.iss,
                subject: s.or(claims.sub)?,
            },
            jti: claims.jti,
            sid: claims.sid,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_are_read_and_what_is_no_text_is_none() {
        let of = |text: &str| PrincipalNames::of(text);
        let names = of(r#"{"c":{"iss":"i","sub":"s","jti":1,"sid":"x","scope":["a"]},"r":"secret"}"#).unwrap();
        assert_eq!(
            (names.identity.issuer.as_str(), names.identity.subject.as_str()),
            ("i", "s")
        );
        assert_eq!((names.jti, names.sid.as_deref()), (None, Some("x")));
        let named_by_another = of(r#"{"c":{"iss":"i","sub":7},"r":"","s":"mail@example.com"}"#).unwrap();
        assert_eq!(named_by_another.identity.subject, "mail@example.com");
        for none in ["", "{}", r#"{"c":{"iss":"i"},"r":""}"#, r#"{"c":{"sub":"s"},"r":""}"#] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
