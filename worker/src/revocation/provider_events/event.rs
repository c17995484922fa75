//! What a provider has said, once its signature holds: whether it counts, and what it revokes. Pure.

use std::time::Duration;

use serde_json::Value;
use shared::service::clock::Timestamp;
use shared::wire::revocation::{Revocation, Target};
use shared::wire::tag::TokenIdTag;

use super::fault::EventFault;
use super::kind::EventKind;
use super::subject::{Meant, Speaker};
use crate::auth::identity::{self, Issuer};
use crate::config::WorkerConfig;
use crate::revocation::{RevocationRules, numeric_date};
use crate::token::{SUB, Statement};

/// By its `iat`. Anyone who delivers an event again and again gives up before.
const MOST_AGE: Duration = Duration::from_secs(60 * 60);

/// A NumericDate is in whole seconds, mostly, so that what it dates may have been a little later.
const SECOND: Duration = Duration::from_secs(1);

const MAX_ID_BYTES: usize = 255;

/// OpenID Connect Back-Channel Logout 1.0 §2.4.
const LOGOUT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// The events that revoke what someone's tokens say. CAEP 1.0 §3.1 and §3.2, RISC 1.0 §2.
const TAKING_BACK: [&str; 5] = [
    "https://schemas.openid.net/secevent/caep/event-type/session-revoked",
    "https://schemas.openid.net/secevent/caep/event-type/token-claims-change",
    "https://schemas.openid.net/secevent/risc/event-type/account-disabled",
    "https://schemas.openid.net/secevent/risc/event-type/account-purged",
    "https://schemas.openid.net/secevent/risc/event-type/sessions-revoked",
];

/// By what events are judged.
pub(super) struct EventRules {
    audiences: Vec<String>,
    subject_claim: String,
    /// Who speaks of another's subjects, and whose.
    speakers: Vec<(Issuer, Issuer)>,
    known: RevocationRules,
}

/// An event that counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProviderEvent {
    /// What it is known by.
    pub(super) id: TokenIdTag,
    /// For how long it must not come again.
    pub(super) keep: Duration,
    /// What it revokes; nothing, if it tells of something else.
    pub(super) revocations: Vec<Revocation>,
}

impl EventRules {
    pub(super) fn new(config: &WorkerConfig, known: RevocationRules) -> Self {
        let audiences = match config.provider_events_audience.is_empty() {
            true => config.jwt_audience.to_vec(),
            false => config.provider_events_audience.clone(),
        };
        let speakers = config.provider_events_issuers.iter();
        let speakers = speakers.map(|entry| (Issuer::new(entry.speaker()), Issuer::new(entry.about())));
        Self {
            audiences,
            subject_claim: config.jwt_subject_claim.clone(),
            speakers: speakers.collect(),
            known,
        }
    }

    /// Whose events are looked at.
    pub(super) fn issuers(&self) -> &[Issuer] {
        &self.known.issuers
    }

    /// Reads what an issuer has signed, and the subject that came beside it, if its kind has one there.
    pub(super) fn read(
        &self,
        kind: EventKind,
        statement: &Statement,
        subject: Option<&Value>,
        now: Timestamp,
    ) -> Result<ProviderEvent, EventFault> {
        let Statement { issuer, typ, claims } = statement;
        if !kind.may_be(typ.as_deref()) {
            return Err(EventFault::Type);
        }
        self.check_audience(claims.get("aud"))?;
        if claims.contains_key("nonce") {
            return Err(EventFault::Nonce);
        }
        let issued_at = self.issued_at(claims, now)?;
        let id = claims.get("jti").and_then(Value::as_str);
        let id = id.filter(|id| !id.is_empty() && id.len() <= MAX_ID_BYTES);
        let id = identity::token_id_tag(issuer, id.ok_or(EventFault::Claim("jti"))?);
        let (about, claim) = self.spoken_of(issuer);
        let speaker = Speaker { issuer, about, claim };
        let targets = match kind {
            EventKind::Logout => logout(claims, &speaker)?,
            EventKind::SecurityEvent => security_events(claims, &speaker)?,
            EventKind::GlobalRevocation => {
                let subject = subject.ok_or(EventFault::NoSubject)?;
                Meant::of_identifier(subject, &speaker)?.targets(about)?
            }
        };
        // What it revokes was issued before it, whenever it comes: told again, it would revoke nothing more.
        let issued_before = now
            .min(issued_at.saturating_add(SECOND))
            .saturating_add(self.known.leeway);
        let revocation = |target| Revocation {
            target,
            issued_before,
            effective: now,
            until: now.max(issued_before).saturating_add(self.known.longest_life),
        };
        let too_old_at = issued_at.saturating_add(MOST_AGE).saturating_add(self.known.leeway);
        Ok(ProviderEvent {
            id,
            keep: too_old_at.saturating_since(now).saturating_add(SECOND),
            revocations: targets.into_iter().map(revocation).collect(),
        })
    }

    /// Of whose subjects an issuer speaks, and in which claim their tokens have what it calls them.
    fn spoken_of<'a>(&'a self, issuer: &'a Issuer) -> (&'a Issuer, &'a str) {
        match self.speakers.iter().find(|(speaker, _)| speaker == issuer) {
            Some((_, about)) => (about, SUB),
            None => (issuer, &self.subject_claim),
        }
    }

    fn check_audience(&self, audience: Option<&Value>) -> Result<(), EventFault> {
        let is_ours = |one: &Value| {
            one.as_str()
                .is_some_and(|one| self.audiences.iter().any(|ours| ours == one))
        };
        let named = match audience {
            Some(Value::Array(all)) => all.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        match named {
            true => Ok(()),
            false => Err(EventFault::Audience),
        }
    }

    /// When it was said, if it still counts.
    fn issued_at(&self, claims: &serde_json::Map<String, Value>, now: Timestamp) -> Result<Timestamp, EventFault> {
        let date = |claim: &'static str| match claims.get(claim) {
            None => Ok(None),
            Some(value) => numeric_date(value).map(Some).ok_or(EventFault::Claim(claim)),
        };
        let leeway = self.known.leeway;
        let issued_at = date("iat")?.ok_or(EventFault::Claim("iat"))?;
        if issued_at.max(date("nbf")?.unwrap_or_default()) > now.saturating_add(leeway) {
            return Err(EventFault::Future);
        }
        if now > issued_at.saturating_add(MOST_AGE).saturating_add(leeway) {
            return Err(EventFault::TooOld);
        }
        if date("exp")?.is_some_and(|exp| now >= exp.saturating_add(leeway)) {
            return Err(EventFault::Expired);
        }
        Ok(issued_at)
    }
}

fn logout(claims: &serde_json::Map<String, Value>, speaker: &Speaker<'_>) -> Result<Vec<Target>, EventFault> {
    match claims.get("events").and_then(|events| events.get(LOGOUT)) {
        Some(Value::Object(_)) => Meant::of_claims(claims, speaker)?.targets(speaker.about),
        _ => Err(EventFault::NoEvent),
    }
}

/// Events that take nothing back are as good as others, and mean nothing here.
fn security_events(claims: &serde_json::Map<String, Value>, speaker: &Speaker<'_>) -> Result<Vec<Target>, EventFault> {
    let events = claims.get("events").and_then(Value::as_object);
    let events = events.filter(|events| !events.is_empty()).ok_or(EventFault::NoEvent)?;
    let mut targets = Vec::new();
    for event in TAKING_BACK.into_iter().filter_map(|name| events.get(name)) {
        // Within the event is where drafts had it, and Google has.
        let subject = claims.get("sub_id").or_else(|| event.get("subject"));
        let meant = Meant::of_identifier(subject.ok_or(EventFault::NoSubject)?, speaker)?;
        targets.extend(meant.targets(speaker.about)?);
    }
    targets.dedup();
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(10_000);
    const LIFE: Duration = Duration::from_secs(100);
    const REVOKED: &str = TAKING_BACK[0];

    fn rules() -> EventRules {
        EventRules {
            audiences: vec!["us".to_owned()],
            subject_claim: SUB.to_owned(),
            speakers: vec![(Issuer::new("org"), Issuer::new("i"))],
            known: RevocationRules {
                issuers: vec![Issuer::new("i"), Issuer::new("org")],
                longest_life: LIFE,
                leeway: Duration::from_secs(5),
            },
        }
    }

    fn statement(typ: Option<&str>, claims: &Value) -> Statement {
        Statement {
            issuer: Issuer::new(claims["iss"].as_str().unwrap()),
            typ: typ.map(str::to_owned),
            claims: claims.as_object().unwrap().clone(),
        }
    }

    fn of_logout() -> Value {
        json!({"iss": "i", "aud": ["x", "us"], "iat": 9_990, "exp": 10_100, "jti": "j", "sub": "alice", "events": {LOGOUT: {}}})
    }

    fn of_security_event() -> Value {
        json!({
            "iss": "i", "aud": "us", "iat": 9_990, "jti": "j", "events": {REVOKED: {"event_timestamp": 9_980}},
            "sub_id": {"format": "iss_sub", "iss": "i", "sub": "alice"},
        })
    }

    fn read(kind: EventKind, typ: Option<&str>, claims: &Value) -> Result<ProviderEvent, EventFault> {
        rules().read(kind, &statement(typ, claims), None, NOW)
    }

    fn alice() -> Target {
        Target::Identity(identity::tag_of(&Issuer::new("i"), "alice"))
    }

    #[test]
    fn an_event_takes_back_what_was_issued_before_it_and_must_not_come_again() {
        for (kind, typ, claims) in [
            (EventKind::Logout, "logout+jwt", of_logout()),
            (EventKind::SecurityEvent, "secevent+jwt", of_security_event()),
        ] {
            let event = read(kind, Some(typ), &claims).unwrap();
            assert_eq!(event.id, identity::token_id_tag(&Issuer::new("i"), "j"));
            // 9,990 and an hour and the leeway and a second, as of now.
            assert_eq!(event.keep, Duration::from_secs(3_600 - 10 + 5 + 1));
            let revocation = Revocation {
                target: alice(),
                issued_before: Timestamp::from_secs(9_996),
                effective: NOW,
                until: NOW.saturating_add(LIFE),
            };
            assert_eq!(event.revocations, [revocation]);
        }
    }

    #[test]
    fn whatever_is_not_as_it_must_be_is_refused() {
        let changed = |name: &str, value: Value| {
            let mut claims = of_logout();
            match value {
                Value::Null => _ = claims.as_object_mut().unwrap().remove(name),
                value => claims[name] = value,
            }
            claims
        };
        for (name, value, fault) in [
            ("aud", json!(null), EventFault::Audience),
            ("aud", json!("them"), EventFault::Audience),
            ("aud", json!([]), EventFault::Audience),
            ("aud", json!({"us": 1}), EventFault::Audience),
            ("nonce", json!("n"), EventFault::Nonce),
            ("iat", json!(null), EventFault::Claim("iat")),
            ("iat", json!("9990"), EventFault::Claim("iat")),
            ("iat", json!(10_006), EventFault::Future),
            ("nbf", json!(10_006), EventFault::Future),
            ("iat", json!(6_390), EventFault::TooOld),
            ("exp", json!(9_995), EventFault::Expired),
            ("exp", json!("x"), EventFault::Claim("exp")),
            ("jti", json!(null), EventFault::Claim("jti")),
            ("jti", json!(""), EventFault::Claim("jti")),
            ("jti", json!(7), EventFault::Claim("jti")),
            ("jti", json!("j".repeat(256)), EventFault::Claim("jti")),
            ("events", json!(null), EventFault::NoEvent),
            ("events", json!([LOGOUT]), EventFault::NoEvent),
            ("events", json!({LOGOUT: true}), EventFault::NoEvent),
            ("events", json!({REVOKED: {}}), EventFault::NoEvent),
            ("sub", json!(null), EventFault::NoSubject),
            ("sub", json!(["alice"]), EventFault::Claim("sub")),
        ] {
            let refused = read(EventKind::Logout, Some("logout+jwt"), &changed(name, value.clone()));
            assert_eq!(refused, Err(fault), "{name}: {value}");
        }
        assert!(
            read(EventKind::Logout, None, &changed("exp", json!(null))).is_ok(),
            "drafts had none"
        );
        for typ in [Some("at+jwt"), Some("secevent+jwt"), Some("")] {
            assert_eq!(
                read(EventKind::Logout, typ, &of_logout()),
                Err(EventFault::Type),
                "{typ:?}"
            );
        }
        for typ in [None, Some("JWT"), Some("logout+jwt")] {
            let refused = read(EventKind::SecurityEvent, typ, &of_security_event());
            assert_eq!(refused, Err(EventFault::Type), "{typ:?}");
        }
    }

    #[test]
    fn of_security_events_those_count_that_take_something_back() {
        let read = |claims: &Value| read(EventKind::SecurityEvent, Some("secevent+jwt"), claims);
        for name in TAKING_BACK {
            let mut claims = of_security_event();
            let subject = claims.as_object_mut().unwrap().remove("sub_id");
            claims["events"] = json!({name: {"subject": subject}});
            assert_eq!(read(&claims).unwrap().revocations[0].target, alice(), "{name}");
        }
        let mut other = of_security_event();
        other["events"] = json!({"https://schemas.openid.net/secevent/ssf/event-type/verification": {"state": "x"}});
        assert_eq!(read(&other).unwrap().revocations, []);
        for (events, fault) in [
            (json!({}), EventFault::NoEvent),
            (json!(null), EventFault::NoEvent),
            (json!([REVOKED]), EventFault::NoEvent),
        ] {
            other["events"] = events;
            assert_eq!(read(&other), Err(fault));
        }
        let mut nobody = of_security_event();
        nobody.as_object_mut().unwrap().remove("sub_id");
        assert_eq!(read(&nobody), Err(EventFault::NoSubject));
        let mut foreign = of_security_event();
        foreign["sub_id"]["iss"] = json!("org");
        assert_eq!(
            read(&foreign),
            Err(EventFault::ForeignSubject),
            "nobody speaks of another's subjects"
        );
    }

    #[test]
    fn who_is_said_to_speak_of_another_s_subjects_does() {
        let claims = json!({"iss": "org", "aud": "us", "iat": 9_990, "exp": 10_100, "jti": "j"});
        let statement = statement(Some("global-token-revocation+jwt"), &claims);
        let read = |subject: Option<&Value>| {
            let event = rules().read(EventKind::GlobalRevocation, &statement, subject, NOW)?;
            Ok(event.revocations[0].target)
        };
        for iss in ["org", "i"] {
            assert_eq!(
                read(Some(&json!({"format": "iss_sub", "iss": iss, "sub": "alice"}))),
                Ok(alice())
            );
        }
        assert_eq!(
            read(Some(&json!({"format": "iss_sub", "iss": "j", "sub": "alice"}))),
            Err(EventFault::ForeignSubject)
        );
        assert_eq!(read(None), Err(EventFault::NoSubject));
    }
}
