//! What two tokens of one identity both allow: pure.
//!
//! Nobody but the application knows what its claims mean. What is known is that a
//! claim which both tokens have alike, both allow. So two are met member by
//! member: of two lists the items that are in both, of two texts of scopes (`scope`, `scp`) the words, of two objects the
//! members; anything else counts only if it is the same. A claim that takes something away has to stand in every token.

use serde_json::{Map, Value};

/// The claims that name scopes: RFC 8693 §4.2, RFC 9068 §2.2.3, and what some issuers write instead.
pub(crate) const SCOPES: [&str; 2] = ["scope", "scp"];

/// The claims that tell one token from another of the same rights: when, by which number, in which session it was issued
/// (RFC 7519 §4.1, OpenID Connect Core §2, and what large providers add).
const OF_ONE_TOKEN: [&str; 16] = [
    "aio",
    "at_hash",
    "auth_time",
    "c_hash",
    "event_id",
    "exp",
    "iat",
    "ipaddr",
    "jti",
    "nbf",
    "nonce",
    "origin_jti",
    "rh",
    "session_state",
    "sid",
    "uti",
];

/// The claims of `one` as far as `other` has them too. What tells one token from another stays that of `one`.
pub(crate) fn lesser(one: &Map<String, Value>, other: &Map<String, Value>) -> Map<String, Value> {
    one.iter()
        .filter_map(|(name, value)| Some((name.clone(), met_claim(name, value, other)?)))
        .collect()
}

/// Whether `one` allows nothing that `other` does not.
pub(crate) fn is_within(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    one.iter()
        .all(|(name, value)| met_claim(name, value, other).as_ref() == Some(value))
}

/// The words of a claim that names scopes; a claim of another shape names none.
pub(crate) fn scopes(claim: &Value) -> Vec<&str> {
    match claim {
        Value::String(text) => text.split(' ').filter(|word| !word.is_empty()).collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// What a token allows, part by part: of a list its items, of scopes the words, of an object its members.
pub(crate) fn parts(claims: &Map<String, Value>) -> Vec<String> {
    let mut all = Vec::new();
    for (name, value) in claims.iter().filter(|(name, _)| !OF_ONE_TOKEN.contains(&name.as_str())) {
        if SCOPES.contains(&name.as_str()) {
            all.extend(scopes(value).into_iter().map(|word| format!("{name:?} {word:?}")));
        } else {
            parts_of(&format!("{name:?}"), value, &mut all);
        }
    }
    all
}

fn parts_of(path: &str, value: &Value, all: &mut Vec<String>) {
    match value {
        Value::Array(items) => all.extend(items.iter().map(|item| format!("{path} {item}"))),
        Value::Object(members) => {
            for (name, value) in members {
                parts_of(&format!("{path} {name:?}"), value, all);
            }
        }
        // One that stands without its list is the same as one that is its only item.
        single => all.push(format!("{path} {single}")),
    }
}

fn met_claim(name: &str, value: &Value, other: &Map<String, Value>) -> Option<Value> {
    if OF_ONE_TOKEN.contains(&name) {
        return Some(value.clone());
    }
    let theirs = other.get(name)?;
    match value {
        Value::String(text) if SCOPES.contains(&name) => {
            let allowed = scopes(theirs);
            if text.split(' ').all(|word| allowed.contains(&word)) {
                return Some(value.clone());
            }
            let both: Vec<_> = scopes(value)
                .into_iter()
                .filter(|word| allowed.contains(word))
                .collect();
            Some(Value::String(both.join(" ")))
        }
        Value::Array(items) if SCOPES.contains(&name) => {
            let allowed = scopes(theirs);
            let both = items
                .iter()
                .filter(|item| item.as_str().is_some_and(|item| allowed.contains(&item)));
            Some(both.cloned().collect())
        }
        _ => met(value, theirs),
    }
}

/// What two values have in common, as the first has it; nothing if that is nothing.
fn met(one: &Value, other: &Value) -> Option<Value> {
    match (one, other) {
        (Value::Array(items), Value::Array(others)) => {
            Some(items.iter().filter(|item| others.contains(item)).cloned().collect())
        }
        // RFC 7519 §4.1.3 lets one audience stand without its list, and others do so with roles.
        (Value::Array(items), single) => Some(items.iter().filter(|item| *item == single).cloned().collect()),
        (single, Value::Array(others)) => others.contains(single).then(|| single.clone()),
        (Value::Object(members), Value::Object(others)) => {
            let both = members
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), met(value, others.get(name)?)?)));
            Some(both.collect())
        }
        (one, other) => (one == other).then(|| one.clone()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn claims(json: Value) -> Map<String, Value> {
        json.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_both_have_is_allowed_and_nothing_else() {
        for (one, other, both) in [
            (
                json!({"scope": "a b c"}),
                json!({"scope": "c b"}),
                json!({"scope": "b c"}),
            ),
            (
                json!({"scope": "a"}),
                json!({"scope": ["a", "b"]}),
                json!({"scope": "a"}),
            ),
            (json!({"scp": ["a", "b"]}), json!({"scp": "b"}), json!({"scp": ["b"]})),
            (json!({"scope": "a"}), json!({}), json!({})),
            (json!({"role": "admin"}), json!({"role": "user"}), json!({})),
            (json!({"admin": true}), json!({"admin": false}), json!({})),
            (
                json!({"roles": ["a", "b"]}),
                json!({"roles": ["b", "c"]}),
                json!({"roles": ["b"]}),
            ),
            (json!({"aud": ["a", "b"]}), json!({"aud": "b"}), json!({"aud": ["b"]})),
            (json!({"aud": "b"}), json!({"aud": ["a", "b"]}), json!({"aud": "b"})),
            (
                json!({"realm_access": {"roles": ["a", "b"], "x": 1}}),
                json!({"realm_access": {"roles": ["b"]}}),
                json!({"realm_access": {"roles": ["b"]}}),
            ),
            (
                json!({"exp": 2, "jti": "x"}),
                json!({"exp": 1}),
                json!({"exp": 2, "jti": "x"}),
            ),
            (json!({"limit": 5}), json!({"limit": 9}), json!({})),
        ] {
            assert_eq!(
                lesser(&claims(one.clone()), &claims(other.clone())),
                claims(both),
                "{one} {other}"
            );
        }
    }

    #[test]
    fn a_token_that_says_no_more_is_within_another() {
        let grant = claims(json!({"sub": "a", "exp": 9, "scope": "read write", "roles": ["x", "y"]}));
        for (one, within) in [
            (
                json!({"sub": "a", "exp": 99, "scope": "write read", "roles": ["y"]}),
                true,
            ),
            (json!({"sub": "a", "scope": "read"}), true),
            (json!({"sub": "a", "scope": "read admin"}), false),
            (json!({"sub": "a", "roles": ["z"]}), false),
            (json!({"sub": "a", "admin": true}), false),
        ] {
            assert_eq!(is_within(&claims(one.clone()), &grant), within, "{one}");
        }
    }

    fn any_claims() -> impl Strategy<Value = Map<String, Value>> {
        let word = "[ab]";
        let value = prop_oneof![
            word.prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            proptest::collection::vec(word, 0..3).prop_map(Value::from),
            proptest::collection::vec(word, 0..3).prop_map(|words| Value::from(words.join(" "))),
        ];
        proptest::collection::hash_map("scope|scp|roles|role", value, 0..4).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_is_left_is_within_both(one in any_claims(), other in any_claims()) {
            let both = lesser(&one, &other);
            prop_assert!(is_within(&both, &one), "{both:?}");
            prop_assert!(is_within(&both, &other), "{both:?}");
            prop_assert_eq!(lesser(&both, &other), both);
        }

        #[test]
        fn nothing_is_lost_between_alike(one in any_claims()) {
            prop_assert_eq!(lesser(&one, &one), one);
        }
    }
}
