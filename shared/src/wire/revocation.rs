//! What has been revoked before its time.
//!
//! Workers and terminators are told of each revocation by a broadcast, and each
//! keeps a set of those in force. What a revocation concerns is decided by the
//! same pure function on both sides.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::ConnectionId;
use super::proof::Proven;
use super::tag::{IdentityTag, KeyTag, SessionTag, TokenIdTag};
use crate::service::clock::Timestamp;

/// The most revocations that a process keeps, at about 150 bytes each. Workers refuse those that are too many long before,
/// so that none is dropped that was said to be in force.
pub const CAPACITY: usize = 4_000_000;

/// How many travel in one message at most: some 40 KB.
pub const MOST_AT_A_TIME: usize = 256;

/// How long the one who was without the broker relies on its queue to have kept what was broadcast meanwhile: a queue outlives
/// its consumer for 180 s, and no one takes chances.
pub const TRUSTED_WITHOUT_BROKER: Duration = Duration::from_secs(150);

/// The fewest that are looked through for those that are over.
const SMALLEST_SWEEP: usize = 1_024;

/// What is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The tokens of a subject of an issuer.
    Identity(IdentityTag),
    /// One token, by its `jti`.
    Token(TokenIdTag),
    /// The tokens of one session with an issuer, by their `sid`.
    Session(SessionTag),
    /// The tokens of a subject of an issuer that name no session: any of them may be of one that has ended.
    OutsideSessions(IdentityTag),
    /// One connection; its token stays good for others.
    Connection(ConnectionId),
    /// What a key of an issuer has proved, since it was removed.
    Key(KeyTag),
    /// Every token.
    Everyone,
}

/// One revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// What it revokes.
    pub target: Target,
    /// Tokens issued from this moment on are not meant, nor what a key proved from then on. What the clock of an issuer may be ahead is in it.
    pub issued_before: Timestamp,
    /// From when it is in force: later than it was said, if there is a grace.
    pub effective: Timestamp,
    /// Until when a token that it means could live.
    pub until: Timestamp,
}

/// What is asked about: a token, and the connection that lives by it or brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Whose token it is.
    pub identity: IdentityTag,
    /// Its `jti`.
    pub token_id: Option<TokenIdTag>,
    /// Its `sid`.
    pub session: Option<SessionTag>,
    /// Its `iat`.
    pub issued_at: Option<Timestamp>,
    /// How that was proved, if it was before: a token that is being looked at is proved by keys that are there.
    pub proven: Option<Proven>,
    /// The connection, if it came by one.
    pub connection: Option<ConnectionId>,
}

impl Revocation {
    /// Whether it means that token or connection.
    pub fn means(&self, subject: &Subject) -> bool {
        let targeted = match self.target {
            Target::Identity(identity) => identity == subject.identity,
            Target::OutsideSessions(identity) => identity == subject.identity && subject.session.is_none(),
            // Its name alone says which it is, whatever the clock of its issuer says.
            Target::Token(token) => return Some(token) == subject.token_id,
            // A session that has ended never begins anew.
            Target::Session(session) => return Some(session) == subject.session,
            Target::Connection(connection) => return Some(connection) == subject.connection,
            Target::Key(key) => {
                let is_by = |proven: Proven| proven.is_by(key, self.issued_before, self.effective);
                return subject.proven.is_some_and(is_by);
            }
            Target::Everyone => true,
        };
        // A token that does not say when it was issued may have been issued before.
        targeted && subject.issued_at.is_none_or(|issued_at| issued_at < self.issued_before)
    }

    /// Makes it as strict as both are, where they are about the same target.
    pub fn merge(&mut self, other: &Self) {
        self.issued_before = self.issued_before.max(other.issued_before);
        self.effective = self.effective.min(other.effective);
        self.until = self.until.max(other.until);
    }

    /// Whether it is as strict as the other, in each of its times.
    pub fn covers(&self, other: &Self) -> bool {
        let mut both = *self;
        both.merge(other);
        both == *self
    }
}

/// All revocations that are known. One for each target: the stricter of two.
#[derive(Clone, Debug)]
pub struct Revocations {
    by_target: HashMap<Target, Revocation>,
    /// How many there may be before those that are over are looked for.
    sweep_at: usize,
}

impl Default for Revocations {
    fn default() -> Self {
        Self {
            by_target: HashMap::new(),
            sweep_at: SMALLEST_SWEEP,
        }
    }
}

impl Revocations {
    /// Adds one, or makes the one for its target stricter. Those whose tokens have all expired are forgotten. Tells
    /// whether it is kept: beyond the [`CAPACITY`] it is not.
    pub fn add(&mut self, revocation: Revocation, now: Timestamp) -> bool {
        if let Some(present) = self.by_target.get_mut(&revocation.target) {
            present.merge(&revocation);
            return true;
        }
        self.sweep(now);
        let has_room = self.by_target.len() < CAPACITY || revocation.target == Target::Everyone;
        if has_room {
            self.by_target.insert(revocation.target, revocation);
        }
        has_room
    }

    /// All that are not over.
    pub fn in_force(&self, now: Timestamp) -> impl Iterator<Item = &Revocation> {
        self.by_target.values().filter(move |one| now < one.until)
    }

    /// Whether there is one for that target.
    pub fn knows(&self, target: &Target) -> bool {
        self.by_target.contains_key(target)
    }

    /// The revocation that means `subject`, if there is one: the one that is in force first.
    pub fn of(&self, subject: &Subject, now: Timestamp) -> Option<&Revocation> {
        let targets = [
            Some(Target::Identity(subject.identity)),
            subject.token_id.map(Target::Token),
            // It names a session, or is outside of all.
            Some(match subject.session {
                Some(session) => Target::Session(session),
                None => Target::OutsideSessions(subject.identity),
            }),
            subject.connection.map(Target::Connection),
            subject.proven.map(|proven| Target::Key(proven.proof.key)),
            Some(Target::Everyone),
        ];
        targets
            .into_iter()
            .flatten()
            .filter_map(|target| self.by_target.get(&target))
            .filter(|revocation| now < revocation.until && revocation.means(subject))
            .min_by_key(|revocation| revocation.effective)
    }

    /// Whether `subject` may go on at this moment.
    pub fn forbid(&self, subject: &Subject, now: Timestamp) -> bool {
        self.of(subject, now)
            .is_some_and(|revocation| revocation.effective <= now)
    }

    /// Whether that connection may go on at this moment, who it is.
    pub fn forbid_connection(&self, connection: ConnectionId, now: Timestamp) -> bool {
        let revocation = self.by_target.get(&Target::Connection(connection));
        revocation.is_some_and(|one| one.effective <= now && now < one.until)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_target.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_target.is_empty()
    }

    /// Forgets those that are over whenever the number has doubled, which costs each addition a constant on average.
    fn sweep(&mut self, now: Timestamp) {
        if self.by_target.len() < self.sweep_at {
            return;
        }
        self.by_target.retain(|_, revocation| now < revocation.until);
        self.sweep_at = self.by_target.len().saturating_mul(2).clamp(SMALLEST_SWEEP, CAPACITY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proof::Proof;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn alice(issued_at_s: u64) -> Subject {
        Subject {
            identity: IdentityTag::of(&[1; 32]),
            token_id: Some(TokenIdTag::of(&[2; 32])),
            session: Some(SessionTag::of(&[3; 32])),
            issued_at: Some(Timestamp::from_secs(issued_at_s)),
            proven: None,
            connection: None,
        }
    }

    fn of(target: Target) -> Revocation {
        Revocation {
            target,
            issued_before: NOW,
            effective: NOW,
            until: Timestamp::from_secs(5_000),
        }
    }

    #[test]
    fn who_is_outside_of_sessions_is_meant_with_those_of_one_that_ends() {
        let mut all = Revocations::default();
        all.add(of(Target::OutsideSessions(alice(0).identity)), NOW);
        let without = |issued_at_s| Subject {
            session: None,
            ..alice(issued_at_s)
        };
        assert!(all.forbid(&without(999), NOW));
        assert!(!all.forbid(&without(1_000), NOW), "issued later");
        assert!(!all.forbid(&alice(999), NOW), "of a session that goes on");
        let bob = Subject {
            identity: IdentityTag::of(&[9; 32]),
            ..without(999)
        };
        assert!(!all.forbid(&bob, NOW));
    }

    #[test]
    fn a_revocation_means_what_was_issued_before_it_and_nobody_else() {
        let mut all = Revocations::default();
        all.add(of(Target::Identity(alice(0).identity)), NOW);
        assert!(all.forbid(&alice(999), NOW));
        assert!(!all.forbid(&alice(1_000), NOW));
        let bob = Subject {
            identity: IdentityTag::of(&[3; 32]),
            ..alice(999)
        };
        assert!(!all.forbid(&bob, NOW));
        let undated = Subject {
            issued_at: None,
            ..alice(0)
        };
        assert!(all.forbid(&undated, NOW));
    }

    #[test]
    fn one_token_or_everybody_s_can_be_meant() {
        let mut all = Revocations::default();
        all.add(of(Target::Token(TokenIdTag::of(&[2; 32]))), NOW);
        assert!(all.forbid(&alice(1), NOW));
        assert!(all.forbid(&alice(2_000), NOW), "its issuer's clock is ahead");
        let other = Subject {
            token_id: None,
            ..alice(1)
        };
        assert!(!all.forbid(&other, NOW));
        all.add(of(Target::Everyone), NOW);
        assert!(all.forbid(&other, NOW));
    }

    #[test]
    fn one_session_can_be_meant_and_no_other_of_the_same_subject() {
        let mut all = Revocations::default();
        all.add(of(Target::Session(SessionTag::of(&[3; 32]))), NOW);
        assert!(all.forbid(&alice(1), NOW));
        assert!(all.forbid(&alice(2_000), NOW), "it never begins anew");
        for session in [None, Some(SessionTag::of(&[4; 32]))] {
            assert!(!all.forbid(&Subject { session, ..alice(1) }, NOW));
        }
    }

    #[test]
    fn what_a_removed_key_has_proved_is_meant_and_a_token_that_is_looked_at_is_not() {
        let key = KeyTag::of(&[4; 32]);
        let mut all = Revocations::default();
        all.add(of(Target::Key(key)), NOW);
        let proven = |key, at_s| Subject {
            proven: Some(Proven {
                proof: Proof {
                    key,
                    at: Timestamp::from_secs(at_s),
                },
                until: Some(Timestamp::from_secs(2_000)),
            }),
            ..alice(1)
        };
        assert!(all.forbid(&proven(key, 999), NOW));
        assert!(!all.forbid(&proven(key, 1_000), NOW), "since it is back");
        assert!(!all.forbid(&proven(KeyTag::of(&[5; 32]), 999), NOW));
        assert!(!all.forbid(&alice(1), NOW));
    }

    #[test]
    fn a_grace_lets_go_on_until_it_is_over_and_a_stricter_word_ends_it() {
        let mut all = Revocations::default();
        let target = Target::Identity(alice(0).identity);
        let with_grace = Revocation {
            effective: Timestamp::from_secs(1_010),
            ..of(target)
        };
        all.add(with_grace, NOW);
        assert!(!all.forbid(&alice(1), NOW));
        assert_eq!(all.of(&alice(1), NOW), Some(&with_grace));
        assert!(all.forbid(&alice(1), Timestamp::from_secs(1_010)));
        all.add(of(target), NOW);
        assert!(all.forbid(&alice(1), NOW));
    }

    #[test]
    fn a_revocation_is_kept_until_the_last_token_that_it_means_has_expired() {
        let mut all = Revocations::default();
        all.add(of(Target::Everyone), NOW);
        assert!(all.forbid(&alice(1), Timestamp::from_secs(4_999)));
        assert!(!all.forbid(&alice(1), Timestamp::from_secs(5_000)));
    }

    #[test]
    fn those_that_are_over_give_way_and_no_others_do() {
        let mut all = Revocations::default();
        let numbered = |number: u16, until_s| Revocation {
            until: Timestamp::from_secs(until_s),
            ..of(Target::Token(TokenIdTag::of(&{
                let mut digest = [0; 32];
                digest[..2].copy_from_slice(&number.to_be_bytes());
                digest
            })))
        };
        for number in 0..2_000 {
            assert!(all.add(numbered(number, 2_000 + u64::from(number % 2)), NOW));
        }
        assert_eq!(all.len(), 2_000);
        let later = Timestamp::from_secs(2_000);
        for number in 2_000..2_100 {
            all.add(numbered(number, 5_000), later);
        }
        assert_eq!(all.in_force(later).count(), 1_100);
        assert!(all.len() < 1_200, "those that are over are forgotten: {}", all.len());
    }

    #[test]
    fn one_covers_another_if_it_is_as_strict_in_each_of_its_times() {
        let one = of(Target::Everyone);
        let at = Timestamp::from_secs;
        assert!(one.covers(&one));
        for stricter in [
            Revocation {
                issued_before: at(1_001),
                ..one
            },
            Revocation {
                effective: at(999),
                ..one
            },
            Revocation {
                until: at(5_001),
                ..one
            },
        ] {
            assert!(stricter.covers(&one) && !one.covers(&stricter));
        }
    }
}
