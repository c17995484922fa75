//! Who of an identity is told that something is held for it.
//!
//! Anyone who is told fetches all of it, so that a few are enough; and if one of them goes before it has, others are told
//! because it goes. To tell ten thousand connections would have ten thousand look for what the first has fetched, once for
//! each thing that is held. So a few are told, of as many terminators as there are, those first that listen.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::wire::id::TerminatorId;
use shared::wire::tag::IdentityTag;
use tokio::time::Instant;

use super::audience::Recipient;

/// How many are told.
const MOST_TOLD: usize = 16;
/// How long it is believed that anyone who is to be told of something held has been told.
const BELIEVED: Duration = Duration::from_secs(2);
/// How many identities are remembered. Beyond it all are forgotten, and told once more.
const MOST_REMEMBERED: usize = 4_096;

/// Those of an identity's connections that are told.
pub(super) fn told_of(recipients: &[Recipient]) -> Vec<Recipient> {
    let mut places: HashMap<TerminatorId, usize> = HashMap::new();
    let mut ranked: Vec<_> = recipients
        .iter()
        .filter(|recipient| recipient.in_force)
        .map(|recipient| {
            let place = places.entry(recipient.connection.terminator).or_default();
            *place += 1;
            ((!recipient.listening, *place, recipient.connection), *recipient)
        })
        .collect();
    ranked.sort_unstable_by_key(|(rank, _)| *rank);
    ranked.truncate(MOST_TOLD);
    ranked.into_iter().map(|(_, recipient)| recipient).collect()
}

/// One look for each identity at a time, however many of its connections leave meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Leavings(Mutex<HashMap<IdentityTag, bool>>);

impl Leavings {
    /// Another has left. Tells whether to look; else anyone who looks already looks once more.
    pub(super) fn begin(&self, identity: IdentityTag) -> bool {
        match self.lock().entry(identity) {
            Entry::Occupied(mut again) => {
                again.insert(true);
                false
            }
            Entry::Vacant(vacant) => {
                vacant.insert(false);
                true
            }
        }
    }

    /// A look has ended. Tells whether to look once more.
    pub(super) fn goes_on(&self, identity: IdentityTag) -> bool {
        let mut looks = self.lock();
        let again = looks.get_mut(&identity).is_some_and(std::mem::take);
        if !again {
            looks.remove(&identity);
        }
        again
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IdentityTag, bool>> {
        // Nothing under this lock panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has been told of last, for each identity: the copies of one push that ten thousand connections give back are held
/// once, and told of once.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<IdentityTag, (String, Instant)>>);

impl Told {
    /// Whether that was told of a moment ago, and has not been fetched since.
    pub(super) fn knows(&self, identity: IdentityTag, key: &str, now: Instant) -> bool {
        self.lock()
            .get(&identity)
            .is_some_and(|(told, at)| told == key && now < *at + BELIEVED)
    }

    pub(super) fn remember(&self, identity: IdentityTag, key: &str, now: Instant) {
        let mut told = self.lock();
        if told.len() >= MOST_REMEMBERED {
            told.clear();
        }
        told.insert(identity, (key.to_owned(), now));
    }

    pub(super) fn forget(&self, identity: IdentityTag) {
        self.lock().remove(&identity);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IdentityTag, (String, Instant)>> {
        // Nothing under this lock panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::id::ConnectionId;

    use super::*;

    fn recipient(terminator: TerminatorId, number: u64) -> Recipient {
        Recipient {
            connection: ConnectionId { terminator, number },
            in_force: true,
            listening: true,
        }
    }

    fn alice() -> IdentityTag {
        IdentityTag::of(&[1; 32])
    }

    #[test]
    fn a_few_are_told_and_some_of_each_terminator() {
        let [large, small] = [(); 2].map(|()| TerminatorId::random());
        let mut all: Vec<_> = (0..10_000).map(|number| recipient(large, number)).collect();
        all.extend([recipient(small, 7), recipient(small, 8)]);
        let told = told_of(&all);
        assert_eq!(told.len(), MOST_TOLD);
        assert_eq!(told.iter().filter(|one| one.connection.terminator == small).count(), 2);
    }

    #[test]
    fn who_cannot_fetch_is_not_told_and_who_does_not_listen_comes_last() {
        let terminator = TerminatorId::random();
        let expired = Recipient {
            in_force: false,
            ..recipient(terminator, 1)
        };
        let deaf = Recipient {
            listening: false,
            ..recipient(terminator, 2)
        };
        let well = recipient(terminator, 3);
        assert_eq!(told_of(&[expired, deaf, well]), [well, deaf]);
    }

    #[test]
    fn however_many_leave_one_looks_and_looks_once_more() {
        let leavings = Leavings::default();
        assert!(leavings.begin(alice()));
        assert!(!leavings.begin(alice()) && !leavings.begin(alice()));
        assert!(leavings.goes_on(alice()));
        assert!(!leavings.goes_on(alice()));
        assert!(leavings.begin(alice()));
    }

    #[tokio::test]
    async fn what_was_told_of_is_known_for_a_while_unless_it_was_fetched() {
        let (told, now) = (Told::default(), Instant::now());
        told.remember(alice(), "k", now);
        assert!(told.knows(alice(), "k", now) && !told.knows(alice(), "other", now));
        assert!(!told.knows(alice(), "k", now + BELIEVED));
        told.forget(alice());
        assert!(!told.knows(alice(), "k", now));
    }
}
