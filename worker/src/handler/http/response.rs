//! What the status of a response means for the message.
//!
//! Pure. As table, where the body does not say it better (`{"code", "message", "details", …}`), with a code of its own too; with a
//! 5xx such a code counts only if it is written with its prefix, `app.`, as frameworks write codes there that are for a log:
//!
//! | status | what the client is told |
//! |---|---|
//! | 2xx | the body is the `reply`'s payload; none (204): a reply without payload, if the message has an `id` |
//! | 401, 403 | `forbidden`: who it is was proved, so it may not |
//! | 413 | `too_large` |
//! | 408, 425, 429, 502, 503, 504 | `busy`, temporary, with `retry_after_ms` if there is a `Retry-After` |
//! | other 4xx | `bad_request` |
//! | other 5xx | `internal`, temporary: no one knows what was done |
//! | others | `internal`: a redirect is not followed |

use std::time::{Duration, SystemTime};

use shared::wire::protocol::{Effect, ErrorCode};

use crate::handler::upstream::metrics::CallOutcome;
use crate::handler::upstream::reply::Refusal;
use crate::handler::{HandlerError, Presence};

/// The status of a response, and what it says about later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// RFC 9110 §15.
    pub(super) code: u16,
    /// `Retry-After` (RFC 9110 §10.2.3).
    pub(super) retry_after: Option<Duration>,
}

/// How long a `Retry-After` says to wait: seconds, or a date. A date counts from that of the response (`Date`), since clocks differ
/// by more than what is worth waiting for; without that from `now`. One that is over means at once.
pub(super) fn wait(text: &[u8], date: Option<&[u8]>, now: SystemTime) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let said = date.and_then(|date| std::str::from_utf8(date).ok());
    let said = said.and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(said.unwrap_or(now)).unwrap_or_default())
}

impl Status {
    pub(super) const fn is_success(self) -> bool {
        matches!(self.code, 200..=299)
    }

    /// Whether the application is not able now, and says nothing about the message.
    pub(super) const fn is_busy(self) -> bool {
        matches!(self.code, 408 | 425 | 429 | 502 | 503 | 504)
    }

    /// How a call is counted that ends with it.
    pub(super) const fn outcome(self) -> CallOutcome {
        match self.code {
            200..=299 => CallOutcome::Answered,
            400..=499 if !self.is_busy() => CallOutcome::Refused,
            _ => CallOutcome::Failed,
        }
    }

    /// What the client is told.
    pub(super) fn refusal(self, body: &[u8]) -> HandlerError {
        let mut said = Refusal::read(body).or_retry_after(self.retry_after);
        let (code, temporary) = match self.code {
            401 | 403 => (ErrorCode::Forbidden, false),
            413 => (ErrorCode::TooLarge, false),
            _ if self.is_busy() => (ErrorCode::Busy, true),
            400..=499 => (ErrorCode::BadRequest, false),
            500..=599 => (ErrorCode::Internal, true),
            _ => (ErrorCode::Internal, false),
        };
        // What a broken program says of itself is for its log; what it says in our words, it means.
        if self.code >= 500 && !said.is_meant() {
            said = said.without_words();
        }
        // Anyone who stands before it says that it is not there.
        let silent = matches!(self.code, 502..=504) && !said.is_meant() && self.retry_after.is_none();
        let presence = if silent { Presence::Silent } else { Presence::There };
        let usual = format!("the application answered with status {}", self.code);
        let meant = said.is_meant();
        let error = said.or(code, &usual, temporary).showing(presence);
        // A failure says nothing of what was done before it, unless it is the application that says what it is.
        if self.code >= 500 && !meant {
            error.having(Effect::Unknown)
        } else {
            error
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: u16, body: &str) -> (&'static str, String, bool) {
        let status = Status {
            code,
            retry_after: None,
        };
        let error = status.refusal(body.as_bytes());
        (error.code.as_str(), error.message, error.temporary)
    }

    #[test]
    fn each_status_is_told_as_the_table_says() {
        for (code, word, temporary, outcome) in [
            (301, "internal", false, CallOutcome::Failed),
            (400, "bad_request", false, CallOutcome::Refused),
            (401, "forbidden", false, CallOutcome::Refused),
            (403, "forbidden", false, CallOutcome::Refused),
            (404, "bad_request", false, CallOutcome::Refused),
            (408, "busy", true, CallOutcome::Failed),
            (413, "too_large", false, CallOutcome::Refused),
            (422, "bad_request", false, CallOutcome::Refused),
            (425, "busy", true, CallOutcome::Failed),
            (429, "busy", true, CallOutcome::Failed),
            (500, "internal", true, CallOutcome::Failed),
            (502, "busy", true, CallOutcome::Failed),
            (503, "busy", true, CallOutcome::Failed),
            (504, "busy", true, CallOutcome::Failed),
            (599, "internal", true, CallOutcome::Failed),
            (999, "internal", false, CallOutcome::Failed),
        ] {
            let usual = format!("the application answered with status {code}");
            assert_eq!(told(code, "<html>"), (word, usual, temporary), "{code}");
            let status = Status {
                code,
                retry_after: None,
            };
            assert_eq!((status.outcome(), status.is_success()), (outcome, false), "{code}");
        }
    }

    #[test]
    fn what_the_body_says_in_our_words_counts_and_a_stack_trace_is_not_passed_on() {
        let full = r#"{"code":"forbidden","message":"not yours"}"#;
        assert_eq!(told(404, full), ("forbidden", "not yours".to_owned(), false));
        assert_eq!(told(500, full), ("forbidden", "not yours".to_owned(), false));
        let own = r#"{"code":"E42","message":"at db.rs:1","details":1}"#;
        let error = |code, body: &str| {
            Status {
                code,
                retry_after: None,
            }
            .refusal(body.as_bytes())
        };
        for code in [400, 409, 422] {
            let error = error(code, own);
            assert_eq!((error.own.as_deref(), &*error.message), (Some("E42"), "at db.rs:1"));
            assert!(error.details.is_some() && !error.temporary);
        }
        let broken = error(500, own);
        assert_eq!((broken.own, broken.details.is_none()), (None, true));
        assert_eq!(broken.message, "the application answered with status 500");
        let meant = error(500, &own.replace("E42", "app.E42"));
        assert_eq!((meant.own.as_deref(), meant.temporary), (Some("app.E42"), true));
    }

    #[test]
    fn only_who_may_try_again_is_told_when() {
        let after = |code, body: &[u8]| {
            let status = Status {
                code,
                retry_after: Some(Duration::from_secs(7)),
            };
            status.refusal(body).retry_after
        };
        assert_eq!(after(503, b""), Some(Duration::from_secs(7)));
        assert_eq!(after(503, br#"{"retry_after_ms":1}"#), Some(Duration::from_millis(1)));
        assert_eq!(after(400, b""), None);
    }

    #[test]
    fn a_retry_after_is_seconds_or_a_date_by_the_clock_of_whoever_says_it() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(946_684_700);
        let of = |text: &[u8], date: Option<&[u8]>| wait(text, date, now);
        assert_eq!(of(b" 120 ", None), Some(Duration::from_secs(120)));
        let date = b"Fri, 31 Dec 1999 23:59:59 GMT";
        assert_eq!(of(date, None), Some(Duration::from_secs(99)));
        assert_eq!(
            of(date, Some(b"Fri, 31 Dec 1999 23:59:57 GMT")),
            Some(Duration::from_secs(2))
        );
        assert_eq!(of(date, Some(b"Sat, 01 Jan 2000 00:00:00 GMT")), Some(Duration::ZERO));
        assert_eq!(of(date, Some(b"yesterday")), Some(Duration::from_secs(99)));
        assert_eq!(
            of(b"Friday, 31-Dec-99 23:59:59 GMT", None),
            Some(Duration::from_secs(99))
        );
        for other in [
            &b""[..],
            b"-1",
            b"1.5",
            b"Fri, 31 Dec 1999",
            b"\xff",
            b"99999999999999999999",
        ] {
            assert_eq!(of(other, None), None);
        }
    }
}
