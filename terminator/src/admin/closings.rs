//! The last connections that have ended, and why: for people who watch, and, where it was we who ended one, in the log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use shared::service::clock::Timestamp;
use shared::service::refusals::Refusals;
use shared::wire::id::ConnectionId;

use crate::connection::close_reason::CloseReason;

/// How many are remembered.
const KEPT: usize = 32;

/// A connection that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Closing {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The connection that ended.
    pub connection: ConnectionId,
    /// `closed` if it was we who ended it, `left` if its client did.
    pub what: &'static str,
    /// With which code, and what that means.
    pub why: String,
}

/// The last few.
#[derive(Debug, Default)]
pub(crate) struct Closings {
    last: Mutex<VecDeque<Closing>>,
    told: Arc<Refusals>,
}

/// From here on a code says what a client has done, or has not (RFC 6455 §7.4.2).
const FIRST_OF_CLIENTS: u16 = 4_000;

impl Closings {
    /// One more.
    pub(crate) fn note(&self, now: Timestamp, connection: ConnectionId, ending: CloseReason) {
        let (what, why) = match ending.code() {
            Some(code) => {
                let why = format!("{}: {}", code.code(), code.reason());
                if code.code() >= FIRST_OF_CLIENTS {
                    self.told.tell("closed", &connection, &why);
                }
                ("closed", why)
            }
            None => ("left", "by its client".to_owned()),
        };
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Closing {
            at_ms: now.as_millis(),
            connection,
            what,
            why,
        });
    }

    /// Where the closings are counted that are told once a minute.
    pub(crate) fn told(&self) -> Arc<Refusals> {
        self.told.clone()
    }

    /// The last few, the newest last.
    pub(crate) fn last(&self) -> Vec<Closing> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Closing>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::id::TerminatorId;
    use shared::wire::protocol::CloseCode;

    use super::*;

    #[test]
    fn the_last_few_are_kept_with_their_reason() {
        let closings = Closings::default();
        let terminator = TerminatorId::random();
        for number in 1..=KEPT as u64 + 5 {
            let ending = if number.is_multiple_of(2) {
                CloseReason::Left
            } else {
                CloseReason::close(CloseCode::AuthRequired)
            };
            closings.note(
                Timestamp::from_secs(number),
                ConnectionId { terminator, number },
                ending,
            );
        }
        let kept = closings.last();
        assert_eq!((kept.len(), kept[0].connection.number), (KEPT, 6));
        assert_eq!(kept[0].what, "left");
        assert!(
            kept[1].what == "closed" && kept[1].why.starts_with("4401: "),
            "{kept:?}"
        );
    }
}
