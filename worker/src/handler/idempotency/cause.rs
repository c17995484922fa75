//! By what a message had its effect: pure.
//!
//! What it came to is told to no one who could not have caused it. So it is kept with what
//! its token allowed, and with what a revocation would mean.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::service::clock::Timestamp;
use shared::wire::id::ConnectionId;
use shared::wire::revocation::Subject;
use shared::wire::tag::{IdentityTag, SessionTag, TokenIdTag};

use crate::auth::identity;
use crate::auth::rights::Allowed;
use crate::auth::snapshot::SID;
use crate::handler::Request;

/// By what a message had its effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cause {
    /// What its token allowed.
    #[serde(rename = "m")]
    allowed: Allowed,
    #[serde(rename = "j", default, skip_serializing_if = "Option::is_none")]
    token_id: Option<TokenIdTag>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    session: Option<SessionTag>,
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    issued_at: Option<Timestamp>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    connection: Option<ConnectionId>,
}

impl Cause {
    /// That of a message that is to be handled.
    pub(super) fn of(request: &Request<'_>) -> Self {
        let text = |name| request.claims.get(name).and_then(Value::as_str);
        let issued_at = request.claims.get("iat").and_then(Value::as_f64);
        Self {
            allowed: Allowed::of(request.claims),
            token_id: text("jti").map(|jti| identity::token_id_tag(&request.identity.issuer, jti)),
            session: text(SID).map(|sid| identity::session_tag(&request.identity.issuer, sid)),
            // Before its second rather than after it, as a revocation would have it.
            issued_at: issued_at.map(|seconds| Timestamp::from_secs(seconds as u64)),
            connection: request.forwarded_id.map(|forwarded_id| forwarded_id.connection),
        }
    }

    /// Whether a token with these claims could have caused the same.
    pub(super) fn is_within(&self, claims: &Map<String, Value>) -> bool {
        self.allowed.is_within(claims)
    }

    /// What a revocation must mean to concern it.
    pub(super) fn subject(&self, identity: IdentityTag) -> Subject {
        Subject {
            identity,
            token_id: self.token_id,
            session: self.session,
            issued_at: self.issued_at,
            proven: None,
            connection: self.connection,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::identity::{Identity, Issuer, Subject as Sub};

    fn claims(json: Value) -> Map<String, Value> {
        json.as_object().cloned().unwrap_or_default()
    }

    fn cause(claims: &Map<String, Value>) -> Cause {
        Cause::of(&Request {
            identity: &Identity::new(Issuer::new("i"), Sub::new("alice")),
            claims,
            client: None,
            kind: "k",
            id: Some("1"),
            payload: None,
            forwarded_id: None,
            message_id: None,
            time_left: None,
            deadline: None,
            given_up: None,
            answered_on: None,
            named: true,
        })
    }

    #[test]
    fn who_may_as_much_or_more_could_have_caused_it_and_nobody_else() {
        let caused = cause(&claims(
            json!({"sub": "a", "exp": 1, "scope": "read write", "roles": ["x"]}),
        ));
        for (token, could) in [
            (
                json!({"sub": "a", "exp": 2, "jti": "n", "scope": "write read", "roles": ["x"]}),
                true,
            ),
            (
                json!({"sub": "a", "scope": "write read more", "roles": ["y", "x"], "more": 1}),
                true,
            ),
            (json!({"sub": "a", "scope": "read", "roles": ["x"]}), false),
            (json!({"sub": "a", "scope": "read write"}), false),
            (json!({"sub": "a", "scope": "read write", "roles": "y"}), false),
        ] {
            assert_eq!(caused.is_within(&claims(token.clone())), could, "{token}");
        }
    }

    #[test]
    fn it_says_what_a_revocation_would_mean() {
        let caused = cause(&claims(json!({"jti": "t", "iat": 12.9})));
        let text = serde_json::to_string(&caused).unwrap();
        assert_eq!(serde_json::from_str::<Cause>(&text).unwrap(), caused);
        let subject = caused.subject(IdentityTag::of(&[1; 32]));
        assert_eq!(subject.token_id, Some(identity::token_id_tag(&Issuer::new("i"), "t")));
        assert_eq!(subject.issued_at, Some(Timestamp::from_secs(12)));
    }
}
