//! What a token says it is, in the header member `typ`: pure.
//!
//! RFC 7515 §4.1.9 has a media type there, in any case, whose `application/` may be left out. An access token by RFC 9068
//! is an `at+jwt`, so anyone who wants nothing else need not go by the claims to tell an ID token from one.

use serde_json::Value;
use shared::service::config::Shown;

use crate::token::Reason;

const PREFIX: &str = "application/";

/// What counts as a signed token where the settings name no type. The member may then be missing too.
const USUAL: [&str; 2] = ["jwt", "at+jwt"];

/// A type that tokens may have, in lower case and without `application/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenType(Box<str>);

impl TokenType {
    /// The type of that name; none if it is none.
    pub fn new(name: &str) -> Option<Self> {
        let name = short(name);
        let is_good = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        is_good.then(|| Self(name.to_ascii_lowercase().into()))
    }

    fn is(&self, typ: &str) -> bool {
        short(typ).eq_ignore_ascii_case(&self.0)
    }
}

/// Refuses a token whose type is none of those that are accepted; none named means the usual ones.
pub(in crate::token) fn check(typ: Option<&Value>, accepted: &[TokenType]) -> Result<(), Reason> {
    let is_accepted = match (typ, accepted) {
        (None, []) => true,
        (Some(Value::String(typ)), []) => USUAL.iter().any(|usual| short(typ).eq_ignore_ascii_case(usual)),
        (Some(Value::String(typ)), accepted) => accepted.iter().any(|one| one.is(typ)),
        _ => false,
    };
    match is_accepted {
        true => Ok(()),
        false if accepted.is_empty() => Err(Reason::Type),
        false => Err(Reason::OtherType),
    }
}

fn short(name: &str) -> &str {
    match name.split_at_checked(PREFIX.len()) {
        Some((prefix, short)) if prefix.eq_ignore_ascii_case(PREFIX) => short,
        _ => name,
    }
}

impl shared::service::config::Value for TokenType {
    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text).ok_or_else(|| "a type as in the header member `typ`: `at+jwt`".to_owned())
    }

    fn show(&self) -> Shown {
        (&*self.0).into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_that_is_required_is_the_only_one_and_must_be_there() {
        let only = [TokenType::new("application/AT+jwt").unwrap()];
        for good in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
            assert_eq!(check(Some(&json!(good)), &only), Ok(()), "{good}");
        }
        for bad in [
            json!("JWT"),
            json!(""),
            json!("application/"),
            json!(null),
            json!(["at+jwt"]),
        ] {
            assert_eq!(check(Some(&bad), &only), Err(Reason::OtherType), "{bad}");
        }
        assert_eq!(check(None, &only), Err(Reason::OtherType));
        assert_eq!(check(None, &[]), Ok(()));
    }
}
