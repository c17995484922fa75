//! What is to be released, the body of the request; and what came of it, the body of the answer, which is for the
//! terminator alone.
//!
//! A terminator knows what of its connection is held. What is in neither list the
//! store has lost, and no one else will ever answer it. And what a store holds that its
//! terminator does not know of has been answered: the store lost only that it was.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::id::Sequence;

/// The request's body: which messages of its connection the terminator knows to be held.
pub fn to_be_released(known: &[Sequence]) -> Bytes {
    // Nothing in it can fail to be written.
    serde_json::to_vec(known).unwrap_or_default().into()
}

/// Which messages the terminator knows to be held; none if it does not say, so that all are meant.
pub fn known_to_be_held(body: &[u8]) -> Option<Vec<Sequence>> {
    serde_json::from_slice(body).ok()
}

/// The messages of one connection that are, or were, held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Those that were handled or refused, by this release or before; some that no one waits for any more may be among them.
    pub settled: Vec<Sequence>,
    /// Those that are still held.
    pub held: Vec<Sequence>,
}

impl Release {
    /// As it crosses the broker.
    pub fn to_body(&self) -> Bytes {
        // Nothing in it can fail to be written.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// As it came; none if the release did not come to an end, so that nothing is known.
    pub fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_as_it_was_written() {
        let release = Release {
            settled: vec![Sequence::new(1), Sequence::new(u64::MAX)],
            held: vec![Sequence::new(7)],
        };
        assert_eq!(Release::read(&release.to_body()), Some(release));
        assert_eq!(Release::read(b""), None);
        let known = vec![Sequence::new(1), Sequence::new(9)];
        assert_eq!(known_to_be_held(&to_be_released(&known)), Some(known));
        assert_eq!(known_to_be_held(b""), None);
    }
}
