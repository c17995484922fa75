//! By which key something was proved, and when.
//!
//! A key that is removed verifies nothing more, and what it has proved before is not to outlive it: the one who has stolen it has
//! had tokens of its own. So each grant says which key proved it, and when. The moment tells what a key proved before it was
//! removed from what it proves when it has come back.

use serde::{Deserialize, Serialize};

use super::tag::KeyTag;
use crate::service::clock::Timestamp;

/// How a grant was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The key that the token was signed with.
    #[serde(rename = "k")]
    pub key: KeyTag,
    /// By the clock of the worker that verified it.
    #[serde(rename = "m")]
    pub at: Timestamp,
}

/// The same, and until when there is something to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven {
    /// How it was proved.
    pub proof: Proof,
    /// When it ends by itself, if it does.
    pub until: Option<Timestamp>,
}

impl Proven {
    /// Whether `key`, which was removed at `removed` and ends what it has proved at `effective`, has proved this. What has
    /// ended by itself by then is not meant: it waits for a fresh token already.
    pub fn is_by(&self, key: KeyTag, removed: Timestamp, effective: Timestamp) -> bool {
        let is_live = self.until.is_none_or(|until| effective < until);
        self.proof.key == key && self.proof.at < removed && is_live
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOVED: Timestamp = Timestamp::from_secs(100);
    const EFFECTIVE: Timestamp = Timestamp::from_secs(130);

    fn proven(at_s: u64, until_s: Option<u64>) -> Proven {
        let (key, at) = (KeyTag::of(&[1; 32]), Timestamp::from_secs(at_s));
        Proven {
            proof: Proof { key, at },
            until: until_s.map(Timestamp::from_secs),
        }
    }

    #[test]
    fn a_removed_key_means_what_it_has_proved_and_what_it_proves_when_it_is_back_is_not_meant() {
        let is_meant = |proven: Proven, key: u8| proven.is_by(KeyTag::of(&[key; 32]), REMOVED, EFFECTIVE);
        assert!(is_meant(proven(99, Some(1_000)), 1));
        assert!(!is_meant(proven(99, Some(1_000)), 2), "by another key");
        assert!(!is_meant(proven(100, Some(1_000)), 1), "it has come back");
        assert!(!is_meant(proven(99, Some(130)), 1), "it ends by itself");
        assert!(is_meant(proven(99, None), 1), "it never ends by itself");
    }
}
