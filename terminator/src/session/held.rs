//! Which of a connection's messages wait for a fresh token, and when the workers are asked to handle them: pure.
//!
//! The workers hold the messages. What is kept here is their sequences, so that
//! the release is asked for when nothing can still be on its way into the hold:
//! when all that came before the fresh token is settled. And their names: a release
//! says which it has settled and which are held still, and any other is lost.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use shared::wire::envelope::Release;
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::request_id::RequestId;
use tokio::time::Instant;

use super::recent::{Key, Recent};

/// The most sequences that are kept. Workers bound what they hold long before; and as a release means all that is held
/// before the fresh token, one sequence would do.
const MOST_ENTRIES: usize = 16_384;
/// The most other connections whose held messages this one may be about to take over.
const MOST_RESUMED: usize = 16;
/// When to ask again, if a release came to nothing: the store is away, or its clock is behind ours.
const RETRY: Duration = Duration::from_secs(1);

/// A connection's held messages. Few connections have any, so it is one pointer until one has.
#[derive(Debug, Default)]
pub(crate) struct Held(Option<Box<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// By sequence.
    entries: VecDeque<Entry>,
    /// The connections whose held messages this one takes over, and how many those were when last heard of.
    resumed: VecDeque<(ConnectionId, u64)>,
    outstanding: Option<Outstanding>,
    /// The keys of answers that were given back meanwhile, and are held: what they answer is not lost.
    given_back: Recent,
    retry_at: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    sequence: Sequence,
    until: Instant,
    /// Its client's own name for it.
    id: Option<RequestId<'static>>,
    /// Whether it was known to be held when the last release was asked for.
    asked: bool,
}

/// A message that was held, and is not any more, and no one has answered it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) sequence: Sequence,
    /// Its client's own name for it.
    pub(crate) id: Option<RequestId<'static>>,
}

/// A release that is asked for and not yet settled.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    forwarded: Sequence,
    from: Option<ConnectionId>,
    /// Whether more of what it means may be held since.
    more: bool,
}

/// How the connection stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stand {
    pub(crate) now: Instant,
    pub(crate) live: bool,
    pub(crate) by: Option<Sequence>,
    /// The first of its messages that is not settled.
    pub(crate) oldest_open: Option<Sequence>,
}

/// A release that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) from: Option<ConnectionId>,
}

impl Held {
    /// A message is held, until then. `id` is its client's own name for it.
    pub(crate) fn hold(&mut self, sequence: Sequence, id: Option<RequestId<'static>>, until: Instant) {
        let entries = &mut self.0.get_or_insert_default().entries;
        let place = entries.partition_point(|entry| entry.sequence < sequence);
        let entry = Entry {
            sequence,
            until,
            id,
            asked: false,
        };
        entries.insert(place, entry);
        if entries.len() > MOST_ENTRIES {
            entries.pop_back();
        }
    }

    /// What that connection has left held may be this one's.
    pub(crate) fn resume(&mut self, from: ConnectionId) {
        let inner = self.0.get_or_insert_default();
        if let Some(outstanding) = inner.outstanding.as_mut().filter(|one| one.from == Some(from)) {
            // The release may have looked before it was there.
            outstanding.more = true;
        }
        let known = inner.resumed.iter().any(|(other, _)| *other == from);
        if !known && inner.resumed.len() < MOST_RESUMED {
            inner.resumed.push_back((from, u64::MAX));
        }
    }

    /// What is known to be held.
    pub(crate) fn sequences(&self) -> Vec<Sequence> {
        let entries = self.0.iter().flat_map(|inner| &inner.entries);
        entries.map(|entry| entry.sequence).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.entries.len())
    }

    /// Whether it takes over from another connection, of which more may be held.
    pub(crate) fn takes_over(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| !inner.resumed.is_empty())
    }

    /// An answer was given back, which may be that of a message that is known to be held.
    pub(crate) fn gave_back(&mut self, key: Key) {
        if let Some(inner) = self.0.as_mut() {
            inner.given_back.remember(key);
        }
    }

    /// The keys of such answers.
    pub(crate) fn given_back(&self) -> Recent {
        self.0
            .as_ref()
            .map(|inner| inner.given_back.clone())
            .unwrap_or_default()
    }

    /// When the first is given up.
    pub(crate) fn oldest_until(&self) -> Option<Instant> {
        let inner = self.0.as_ref()?;
        inner.entries.iter().map(|entry| entry.until).min()
    }

    /// When something is to be done next, if nothing else happens.
    pub(crate) fn next_moment(&self, now: Instant) -> Option<Instant> {
        let inner = self.0.as_ref()?;
        if inner.outstanding.is_some() {
            return None;
        }
        inner
            .retry_at
            .filter(|retry_at| *retry_at > now)
            .or_else(|| self.oldest_until())
    }

    /// Whether the time has come to try again, once.
    pub(crate) fn tries_again(&mut self, now: Instant) -> bool {
        let retry_at = self
            .0
            .as_mut()
            .and_then(|inner| inner.retry_at.take_if(|at| *at <= now));
        retry_at.is_some()
    }

    /// Whether what is held comes before what the client sends now: it is to be released, or is about to be.
    pub(crate) fn comes_first(&self, stand: Stand) -> bool {
        let Some(inner) = self.0.as_ref() else { return false };
        let waits = |by: &Sequence| {
            let settled = stand.oldest_open.is_none_or(|open| open >= *by);
            settled && inner.entries.front().is_some_and(|entry| entry.sequence < *by)
        };
        stand.live && (stand.by.as_ref().is_some_and(waits) || !inner.resumed.is_empty())
    }

    /// The release that is to be asked for now, if one is.
    pub(crate) fn due(&self, stand: Stand) -> Option<Due> {
        let inner = self.0.as_ref()?;
        let waits = inner.retry_at.is_some_and(|retry_at| stand.now < retry_at);
        if inner.outstanding.is_some() || waits {
            return None;
        }
        let settled_before = |by: &Sequence| stand.oldest_open.is_none_or(|open| open >= *by);
        let by = stand.by.filter(|by| stand.live && settled_before(by));
        let released = by.is_some_and(|by| inner.entries.front().is_some_and(|entry| entry.sequence < by));
        let expired = inner.entries.iter().any(|entry| entry.until <= stand.now);
        if released || expired {
            return Some(Due { from: None });
        }
        let (from, _) = inner.resumed.front().filter(|_| stand.live)?;
        Some(Due { from: Some(*from) })
    }

    /// A release is asked for, as the request of that sequence.
    pub(crate) fn ask(&mut self, due: Due, forwarded: Sequence) {
        let inner = self.0.get_or_insert_default();
        inner.retry_at = None;
        inner.entries.iter_mut().for_each(|entry| entry.asked = true);
        inner.outstanding = Some(Outstanding {
            forwarded,
            from: due.from,
            more: false,
        });
    }

    /// Whether the request of that sequence is the release that is asked for.
    pub(crate) fn is_release(&self, forwarded: Sequence) -> bool {
        let outstanding = self.0.as_ref().and_then(|inner| inner.outstanding.as_ref());
        outstanding.is_some_and(|outstanding| outstanding.forwarded == forwarded)
    }

    /// The release is settled: so many are still held, and that is what became of each, if it came to an end. Tells what
    /// was lost.
    pub(crate) fn settle(&mut self, left: u64, release: Option<&Release>, now: Instant) -> Vec<Lost> {
        let Some(inner) = self.0.as_deref_mut() else {
            return Vec::new();
        };
        let Some(outstanding) = inner.outstanding.take() else {
            return Vec::new();
        };
        let mut lost = Vec::new();
        let progress = match (outstanding.from, release) {
            (Some(from), _) if outstanding.more => inner.has_more(from),
            (Some(from), _) => inner.took_over(from, left),
            (None, Some(release)) => inner.released(release, &mut lost),
            (None, None) => false,
        };
        inner.retry_at = (!progress).then(|| now + RETRY);
        self.tidy();
        lost
    }

    /// The release could not be asked for.
    pub(crate) fn refused(&mut self, now: Instant) {
        if let Some(inner) = self.0.as_deref_mut()
            && inner.outstanding.take().is_some()
        {
            inner.retry_at = Some(now + RETRY);
        }
    }

    /// The connection is someone else's from now on. What was held is refused by the one who logged it out, but for what is
    /// lost. Tells all of it.
    pub(crate) fn clear(&mut self) -> Vec<Lost> {
        let Some(inner) = self.0.as_deref_mut() else {
            return Vec::new();
        };
        let all = inner.entries.drain(..).map(Lost::from).collect();
        inner.resumed.clear();
        self.tidy();
        all
    }

    fn tidy(&mut self) {
        let idle = |inner: &Inner| inner.entries.is_empty() && inner.resumed.is_empty() && inner.outstanding.is_none();
        if self.0.as_deref().is_some_and(idle) {
            self.0 = None;
        }
    }
}

impl From<Entry> for Lost {
    fn from(entry: Entry) -> Self {
        Self {
            sequence: entry.sequence,
            id: entry.id,
        }
    }
}

impl Inner {
    /// Removes what the release says it has settled, and what it does not know of although it was held before that was
    /// asked for: that is lost. Tells whether it came to anything.
    fn released(&mut self, release: &Release, lost: &mut Vec<Lost>) -> bool {
        let before = self.entries.len();
        let settled: HashSet<_> = release.settled.iter().collect();
        let held: HashSet<_> = release.held.iter().collect();
        for entry in std::mem::take(&mut self.entries) {
            if settled.contains(&entry.sequence) {
                continue;
            }
            if entry.asked && !held.contains(&entry.sequence) {
                lost.push(entry.into());
            } else {
                self.entries.push_back(entry);
            }
        }
        self.entries.len() < before
    }

    /// Whatever is left of that connection, it is asked for at once.
    fn has_more(&mut self, from: ConnectionId) -> bool {
        let known = self.resumed.iter_mut().find(|(other, _)| *other == from);
        known.map(|(_, known)| *known = u64::MAX).is_some()
    }

    /// So many of that connection are left. Tells whether the release came to anything.
    fn took_over(&mut self, from: ConnectionId, left: u64) -> bool {
        let known = self.resumed.iter_mut().find(|(other, _)| *other == from);
        let progress = known.is_some_and(|(_, known)| left < std::mem::replace(known, left));
        if left == 0 {
            self.resumed.retain(|(other, _)| *other != from);
        } else if !progress && self.resumed.len() > 1 {
            self.resumed.rotate_left(1);
        }
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::wire::id::TerminatorId;

    const HOLD: Duration = Duration::from_secs(300);

    fn sequence(number: u64) -> Sequence {
        Sequence::new(number)
    }

    fn connection(number: u64) -> ConnectionId {
        ConnectionId {
            terminator: "0000000000000001".parse::<TerminatorId>().unwrap(),
            number,
        }
    }

    fn live(now: Instant, by: u64) -> Stand {
        Stand {
            now,
            live: true,
            by: Some(sequence(by)),
            oldest_open: None,
        }
    }

    fn release(settled: impl IntoIterator<Item = u64>, held: impl IntoIterator<Item = u64>) -> Release {
        Release {
            settled: settled.into_iter().map(Sequence::new).collect(),
            held: held.into_iter().map(Sequence::new).collect(),
        }
    }

    fn holding(now: Instant, sequences: impl IntoIterator<Item = u64>) -> Held {
        let mut held = Held::default();
        for number in sequences {
            held.hold(sequence(number), Some(RequestId::text(number.to_string())), now + HOLD);
        }
        held
    }

    #[test]
    fn what_is_held_is_released_by_a_newer_proof_only() {
        let now = Instant::now();
        let held = holding(now, [5]);
        assert_eq!(held.due(live(now, 4)), None);
        assert_eq!(held.due(live(now, 6)), Some(Due { from: None }));
        let expired = Stand {
            live: false,
            ..live(now, 6)
        };
        assert_eq!(held.due(expired), None);
    }

    #[test]
    fn a_release_waits_until_nothing_can_still_be_on_its_way_into_the_hold() {
        let now = Instant::now();
        let held = holding(now, [3]);
        let open = |number| Stand {
            oldest_open: Some(sequence(number)),
            ..live(now, 6)
        };
        assert_eq!(held.due(open(5)), None);
        assert_eq!(held.due(open(7)), Some(Due { from: None }));
    }

    #[test]
    fn there_is_one_release_at_a_time_and_what_is_newer_than_the_proof_stays() {
        let now = Instant::now();
        let mut held = holding(now, [3, 4, 9]);
        held.ask(Due { from: None }, sequence(10));
        assert_eq!(held.due(live(now, 6)), None);
        assert!(held.is_release(sequence(10)) && !held.is_release(sequence(9)));
        held.hold(sequence(11), None, now + HOLD);
        assert_eq!(held.settle(0, Some(&release([3, 4], [9])), now), []);
        assert_eq!(held.len(), 2, "what has been held since may not have been there yet");
        assert_eq!(held.due(live(now, 6)), None);
        assert_eq!(held.due(live(now, 12)), Some(Due { from: None }), "at once");
    }

    #[test]
    fn what_a_release_has_left_is_released_by_the_next_at_once_if_there_was_any_progress() {
        let now = Instant::now();
        let mut held = holding(now, 1..=40);
        held.ask(Due { from: None }, sequence(51));
        held.settle(8, Some(&release(1..=32, 33..=40)), now);
        assert_eq!(held.len(), 8);
        assert_eq!(held.due(live(now, 50)), Some(Due { from: None }));
        held.ask(Due { from: None }, sequence(52));
        held.settle(8, Some(&release(1..=32, 33..=40)), now);
        assert_eq!(held.due(live(now, 50)), None);
        assert_eq!(held.next_moment(now), Some(now + RETRY));
        assert_eq!(held.due(live(now + RETRY, 50)), Some(Due { from: None }));
    }

    #[test]
    fn what_has_waited_too_long_is_given_up_without_any_proof() {
        let now = Instant::now();
        let mut held = holding(now, [1]);
        held.hold(sequence(2), None, now + HOLD * 2);
        assert_eq!(held.next_moment(now), Some(now + HOLD));
        let nobody = |now| Stand {
            now,
            live: false,
            by: None,
            oldest_open: None,
        };
        assert_eq!(held.due(nobody(now)), None);
        let late = nobody(now + HOLD);
        assert_eq!(held.due(late), Some(Due { from: None }));
        held.ask(Due { from: None }, sequence(3));
        held.settle(1, Some(&release([1], [2])), late.now);
        assert_eq!(held.oldest_until(), Some(now + HOLD * 2));
    }

    #[test]
    fn what_another_connection_left_is_asked_for_until_nothing_is_left() {
        let now = Instant::now();
        let mut held = Held::default();
        held.resume(connection(7));
        held.resume(connection(7));
        let due = Due {
            from: Some(connection(7)),
        };
        assert_eq!(held.due(live(now, 1)), Some(due));
        held.ask(due, sequence(2));
        held.settle(3, Some(&Release::default()), now);
        assert_eq!(held.due(live(now, 1)), Some(due));
        held.ask(due, sequence(3));
        held.settle(3, Some(&Release::default()), now);
        assert_eq!(held.due(live(now, 1)), None, "it came to nothing");
        assert_eq!(held.due(live(now + RETRY, 1)), Some(due));
        held.ask(due, sequence(4));
        held.settle(0, Some(&Release::default()), now);
        assert_eq!(held.due(live(now, 1)), None);
        assert!(held.0.is_none());
    }

    #[test]
    fn what_is_held_while_a_release_is_open_is_asked_for_behind_it() {
        let now = Instant::now();
        let mut held = Held::default();
        let due = Due {
            from: Some(connection(7)),
        };
        held.resume(connection(7));
        held.ask(due, sequence(2));
        held.resume(connection(7));
        held.settle(0, Some(&Release::default()), now);
        assert_eq!(
            held.due(live(now, 1)),
            Some(due),
            "the release may have looked too early"
        );
        held.ask(due, sequence(3));
        held.settle(0, Some(&Release::default()), now);
        assert!(held.0.is_none());
    }

    #[test]
    fn a_release_that_could_not_be_asked_for_is_asked_for_again() {
        let now = Instant::now();
        let mut held = holding(now, [1]);
        held.ask(Due { from: None }, sequence(3));
        held.refused(now);
        assert_eq!(held.due(live(now, 2)), None);
        assert_eq!(held.due(live(now + RETRY, 2)), Some(Due { from: None }));
    }

    #[test]
    fn what_a_release_does_not_know_of_is_lost_and_told_by_its_name() {
        let now = Instant::now();
        let mut held = holding(now, [1, 2, 3, 9]);
        held.ask(Due { from: None }, sequence(10));
        held.hold(sequence(11), None, now + HOLD);
        let lost = held.settle(0, Some(&release([2], [3])), now);
        let lost: Vec<_> = lost
            .iter()
            .map(|one| (one.sequence.get(), one.id.as_ref().map(RequestId::as_str)))
            .collect();
        assert_eq!(lost, [(1, Some("1")), (9, Some("9"))]);
        assert_eq!(held.len(), 2);
        // One that came to nothing says nothing of what is lost.
        held.ask(Due { from: None }, sequence(12));
        assert_eq!(held.settle(u64::from(u32::MAX), None, now), []);
        assert_eq!(held.len(), 2);
    }

    proptest! {
        /// Whatever is held meanwhile, nothing stays that could be released.
        #[test]
        fn nothing_is_stuck(
            first in proptest::collection::btree_set(1_u64..50, 0..40),
            batches in proptest::collection::vec(proptest::collection::btree_set(100_u64..200, 0..3), 1..10),
        ) {
            let mut now = Instant::now();
            let mut truth: std::collections::BTreeSet<u64> = first.clone();
            let mut held = holding(now, first);
            let mut forwarded = 1_000;
            let mut done = std::collections::BTreeSet::new();
            for more in batches {
                let Some(due) = held.due(live(now, 60)) else { now += RETRY; continue };
                forwarded += 1;
                held.ask(due, sequence(forwarded));
                let released: Vec<_> = truth.iter().copied().filter(|number| *number < 60).take(7).collect();
                truth.retain(|number| !released.contains(number));
                done.extend(released);
                let came_to = release(done.iter().copied(), truth.iter().copied());
                for number in more {
                    if truth.insert(number) { held.hold(sequence(number), Some(RequestId::text(number.to_string())), now + HOLD); }
                }
                prop_assert_eq!(held.settle(0, Some(&came_to), now), []);
                now += RETRY;
            }
            for _ in 0..100 {
                let Some(due) = held.due(live(now, 60)) else { break };
                forwarded += 1;
                held.ask(due, sequence(forwarded));
                let released: Vec<_> = truth.iter().copied().filter(|number| *number < 60).take(7).collect();
                truth.retain(|number| !released.contains(number));
                done.extend(released);
                let came_to = release(done.iter().copied(), truth.iter().copied());
                prop_assert_eq!(held.settle(0, Some(&came_to), now), []);
                now += RETRY;
            }
            prop_assert!(held.due(live(now, 60)).is_none());
            prop_assert!(truth.iter().all(|number| *number >= 60));
            prop_assert_eq!(held.len(), truth.len());
        }
    }
}
