//! What a token claims, once its signature holds.
//!
//! Shape only: types, sizes, characters, and the audience, which never change
//! for a given token. Whether the claims are in time depends on the clock and is
//! the verifier's to say, each time anew.

pub(crate) mod audience;
pub(crate) mod claim_path;
pub(crate) mod members;
pub(crate) mod numbers;
pub(crate) mod other;
pub(crate) mod purpose;
pub(crate) mod token_type;

use serde_json::{Map, Value};
use shared::service::clock::Timestamp;

use super::claims::members::Members;
use super::{Reason, Rules, SUB, TokenId};
use crate::auth::identity::{Subject, is_subject};

/// OpenID Connect Core §2 allows 255 for `sub`; with RFC 7519 silent, it bounds `jti` as well.
const MAX_NAME_BYTES: usize = 255;

/// 2^64 / 1,000: later dates would not fit into the milliseconds of a [`Timestamp`].
const MAX_DATE_S: u64 = u64::MAX / 1_000;

/// Claims of the right shape, meant for us.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) issuer: String,
    pub(super) subject: Subject,
    pub(super) expires_at: Timestamp,
    pub(super) not_before: Option<Timestamp>,
    pub(super) issued_at: Option<Timestamp>,
    pub(super) token_id: Option<TokenId>,
    pub(super) all: Map<String, Value>,
}

impl Claims {
    pub(super) fn parse(json: &[u8], rules: &Rules) -> Result<Self, Reason> {
        let members = Members::parse(json).ok_or(Reason::Claims)?;
        if !numbers::are_kept(json) {
            return Err(Reason::Number);
        }
        purpose::check(&members.0, &rules.allow)?;
        let issuer = required(&members, "iss", string)?.to_owned();
        let subject = Subject::new(subject_in(&members, &rules.subject_claim)?);
        audience::check(&members.0, &rules.audience_claims, &rules.audiences)?;
        if !rules
            .required_claims
            .iter()
            .all(|required| required.is_met_by(&members.0))
        {
            return Err(Reason::RequiredClaim);
        }
        Ok(Self {
            issuer,
            subject,
            expires_at: required(&members, "exp", |value| date(value, f64::floor))?,
            not_before: optional(&members, "nbf", |value| date(value, f64::ceil))?,
            issued_at: optional(&members, "iat", |value| date(value, f64::ceil))?,
            token_id: optional(&members, "jti", short_string)?.map(TokenId::new),
            all: members.0,
        })
    }
}

/// Whom the token speaks for, by the claim of that name.
fn subject_in<'a>(members: &'a Members, claim: &str) -> Result<&'a str, Reason> {
    match claim {
        SUB => required(members, SUB, subject),
        other => members.get(other).and_then(subject).ok_or(Reason::SubjectClaim),
    }
}

fn required<'a, T>(
    members: &'a Members,
    name: &'static str,
    read: impl Fn(&'a Value) -> Option<T>,
) -> Result<T, Reason> {
    optional(members, name, read)?.ok_or(Reason::MissingClaim(name))
}

fn optional<'a, T>(
    members: &'a Members,
    name: &'static str,
    read: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, Reason> {
    let read_or_refuse = |value| read(value).ok_or(Reason::MalformedClaim(name));
    members.get(name).map(read_or_refuse).transpose()
}

fn string(value: &Value) -> Option<&str> {
    value.as_str()
}

fn short_string(value: &Value) -> Option<&str> {
    string(value).filter(|text| text.len() <= MAX_NAME_BYTES)
}

fn subject(value: &Value) -> Option<&str> {
    string(value).filter(|text| is_subject(text))
}

/// A NumericDate (RFC 7519 §2), which may have a fraction. It is rounded so that the token is good for no longer than it says.
fn date(value: &Value, round: impl Fn(f64) -> f64) -> Option<Timestamp> {
    let seconds = value.as_u64().or_else(|| {
        // Above 2^53 a number has no fraction, so that nothing is lost on the way to an integer.
        let seconds = round(value.as_f64()?);
        (0.0..=MAX_DATE_S as f64).contains(&seconds).then_some(seconds as u64)
    });
    seconds
        .filter(|&seconds| seconds <= MAX_DATE_S)
        .map(Timestamp::from_secs)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules() -> Rules {
        Rules::new(vec!["us".to_owned(), "also".to_owned()])
    }

    fn parse_with(name: &str, value: Value) -> Result<Claims, Reason> {
        let mut claims = json!({"iss": "i", "sub": "alice", "aud": "us", "exp": 100});
        claims[name] = value;
        Claims::parse(claims.to_string().as_bytes(), &rules())
    }

    fn refusal(name: &str, value: Value) -> Option<Reason> {
        parse_with(name, value).err()
    }

    #[test]
    fn all_claims_are_kept_the_unknown_ones_too() {
        let claims = parse_with("role", json!(["admin"])).unwrap();
        assert_eq!(claims.all["role"], json!(["admin"]));
        assert_eq!((claims.issuer.as_str(), claims.subject.as_str()), ("i", "alice"));
        assert_eq!(claims.expires_at, Timestamp::from_secs(100));
        assert_eq!(
            (claims.not_before, claims.issued_at, claims.token_id),
            (None, None, None)
        );
    }

    #[test]
    fn each_mandatory_claim_is_missed() {
        let whole = json!({"iss": "i", "sub": "alice", "aud": "us", "exp": 100});
        for name in ["iss", "sub", "aud", "exp"] {
            let mut claims = whole.clone();
            claims.as_object_mut().unwrap().remove(name);
            let refusal = Claims::parse(claims.to_string().as_bytes(), &rules()).err();
            assert_eq!(refusal, Some(Reason::MissingClaim(name)));
        }
    }

    #[test]
    fn a_claim_that_stands_twice_is_refused() {
        let json = br#"{"iss":"i","sub":"alice","aud":"us","exp":100,"role":1,"role":1}"#;
        assert_eq!(Claims::parse(json, &rules()).err(), Some(Reason::Claims));
    }

    #[test]
    fn a_date_with_a_fraction_is_rounded_to_the_shorter_life() {
        let claims = |seconds: f64| {
            let text = json!({"iss": "i", "sub": "a", "aud": "us", "exp": seconds, "nbf": seconds, "iat": seconds});
            Claims::parse(text.to_string().as_bytes(), &rules()).unwrap()
        };
        for (seconds, expiry, beginning) in [
            (100.0, 100, 100),
            (100.5, 100, 101),
            (0.25, 0, 1),
            (99.999_999, 99, 100),
        ] {
            let claims = claims(seconds);
            assert_eq!(claims.expires_at, Timestamp::from_secs(expiry), "{seconds}");
            assert_eq!(claims.not_before, Some(Timestamp::from_secs(beginning)), "{seconds}");
            assert_eq!(claims.issued_at, Some(Timestamp::from_secs(beginning)), "{seconds}");
        }
    }

    #[test]
    fn a_date_may_have_more_digits_than_are_kept() {
        for fraction in ["1234567", "123456789", "000000000001"] {
            let date = format!("1796000000.{fraction}");
            let json = format!(
                r#"{{"iss":"i","sub":"a","aud":"us","exp":{date},"nbf":{date},"iat":{date},"auth_time":{date}}}"#
            );
            let claims = Claims::parse(json.as_bytes(), &rules()).unwrap();
            assert_eq!(claims.expires_at, Timestamp::from_secs(1_796_000_000));
        }
    }

    #[test]
    fn dates_are_numbers_of_seconds_that_fit_a_timestamp() {
        let wrong = [
            json!("100"),
            json!("100.5"),
            json!(-1),
            json!(-0.5e3),
            json!(null),
            json!([100]),
            json!(true),
        ];
        let wild = [json!(u64::MAX), json!(MAX_DATE_S + 1), json!(1e300), json!(1.9e16)];
        for value in wrong.iter().chain(&wild) {
            for name in ["exp", "nbf", "iat"] {
                assert_eq!(
                    refusal(name, value.clone()),
                    Some(Reason::MalformedClaim(name)),
                    "{value}"
                );
            }
        }
        assert_eq!(
            parse_with("nbf", json!(7)).unwrap().not_before,
            Some(Timestamp::from_secs(7))
        );
        assert_eq!(
            parse_with("iat", json!(8)).unwrap().issued_at,
            Some(Timestamp::from_secs(8))
        );
        assert_eq!(
            parse_with("exp", json!(MAX_DATE_S)).unwrap().expires_at,
            Timestamp::from_secs(MAX_DATE_S)
        );
    }

    #[test]
    fn a_number_too_great_for_any_integer_is_refused() {
        let json = br#"{"iss":"i","sub":"alice","aud":"us","exp":99999999999999999999999}"#;
        assert_eq!(Claims::parse(json, &rules()).err(), Some(Reason::Number));
    }

    #[test]
    fn a_subject_is_1_to_255_bytes_without_control_characters() {
        assert!(parse_with("sub", json!("é".repeat(127))).is_ok());
        let wrong = [
            json!(""),
            json!("é".repeat(128)),
            json!("a\0"),
            json!("a\nb"),
            json!("\u{85}"),
            json!("\u{7f}"),
        ];
        for value in wrong.into_iter().chain([json!(1), json!(null), json!(["alice"])]) {
            assert_eq!(
                refusal("sub", value.clone()),
                Some(Reason::MalformedClaim("sub")),
                "{value}"
            );
        }
    }

    #[test]
    fn another_claim_may_name_the_subject_and_then_no_other_does() {
        let rules = Rules {
            subject_claim: "oid".to_owned(),
            ..rules()
        };
        let parse = |claims: Value| Claims::parse(claims.to_string().as_bytes(), &rules);
        let both = json!({"iss": "i", "sub": "pairwise", "oid": "o-1", "aud": "us", "exp": 100});
        assert_eq!(parse(both).unwrap().subject.as_str(), "o-1");
        let alone = json!({"iss": "i", "oid": "o-1", "aud": "us", "exp": 100});
        assert_eq!(parse(alone).unwrap().subject.as_str(), "o-1");
        for wrong in [json!(null), json!(""), json!("o\n1"), json!(7), json!(["o-1"])] {
            let claims = json!({"iss": "i", "sub": "pairwise", "oid": wrong, "aud": "us", "exp": 100});
            assert_eq!(parse(claims).err(), Some(Reason::SubjectClaim), "{wrong}");
        }
    }

    #[test]
    fn an_audience_is_a_string_or_an_array_of_strings_that_names_us() {
        for value in [json!("us"), json!("also"), json!(["us"]), json!(["other", "also"])] {
            assert!(parse_with("aud", value).is_ok());
        }
        for value in [json!("other"), json!("US"), json!(""), json!([]), json!(["other"])] {
            assert_eq!(refusal("aud", value.clone()), Some(Reason::Audience), "{value}");
        }
        for value in [
            json!(1),
            json!(null),
            json!({"us": 1}),
            json!(["us", 1]),
            json!([1, "us"]),
            json!([["us"]]),
        ] {
            assert_eq!(
                refusal("aud", value.clone()),
                Some(Reason::MalformedClaim("aud")),
                "{value}"
            );
        }
    }

    #[test]
    fn an_issuer_that_is_no_string_is_refused() {
        assert_eq!(refusal("iss", json!(["i"])), Some(Reason::MalformedClaim("iss")));
    }

    #[test]
    fn a_token_id_is_a_string_of_at_most_255_bytes() {
        assert_eq!(parse_with("jti", json!("t")).unwrap().token_id, Some(TokenId::new("t")));
        assert!(parse_with("jti", json!("t".repeat(255))).is_ok());
        for value in [json!("t".repeat(256)), json!(1), json!(null)] {
            assert_eq!(refusal("jti", value), Some(Reason::MalformedClaim("jti")));
        }
    }
}
