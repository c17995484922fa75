//! The order of what is written to a connection when some of it had to be given back: pure.
//!
//! What was given back comes again out of the workers' hold, later than what was
//! never given back. So from the first thing that is given back the outbound is
//! *detained*: what comes next is given back too, or, once the connection may be
//! written to again, kept behind until the hold has been fetched. Answers to the connection's own requests pass all of
//! that, unless one before them is in it.
//!
//! ```text
//!            given back, or told that something waits          may be written to again: fetch
//!  free ──────────────────────────────────────────▶ detained ─────────────────────────▶ fetching
//!   ▲                                                  ▲  ◀───────────────────────────────┤
//!   │                                                  │   fetched, but expired meanwhile  │
//!   └──────────────────────────────────────────────────┼──────────────────────────────────┤
//!                        all fetched: what was kept behind is written                     │
//!                                                      └── more is held: fetch again ─────┘
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use shared::wire::envelope::Bounced;
use tokio::time::Instant;

use super::guard::Guard;

/// The most that is kept behind, whatever its size: as much as may wait for a socket.
const MOST_BEHIND: usize = 512;
/// When a fetch that was not answered is taken for lost. The answer may have sat too long in the return queue.
pub(crate) const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// The outbound of one connection. Few are ever detained, so it is one pointer until it is.
#[derive(Debug)]
pub(crate) struct Outbound<T> {
    most_bytes: usize,
    detention: Option<Box<Detention<T>>>,
}

#[derive(Debug)]
struct Detention<T> {
    /// How much was given back, or is known to wait.
    waiting: u64,
    /// Since when something was given back.
    since: Option<Instant>,
    /// An answer was given back, or waits behind: those that come after it must not overtake it.
    owes_answer: bool,
    fetching: Option<Fetching<T>>,
}

#[derive(Debug)]
struct Fetching<T> {
    since: Instant,
    /// By which its end is known; 0 until it is asked for.
    name: u64,
    behind: VecDeque<T>,
    bytes: usize,
    /// Something that had been fetched was given back again: it goes before what is kept behind.
    lost_again: bool,
    /// Something that comes after what is kept behind was given back: there was no room for it.
    overflowed: bool,
    /// Something was held meanwhile.
    woken: bool,
}

/// What becomes of something on behalf of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteDecision {
    /// It is written.
    Write,
    /// It is given back.
    Back(Bounced),
    /// It is kept until what is before it has been fetched.
    Behind,
}

/// What follows from the end of a fetch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetched<T> {
    /// To be written, before all that comes after.
    pub(crate) write: VecDeque<T>,
    /// To be given back, in this order.
    pub(crate) back: VecDeque<T>,
    /// Whether to fetch again.
    pub(crate) again: bool,
}

impl<T> Default for Fetched<T> {
    fn default() -> Self {
        Self {
            write: VecDeque::new(),
            back: VecDeque::new(),
            again: false,
        }
    }
}

impl<T> Outbound<T> {
    /// At most so many bytes are kept behind.
    pub(crate) const fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            detention: None,
        }
    }

    /// Whether nothing stands before what comes next.
    pub(crate) const fn is_free(&self) -> bool {
        self.detention.is_none()
    }

    /// How much waits, as far as is known.
    pub(crate) fn waiting(&self) -> u64 {
        self.detention.as_ref().map_or(0, |detention| {
            let behind = detention.fetching.as_ref().map_or(0, |fetching| fetching.behind.len());
            detention.waiting + behind as u64
        })
    }

    /// How much is kept behind.
    pub(crate) fn behind(&self) -> usize {
        let fetching = self
            .detention
            .as_ref()
            .and_then(|detention| detention.fetching.as_ref());
        fetching.map_or(0, |fetching| fetching.behind.len())
    }

    /// How many bytes are kept behind.
    pub(crate) fn behind_bytes(&self) -> usize {
        let fetching = self.detention.as_ref().and_then(|one| one.fetching.as_ref());
        fetching.map_or(0, |fetching| fetching.bytes)
    }

    /// Since when something has been given back.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.detention.as_ref().and_then(|detention| detention.since)
    }

    /// When the fetch that is under way is taken for lost.
    pub(crate) fn fetch_ends(&self) -> Option<Instant> {
        let fetching = self.detention.as_ref()?.fetching.as_ref()?;
        Some(fetching.since + FETCH_TIMEOUT)
    }

    /// Decides on something of so many bytes, of which the guard says `guard`; `ahead` if it comes out of the hold. If it
    /// goes behind, [`keep`](Self::keep) must follow; `room` tells whether all connections together leave some.
    pub(crate) fn route(&mut self, guard: Guard, ahead: bool, bytes: usize, room: bool, now: Instant) -> WriteDecision {
        match guard {
            // What had been fetched behind something that was lost again comes again behind it.
            Guard::Write if ahead && self.has_lost_again() => self.give_back(Bounced::Expired, ahead, now),
            Guard::Write if ahead || self.is_free() => WriteDecision::Write,
            Guard::Stranger => self.give_back(Bounced::Gone, ahead, now),
            Guard::Expired if ahead => self.give_back(Bounced::Expired, ahead, now),
            Guard::Write | Guard::Expired if room && self.has_room_behind(bytes) => WriteDecision::Behind,
            Guard::Write | Guard::Expired => self.give_back(Bounced::Expired, ahead, now),
        }
    }

    /// Whether an answer that may be written is written at once. What waits in the hold for its identity, and may be much,
    /// is no reason for it to wait: only another answer of this connection is.
    pub(crate) fn lets_answers_pass(&self, guard: Guard) -> bool {
        guard == Guard::Write && self.detention.as_ref().is_none_or(|one| !one.owes_answer)
    }

    /// Whether an answer is not written yet, and is to be before all others.
    pub(crate) fn owes_answer(&self) -> bool {
        self.detention.as_ref().is_some_and(|one| one.owes_answer)
    }

    /// An answer was not written but kept or given back.
    pub(crate) fn owe_answer(&mut self) {
        if let Some(detention) = self.detention.as_deref_mut() {
            detention.owes_answer = true;
        }
    }

    /// Something that comes out of the hold cannot be written now, whatever the guard says: it goes back there.
    pub(crate) fn lose(&mut self, guard: Guard, now: Instant) -> Bounced {
        let why = if guard == Guard::Stranger {
            Bounced::Gone
        } else {
            Bounced::Expired
        };
        self.give_back(why, true, now);
        why
    }

    /// Keeps behind what [`route`](Self::route) has sent there.
    pub(crate) fn keep(&mut self, item: T, bytes: usize) {
        if let Some(fetching) = self.fetching() {
            fetching.bytes += bytes;
            fetching.behind.push_back(item);
        }
    }

    /// Whether something like that is kept behind.
    pub(crate) fn keeps(&self, is_meant: impl Fn(&T) -> bool) -> bool {
        let fetching = self.detention.as_ref().and_then(|one| one.fetching.as_ref());
        fetching.is_some_and(|fetching| fetching.behind.iter().any(is_meant))
    }

    /// So much is held that the connection may fetch; no one knows how much if it is nothing.
    pub(crate) fn wake(&mut self, waiting: u64) {
        let detention = self.detain();
        detention.waiting += waiting;
        if let Some(fetching) = &mut detention.fetching {
            fetching.woken = true;
        }
    }

    /// The connection may be written to: whether what is held is to be fetched now. It is, then.
    pub(crate) fn fetch(&mut self, now: Instant) -> bool {
        let Some(detention) = self.detention.as_deref_mut().filter(|one| one.fetching.is_none()) else {
            return false;
        };
        detention.fetching = Some(Fetching::new(now));
        true
    }

    /// The fetch that is under way has this name, by which its end is known.
    pub(crate) fn name_fetch(&mut self, name: u64) -> u64 {
        if let Some(fetching) = self.detention.as_deref_mut().and_then(|one| one.fetching.as_mut()) {
            fetching.name = name;
        }
        name
    }

    /// Whether that is the fetch that is under way, or none is.
    pub(crate) fn is_fetch(&self, name: u64) -> bool {
        let fetching = self.detention.as_ref().and_then(|one| one.fetching.as_ref());
        fetching.is_none_or(|fetching| fetching.name == name)
    }

    /// All that was held has come, but for `left`.
    pub(crate) fn fetched(&mut self, left: u64, may_write: bool, now: Instant) -> Fetched<T> {
        let Some(detention) = self.detention.as_deref_mut() else {
            // The answer to a fetch that was taken for lost; but if it knows of more, so do we now.
            if left > 0 {
                self.wake(left);
            }
            return Fetched::default();
        };
        let Some(fetching) = detention.fetching.take() else {
            return Fetched::default();
        };
        if !may_write {
            return self.end_fetch(fetching, left);
        }
        if left > 0 || fetching.lost_again {
            // What is held goes before what is kept behind.
            detention.waiting = left;
            detention.fetching = Some(Fetching {
                since: now,
                lost_again: false,
                ..fetching
            });
            return Fetched {
                again: true,
                ..Fetched::default()
            };
        }
        let again = fetching.overflowed || fetching.woken;
        if again {
            detention.waiting = 0;
            detention.fetching = Some(Fetching::new(now));
        } else {
            self.detention = None;
        }
        Fetched {
            write: fetching.behind,
            again,
            ..Fetched::default()
        }
    }

    /// Sees whether the fetch that is under way was lost. What was kept behind is given back: it takes a share of what the
    /// broker gives out, and the answer may wait for that.
    pub(crate) fn check(&mut self, may_write: bool, now: Instant) -> Fetched<T> {
        let overdue = self.fetch_ends().is_some_and(|end| now >= end);
        let detention = self.detention.as_deref_mut().filter(|_| overdue);
        let Some((fetching, detention)) = detention.and_then(|one| Some((one.fetching.take()?, one))) else {
            return Fetched::default();
        };
        if !may_write {
            return self.end_fetch(fetching, 1);
        }
        detention.waiting += fetching.behind.len() as u64;
        detention.fetching = Some(Fetching::new(now));
        Fetched {
            back: fetching.behind,
            again: true,
            ..Fetched::default()
        }
    }

    /// The broker is away: the fetch is not lost but late.
    pub(crate) fn postpone(&mut self, now: Instant) {
        if let Some(fetching) = self.fetching() {
            fetching.since = now;
        }
    }

    /// The connection has expired while it fetched: what was kept behind is given back, behind all that was fetched and
    /// given back again.
    fn end_fetch(&mut self, fetching: Fetching<T>, left: u64) -> Fetched<T> {
        let given_back = u64::from(fetching.lost_again) + u64::from(fetching.overflowed) + u64::from(fetching.woken);
        let waiting = left + given_back + fetching.behind.len() as u64;
        if waiting == 0 {
            self.detention = None;
        } else if let Some(detention) = self.detention.as_deref_mut() {
            detention.waiting = waiting;
            detention.since.get_or_insert(fetching.since);
        }
        Fetched {
            back: fetching.behind,
            ..Fetched::default()
        }
    }

    /// The connection is no one's from now on: nothing is fetched for it, and what was kept behind is given back.
    pub(crate) fn forget(&mut self) -> VecDeque<T> {
        let fetching = self.detention.as_deref_mut().and_then(|one| one.fetching.take());
        fetching.map_or_else(VecDeque::new, |fetching| fetching.behind)
    }

    fn give_back(&mut self, why: Bounced, ahead: bool, now: Instant) -> WriteDecision {
        let detention = self.detain();
        detention.waiting += 1;
        detention.since.get_or_insert(now);
        if let Some(fetching) = &mut detention.fetching {
            if ahead {
                fetching.lost_again = true;
            } else {
                fetching.overflowed = true;
            }
        }
        WriteDecision::Back(why)
    }

    fn has_lost_again(&self) -> bool {
        let fetching = self.detention.as_ref().and_then(|one| one.fetching.as_ref());
        fetching.is_some_and(|fetching| fetching.lost_again)
    }

    fn has_room_behind(&self, bytes: usize) -> bool {
        let fetching = self.detention.as_ref().and_then(|one| one.fetching.as_ref());
        fetching.is_some_and(|fetching| {
            !fetching.overflowed
                && fetching.behind.len() < MOST_BEHIND
                && fetching.bytes.saturating_add(bytes) <= self.most_bytes
        })
    }

    fn detain(&mut self) -> &mut Detention<T> {
        self.detention.get_or_insert_with(|| {
            Box::new(Detention {
                waiting: 0,
                since: None,
                owes_answer: false,
                fetching: None,
            })
        })
    }

    fn fetching(&mut self) -> Option<&mut Fetching<T>> {
        self.detention.as_deref_mut().and_then(|one| one.fetching.as_mut())
    }
}

impl<T> Fetching<T> {
    const fn new(now: Instant) -> Self {
        Self {
            since: now,
            name: 0,
            behind: VecDeque::new(),
            bytes: 0,
            lost_again: false,
            overflowed: false,
            woken: false,
        }
    }
}

#[cfg(test)]
mod tests;
