//! Which connections are whose, so that a revocation looks at those alone that it means, however many others there are.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::wire::tag::{IdentityTag, SessionTag, TokenIdTag};

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) identity: IdentityTag,
    pub(crate) token_id: Option<TokenIdTag>,
    pub(crate) session: Option<SessionTag>,
}

/// The connections of each identity, of each token and of each session, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Index(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    by_identity: BTreeSet<(IdentityTag, u64)>,
    by_token: BTreeSet<(TokenIdTag, u64)>,
    by_session: BTreeSet<(SessionTag, u64)>,
}

impl Index {
    /// A connection is someone else's than before.
    pub(crate) fn moved(&self, connection: u64, before: Option<Owner>, after: Option<Owner>) {
        if before == after {
            return;
        }
        let mut entries = self.lock();
        if let Some(owner) = before {
            entries.by_identity.remove(&(owner.identity, connection));
            owner
                .token_id
                .map(|token| entries.by_token.remove(&(token, connection)));
            owner
                .session
                .map(|session| entries.by_session.remove(&(session, connection)));
        }
        if let Some(owner) = after {
            entries.by_identity.insert((owner.identity, connection));
            owner.token_id.map(|token| entries.by_token.insert((token, connection)));
            owner
                .session
                .map(|session| entries.by_session.insert((session, connection)));
        }
    }

    /// The connections of an identity, in the order in which they were opened.
    pub(crate) fn of_identity(&self, identity: IdentityTag) -> Vec<u64> {
        numbers(&self.lock().by_identity, identity)
    }

    /// Those that live by a token.
    pub(crate) fn of_token(&self, token: TokenIdTag) -> Vec<u64> {
        numbers(&self.lock().by_token, token)
    }

    /// Those of a session.
    pub(crate) fn of_session(&self, session: SessionTag) -> Vec<u64> {
        numbers(&self.lock().by_session, session)
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing under this lock panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn numbers<T: Copy + Ord>(entries: &BTreeSet<(T, u64)>, of: T) -> Vec<u64> {
    entries
        .range((of, 0)..=(of, u64::MAX))
        .map(|(_, number)| *number)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(identity: u8, token: u8) -> Owner {
        Owner {
            identity: IdentityTag::of(&[identity; 32]),
            token_id: Some(TokenIdTag::of(&[token; 32])),
            session: Some(SessionTag::of(&[token; 32])),
        }
    }

    #[test]
    fn connections_are_found_by_whose_they_are_until_they_are_somebody_elses() {
        let index = Index::default();
        let (alice, renewed, bob) = (owner(1, 1), owner(1, 2), owner(2, 3));
        for number in [3, 1] {
            index.moved(number, None, Some(alice));
        }
        index.moved(2, None, Some(bob));
        assert_eq!(index.of_identity(alice.identity), [1, 3]);
        index.moved(3, Some(alice), Some(renewed));
        assert_eq!(index.of_identity(alice.identity), [1, 3]);
        assert_eq!(index.of_token(alice.token_id.unwrap()), [1]);
        assert_eq!(index.of_token(renewed.token_id.unwrap()), [3]);
        assert_eq!(index.of_session(alice.session.unwrap()), [1]);
        assert_eq!(index.of_session(renewed.session.unwrap()), [3]);
        index.moved(1, Some(alice), None);
        index.moved(3, Some(renewed), None);
        index.moved(2, Some(bob), None);
        let entries = index.lock();
        assert!(entries.by_identity.is_empty() && entries.by_token.is_empty());
    }
}
