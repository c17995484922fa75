//! What a token allows, and what two of one identity both allow: pure.
//!
//! No one but the application knows what its claims mean. What is known is that a
//! claim which both tokens have alike, both allow. So a token is taken apart: of a list its items, of a text of scopes
//! (`scope`, `scp`) the words, of an object the members; anything else is one part. A claim that takes something away has to
//! stand in every token.
//!
//! What is kept of a token beyond its message is not its claims, but the digests of their parts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

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

/// How much is kept of a part's digest, in hexadecimal digits: no one chooses the claims of their token.
const DIGITS: usize = 12;

/// What a token allowed: the digests of the parts of its claims, sorted, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Allowed(String);

impl Allowed {
    /// What a token with these claims allows.
    pub(crate) fn of(claims: &Map<String, Value>) -> Self {
        let digests: BTreeSet<_> = parts(claims).iter().map(|part| digest(part)).collect();
        Self(digests.into_iter().collect())
    }

    /// Whether a token with these claims allows all of it.
    pub(crate) fn is_within(&self, claims: &Map<String, Value>) -> bool {
        let has = Self::of(claims);
        self.digests().all(|digest| has.has_digest(digest))
    }

    /// How many bytes it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn has(&self, part: &str) -> bool {
        self.has_digest(digest(part).as_bytes())
    }

    fn has_digest(&self, wanted: &[u8]) -> bool {
        self.digests().any(|digest| digest == wanted)
    }

    fn digests(&self) -> impl Iterator<Item = &[u8]> {
        self.0.as_bytes().chunks(DIGITS)
    }
}

fn digest(part: &str) -> String {
    let mut text = hex::encode(Sha256::digest(part));
    text.truncate(DIGITS);
    text
}

/// The claims as far as another token allowed them too. What tells one token from another stays.
pub(crate) fn lesser(claims: &Map<String, Value>, other: &Allowed) -> Map<String, Value> {
    let both = claims.iter().filter_map(|(name, value)| {
        let kept = if OF_ONE_TOKEN.contains(&name.as_str()) {
            Some(value.clone())
        } else {
            lesser_claim(name, value, other)
        };
        Some((name.clone(), kept?))
    });
    both.collect()
}

/// Whether `one` allows nothing that `other` does not.
pub(crate) fn is_within(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let has: BTreeSet<_> = parts(other).into_iter().collect();
    parts(one).iter().all(|part| has.contains(part))
}

fn parts(claims: &Map<String, Value>) -> Vec<String> {
    let mut all = Vec::new();
    for (name, value) in claims.iter().filter(|(name, _)| !OF_ONE_TOKEN.contains(&name.as_str())) {
        if SCOPES.contains(&name.as_str()) {
            all.extend(scopes(value).into_iter().map(|scope| part_of_scope(name, scope)));
        } else {
            parts_of(&path(name), value, &mut all);
        }
    }
    all
}

fn parts_of(at: &str, value: &Value, all: &mut Vec<String>) {
    match value {
        Value::Array(items) => all.extend(items.iter().map(|item| part(at, item))),
        Value::Object(members) => {
            for (name, value) in members {
                parts_of(&format!("{at} {}", path(name)), value, all);
            }
        }
        // RFC 7519 §4.1.3 lets one audience stand without its list, and others do so with roles.
        single => all.push(part(at, single)),
    }
}

fn path(name: &str) -> String {
    format!("{name:?}")
}

fn part(at: &str, value: &Value) -> String {
    format!("{at} {value}")
}

fn part_of_scope(claim: &str, scope: &str) -> String {
    format!("{} scope {scope:?}", path(claim))
}

/// The words of a claim that names scopes; a claim of another shape names none.
fn scopes(claim: &Value) -> Vec<&str> {
    match claim {
        Value::String(text) => text.split(' ').filter(|word| !word.is_empty()).collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn lesser_claim(name: &str, value: &Value, other: &Allowed) -> Option<Value> {
    if !SCOPES.contains(&name) {
        return lesser_value(&path(name), value, other);
    }
    let mut both = scopes(value);
    both.retain(|scope| other.has(&part_of_scope(name, scope)));
    if both.is_empty() {
        return None;
    }
    Some(match value {
        Value::Array(_) => both.into_iter().map(Value::from).collect(),
        _ => both.join(" ").into(),
    })
}

/// None if nothing of it is left.
fn lesser_value(at: &str, value: &Value, other: &Allowed) -> Option<Value> {
    match value {
        Value::Array(items) => {
            let both: Vec<_> = items
                .iter()
                .filter(|item| other.has(&part(at, item)))
                .cloned()
                .collect();
            (!both.is_empty()).then_some(Value::Array(both))
        }
        Value::Object(members) => {
            let both = members.iter().filter_map(|(name, value)| {
                let kept = lesser_value(&format!("{at} {}", path(name)), value, other)?;
                Some((name.clone(), kept))
            });
            let both: Map<_, _> = both.collect();
            (!both.is_empty()).then_some(Value::Object(both))
        }
        single => other.has(&part(at, single)).then(|| single.clone()),
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
            (json!({"scope": "a"}), json!({"scp": "a"}), json!({})),
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
            (json!({"a": {"b": 1}}), json!({"b": {"a": 1}}), json!({})),
            (json!({"a b": "c"}), json!({"a": "b c"}), json!({})),
        ] {
            let allowed = Allowed::of(&claims(other.clone()));
            assert_eq!(lesser(&claims(one.clone()), &allowed), claims(both), "{one} {other}");
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
            let one = claims(one);
            assert_eq!(is_within(&one, &grant), within, "{one:?}");
            assert_eq!(Allowed::of(&one).is_within(&grant), within, "{one:?}");
        }
    }

    #[test]
    fn what_is_kept_tells_nothing_of_the_claims() {
        let allowed = Allowed::of(&claims(
            json!({"canary": "c4n4ry", "scope": "c4n4ry", "a": {"b": ["c4n4ry"]}}),
        ));
        let text = serde_json::to_string(&allowed).unwrap();
        assert!(!text.contains("canary") && !text.contains("c4n4ry"), "{text}");
        assert_eq!(serde_json::from_str::<Allowed>(&text).unwrap(), allowed);
    }

    fn any_claims() -> impl Strategy<Value = Map<String, Value>> {
        let word = "[ab]";
        let value = prop_oneof![
            word.prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            proptest::collection::vec(word, 1..3).prop_map(Value::from),
            proptest::collection::vec(word, 1..3).prop_map(|words| Value::from(words.join(" "))),
            word.prop_map(|word| json!({ word: true })),
        ];
        proptest::collection::hash_map("roles|role|exp", value, 0..4).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn what_is_left_is_within_both(one in any_claims(), other in any_claims()) {
            let allowed = Allowed::of(&other);
            let both = lesser(&one, &allowed);
            prop_assert!(is_within(&both, &one) && is_within(&both, &other), "{both:?}");
            prop_assert_eq!(&lesser(&both, &allowed), &both);
            prop_assert_eq!(is_within(&one, &other), allowed_all(&one, &other));
        }

        #[test]
        fn nothing_is_lost_between_alike(one in any_claims()) {
            prop_assert_eq!(lesser(&one, &Allowed::of(&one)), one);
        }
    }

    fn allowed_all(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
        Allowed::of(one).is_within(other)
    }
}
