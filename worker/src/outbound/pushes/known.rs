//! Which pushes were taken lately, so that another one under the same `message_id` is told so.
//!
//! A terminator and the hold know a push that comes twice by its id, and drop it. To its producer that is as good as
//! delivered, and so it is if it is the same. If it is another, it is lost, and that is to be told. One worker at a
//! time has the queue of pushes, so that what it remembers is enough; another that takes over knows nothing yet.

use std::time::Duration;

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};
use shared::service::clock::Timestamp;
use shared::wire::tag::IdentityTag;

use super::push::{Addressee, Push};

/// How many are remembered: at about 100 bytes each, 5 MB.
const CAPACITY: usize = 50_000;

/// Of so many identities it is known when they had their last push. Of others two may have been at the same moment.
const MOST_IDENTITIES: usize = 50_000;

type Digest = [u8; 16];

/// The last ones.
pub(crate) struct Known {
    contents: Cache<Digest, Digest>,
    /// When the last of each identity was first given to us.
    last: Cache<IdentityTag, Timestamp>,
}

impl Known {
    pub(crate) fn new() -> Self {
        Self {
            contents: Cache::new(CAPACITY),
            last: Cache::new(MOST_IDENTITIES),
        }
    }

    /// Whether another push of the same name was taken for the same addressee.
    pub(crate) fn has_another(&self, push: &Push, identity: IdentityTag) -> bool {
        let known = self.contents.get(&name(push, identity));
        known.is_some_and(|contents| contents != contents_of(push))
    }

    /// It was taken.
    pub(crate) fn taken(&self, push: &Push, identity: IdentityTag) {
        self.contents.insert(name(push, identity), contents_of(push));
    }

    /// When a push of an identity was first given to us, so that no two of them were at the same moment.
    pub(crate) fn in_turn(&self, identity: IdentityTag, since: Timestamp) -> Timestamp {
        let last = self.last.get(&identity);
        let since = last.map_or(since, |last| since.max(last.saturating_add(Duration::from_millis(1))));
        self.last.insert(identity, since);
        since
    }
}

fn name(push: &Push, identity: IdentityTag) -> Digest {
    let to = match push.to {
        Addressee::Identity(_) => String::new(),
        Addressee::Connection(connection) => connection.to_string(),
    };
    // An id may have anything in it, and stands last.
    short(&format!("{identity} {to} {}", push.key()))
}

fn contents_of(push: &Push) -> Digest {
    short(&push.body)
}

fn short(text: &str) -> Digest {
    let digest: [u8; 32] = Sha256::digest(text).into();
    std::array::from_fn(|index| digest.get(index).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use shared::wire::id::TerminatorId;

    use super::*;

    #[test]
    fn another_under_the_same_name_for_the_same_addressee_is_told_from_the_same_once_more() {
        let (alice, bob) = (IdentityTag::of(&[1; 32]), IdentityTag::of(&[2; 32]));
        let connection = Addressee::Connection(shared::wire::id::ConnectionId {
            terminator: TerminatorId::random(),
            number: 1,
        });
        let push = |to, id: &str, body: &str| Push {
            to,
            id: id.to_owned(),
            body: body.to_owned(),
            producer: None,
            sender: None,
            except: None,
            since: Timestamp::from_secs(1),
            until: None,
        };
        let known = Known::new();
        let first = push(Addressee::Identity(alice), "a", "1");
        assert!(!known.has_another(&first, alice));
        known.taken(&first, alice);
        assert!(!known.has_another(&first, alice));
        assert!(known.has_another(&push(first.to, "a", "2"), alice));
        assert!(!known.has_another(&push(first.to, "b", "2"), alice));
        assert!(!known.has_another(&push(connection, "a", "2"), alice));
        assert!(!known.has_another(&push(Addressee::Identity(bob), "a", "2"), bob));
    }
}
