//! Until when anyone waits for what a message comes to: pure.
//!
//! A client may say with a message how long it waits (`timeout_ms`), from the terminator's receipt on. What no one waits
//! for any more is not begun: so a system that has too much to do does it for those who still wait.

use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::protocol::{Effect, ErrorBody, ErrorCode};

/// Until when the sender of a message waits, if it says so.
pub(crate) fn of(received: Timestamp, timeout: Option<Duration>) -> Option<Timestamp> {
    timeout.map(|timeout| received.saturating_add(timeout))
}

/// How long anyone still waits; none if there is no deadline.
///
/// # Errors
/// If no one does any more: what the client is told. It comes `again` if someone was given it and did not bring it to its
/// end: no one knows what they have done.
pub(crate) fn left(deadline: Option<Timestamp>, now: Timestamp, again: bool) -> Result<Option<Duration>, ErrorBody> {
    let Some(deadline) = deadline else { return Ok(None) };
    let left = deadline.saturating_since(now);
    if left.is_zero() {
        return Err(exceeded(again));
    }
    Ok(Some(left))
}

/// What a client is told that does not wait any more. The message may have been `begun`.
pub(crate) fn exceeded(begun: bool) -> ErrorBody {
    let effect = if begun { Effect::Unknown } else { Effect::None };
    ErrorBody::new(ErrorCode::DeadlineExceeded, "the message's `timeout_ms` has passed").having(effect)
}

/// What a client is told that has given a message up, which may have been `begun`.
pub(crate) fn cancelled(begun: bool) -> ErrorBody {
    let effect = if begun { Effect::Unknown } else { Effect::None };
    ErrorBody::new(ErrorCode::Cancelled, "the message was cancelled by its sender").having(effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_ends_with_the_time_and_only_what_came_again_may_have_had_an_effect() {
        let at = Timestamp::from_millis;
        let deadline = of(at(10_000), Some(Duration::from_secs(5)));
        assert_eq!(deadline, Some(at(15_000)));
        assert_eq!(left(deadline, at(14_999), true), Ok(Some(Duration::from_millis(1))));
        // A clock that is behind gives it more time, and never fails.
        assert_eq!(left(deadline, at(0), false), Ok(Some(Duration::from_secs(15))));
        for (again, effect) in [(false, Effect::None), (true, Effect::Unknown)] {
            let error = left(deadline, at(15_000), again).unwrap_err();
            assert!(error.code == ErrorCode::DeadlineExceeded && error.temporary);
            assert_eq!(error.effect, Some(effect));
        }
        assert_eq!(left(None, at(u64::MAX), false), Ok(None));
    }
}
