//! Who may ask the application next, and who waits: a core that is pure, and what wakes those who wait.
//!
//! A handler that hangs keeps its place until `handler-timeout`. So that it keeps no one else's:
//!
//! - A place is taken only to ask the application. To prove who sent a message, to authenticate and to record takes none.
//! - Messages of one `type` have at most their share of the places that other types leave, and those of one identity
//!   theirs of what other identities leave. So something is always left for yet another.
//! - Anyone who waits does so in the line of their identity, and the lines take turns. In a line, who cannot go because of
//!   their type keeps no one behind them.
//! - What waits is bounded, or it would use up `prefetch`, and nothing else would come in any more. When there is too much
//!   and it does not move, the newest of the longest line is told so. While it moves, no one is: then the
//!   queue gets longer instead, as it should.
//!
//! What was injected is at most half, and waits as long as it takes: it comes by a `prefetch` of its own.
//!
//! What waits here may be handled by a worker that has nothing to do (`sharing`): then it stands in line no more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use shared::wire::tag::IdentityTag;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

/// How long the first of a line waits before that line counts as one that does not move.
const PATIENCE: Duration = Duration::from_secs(1);

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    /// How many places there are.
    pub(crate) places: usize,
    /// How much messages of one type have of the places that others leave.
    pub(crate) type_percent: usize,
    /// The same for messages of one identity.
    pub(crate) identity_percent: usize,
    /// How many may wait before someone is refused.
    pub(crate) waiting: usize,
}

/// Who wants a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimant {
    pub(crate) kind: Arc<str>,
    pub(crate) identity: IdentityTag,
    pub(crate) injected: bool,
    /// Another worker may have it instead.
    pub(crate) may_move: bool,
}

struct Waiter<T> {
    number: u64,
    claimant: Claimant,
    since: Instant,
    /// By what it is told.
    waker: T,
}

/// Who has a place and who waits: pure.
struct Core<T> {
    shares: Shares,
    running: usize,
    injected: usize,
    by_type: HashMap<Arc<str>, usize>,
    by_identity: HashMap<IdentityTag, usize>,
    /// Those who wait, by identity.
    lines: HashMap<IdentityTag, VecDeque<Waiter<T>>>,
    /// The identities that have a line, in the order of their turns.
    turns: VecDeque<IdentityTag>,
    /// How many wait that may be refused.
    waiting: usize,
    numbers: u64,
}

impl<T> Core<T> {
    fn new(shares: Shares) -> Self {
        Self {
            shares,
            running: 0,
            injected: 0,
            by_type: HashMap::new(),
            by_identity: HashMap::new(),
            lines: HashMap::new(),
            turns: VecDeque::new(),
            waiting: 0,
            numbers: 0,
        }
    }

    /// Takes a place at once, if no one waits and there is one. Tells whether it has.
    fn take_at_once(&mut self, claimant: &Claimant) -> bool {
        let goes = self.lines.is_empty() && self.running < self.shares.places && self.has_place(claimant);
        if goes {
            self.occupy(claimant);
        }
        goes
    }

    fn occupy(&mut self, claimant: &Claimant) {
        self.running += 1;
        self.injected += usize::from(claimant.injected);
        *self.by_type.entry(claimant.kind.clone()).or_default() += 1;
        *self.by_identity.entry(claimant.identity).or_default() += 1;
    }

    /// Stands in line. Tells by which number it leaves again.
    fn join(&mut self, claimant: Claimant, waker: T, now: Instant) -> u64 {
        self.numbers += 1;
        self.waiting += usize::from(!claimant.injected);
        let identity = claimant.identity;
        let line = self.lines.entry(identity).or_default();
        if line.is_empty() {
            self.turns.push_back(identity);
        }
        line.push_back(Waiter {
            number: self.numbers,
            claimant,
            since: now,
            waker,
        });
        self.numbers
    }

    /// Anyone who is next, if there is a place for them. They have it.
    fn next(&mut self) -> Option<(T, Claimant, Instant)> {
        if self.running >= self.shares.places {
            return None;
        }
        let (turn, place) = self.turns.iter().enumerate().find_map(|(turn, identity)| {
            let line = self.lines.get(identity)?;
            let place = line.iter().position(|waiter| self.has_place(&waiter.claimant))?;
            Some((turn, place))
        })?;
        // Who has had their turn is last.
        let identity = self.turns.remove(turn)?;
        self.turns.push_back(identity);
        let waiter = self.take(identity, place)?;
        self.occupy(&waiter.claimant);
        Some((waiter.waker, waiter.claimant, waiter.since))
    }

    fn has_place(&self, claimant: &Claimant) -> bool {
        let of_type = self.by_type.get(&claimant.kind).copied().unwrap_or_default();
        let of_identity = self.by_identity.get(&claimant.identity).copied().unwrap_or_default();
        let within = |running: usize, percent: usize| {
            let left = self.shares.places.saturating_sub(self.running - running);
            running < left.saturating_mul(percent).div_ceil(100)
        };
        within(of_type, self.shares.type_percent)
            && within(of_identity, self.shares.identity_percent)
            && (!claimant.injected || self.injected < self.shares.places.div_ceil(2))
    }

    /// Anyone who is to be told that there is no place: no one, unless too much waits and does not move.
    fn shed(&mut self, now: Instant) -> Option<T> {
        // The first of a line has waited longest: while everything moves, that is all that is looked at.
        let is_old = |waiter: &Waiter<T>| waiter.since + PATIENCE <= now;
        if self.waiting <= self.shares.waiting || !self.lines.values().filter_map(VecDeque::front).any(is_old) {
            return None;
        }
        let kind = self.longest(|claimant| claimant.kind.clone(), |_| true)?;
        let identity = self.longest(|claimant| claimant.identity, |claimant| claimant.kind == kind)?;
        if !self
            .refusable()
            .any(|waiter| waiter.claimant.kind == kind && is_old(waiter))
        {
            return None;
        }
        let line = self.lines.get(&identity)?;
        let newest = |waiter: &Waiter<T>| waiter.claimant.kind == kind && !waiter.claimant.injected;
        let place = line.iter().rposition(newest)?;
        self.take(identity, place).map(|waiter| waiter.waker)
    }

    /// By what most of those wait that may be refused, and are meant.
    fn longest<K: std::hash::Hash + Eq>(
        &self,
        key: impl Fn(&Claimant) -> K,
        meant: impl Fn(&Claimant) -> bool,
    ) -> Option<K> {
        let mut counts: HashMap<K, (usize, u64)> = HashMap::new();
        for waiter in self.refusable().filter(|waiter| meant(&waiter.claimant)) {
            let (count, newest) = counts.entry(key(&waiter.claimant)).or_default();
            (*count, *newest) = (*count + 1, (*newest).max(waiter.number));
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(key, _)| key)
    }

    fn refusable(&self) -> impl Iterator<Item = &Waiter<T>> {
        self.lines.values().flatten().filter(|waiter| !waiter.claimant.injected)
    }

    /// Whether something waits that another worker may have.
    fn has_surplus(&self) -> bool {
        self.lines.values().flatten().any(|waiter| waiter.claimant.may_move)
    }

    /// Whether no one waits and someone could be handled.
    fn is_idle(&self) -> bool {
        self.lines.is_empty() && self.running < self.shares.places
    }

    /// Half of what another worker may have, but no more than `most`: the newest of the longest line, each time. They wait no
    /// more.
    fn hand_on(&mut self, most: usize) -> Vec<T> {
        let movable = |waiter: &&Waiter<T>| waiter.claimant.may_move;
        let all = self.lines.values().flatten().filter(movable).count();
        let mut handed_on = Vec::new();
        while handed_on.len() < all.div_ceil(2).min(most) {
            let newest = |(identity, line): (&IdentityTag, &VecDeque<Waiter<T>>)| {
                let place = line.iter().rposition(|waiter| waiter.claimant.may_move)?;
                Some((line.len(), line.get(place)?.number, *identity, place))
            };
            let lines = self.lines.iter().filter_map(newest);
            let Some((_, _, identity, place)) = lines.max_by_key(|(length, number, ..)| (*length, *number)) else {
                break;
            };
            handed_on.extend(self.take(identity, place).map(|waiter| waiter.waker));
        }
        handed_on
    }

    /// Waits no more.
    fn leave(&mut self, identity: IdentityTag, number: u64) {
        let line = self.lines.get(&identity);
        if let Some(place) = line.and_then(|line| line.iter().position(|waiter| waiter.number == number)) {
            self.take(identity, place);
        }
    }

    fn take(&mut self, identity: IdentityTag, place: usize) -> Option<Waiter<T>> {
        let line = self.lines.get_mut(&identity)?;
        let waiter = line.remove(place)?;
        self.waiting -= usize::from(!waiter.claimant.injected);
        if line.is_empty() {
            self.lines.remove(&identity);
            self.turns.retain(|other| *other != identity);
        }
        Some(waiter)
    }

    /// Has its place no more.
    fn give_back(&mut self, claimant: &Claimant) {
        self.running -= 1;
        self.injected -= usize::from(claimant.injected);
        lessen(&mut self.by_type, &claimant.kind);
        lessen(&mut self.by_identity, &claimant.identity);
    }
}

fn lessen<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// The places of one worker.
pub(crate) struct Places {
    core: Mutex<Core<oneshot::Sender<Told>>>,
    waiting: Gauge,
    waited: Histogram,
    refused: Counter,
}

/// What anyone who waits is told.
enum Told {
    /// They have it.
    Place(PlacePermit),
    /// Another worker has nothing to do.
    Elsewhere,
}

/// A place. Dropped, it is another's.
pub(crate) struct PlacePermit {
    places: Arc<Places>,
    claimant: Claimant,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// Too much waits already, and does not move.
    Full,
    /// Another worker has nothing to do.
    Elsewhere,
}

/// Stands in line. Dropped, it does not any more.
struct InLine<'a> {
    places: &'a Places,
    identity: IdentityTag,
    number: u64,
}

impl Places {
    pub(crate) fn new(shares: Shares) -> Self {
        Self {
            core: Mutex::new(Core::new(shares)),
            waiting: gauge!("countersign_worker_waiting_for_place"),
            waited: histogram!("countersign_worker_place_wait_seconds"),
            refused: counter!("countersign_worker_places_refused_total"),
        }
    }

    /// Waits for a place, until it is dropped.
    ///
    /// # Errors
    /// If too much waits already, and does not move, or another worker is to have it.
    pub(crate) async fn take(self: &Arc<Self>, claimant: Claimant) -> Result<PlacePermit, NoPlace> {
        // Most often it is as simple as that.
        if self.lock().take_at_once(&claimant) {
            self.waited.record(0.0);
            let places = self.clone();
            return Ok(PlacePermit { places, claimant });
        }
        let (waker, mut place) = oneshot::channel();
        let now = Instant::now();
        let identity = claimant.identity;
        let number = self.lock().join(claimant, waker, now);
        let in_line = InLine {
            places: self,
            identity,
            number,
        };
        self.call();
        let mut look = now + PATIENCE;
        let taken = loop {
            tokio::select! {
                biased;
                told = &mut place => break match told {
                    Ok(Told::Place(place)) => Ok(place),
                    Ok(Told::Elsewhere) => Err(NoPlace::Elsewhere),
                    Err(_) => Err(NoPlace::Full),
                },
                // What does not move makes no noise.
                () = sleep_until(look) => self.call(),
            }
            look += PATIENCE;
        };
        drop(in_line);
        if matches!(taken, Err(NoPlace::Full)) {
            self.refused.increment(1);
        }
        taken
    }

    /// Whether something waits that another worker may have.
    pub(crate) fn has_surplus(&self) -> bool {
        self.lock().has_surplus()
    }

    /// Whether no one waits and someone could be handled.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    /// Has half of what another worker may have wait no more, but no more than `most`.
    pub(crate) fn hand_on(&self, most: usize) {
        let mut core = self.lock();
        let handed_on = core.hand_on(most);
        self.waiting.set(core.waiting as f64);
        drop(core);
        for waker in handed_on {
            // Anyone who waits no more has gone by themselves.
            let _ = waker.send(Told::Elsewhere);
        }
    }

    /// Calls everyone for whom there is a place, and sends everyone away for whom there will be none.
    fn call(self: &Arc<Self>) {
        let now = Instant::now();
        let mut called = Vec::new();
        let mut core = self.lock();
        while let Some((waker, claimant, since)) = core.next() {
            self.waited.record(now.saturating_duration_since(since));
            let places = self.clone();
            called.push((waker, PlacePermit { places, claimant }));
        }
        // Anyone who is not told anything is told just that.
        while core.shed(now).is_some() {}
        self.waiting.set(core.waiting as f64);
        drop(core);
        for (waker, place) in called {
            // A place that no one takes any more is given back by its drop.
            let _ = waker.send(Told::Place(place));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core<oneshot::Sender<Told>>> {
        // Nothing under this lock panics half-way through a change.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PlacePermit {
    fn drop(&mut self) {
        let mut core = self.places.lock();
        core.give_back(&self.claimant);
        let nobody_waits = core.lines.is_empty();
        drop(core);
        if !nobody_waits {
            self.places.call();
        }
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut core = self.places.lock();
        core.leave(self.identity, self.number);
        self.places.waiting.set(core.waiting as f64);
    }
}

#[cfg(test)]
mod tests;
