//! What stands in a request: pure.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use serde_json::Value;

use super::fault::EventFault;
use super::kind::EventKind;
use crate::token;

/// The member of the form of Back-Channel Logout 1.0 §2.5.
const LOGOUT_TOKEN: &str = "logout_token";

/// What is signed, and what came beside it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// A JWT.
    pub(super) text: String,
    /// A subject identifier, where it is not in there.
    pub(super) subject: Option<Value>,
}

impl Request {
    /// Reads the request of that kind.
    pub(super) fn read(kind: EventKind, headers: &HeaderMap, body: &Bytes) -> Result<Self, EventFault> {
        if !one(headers, &CONTENT_TYPE).is_some_and(|told| is_media_type(told, kind.media_type())) {
            return Err(EventFault::Request("the `Content-Type` is not the one of its kind"));
        }
        match kind {
            EventKind::Logout => Ok(Self::signed(logout_token(body)?)),
            EventKind::SecurityEvent => {
                let text = str::from_utf8(body).map_err(|_| EventFault::Request("the body is not UTF-8"))?;
                Ok(Self::signed(text.trim().to_owned()))
            }
            EventKind::GlobalRevocation => {
                let text = one(headers, &AUTHORIZATION).and_then(bearer);
                let text = text
                    .ok_or(EventFault::Request("there is no `Authorization: Bearer`"))?
                    .to_owned();
                let members = token::unique_members(body);
                let mut members =
                    members.ok_or(EventFault::Request("the body is not a JSON object, each member once"))?;
                // `subject` was its name in the first draft, and is what Okta sends to some.
                let subject = members.remove("sub_id").or_else(|| members.remove("subject"));
                Ok(Self { text, subject })
            }
        }
    }

    const fn signed(text: String) -> Self {
        Self { text, subject: None }
    }
}

fn logout_token(body: &Bytes) -> Result<String, EventFault> {
    let mut all = form_urlencoded::parse(body).filter(|(name, _)| name == LOGOUT_TOKEN);
    match (all.next(), all.next()) {
        (Some((_, text)), None) => Ok(text.into_owned()),
        _ => Err(EventFault::Request(
            "the form does not have `logout_token` exactly once",
        )),
    }
}

/// The header of that name, if there is exactly one.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// RFC 9110 §8.3.1: compared without case, whatever its parameters.
fn is_media_type(told: &str, wanted: &str) -> bool {
    let told = told.split(';').next().unwrap_or_default();
    told.trim().eq_ignore_ascii_case(wanted)
}

/// RFC 6750 §2.1. The scheme is compared without case (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, text) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| text.trim())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(
        kind: EventKind,
        headers: &[(HeaderName, &str)],
        body: &str,
    ) -> Result<(String, Option<Value>), EventFault> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()));
        let mut all = HeaderMap::new();
        headers.for_each(|(name, value)| _ = all.append(name, value));
        let request = Request::read(kind, &all, &Bytes::from(body.to_owned()))?;
        Ok((request.text, request.subject))
    }

    #[test]
    fn each_kind_is_read_as_it_is_written() {
        let form = (CONTENT_TYPE, "Application/x-www-form-urlencoded; charset=UTF-8");
        let plain = Ok(("a.b_.-c".to_owned(), None));
        assert_eq!(
            read(
                EventKind::Logout,
                std::slice::from_ref(&form),
                "x=1&logout_token=a.b_.-c"
            ),
            plain
        );
        assert_eq!(
            read(
                EventKind::Logout,
                std::slice::from_ref(&form),
                "logout%5Ftoken=a%2Eb_%2E-c"
            ),
            plain
        );
        for body in ["", "x=1", "logout_token=a&logout_token=a", "a.b.c"] {
            assert!(
                read(EventKind::Logout, std::slice::from_ref(&form), body).is_err(),
                "{body}"
            );
        }
        let set = (CONTENT_TYPE, "application/secevent+jwt");
        assert_eq!(
            read(EventKind::SecurityEvent, std::slice::from_ref(&set), "a.b_.-c\n"),
            plain
        );
        for headers in [vec![], vec![form.clone()], vec![set.clone(), set.clone()]] {
            assert!(
                read(EventKind::SecurityEvent, &headers, "a.b.c").is_err(),
                "{headers:?}"
            );
        }
        let object = (CONTENT_TYPE, "application/json");
        let (good, other) = ((AUTHORIZATION, "bearer a.b_.-c"), (AUTHORIZATION, "Basic YTpi"));
        let headers = [object.clone(), good.clone()];
        for name in ["sub_id", "subject"] {
            let body = json!({name: {"format": "opaque"}}).to_string();
            let subject = Some(json!({"format": "opaque"}));
            assert_eq!(
                read(EventKind::GlobalRevocation, &headers, &body),
                Ok(("a.b_.-c".to_owned(), subject))
            );
        }
        assert_eq!(read(EventKind::GlobalRevocation, &headers, "{}"), plain);
        for body in ["", "[]", r#"{"sub_id":1,"sub_id":2}"#] {
            assert!(read(EventKind::GlobalRevocation, &headers, body).is_err(), "{body}");
        }
        for headers in [
            vec![object.clone()],
            vec![object.clone(), other],
            vec![object, good.clone(), good],
        ] {
            assert!(
                read(EventKind::GlobalRevocation, &headers, "{}").is_err(),
                "{headers:?}"
            );
        }
    }
}
