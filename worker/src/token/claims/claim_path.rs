//! Where in a token's claims something stands: a claim, or a member within one.
//!
//! `realm_access.roles` is the member `roles` of the claim `realm_access`, but a claim may also be called
//! `https://api.example.com/roles`. So a dot leads inwards only where there is no claim of the whole name.

use serde_json::{Map, Value};
use shared::service::config::Shown;

/// The name of a claim, or of a member within one: `scope`, `realm_access.roles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPath(Box<str>);

impl ClaimPath {
    /// The path of that text; none if it is empty.
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands there.
    pub(crate) fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        within(&self.0, claims)
    }
}

/// The longest name that there is counts, so that nothing is found where something else is meant.
fn within<'c>(path: &str, members: &'c Map<String, Value>) -> Option<&'c Value> {
    if let Some(value) = members.get(path) {
        return Some(value);
    }
    path.rmatch_indices('.').find_map(|(at, _)| {
        let (name, rest) = (path.get(..at)?, path.get(at + 1..)?);
        match members.get(name)? {
            Value::Object(inner) => within(rest, inner),
            _ => None,
        }
    })
}

impl shared::service::config::Value for ClaimPath {
    fn parse(text: &str) -> Result<Self, String> {
        Self::new(text).ok_or_else(|| "the name of a claim, or of a member within one: `realm_access.roles`".to_owned())
    }

    fn show(&self) -> Shown {
        self.as_str().into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str, claims: Value) -> Option<Value> {
        let Value::Object(claims) = claims else {
            panic!("claims are an object")
        };
        ClaimPath::new(path).unwrap().find(&claims).cloned()
    }

    #[test]
    fn a_path_leads_to_a_claim_or_into_one() {
        assert_eq!(found("scope", json!({"scope": "a"})), Some(json!("a")));
        let keycloak = json!({"realm_access": {"roles": ["x"]}, "resource_access": {"my.app": {"roles": ["y"]}}});
        assert_eq!(found("realm_access.roles", keycloak.clone()), Some(json!(["x"])));
        assert_eq!(
            found("resource_access.my.app.roles", keycloak.clone()),
            Some(json!(["y"]))
        );
        for nowhere in [
            "roles",
            "realm_access.role",
            "realm_access.roles.x",
            "realm_access.",
            ".roles",
            ".",
        ] {
            assert_eq!(found(nowhere, keycloak.clone()), None, "{nowhere}");
        }
    }

    #[test]
    fn a_claim_of_the_whole_name_goes_before_what_is_within_another() {
        let claims = json!({"https://api.example.com/roles": "a", "x.y": 1, "x": {"y": 2}});
        assert_eq!(found("https://api.example.com/roles", claims.clone()), Some(json!("a")));
        assert_eq!(found("x.y", claims), Some(json!(1)));
    }
}
