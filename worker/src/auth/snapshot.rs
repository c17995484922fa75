//! How a connection stood when its terminator forwarded a message of it: what a decision needs of that.
//!
//! Terminators give back what workers have proved, so it is believed; a worker
//! only looks at its own clock and at what has been revoked since.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::service::clock::Timestamp;
use shared::wire::envelope::AuthSnapshot;
use shared::wire::grant::{Grant, Policy};
use shared::wire::id::ConnectionId;
use shared::wire::proof::Proof;
use shared::wire::revocation::Subject;
use shared::wire::tag::{ResumeSecret, TokenTag};

use super::identity::{self, Identity, Issuer};
use crate::process::answer;
use crate::token::{SUB, Verified};

/// The claim that names the session with the issuer in which a token was issued.
pub(crate) const SID: &str = "sid";

/// Who a connection is, with all claims: the text of a grant that only workers read.
#[derive(PartialEq)]
pub(crate) struct Principal {
    /// The identity that the connection has proved.
    pub(crate) identity: Identity,
    /// Every claim of the token, as the issuer wrote them.
    pub(crate) claims: Map<String, Value>,
    /// By which another connection may take over what this one leaves held.
    pub(crate) resume: ResumeSecret,
}

/// It crosses the broker with every message of its connection. The issuer is among the claims, and mostly the subject.
#[derive(Serialize)]
struct Written<'a> {
    c: &'a Map<String, Value>,
    r: String,
    /// The subject, where another claim than `sub` names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'a str>,
}

#[derive(Deserialize)]
struct Read {
    c: Map<String, Value>,
    r: String,
    #[serde(default)]
    s: Option<String>,
}

impl Principal {
    /// The text of what a token proved.
    pub(crate) fn to_text(verified: &Verified, resume: &ResumeSecret) -> String {
        let subject = verified.identity.subject.as_str();
        let is_sub = verified.claims.get(SUB).is_some_and(|sub| sub == subject);
        let written = Written {
            c: &verified.claims,
            r: resume.to_string(),
            s: (!is_sub).then_some(subject),
        };
        // Claims came as JSON, so they can be written as JSON.
        serde_json::to_string(&written).unwrap_or_default()
    }

    fn from_text(text: &str) -> Option<Self> {
        let Read {
            c: claims,
            r: resume,
            s: subject,
        } = serde_json::from_str(text).ok()?;
        let issuer = Issuer::new(claims.get("iss")?.as_str()?);
        let subject = match subject {
            Some(subject) => identity::Subject::new(subject),
            None => identity::Subject::new(claims.get(SUB)?.as_str()?),
        };
        Some(Self {
            identity: Identity::new(issuer, subject),
            claims,
            resume: resume.parse().ok()?,
        })
    }
}

/// The grant of a connection, in force or expired.
pub(crate) struct Authenticated {
    /// Its facts.
    pub(crate) grant: Grant,
    principal: Option<Arc<str>>,
}

impl Authenticated {
    /// The grant that the connection had; none if it had none. One that cannot be read is none: no one is let in by it.
    pub(crate) fn of(snapshot: &AuthSnapshot) -> Option<Self> {
        Some(Self {
            grant: Grant::from_facts(snapshot.grant.as_deref()?)?,
            principal: snapshot.principal.clone(),
        })
    }

    /// Who it is; none if that is not whom the facts are about.
    pub(crate) fn principal(&self) -> Option<Principal> {
        let principal = Principal::from_text(self.principal.as_deref()?)?;
        (principal.identity.tag() == self.grant.identity).then_some(principal)
    }

    /// What a revocation must mean to concern it.
    pub(crate) fn subject(&self, connection: ConnectionId) -> Subject {
        Subject {
            identity: self.grant.identity,
            token_id: self.grant.token_id,
            session: self.grant.session,
            issued_at: self.grant.issued_at,
            proven: self.grant.proven(),
            connection: Some(connection),
        }
    }
}

/// The same for a token that someone brought, by a connection or not.
pub(crate) fn subject_of(verified: &Verified, connection: Option<ConnectionId>) -> Subject {
    let token_id = verified.token_id.as_ref();
    let session = verified.claims.get(SID).and_then(Value::as_str);
    Subject {
        identity: verified.identity.tag(),
        token_id: token_id.map(|id| identity::token_id_tag(&verified.identity.issuer, id.as_str())),
        session: session.map(|id| identity::session_tag(&verified.identity.issuer, id)),
        issued_at: verified.issued_at,
        proven: None,
        connection,
    }
}

/// What grants say that is the same for all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long after its `exp` a token still counts.
    pub(crate) leeway: Duration,
    pub(crate) on_expired_push: Policy,
    pub(crate) hold_ttl: Duration,
}

impl Terms {
    /// Until when a token lets anything be written.
    pub(crate) fn until(&self, verified: &Verified) -> Timestamp {
        verified.expires_at.saturating_add(self.leeway)
    }

    /// The grant that a token earns its connection, with nothing waiting and nothing resumed.
    pub(crate) fn grant(&self, verified: &Verified, now: Timestamp) -> Grant {
        let subject = subject_of(verified, None);
        Grant {
            identity: subject.identity,
            until: self.until(verified),
            refresh_at: now.saturating_add(Duration::from_secs(answer::refresh_in(verified, now))),
            token: TokenTag::of(verified.digest.as_bytes()),
            token_id: subject.token_id,
            session: subject.session,
            issued_at: subject.issued_at,
            proof: Some(Proof {
                key: verified.key,
                at: now,
            }),
            on_expired_push: self.on_expired_push,
            hold_ms: u64::try_from(self.hold_ttl.as_millis()).unwrap_or(u64::MAX),
            waiting: 0,
            resumes: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use shared::wire::tag::KeyTag;

    use super::*;
    use crate::token::{Digest, TokenId};

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn verified() -> Verified {
        let Value::Object(claims) = json!({"iss": "i", "sub": "alice", "roles": ["a\"b", 1.5]}) else {
            panic!("it is an object")
        };
        Verified {
            identity: Identity::new(Issuer::new("i"), identity::Subject::new("alice")),
            expires_at: Timestamp::from_secs(1_300),
            not_before: None,
            issued_at: Some(Timestamp::from_secs(900)),
            token_id: Some(TokenId::new("t")),
            claims,
            digest: Digest::of("a token"),
            key: KeyTag::of(&[1; 32]),
        }
    }

    fn terms() -> Terms {
        Terms {
            leeway: Duration::from_secs(5),
            on_expired_push: Policy::Close,
            hold_ttl: Duration::from_secs(60),
        }
    }

    fn snapshot(grant: &Grant, principal: &str) -> AuthSnapshot {
        AuthSnapshot {
            grant: Some(grant.to_facts().into()),
            principal: Some(principal.into()),
            ..AuthSnapshot::default()
        }
    }

    #[test]
    fn a_grant_says_of_a_token_what_a_terminator_must_know() {
        let grant = terms().grant(&verified(), NOW);
        assert_eq!(grant.identity, verified().identity.tag());
        assert_eq!(grant.until, Timestamp::from_secs(1_305));
        assert_eq!(grant.refresh_at, Timestamp::from_secs(1_240));
        assert_eq!(grant.token, TokenTag::of(verified().digest.as_bytes()));
        assert_eq!((grant.on_expired_push, grant.hold_ms), (Policy::Close, 60_000));
        assert_eq!((grant.waiting, grant.resumes), (0, None));
        assert_eq!(grant.issued_at, verified().issued_at);
        let proof = grant.proof.unwrap();
        assert_eq!((proof.key, proof.at), (verified().key, NOW));
        assert_eq!(grant.token_id, Some(identity::token_id_tag(&Issuer::new("i"), "t")));
    }

    #[test]
    fn a_principal_comes_back_as_it_was_proved() {
        let resume = ResumeSecret::random();
        let text = Principal::to_text(&verified(), &resume);
        let authenticated = Authenticated::of(&snapshot(&terms().grant(&verified(), NOW), &text)).unwrap();
        let principal = authenticated.principal().unwrap();
        assert_eq!(principal.identity, verified().identity);
        assert_eq!(principal.claims, verified().claims);
        assert_eq!(principal.resume, resume);
    }

    #[test]
    fn a_principal_whom_another_claim_names_comes_back_too() {
        let mut verified = verified();
        verified.identity = Identity::new(Issuer::new("i"), identity::Subject::new("o-1"));
        verified.claims.insert("oid".to_owned(), "o-1".into());
        for claims_sub in [true, false] {
            if !claims_sub {
                verified.claims.remove("sub");
            }
            let text = Principal::to_text(&verified, &ResumeSecret::random());
            let authenticated = Authenticated::of(&snapshot(&terms().grant(&verified, NOW), &text)).unwrap();
            assert_eq!(authenticated.principal().unwrap().identity, verified.identity);
        }
    }

    #[test]
    fn a_principal_whom_the_facts_are_not_about_is_nobody() {
        let mut grant = terms().grant(&verified(), NOW);
        let text = Principal::to_text(&verified(), &ResumeSecret::random());
        grant.identity = identity::tag_of(&Issuer::new("i"), "bob");
        assert!(
            Authenticated::of(&snapshot(&grant, &text))
                .unwrap()
                .principal()
                .is_none()
        );
        for unreadable in ["", "{}", r#"{"c":{"iss":"i"},"r":"0"}"#] {
            let authenticated = Authenticated::of(&snapshot(&terms().grant(&verified(), NOW), unreadable)).unwrap();
            assert!(authenticated.principal().is_none(), "{unreadable}");
        }
    }

    #[test]
    fn facts_that_cannot_be_read_are_no_grant() {
        let unreadable = AuthSnapshot {
            grant: Some("{}".into()),
            ..AuthSnapshot::default()
        };
        assert!(Authenticated::of(&unreadable).is_none());
        assert!(Authenticated::of(&AuthSnapshot::default()).is_none());
    }
}
