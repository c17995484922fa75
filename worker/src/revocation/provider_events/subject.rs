//! Whom an event means, by the subject identifiers of RFC 9493, and as Google, Okta and the drafts of CAEP wrote them before. Pure.

use serde_json::Value;
use shared::wire::revocation::Target;

use super::fault::EventFault;
use crate::auth::identity::{self, Issuer};
use crate::auth::snapshot::SID;
use crate::token::SUB;

/// How deep identifiers may stand in each other: `aliases` within a member of `complex`.
const MOST_DEPTH: u8 = 3;

/// Of a `sid`, as of a `sub`.
const MAX_NAME_BYTES: usize = 255;

/// Who says so, and about whom they may.
#[derive(Debug)]
pub(super) struct Speaker<'a> {
    /// Who has signed it.
    pub(super) issuer: &'a Issuer,
    /// Whose subjects are meant: mostly the same.
    pub(super) about: &'a Issuer,
    /// The claim in which tokens have the subject, where it is that in events, too.
    pub(super) claim: &'a str,
}

/// What names someone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Meant {
    subject: Option<String>,
    session: Option<String>,
    token: Option<String>,
}

impl Meant {
    /// By the claims of a logout token.
    pub(super) fn of_claims(
        claims: &serde_json::Map<String, Value>,
        speaker: &Speaker<'_>,
    ) -> Result<Self, EventFault> {
        let text = |claim: &'static str| match claims.get(claim).map(Value::as_str) {
            None => Ok(None),
            Some(Some(text)) => Ok(Some(text.to_owned())),
            Some(None) => Err(EventFault::Claim(claim)),
        };
        let session = text(SID)?;
        let subject = match speaker.claim {
            SUB => text(SUB)?,
            other => claims.get(other).and_then(Value::as_str).map(str::to_owned),
        };
        let is_named_otherwise = subject.is_none() && session.is_none() && claims.contains_key(SUB);
        match is_named_otherwise {
            true => Err(EventFault::SubjectClaim),
            false => Ok(Self {
                subject,
                session,
                token: None,
            }),
        }
    }

    /// By a subject identifier.
    pub(super) fn of_identifier(identifier: &Value, speaker: &Speaker<'_>) -> Result<Self, EventFault> {
        Self::at_depth(identifier, speaker, 0)
    }

    fn at_depth(identifier: &Value, speaker: &Speaker<'_>, depth: u8) -> Result<Self, EventFault> {
        if depth > MOST_DEPTH {
            return Err(EventFault::SubjectFormat);
        }
        let text = |name: &str| identifier.get(name).and_then(Value::as_str);
        let name = |name: &str| text(name).map(str::to_owned).ok_or(EventFault::SubjectFormat);
        // `subject_type`, with hyphens, is of before RFC 9493.
        let format = text("format").or_else(|| text("subject_type"));
        match format.map(|format| format.replace('-', "_")).as_deref() {
            Some("iss_sub") => {
                speaker.may_speak_of(text("iss"))?;
                speaker.names_by(SUB)?;
                Ok(Self::subject(name("sub")?))
            }
            Some("opaque") => {
                speaker.names_by(SUB)?;
                Ok(Self::subject(name("id")?))
            }
            Some("email") => {
                speaker.names_by("email")?;
                Ok(Self::subject(name("email")?))
            }
            Some("jwt_id") => {
                speaker.may_speak_of(text("iss"))?;
                Ok(Self {
                    token: Some(name("jti")?),
                    ..Self::default()
                })
            }
            Some("aliases") => {
                let all = identifier.get("identifiers").and_then(Value::as_array);
                let all = all.ok_or(EventFault::SubjectFormat)?.iter();
                let mut read = all.map(|one| Self::at_depth(one, speaker, depth + 1));
                let first = read.next().ok_or(EventFault::SubjectFormat)?;
                read.fold(first, Result::or)
            }
            Some("complex") | None => Self::complex(identifier, speaker, depth),
            Some(_) => Err(EventFault::SubjectFormat),
        }
    }

    /// Members that each name something else of one thing: a user, and perhaps one session of theirs. All that is named and
    /// not understood would make it mean less.
    fn complex(identifier: &Value, speaker: &Speaker<'_>, depth: u8) -> Result<Self, EventFault> {
        let session = match identifier.get("session") {
            None => None,
            // It is an opaque name of the issuer's own; no claim but `sid` could have it.
            Some(session) => Some(
                session
                    .get("id")
                    .and_then(Value::as_str)
                    .ok_or(EventFault::SubjectFormat)?
                    .to_owned(),
            ),
        };
        let user = match identifier.get("user") {
            None => Self::default(),
            Some(user) => Self::at_depth(user, speaker, depth + 1)?,
        };
        if session.is_none() && user == Self::default() {
            return Err(EventFault::SubjectFormat);
        }
        Ok(Self { session, ..user })
    }

    fn subject(subject: String) -> Self {
        Self {
            subject: Some(subject),
            ..Self::default()
        }
    }

    /// What is to be revoked.
    pub(super) fn targets(&self, about: &Issuer) -> Result<Vec<Target>, EventFault> {
        let subject = match self.subject.as_deref() {
            Some(name) if !identity::is_subject(name) => return Err(EventFault::Claim("sub")),
            name => name.map(|name| identity::tag_of(about, name)),
        };
        let session = match self.session.as_deref() {
            Some(name) if name.is_empty() || name.len() > MAX_NAME_BYTES => return Err(EventFault::Claim("sid")),
            name => name.map(|name| Target::Session(identity::session_tag(about, name))),
        };
        let token = self.token.as_deref();
        let token = token.map(|id| Target::Token(identity::token_id_tag(about, id)));
        // Tokens that name no session may be of the one that has ended: an issuer need not write `sid` into access tokens.
        let subject = subject.map(|subject| match session {
            Some(_) => Target::OutsideSessions(subject),
            None => Target::Identity(subject),
        });
        let all: Vec<_> = [token, session, subject].into_iter().flatten().collect();
        match all.is_empty() {
            true => Err(EventFault::NoSubject),
            false => Ok(all),
        }
    }
}

impl Speaker<'_> {
    fn may_speak_of(&self, issuer: Option<&str>) -> Result<(), EventFault> {
        match issuer {
            Some(name) if name == self.issuer.as_str() || name == self.about.as_str() => Ok(()),
            Some(_) => Err(EventFault::ForeignSubject),
            None => Err(EventFault::SubjectFormat),
        }
    }

    /// Whether a subject that an event names by that claim is known by it here.
    fn names_by(&self, claim: &str) -> Result<(), EventFault> {
        match self.claim == claim {
            true => Ok(()),
            false => Err(EventFault::SubjectClaim),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(identifier: Value, claim: &str) -> Result<Vec<Target>, EventFault> {
        let issuer = Issuer::new("i");
        let speaker = Speaker {
            issuer: &issuer,
            about: &issuer,
            claim,
        };
        Meant::of_identifier(&identifier, &speaker)?.targets(&issuer)
    }

    fn identity() -> Target {
        Target::Identity(identity::tag_of(&Issuer::new("i"), "alice"))
    }

    fn session_of_alice() -> Vec<Target> {
        let issuer = Issuer::new("i");
        vec![
            Target::Session(identity::session_tag(&issuer, "s")),
            Target::OutsideSessions(identity::tag_of(&issuer, "alice")),
        ]
    }

    #[test]
    fn each_format_that_can_name_somebody_does() {
        let alice = json!({"format": "iss_sub", "iss": "i", "sub": "alice"});
        for identifier in [
            alice.clone(),
            json!({"subject_type": "iss-sub", "iss": "i", "sub": "alice"}),
            json!({"format": "opaque", "id": "alice"}),
            json!({"format": "aliases", "identifiers": [{"format": "email", "email": "a@b"}, alice]}),
            json!({"format": "complex", "user": alice}),
            json!({"user": alice}),
        ] {
            assert_eq!(of(identifier.clone(), "sub"), Ok(vec![identity()]), "{identifier}");
        }
        let session = json!({"format": "opaque", "id": "s"});
        assert_eq!(
            of(json!({"format": "complex", "user": alice, "session": session}), "sub"),
            Ok(session_of_alice())
        );
        assert_eq!(
            of(json!({"session": session}), "sub"),
            Ok(session_of_alice()[..1].to_vec())
        );
        let token = Target::Token(identity::token_id_tag(&Issuer::new("i"), "t"));
        assert_eq!(
            of(json!({"format": "jwt_id", "iss": "i", "jti": "t"}), "sub"),
            Ok(vec![token])
        );
        assert_eq!(
            of(json!({"format": "email", "email": "alice"}), "email"),
            Ok(vec![identity()])
        );
    }

    #[test]
    fn whoever_cannot_be_meant_is_not() {
        let alice = json!({"format": "iss_sub", "iss": "i", "sub": "alice"});
        let deep = (0..5).fold(
            alice.clone(),
            |inner, _| json!({"format": "aliases", "identifiers": [inner]}),
        );
        for (identifier, claim, fault) in [
            (
                json!({"format": "iss_sub", "iss": "j", "sub": "alice"}),
                "sub",
                EventFault::ForeignSubject,
            ),
            (
                json!({"format": "iss_sub", "sub": "alice"}),
                "sub",
                EventFault::SubjectFormat,
            ),
            (
                json!({"format": "iss_sub", "iss": "i"}),
                "sub",
                EventFault::SubjectFormat,
            ),
            (
                json!({"format": "iss_sub", "iss": "i", "sub": ""}),
                "sub",
                EventFault::Claim("sub"),
            ),
            (alice.clone(), "oid", EventFault::SubjectClaim),
            (
                json!({"format": "email", "email": "a@b"}),
                "sub",
                EventFault::SubjectClaim,
            ),
            (
                json!({"format": "phone_number", "phone_number": "1"}),
                "sub",
                EventFault::SubjectFormat,
            ),
            (
                json!({"format": "aliases", "identifiers": []}),
                "sub",
                EventFault::SubjectFormat,
            ),
            (
                json!({"format": "complex", "tenant": alice}),
                "sub",
                EventFault::SubjectFormat,
            ),
            (
                json!({"session": {"format": "opaque"}}),
                "sub",
                EventFault::SubjectFormat,
            ),
            (
                json!({"session": {"format": "opaque", "id": ""}}),
                "sub",
                EventFault::Claim("sid"),
            ),
            (deep, "sub", EventFault::SubjectFormat),
            (json!("alice"), "sub", EventFault::SubjectFormat),
            (json!(null), "sub", EventFault::SubjectFormat),
        ] {
            assert_eq!(of(identifier.clone(), claim), Err(fault), "{identifier}");
        }
    }

    #[test]
    fn a_logout_token_means_a_session_a_subject_or_both() {
        let issuer = Issuer::new("i");
        let of = |claims: Value, claim: &str| {
            let speaker = Speaker {
                issuer: &issuer,
                about: &issuer,
                claim,
            };
            Meant::of_claims(claims.as_object().unwrap(), &speaker)?.targets(&issuer)
        };
        assert_eq!(of(json!({"sub": "alice"}), "sub"), Ok(vec![identity()]));
        assert_eq!(of(json!({"sid": "s"}), "sub"), Ok(session_of_alice()[..1].to_vec()));
        assert_eq!(of(json!({"sub": "alice", "sid": "s"}), "sub"), Ok(session_of_alice()));
        assert_eq!(of(json!({"sub": "x", "oid": "alice"}), "oid"), Ok(vec![identity()]));
        assert_eq!(
            of(json!({"sub": "x", "sid": "s"}), "oid"),
            Ok(session_of_alice()[..1].to_vec())
        );
        for (claims, claim, fault) in [
            (json!({}), "sub", EventFault::NoSubject),
            (json!({"sub": 7}), "sub", EventFault::Claim("sub")),
            (json!({"sub": "alice", "sid": ["s"]}), "sub", EventFault::Claim("sid")),
            (json!({"sub": "x"}), "oid", EventFault::SubjectClaim),
        ] {
            assert_eq!(of(claims.clone(), claim), Err(fault), "{claims}");
        }
    }
}
