//! What is tried again, and when: only what cannot do the same thing twice.
//!
//! Pure. Without a connection nothing was sent. An application that says when to
//! come again (`Retry-After`) has not done it, or knows the message by its
//! `Idempotency-Key`; a message without one is not sent twice. A connection that ends without an answer may have been
//! closed before the request came, so that goes once more, with a key. Everything else is for
//! the client, who knows what it means to ask again. While one waits here, its place
//! among the `concurrency` is taken: that is how a busy application slows down the
//! queue.

use std::time::Duration;

use super::response::Status;

/// How often one message is posted.
const MOST_TRIES: u32 = 3;

/// Before the second try at a connection; before the third, as long again for each that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// Anyone who asks for more is taken at their word by the client, not by us.
const MOST_PATIENCE: Duration = Duration::from_secs(5);

/// Whether there is another try, and after which pause, when there was no connection at the last of so many.
pub(super) fn after_no_connection(tries: u32) -> Option<Duration> {
    (tries < MOST_TRIES).then(|| PAUSE.saturating_mul(tries))
}

/// The same when the connection ended before there was a response. It may have been one that the application had closed already, so
/// the request goes once more, at once, over another one; and only if the application can know it again, should it have come.
pub(super) fn after_no_answer(tries: u32, has_key: bool) -> Option<Duration> {
    (has_key && tries == 1).then_some(Duration::ZERO)
}

/// The same when there was a response.
pub(super) fn after_response(tries: u32, status: Status, has_key: bool) -> Option<Duration> {
    let asks_for_it = matches!(status.code, 429 | 502 | 503);
    let after = status.retry_after.filter(|after| *after <= MOST_PATIENCE)?;
    // Anyone who says "at once" is given a moment all the same.
    (asks_for_it && has_key && tries < MOST_TRIES).then(|| after.max(PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_tried_three_times() {
        assert_eq!(after_no_connection(1), Some(PAUSE));
        assert_eq!(after_no_connection(2), Some(PAUSE * 2));
        assert_eq!(after_no_connection(3), None);
    }

    #[test]
    fn what_may_not_have_come_goes_once_more_if_it_can_be_known_again() {
        assert_eq!(after_no_answer(1, true), Some(Duration::ZERO));
        assert_eq!(after_no_answer(2, true), None);
        assert_eq!(after_no_answer(1, false), None);
    }

    #[test]
    fn a_response_is_asked_for_again_only_if_it_says_when_and_the_message_can_be_known() {
        let second = Some(Duration::from_secs(1));
        for (code, retry_after, has_key, tries, expected) in [
            (503, second, true, 1, second),
            (502, second, true, 2, second),
            (429, second, true, 1, second),
            (503, Some(Duration::ZERO), true, 1, Some(PAUSE)),
            (503, second, false, 1, None),
            (503, None, true, 1, None),
            (503, second, true, 3, None),
            (503, Some(Duration::from_secs(6)), true, 1, None),
            (500, second, true, 1, None),
            (504, second, true, 1, None),
            (200, second, true, 1, None),
            (400, second, true, 1, None),
        ] {
            let status = Status { code, retry_after };
            assert_eq!(
                after_response(tries, status, has_key),
                expected,
                "{code} {retry_after:?}"
            );
        }
    }
}
