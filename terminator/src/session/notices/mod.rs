//! What a terminator tells clients of its own accord about their authentication.

pub(crate) mod refuse;

use std::time::Duration;

use bytes::Bytes;
use shared::wire::protocol::{AuthRequired, CloseCode, ErrorBody, ErrorCode, Held, Reason};

/// Asks for a fresh token.
pub(crate) fn auth_required(reason: Reason, deadline: Duration, held: Held) -> Bytes {
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    let required = AuthRequired {
        reason,
        deadline_ms,
        held,
    };
    required.to_json().into()
}

/// The error that goes before a close of ours, where one of the protocol's words fits.
pub(crate) fn last_error(code: CloseCode) -> Option<ErrorBody> {
    let word = match code {
        CloseCode::TooBig => ErrorCode::TooLarge,
        CloseCode::Unsupported => ErrorCode::BadRequest,
        CloseCode::RateLimited => ErrorCode::RateLimited,
        CloseCode::AuthRequired | CloseCode::AuthTimeout => ErrorCode::AuthRequired,
        CloseCode::TokenInvalid => ErrorCode::TokenInvalid,
        CloseCode::Revoked => ErrorCode::TokenRevoked,
        CloseCode::ConnectionLimit => ErrorCode::Forbidden,
        CloseCode::IdentityMismatch => ErrorCode::IdentityMismatch,
        _ => return None,
    };
    Some(ErrorBody::new(word, code.reason()))
}

/// Whether it is for its authentication that a connection is closed with that code.
pub(crate) const fn is_for_authentication(code: CloseCode) -> bool {
    matches!(
        code,
        CloseCode::AuthRequired
            | CloseCode::AuthTimeout
            | CloseCode::TokenInvalid
            | CloseCode::Revoked
            | CloseCode::IdentityMismatch
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_closed_for_authentication_is_told_so_by_an_error() {
        for code in CloseCode::ALL {
            if is_for_authentication(code) {
                assert!(last_error(code).is_some(), "{code:?}");
            }
        }
    }

    #[test]
    fn a_deadline_is_in_milliseconds() {
        let text = auth_required(Reason::Expiring, Duration::from_secs(3), Held::default());
        let text = std::str::from_utf8(&text).unwrap();
        assert!(text.contains(r#""deadline_ms":3000"#), "{text}");
    }
}
