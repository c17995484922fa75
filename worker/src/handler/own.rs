//! An application's own errors, as they go to clients: pure.
//!
//! One rule for all transports, and for handlers in Rust: a code that is none of those of ours that an application may give
//! is its own, and goes out under `app.`, whether it wrote that itself or not. One that is ours and not its to give would
//! speak of what it cannot know; that, and details that are too large, are its mistake: its log is told, and its client
//! `internal`.

use serde_json::value::RawValue;
use shared::wire::protocol::{ErrorBody, ErrorCode, OWN_PREFIX};

use super::HandlerError;
use crate::message;

/// The longest code, without its prefix.
const MAX_CODE_BYTES: usize = 64;

/// The most that is said besides: 16 KiB.
pub(super) const MAX_DETAILS_BYTES: usize = 16 * 1_024;

/// The codes of ours that are an application's to give.
pub(super) const GIVEN: [ErrorCode; 6] = [
    ErrorCode::BadRequest,
    ErrorCode::Forbidden,
    ErrorCode::RateLimited,
    ErrorCode::TooLarge,
    ErrorCode::Busy,
    ErrorCode::Internal,
];

/// Why something that an application says cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Improper {
    #[error("its code is one of Countersign's that applications may not give")]
    Reserved,
    #[error("its code has other characters than letters, digits, `.`, `_` and `-`, or not 1 to 64 of them")]
    Code,
    #[error("its details are larger than 16 KiB, or nested too deeply")]
    Details,
    #[error("it pushes with its answer to other recipients than the sender")]
    OthersPushedTo,
    #[error("it pushes with its answer to a connection or an identity that the message does not have")]
    NobodyToPushTo,
    #[error("it pushes more than 128 times with one answer")]
    TooManyPushes,
    #[error("what it pushes with one answer is larger than 1 MiB")]
    PushesTooLarge,
}

/// What an application calls something, without its prefix; none if it cannot be a code.
pub(super) fn bare(code: &str) -> Option<&str> {
    let bare = code.strip_prefix(OWN_PREFIX).unwrap_or(code);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    ((1..=MAX_CODE_BYTES).contains(&bare.len()) && bare.bytes().all(fits)).then_some(bare)
}

/// Whether it is one of ours.
pub(super) fn is_ours(code: &str) -> bool {
    ErrorCode::ALL.into_iter().any(|ours| ours.as_str() == code)
}

/// What the client is told.
pub(super) fn to_body(error: HandlerError) -> Result<ErrorBody, Improper> {
    let own = match &error.own {
        Some(code) if is_ours(code) => return Err(Improper::Reserved),
        Some(code) => Some(format!("{OWN_PREFIX}{}", bare(code).ok_or(Improper::Code)?)),
        None => None,
    };
    if error.details.as_ref().is_some_and(|details| !may_be_told(&details.0)) {
        return Err(Improper::Details);
    }
    let after = error.retry_after;
    Ok(ErrorBody {
        temporary: error.temporary,
        retry_after_ms: after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        own,
        details: error.details,
        effect: error.effect,
        ..ErrorBody::new(error.code, error.message)
    })
}

/// In an error it stands a level deeper than a payload does.
fn may_be_told(details: &RawValue) -> bool {
    let text = details.get();
    text.len() <= MAX_DETAILS_BYTES && message::payload(format!("[{text}]").as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: &str) -> Result<String, Improper> {
        to_body(HandlerError::own(code, "m")).map(|body| body.own.unwrap())
    }

    fn detailed(text: String) -> Result<ErrorBody, Improper> {
        let details = RawValue::from_string(text).unwrap();
        to_body(
            HandlerError::new(ErrorCode::BadRequest, "m")
                .detailed(&details)
                .unwrap(),
        )
    }

    #[test]
    fn its_own_codes_go_out_under_one_prefix_however_it_writes_them() {
        for (given, goes_out) in [
            ("out_of_stock", "app.out_of_stock"),
            ("app.out_of_stock", "app.out_of_stock"),
            ("E42", "app.E42"),
            ("app.busy", "app.busy"),
            (&*"x".repeat(64), &*format!("app.{}", "x".repeat(64))),
        ] {
            assert_eq!(told(given).as_deref(), Ok(goes_out));
        }
        for wrong in ["", "app.", "out of stock", "é", "\"", &*"x".repeat(65)] {
            assert_eq!(told(wrong), Err(Improper::Code), "{wrong}");
        }
    }

    #[test]
    fn none_of_ours_is_its_own() {
        for ours in ErrorCode::ALL {
            assert_eq!(told(ours.as_str()), Err(Improper::Reserved));
        }
    }

    #[test]
    fn details_are_as_large_and_as_deep_as_they_may_be() {
        let text = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
        assert!(detailed(text(MAX_DETAILS_BYTES)).is_ok());
        assert_eq!(detailed(text(MAX_DETAILS_BYTES + 1)), Err(Improper::Details));
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(detailed(nested(100)).is_ok());
        assert_eq!(detailed(nested(127)), Err(Improper::Details));
    }
}
