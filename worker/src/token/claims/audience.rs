//! Whom a token is meant for: pure.
//!
//! RFC 7519 §4.1.3 has `aud` for it. Some issuers name the client that asked for the token instead, in `client_id` or
//! `azp`, and leave `aud` out or give it to something of their own; where that is so, an operator names those claims too.

use serde_json::{Map, Value};

use crate::token::Reason;

/// The claim that names audiences unless the settings say otherwise.
pub(crate) const AUD: &str = "aud";

/// Whether a token with these claims is meant for that audience, by one of the claims of those names.
pub(crate) fn is_for(claims: &Map<String, Value>, names: &[String], audience: &str) -> bool {
    names
        .iter()
        .filter_map(|name| claims.get(name))
        .any(|claim| match claim {
            Value::String(one) => one == audience,
            Value::Array(all) => all.iter().any(|one| one == audience),
            _ => false,
        })
}

/// Refuses what is meant for none of the accepted audiences, or does not say so in the shape of RFC 7519.
pub(in crate::token) fn check(
    claims: &Map<String, Value>,
    names: &[String],
    accepted: &[String],
) -> Result<(), Reason> {
    let is_listed = names.iter().any(|name| name == AUD);
    if is_listed && claims.get(AUD).is_some_and(|aud| !is_well_formed(aud)) {
        return Err(Reason::MalformedClaim(AUD));
    }
    if accepted.iter().any(|audience| is_for(claims, names, audience)) {
        return Ok(());
    }
    Err(match names {
        [only] if only == AUD && !claims.contains_key(AUD) => Reason::MissingClaim(AUD),
        [only] if only == AUD => Reason::Audience,
        _ => Reason::AudienceClaims,
    })
}

/// One string or an array of strings.
fn is_well_formed(aud: &Value) -> bool {
    match aud {
        Value::String(_) => true,
        Value::Array(names) => names.iter().all(Value::is_string),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_claim_that_is_named_may_say_whom_a_token_is_for_and_no_other() {
        let names: Vec<String> = ["aud", "client_id", "azp"].map(str::to_owned).to_vec();
        let checked = |claims: Value| check(claims.as_object().unwrap(), &names, &["us".to_owned()]);
        for good in [
            json!({"aud": "us"}),
            json!({"client_id": "us"}),
            json!({"aud": "account", "azp": "us"}),
            json!({"aud": ["other"], "client_id": "other", "azp": ["us"]}),
        ] {
            assert_eq!(checked(good.clone()), Ok(()), "{good}");
        }
        for bad in [
            json!({}),
            json!({"aud": "other", "azp": "other"}),
            json!({"appid": "us"}),
            json!({"azp": {"us": 1}}),
            json!({"azp": "us "}),
        ] {
            assert_eq!(checked(bad.clone()), Err(Reason::AudienceClaims), "{bad}");
        }
        assert_eq!(
            checked(json!({"aud": 7, "azp": "us"})),
            Err(Reason::MalformedClaim("aud"))
        );
    }
}
