//! What a token is for: pure.
//!
//! An issuer signs tokens of many kinds with one key, and only access tokens say what
//! their bearer may do (RFC 9068). An ID token says that someone has logged in at a client, a
//! refresh or logout token is for servers, and one that is bound to a key (RFC 7800) is good only with a proof
//! of that key, which does not come this way: taken for an access token, any of them would let in who should not be.

use serde_json::{Map, Value};

use super::other::Other;
use crate::token::Reason;

impl Other {
    const EVERY: [Self; 4] = [Self::Bound, Self::Id, Self::Refresh, Self::Logout];

    /// Whether a token with these claims is one.
    fn is(self, claims: &Map<String, Value>) -> bool {
        let has = |name: &str| claims.get(name).is_some_and(|value| !value.is_null());
        match self {
            Self::Bound => has("cnf"),
            Self::Id => has("nonce") || has("at_hash") || has("c_hash") || says(claims, &["id"]),
            Self::Refresh => says(claims, &["refresh", "offline"]),
            Self::Logout => has("events") || says(claims, &["logout"]),
        }
    }
}

/// Whether the claims by which some issuers tell their tokens apart say one of these.
fn says(claims: &Map<String, Value>, words: &[&str]) -> bool {
    let claim = |name: &str| claims.get(name).and_then(Value::as_str);
    let is_one = |text: &str| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    ["token_use", "typ"].into_iter().filter_map(claim).any(is_one)
}

/// Refuses what is no access token, but for those kinds that are allowed.
pub(in crate::token) fn check(claims: &Map<String, Value>, allowed: &[Other]) -> Result<(), Reason> {
    let mut others = Other::EVERY.into_iter().filter(|kind| !allowed.contains(kind));
    match others.find(|kind| kind.is(claims)) {
        Some(kind) => Err(Reason::NoAccessToken(kind)),
        None => Ok(()),
    }
}

/// A claim that every token must have, perhaps with a value: `email_verified=true`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredClaim {
    name: Box<str>,
    value: Option<Box<str>>,
}

impl RequiredClaim {
    /// The claim of that text; none if it names none.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (text.trim(), None),
        };
        (!name.is_empty()).then(|| Self {
            name: name.into(),
            value: value.map(Box::from),
        })
    }

    /// Whether a token with these claims has it: as a text, a number or a truth value, or among the items of a list.
    pub(in crate::token) fn is_met_by(&self, claims: &Map<String, Value>) -> bool {
        let Some(claim) = claims.get(&*self.name).filter(|claim| !claim.is_null()) else {
            return false;
        };
        let Some(value) = self.value.as_deref() else {
            return true;
        };
        let same = |one: &Value| match one {
            Value::String(text) => text == value,
            Value::Number(number) => number.to_string().as_str() == value,
            Value::Bool(one) => (if *one { "true" } else { "false" }) == value,
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        };
        match claim {
            Value::Array(items) => items.iter().any(same),
            single => same(single),
        }
    }

    /// As it was written.
    pub fn text(&self) -> String {
        match &self.value {
            Some(value) => format!("{}={value}", self.name),
            None => self.name.to_string(),
        }
    }
}

impl shared::service::config::Value for RequiredClaim {
    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).ok_or_else(|| "the name of a claim, or CLAIM=VALUE".to_owned())
    }

    fn show(&self) -> shared::service::config::Shown {
        self.text().into()
    }
}

impl std::str::FromStr for RequiredClaim {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as shared::service::config::Value>::parse(text)
    }
}

impl std::str::FromStr for Other {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        <Self as shared::service::config::Value>::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(json: Value) -> Map<String, Value> {
        json.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_is_no_access_token_is_known_by_its_claims_and_may_be_allowed() {
        for (json, kind) in [
            (json!({"cnf": {"jkt": "x"}}), Other::Bound),
            (json!({"cnf": {"x5t#S256": "x"}}), Other::Bound),
            (json!({"nonce": "n"}), Other::Id),
            (json!({"at_hash": "h"}), Other::Id),
            (json!({"c_hash": "h"}), Other::Id),
            (json!({"token_use": "id"}), Other::Id),
            (json!({"typ": "ID"}), Other::Id),
            (json!({"typ": "Refresh"}), Other::Refresh),
            (json!({"typ": "Offline"}), Other::Refresh),
            (
                json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
                Other::Logout,
            ),
        ] {
            assert_eq!(
                check(&claims(json.clone()), &[]),
                Err(Reason::NoAccessToken(kind)),
                "{json}"
            );
            assert_eq!(check(&claims(json.clone()), &[kind]), Ok(()), "{json}");
            let others: Vec<_> = Other::EVERY.into_iter().filter(|one| *one != kind).collect();
            assert!(check(&claims(json.clone()), &others).is_err(), "{json}");
        }
        for access in [
            json!({}),
            json!({"token_use": "access", "auth_time": 1, "sid": "s"}),
            json!({"typ": "Bearer", "acr": "1"}),
            json!({"cnf": null}),
        ] {
            assert_eq!(check(&claims(access.clone()), &[]), Ok(()), "{access}");
        }
    }

    #[test]
    fn a_required_claim_is_there_or_has_its_value() {
        let all = claims(json!({"a": "x", "b": true, "c": 1, "d": ["y", 2], "e": null, "f": {"x": 1}}));
        for (text, met) in [
            ("a", true),
            ("a=x", true),
            ("a=y", false),
            ("b=true", true),
            ("b=false", false),
            ("c=1", true),
            ("d=y", true),
            ("d=2", true),
            ("d=z", false),
            ("e", false),
            ("f", true),
            ("f=x", false),
            ("g", false),
        ] {
            assert_eq!(RequiredClaim::parse(text).unwrap().is_met_by(&all), met, "{text}");
        }
        assert_eq!((RequiredClaim::parse(""), RequiredClaim::parse("=x")), (None, None));
    }
}
