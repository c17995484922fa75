//! The keys of what was lately accepted for a socket, so that what the queue brings twice is written once.
//!
//! Only hashes are kept, with a secret of the process: two keys that are not the same meet by chance once in 2^64, and
//! no one can choose them so that they do.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};

/// How many keys are remembered: 8 KiB of them, grown only as they come. It is twice what may wait for one socket.
const CAPACITY: usize = 1_024;
/// How many are compared together.
const CHUNK: usize = 64;

/// A key's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

/// Makes hashes of keys.
#[derive(Default)]
pub(crate) struct Keys(RandomState);

impl Keys {
    /// The hash of the key that a worker gave.
    pub(crate) fn of(&self, key: &str) -> Key {
        let mut hasher = self.0.build_hasher();
        hasher.write(key.as_bytes());
        Key(hasher.finish())
    }

    /// The hash of an answer's key: `<message_id>.<index>`, by which it is known if it comes again out of a hold.
    pub(crate) fn of_answer(&self, message_id: &str, index: u32) -> Key {
        let mut key = String::with_capacity(message_id.len() + 11);
        key.push_str(message_id);
        key.push('.');
        if index == 0 {
            key.push('0');
        } else {
            key.push_str(&index.to_string());
        }
        self.of(&key)
    }
}

/// The last keys of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    keys: VecDeque<Key>,
}

impl Recent {
    /// All of a chunk are compared before it is asked whether one was it: so the processor compares several at a time.
    pub(crate) fn contains(&self, key: Key) -> bool {
        let (older, newer) = self.keys.as_slices();
        let mut chunks = newer.chunks(CHUNK).chain(older.chunks(CHUNK));
        chunks.any(|chunk| chunk.iter().fold(false, |found, other| found | (*other == key)))
    }

    pub(crate) fn remember(&mut self, key: Key) {
        if self.keys.len() >= CAPACITY {
            self.keys.pop_front();
        }
        self.keys.push_back(key);
    }

    /// It was not written after all, and will come again. It is most likely among the last.
    pub(crate) fn forget(&mut self, key: Key) {
        if let Some(place) = self.keys.iter().rposition(|other| *other == key) {
            self.keys.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_until_so_many_others_have_come() {
        let keys = Keys::default();
        let mut recent = Recent::default();
        recent.remember(keys.of("first"));
        for number in 1..CAPACITY {
            recent.remember(keys.of(&number.to_string()));
        }
        assert!(recent.contains(keys.of("first")));
        recent.remember(keys.of("one more"));
        assert!(!recent.contains(keys.of("first")));
        assert_eq!(recent.keys.len(), CAPACITY);
    }

    #[test]
    fn what_was_given_back_may_come_again() {
        let keys = Keys::default();
        let mut recent = Recent::default();
        recent.remember(keys.of("a"));
        recent.remember(keys.of("b"));
        recent.forget(keys.of("a"));
        assert!(!recent.contains(keys.of("a")) && recent.contains(keys.of("b")));
    }

    #[test]
    fn an_answer_has_the_key_under_which_it_would_be_released() {
        let keys = Keys::default();
        assert_eq!(keys.of_answer("t.1.7", 0), keys.of("t.1.7.0"));
        assert_eq!(keys.of_answer("t.1.7", 12), keys.of("t.1.7.12"));
    }
}
