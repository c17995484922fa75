//! What a connection was before it became what it is: pure.
//!
//! A message that was sent back is decided when all before it is settled, but by what the connection was when it was
//! read: what has come of later messages meanwhile is none of its business. So what an open message may still be decided
//! by is kept, until the message is settled. In the steady state that is nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::wire::envelope::Change;
use shared::wire::grant::Grant;
use shared::wire::id::Sequence;
use tokio::time::Instant;

use crate::timers::now::Now;

/// What stands in for the time before the first message that changed anything.
const BEFORE_ALL: Sequence = Sequence::new(0);

/// Earlier states, by the message that made them; no one, where it has a grant no more or not yet.
#[expect(
    clippy::box_collection,
    reason = "nearly every connection has none, and then it is one word instead of three"
)]
#[derive(Debug, Default)]
pub(crate) struct AuthHistory(Option<Box<BTreeMap<Sequence, Option<State>>>>);

/// A grant that a connection had, or would have had if it had not had a better one.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) grant: Grant,
    pub(crate) texts: Texts,
    pub(crate) deadline: Instant,
}

/// The two texts of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Texts {
    pub(crate) facts: Arc<str>,
    pub(crate) principal: Arc<str>,
}

impl State {
    /// What a change that came too late to count for what is to come has made of the connection.
    pub(crate) fn of(change: Change, now: Now) -> Option<Self> {
        match change {
            Change::Live { grant, principal } => Some(Self {
                deadline: now.instant_of(grant.until),
                texts: Texts {
                    facts: grant.without_news().to_facts().into(),
                    principal: principal.into(),
                },
                grant,
            }),
            Change::Forgotten => None,
        }
    }

    /// Whether another's token takes its place: not one that was issued earlier, while this one is in force.
    fn gives_way_to(&self, other: &Self, now: Instant) -> bool {
        now >= self.deadline || !other.grant.precedes(&self.grant)
    }
}

impl AuthHistory {
    /// The connection was that by the message `by`, or from its beginning.
    pub(crate) fn remember(&mut self, by: Option<Sequence>, state: Option<State>) {
        self.0.get_or_insert_default().insert(by.unwrap_or(BEFORE_ALL), state);
    }

    /// What the connection was when the message `sequence` was read, by which message.
    pub(crate) fn before(&self, sequence: Sequence, now: Instant) -> Option<(Option<Sequence>, Option<&Texts>)> {
        let (by, state) = self.found(sequence, now)?;
        Some(((by != BEFORE_ALL).then_some(by), state.map(|state| &state.texts)))
    }

    fn found(&self, sequence: Sequence, now: Instant) -> Option<(Sequence, Option<&State>)> {
        let mut found: Option<(Sequence, Option<&State>)> = None;
        for (by, state) in self.0.as_ref()?.range(..sequence) {
            let stays = match (found.and_then(|(_, before)| before), state) {
                (Some(before), Some(state)) => !before.gives_way_to(state, now),
                _ => false,
            };
            if !stays {
                found = Some((*by, state.as_ref()));
            }
        }
        found
    }

    /// Forgets what no open message can be decided by: all but what the connection was when the `oldest` of them was read,
    /// and what it became later.
    pub(crate) fn forget_before(&mut self, oldest: Sequence, now: Instant) {
        let Some(first) = self.found(oldest, now).map(|(by, _)| by) else {
            return;
        };
        if let Some(states) = self.0.as_deref_mut() {
            states.retain(|by, _| *by == first || *by >= oldest);
        }
    }

    /// Forgets all: no message is open that is older than what the connection is now.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use shared::service::clock::Timestamp;

    use super::*;
    use crate::session::auth_state::tests::{grant, now};

    /// One by a token that was issued then, and is in force for so many seconds.
    fn issued(name: &str, at: u64, seconds: u64) -> Option<State> {
        let grant = Grant {
            issued_at: Some(Timestamp::from_secs(at)),
            ..grant(1, seconds)
        };
        Some(State {
            deadline: now().instant_of(grant.until),
            grant,
            texts: Texts {
                facts: name.into(),
                principal: "{}".into(),
            },
        })
    }

    fn texts(name: &str) -> Option<State> {
        issued(name, 1, 60)
    }

    fn at(past: &AuthHistory, sequence: u64) -> Option<String> {
        let (_, texts) = past.before(Sequence::new(sequence), now().instant)?;
        Some(texts.map_or("nobody".to_owned(), |texts| texts.facts.to_string()))
    }

    #[test]
    fn a_token_that_was_issued_earlier_than_the_one_in_force_made_nothing_of_it() {
        let mut past = AuthHistory::default();
        for (by, name, at, seconds) in [
            (2, "newer", 9, 60),
            (4, "older", 5, 60),
            (6, "newest", 9, 0),
            (8, "old", 1, 60),
        ] {
            past.remember(Some(Sequence::new(by)), issued(name, at, seconds));
        }
        let expected = [(3, "newer"), (5, "newer"), (7, "newest"), (9, "old")];
        for (sequence, name) in expected {
            assert_eq!(at(&past, sequence).as_deref(), Some(name), "{sequence}");
        }
        past.forget_before(Sequence::new(5), now().instant);
        for (sequence, name) in &expected[1..] {
            assert_eq!(at(&past, *sequence).as_deref(), Some(*name), "{sequence}");
        }
        past.remember(Some(Sequence::new(5)), None);
        past.remember(Some(Sequence::new(6)), issued("after", 1, 60));
        assert_eq!(at(&past, 7).as_deref(), Some("after"));
    }

    #[test]
    fn a_message_is_decided_by_the_last_state_before_it() {
        let mut past = AuthHistory::default();
        past.remember(Some(Sequence::new(7)), texts("seven"));
        past.remember(None, None);
        past.remember(Some(Sequence::new(3)), texts("three"));
        let seen: Vec<_> = [1, 3, 4, 7, 8].map(|sequence| at(&past, sequence)).into();
        let expected = ["nobody", "nobody", "three", "three", "seven"].map(|name| Some(name.to_owned()));
        assert_eq!(seen, expected);
        assert_eq!(past.before(Sequence::new(1), now().instant).unwrap().0, None);
        assert_eq!(
            past.before(Sequence::new(4), now().instant).unwrap().0,
            Some(Sequence::new(3))
        );
    }

    #[test]
    fn what_no_open_message_is_older_than_is_forgotten() {
        let mut past = AuthHistory::default();
        for by in [2, 4, 6] {
            past.remember(Some(Sequence::new(by)), texts(&by.to_string()));
        }
        past.forget_before(Sequence::new(5), now().instant);
        assert_eq!((at(&past, 4), at(&past, 5)), (None, Some("4".to_owned())));
        assert_eq!(at(&past, 9), Some("6".to_owned()));
        past.clear();
        assert_eq!(at(&past, 9), None);
    }
}
