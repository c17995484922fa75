//! `POST /token`: a token for whom the page names, signed with the development key.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use shared::service::clock::{Clock as _, SystemClock, Timestamp};

use crate::dev::state::Page;

/// RFC 7519 has no limit; ours keeps the page readable.
const MAX_SUBJECT_BYTES: usize = 255;

/// 24 hours: the longest that a worker takes a token for.
const LONGEST_S: i64 = 24 * 60 * 60;

/// How long a token was good that has expired already.
const PAST_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    subject: String,
    /// Seconds from now; before now for a token that has expired already.
    expires_in_s: i64,
}

/// What is given.
#[derive(Serialize)]
pub(super) struct Minted {
    token: String,
    subject: String,
    expires_in_s: i64,
}

pub(super) async fn token(
    State(page): State<Arc<Page>>,
    Json(wanted): Json<Wanted>,
) -> Result<Json<Minted>, (StatusCode, String)> {
    let refuse = |why: &str| (StatusCode::BAD_REQUEST, why.to_owned());
    let Wanted { subject, expires_in_s } = wanted;
    if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES || subject.contains(char::is_control) {
        return Err(refuse("a subject is 1 to 255 bytes without control characters"));
    }
    if expires_in_s.abs() > LONGEST_S {
        return Err(refuse("a token is good for at most 24 hours"));
    }
    let (from, lifetime) = period(SystemClock.now(), expires_in_s);
    let token = page
        .signer
        .token(&subject, from, lifetime, &[])
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(Json(Minted {
        token,
        subject,
        expires_in_s,
    }))
}

/// From when, and for how long.
fn period(now: Timestamp, expires_in_s: i64) -> (Timestamp, Duration) {
    match u64::try_from(expires_in_s) {
        Ok(seconds) => (now, Duration::from_secs(seconds)),
        Err(_) => {
            let ago = expires_in_s.unsigned_abs().saturating_add(PAST_LIFETIME.as_secs());
            (Timestamp::from_secs(now.as_secs().saturating_sub(ago)), PAST_LIFETIME)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_the_past_expired_as_long_ago_as_was_asked_for() {
        let now = Timestamp::from_secs(10_000);
        assert_eq!(period(now, 60), (now, Duration::from_secs(60)));
        let (from, lifetime) = period(now, -1_000);
        assert_eq!(from.saturating_add(lifetime), Timestamp::from_secs(9_000));
    }
}
