//! What an operator asks to be revoked.
//!
//! Pure. A revocation that is misread logs out the wrong people, so what is not
//! understood is refused: a member that is not known could have been the one that
//! says whom it means.

pub(crate) mod consumer;
pub(crate) mod known;
pub(crate) mod listening;
pub(crate) mod meanwhile;
pub(crate) mod provider_events;
mod reach;
pub(crate) mod removed_keys;
pub(crate) mod revoker;

use std::time::Duration;

use serde_json::{Map, Value};
use shared::service::clock::Timestamp;
use shared::service::config;
use shared::wire::revocation::{Revocation, Target};

use crate::auth::identity::{self, Issuer, Unnamed};
use crate::message::MAX_BODY_BYTES;
use crate::token;

const SUBJECT: &str = "subject";
const ISSUER: &str = "issuer";
const TOKEN_ID: &str = "jti";
const SESSION: &str = "sid";
const CONNECTION: &str = "connection";
const ISSUED_BEFORE: &str = "issued_before";
const GRACE: &str = "grace";

/// All members that mean something.
const MEMBERS: [&str; 7] = [SUBJECT, ISSUER, TOKEN_ID, SESSION, CONNECTION, ISSUED_BEFORE, GRACE];

/// 2^64 / 1,000: later dates would not fit into the milliseconds of a [`Timestamp`].
const MAX_DATE_S: f64 = 18_446_744_073_709_551.0;

/// A grace is for clients to fetch a fresh token; anyone who means a day means another thing.
const MAX_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// What is wrong with it. The texts go to the one who asked, and never repeat what they wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRevocation {
    /// RFC 8259 §4, and each member once.
    #[error("a revocation is a JSON object, each member once, of at most {MAX_BODY_BYTES} bytes")]
    NotAnObject,
    /// It might have said whom it means.
    #[error(
        "a revocation has a member that is not known; there are `subject`, `issuer`, `jti`, `sid`, `connection`, `issued_before` and `grace`"
    )]
    UnknownMember,
    /// A member of the wrong type, or out of its range.
    #[error("`{0}` is not {1}")]
    Malformed(&'static str, &'static str),
    /// Which of them would count?
    #[error("a revocation names one of `subject`, `jti`, `sid` and `connection`, not several")]
    SeveralTargets,
    /// No one is meant by mistake.
    #[error(
        "a revocation names a `subject`, a `jti`, a `sid` or a `connection`; for all identities, it names `issued_before` alone"
    )]
    NoTarget,
    /// Only with one issuer does a subject say enough.
    #[error("there are several issuers: name the subject's or the token's in `issuer`")]
    NoIssuer,
    /// No one could be meant.
    #[error("the issuer is not one of the accepted issuers")]
    UnknownIssuer,
    /// It means a token's issuer, and nothing else has one.
    #[error("`issuer` goes with `subject`, `jti` or `sid` only")]
    StrayIssuer,
}

/// What is known here of tokens.
#[derive(Clone)]
pub(crate) struct RevocationRules {
    /// Whose tokens are accepted.
    pub(crate) issuers: Vec<Issuer>,
    /// How long a token may live, and what came by it may be held after that.
    pub(crate) longest_life: Duration,
    /// By how much the clocks of issuers may be ahead.
    pub(crate) leeway: Duration,
}

impl RevocationRules {
    /// Reads the body of what came out of `<ns>.revocations`.
    ///
    /// # Errors
    /// If it is no revocation: the first fault found.
    pub(crate) fn read(&self, body: &[u8], now: Timestamp) -> Result<Revocation, InvalidRevocation> {
        let members = members(body)?;
        let issued_before = members.get(ISSUED_BEFORE).map(date).transpose()?;
        let target = match self.target(&members)? {
            Some(target) => target,
            None if members.contains_key(ISSUER) => return Err(InvalidRevocation::StrayIssuer),
            None if issued_before.is_some() => Target::Everyone,
            None => return Err(InvalidRevocation::NoTarget),
        };
        // What was issued before may say that it was a little later.
        let issued_before = issued_before.unwrap_or(now).saturating_add(self.leeway);
        let grace = members.get(GRACE).map(grace).transpose()?.unwrap_or_default();
        Ok(Revocation {
            target,
            issued_before,
            effective: now.saturating_add(grace),
            until: now.max(issued_before).saturating_add(self.longest_life),
        })
    }

    fn target(&self, members: &Map<String, Value>) -> Result<Option<Target>, InvalidRevocation> {
        let text = |name| members.get(name).map(|value| text(name, value)).transpose();
        let issuer = || self.issuer(text(ISSUER)?);
        match (text(SUBJECT)?, text(TOKEN_ID)?, text(SESSION)?, text(CONNECTION)?) {
            (None, None, None, None) => Ok(None),
            (Some(subject), None, None, None) if identity::is_subject(subject) => {
                Ok(Some(Target::Identity(identity::tag_of(&issuer()?, subject))))
            }
            (Some(_), None, None, None) => Err(InvalidRevocation::Malformed(
                SUBJECT,
                "what a token can have as its `sub`",
            )),
            (None, Some(id), None, None) => Ok(Some(Target::Token(identity::token_id_tag(&issuer()?, id)))),
            (None, None, Some(""), None) => Err(InvalidRevocation::Malformed(
                SESSION,
                "what a token can have as its `sid`",
            )),
            (None, None, Some(id), None) => Ok(Some(Target::Session(identity::session_tag(&issuer()?, id)))),
            (None, None, None, Some(_)) if members.contains_key(ISSUER) => Err(InvalidRevocation::StrayIssuer),
            (None, None, None, Some(name)) => match name.parse() {
                Ok(connection) => Ok(Some(Target::Connection(connection))),
                Err(_) => Err(InvalidRevocation::Malformed(CONNECTION, "the name of a connection")),
            },
            _ => Err(InvalidRevocation::SeveralTargets),
        }
    }

    fn issuer(&self, name: Option<&str>) -> Result<Issuer, InvalidRevocation> {
        identity::issuer_of(name, &self.issuers).map_err(|unnamed| match unnamed {
            Unnamed::Several => InvalidRevocation::NoIssuer,
            Unnamed::Unknown => InvalidRevocation::UnknownIssuer,
        })
    }
}

fn members(body: &[u8]) -> Result<Map<String, Value>, InvalidRevocation> {
    if body.len() > MAX_BODY_BYTES {
        return Err(InvalidRevocation::NotAnObject);
    }
    let members = token::unique_members(body).ok_or(InvalidRevocation::NotAnObject)?;
    if members.keys().any(|name| !MEMBERS.contains(&name.as_str())) {
        return Err(InvalidRevocation::UnknownMember);
    }
    Ok(members)
}

fn text<'a>(name: &'static str, value: &'a Value) -> Result<&'a str, InvalidRevocation> {
    value.as_str().ok_or(InvalidRevocation::Malformed(name, "a string"))
}

fn date(value: &Value) -> Result<Timestamp, InvalidRevocation> {
    numeric_date(value).ok_or(InvalidRevocation::Malformed(
        ISSUED_BEFORE,
        "a number of seconds since 1970",
    ))
}

/// A NumericDate (RFC 7519 §2), which may have a fraction.
pub(crate) fn numeric_date(value: &Value) -> Option<Timestamp> {
    let seconds = value.as_f64().filter(|seconds| (0.0..MAX_DATE_S).contains(seconds))?;
    // A whole number is told exactly by the first, a fraction well enough by the second.
    Some(match value.as_u64() {
        Some(whole) => Timestamp::from_secs(whole),
        None => Timestamp::from_millis(Duration::from_secs_f64(seconds).as_millis() as u64),
    })
}

/// A duration as settings have it, or seconds.
fn grace(value: &Value) -> Result<Duration, InvalidRevocation> {
    let duration = match (value.as_str(), value.as_u64()) {
        (Some(text), _) => config::Value::parse(text).ok(),
        (None, Some(seconds)) => Some(Duration::from_secs(seconds)),
        (None, None) => None,
    };
    duration
        .filter(|grace: &Duration| *grace <= MAX_GRACE)
        .ok_or(InvalidRevocation::Malformed(
            GRACE,
            "a duration such as `30s`, or seconds, of at most a day",
        ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);
    const LIFE: Duration = Duration::from_secs(100);

    fn read_of(body: &str, issuers: &[&str]) -> Result<Revocation, InvalidRevocation> {
        let known = RevocationRules {
            issuers: issuers.iter().map(|name| Issuer::new(*name)).collect(),
            longest_life: LIFE,
            leeway: Duration::ZERO,
        };
        known.read(body.as_bytes(), NOW)
    }

    fn read(body: &str) -> Result<Revocation, InvalidRevocation> {
        read_of(body, &["i"])
    }

    #[test]
    fn each_kind_of_target_is_read() {
        let issuer = Issuer::new("i");
        for (body, target) in [
            (
                r#"{"subject":"alice"}"#,
                Target::Identity(identity::tag_of(&issuer, "alice")),
            ),
            (
                r#"{"jti":"t1","issuer":"i"}"#,
                Target::Token(identity::token_id_tag(&issuer, "t1")),
            ),
            (
                r#"{"sid":"s1","issuer":"i"}"#,
                Target::Session(identity::session_tag(&issuer, "s1")),
            ),
            (r#"{"issued_before":900}"#, Target::Everyone),
        ] {
            assert_eq!(read(body).unwrap().target, target, "{body}");
        }
        let connection = read(r#"{"connection":"00000000000000aa.1f"}"#).unwrap().target;
        assert!(matches!(connection, Target::Connection(id) if id.to_string() == "00000000000000aa.1f"));
    }

    #[test]
    fn it_means_what_was_issued_until_now_at_once_and_is_kept_for_a_token_s_life() {
        let plain = read(r#"{"subject":"alice"}"#).unwrap();
        assert_eq!((plain.issued_before, plain.effective), (NOW, NOW));
        assert_eq!(plain.until, NOW.saturating_add(LIFE));
        let later = read(r#"{"subject":"alice","issued_before":2000.5,"grace":"30s"}"#).unwrap();
        assert_eq!(later.issued_before, Timestamp::from_millis(2_000_500));
        assert_eq!(later.effective, Timestamp::from_secs(1_030));
        assert_eq!(later.until, later.issued_before.saturating_add(LIFE));
        assert_eq!(
            read(r#"{"subject":"alice","grace":30}"#).unwrap().effective,
            later.effective
        );
    }

    #[test]
    fn a_token_whose_issuer_s_clock_is_ahead_is_meant_within_the_leeway() {
        let known = RevocationRules {
            issuers: vec![Issuer::new("i")],
            longest_life: LIFE,
            leeway: Duration::from_secs(5),
        };
        for (body, issued_before_s) in [(r#"{"subject":"alice"}"#, 1_005), (r#"{"issued_before":900}"#, 905)] {
            let read = known.read(body.as_bytes(), NOW).unwrap();
            assert_eq!(read.issued_before, Timestamp::from_secs(issued_before_s), "{body}");
        }
    }

    #[test]
    fn whatever_could_mean_somebody_else_is_refused() {
        for (body, fault) in [
            ("", InvalidRevocation::NotAnObject),
            ("[]", InvalidRevocation::NotAnObject),
            (r#"{"subject":"a","subject":"b"}"#, InvalidRevocation::NotAnObject),
            (
                r#"{"subjct":"alice","issued_before":1}"#,
                InvalidRevocation::UnknownMember,
            ),
            ("{}", InvalidRevocation::NoTarget),
            (r#"{"grace":"1s"}"#, InvalidRevocation::NoTarget),
            (r#"{"subject":"a","jti":"b"}"#, InvalidRevocation::SeveralTargets),
            (
                r#"{"subject":null,"issued_before":1}"#,
                InvalidRevocation::Malformed(SUBJECT, "a string"),
            ),
            (r#"{"issuer":"i","issued_before":1}"#, InvalidRevocation::StrayIssuer),
            (
                r#"{"issuer":"i","connection":"00000000000000aa.1f"}"#,
                InvalidRevocation::StrayIssuer,
            ),
            (r#"{"issuer":"j","subject":"a"}"#, InvalidRevocation::UnknownIssuer),
        ] {
            assert_eq!(read(body), Err(fault), "{body}");
        }
        for body in [
            r#"{"subject":""}"#,
            r#"{"connection":"x"}"#,
            r#"{"issued_before":-1}"#,
            r#"{"issued_before":1e300}"#,
            r#"{"issued_before":"1"}"#,
            r#"{"subject":"a","grace":"soon"}"#,
            r#"{"subject":"a","grace":-1}"#,
            r#"{"subject":"a","grace":90000}"#,
        ] {
            assert!(matches!(read(body), Err(InvalidRevocation::Malformed(..))), "{body}");
        }
        assert_eq!(
            read_of(r#"{"subject":"a"}"#, &["i", "j"]),
            Err(InvalidRevocation::NoIssuer)
        );
        assert_eq!(read_of(r#"{"jti":"a"}"#, &["i", "j"]), Err(InvalidRevocation::NoIssuer));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_reader_panic(body: Vec<u8>, date: f64, grace: u64) {
            let known = RevocationRules { issuers: Vec::new(), longest_life: LIFE, leeway: Duration::MAX };
            let _ = known.read(&body, NOW);
            let _ = read(&format!(r#"{{"subject":"a","issued_before":{date},"grace":{grace}}}"#));
        }
    }
}
