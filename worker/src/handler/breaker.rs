//! An application that is down is not asked: a core that is pure, and what is counted of it.
//!
//! By the `type` of message, because behind each may be another application. When several calls in a row have ended without
//! any sign of life (a timeout, no connection, no one to take the message), it counts as down: who asks is told `busy` at
//! once, and when to come again, instead of waiting for nothing and taking a place meanwhile. Then one call is let through
//! now and then, each after a longer pause; the first that is answered, whatever the answer, ends it. What was asked before that and
//! ends without an answer says nothing of an application that has come back.
//!
//! Someone may know a message that is never answered. As long as only one or two identities have got no answer, the application counts
//! as down for them alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use shared::wire::tag::IdentityTag;
use tokio::time::Instant;
use tracing::{info, warn};

/// After so many calls in a row without a sign of life an application counts as down: more than what one unlucky client
/// sends at once, by one.
const MOST_SILENCES: u32 = 5;

/// The silence of so many identities is the application's, and no longer theirs.
const MOST_ASKERS: usize = 3;

/// From one call that is let through to the next, at first and at most. It doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long it is known when a type came back: no call takes longer (`handler-timeout` is at most an hour).
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// Of so many types it is kept whether they are silent: some 150 bytes each. A client may call a message anything.
const MOST_TYPES: usize = 1_024;

/// A type of which the last calls were silent, or were until it came back.
#[derive(Clone, Copy, Debug)]
struct Silence {
    calls: u32,
    /// Whose calls those were: the first of them, each once.
    askers: [Option<IdentityTag>; MOST_ASKERS],
    /// When it came back, if it had counted as down.
    back: Option<Instant>,
    /// When it counts as down: until when no one is let through.
    closed: Option<Closed>,
    last: Instant,
}

impl Silence {
    /// Whether it concerns that identity.
    fn concerns(&self, asker: IdentityTag) -> bool {
        self.askers.contains(&Some(asker)) || self.askers.iter().all(Option::is_some)
    }

    fn note(&mut self, asker: IdentityTag) {
        if !self.askers.contains(&Some(asker))
            && let Some(free) = self.askers.iter_mut().find(|known| known.is_none())
        {
            *free = Some(asker);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    until: Instant,
    pause: Duration,
}

/// What became of a call, as far as this goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    /// It counts as down from now on.
    Down,
    /// It does not any more.
    Up,
}

/// Which types are silent: pure.
#[derive(Debug, Default)]
struct Core(HashMap<Arc<str>, Silence>);

impl Core {
    /// How long that identity is not let through.
    fn closed_for(&self, kind: &str, asker: IdentityTag, now: Instant) -> Option<Duration> {
        let silence = self.0.get(kind).filter(|silence| silence.concerns(asker))?;
        let until = silence.closed?.until;
        (now < until).then(|| until - now)
    }

    /// Lets a call through, or tells for how long there is none. Where it counts as down, who is let through is the only one
    /// for the next pause.
    fn admit(&mut self, kind: &str, asker: IdentityTag, now: Instant) -> Result<bool, Duration> {
        if let Some(left) = self.closed_for(kind, asker, now) {
            return Err(left);
        }
        let silence = self.0.get_mut(kind).filter(|silence| silence.concerns(asker));
        let Some(closed) = silence.and_then(|silence| silence.closed.as_mut()) else {
            return Ok(false);
        };
        closed.until = now + closed.pause;
        closed.pause = (closed.pause * 2).min(LONGEST_PAUSE);
        Ok(true)
    }

    fn answered(&mut self, kind: &str, now: Instant) -> Option<News> {
        let silence = self.0.get_mut(kind)?;
        let was_closed = silence.closed.take();
        if was_closed.is_some() {
            silence.back = Some(now);
        }
        (silence.calls, silence.askers, silence.last) = (0, [None; MOST_ASKERS], now);
        if silence.back.is_none_or(|back| back + REMEMBERED < now) {
            self.0.remove(kind);
        }
        was_closed.map(|_| News::Up)
    }

    /// A call that was made at `began` has ended without a sign of life.
    fn silent(&mut self, kind: &Arc<str>, asker: IdentityTag, began: Instant, now: Instant) -> Option<News> {
        if self
            .0
            .get(kind)
            .and_then(|silence| silence.back)
            .is_some_and(|back| began < back)
        {
            return None;
        }
        if self.0.len() >= MOST_TYPES && !self.0.contains_key(kind) {
            self.forget_oldest();
        }
        let silence = self.0.entry(kind.clone()).or_insert(Silence {
            calls: 0,
            askers: [None; MOST_ASKERS],
            back: None,
            closed: None,
            last: now,
        });
        (silence.calls, silence.last) = (silence.calls.saturating_add(1), now);
        silence.note(asker);
        if silence.closed.is_some() || silence.calls < MOST_SILENCES {
            return None;
        }
        silence.closed = Some(Closed {
            until: now + FIRST_PAUSE,
            pause: FIRST_PAUSE * 2,
        });
        Some(News::Down)
    }

    /// Asking once more is all that this costs.
    fn forget_oldest(&mut self) {
        let oldest = self.0.iter().min_by_key(|(_, silence)| silence.last);
        if let Some(kind) = oldest.map(|(kind, _)| kind.clone()) {
            self.0.remove(&kind);
        }
    }

    fn down(&self) -> usize {
        self.0.values().filter(|silence| silence.closed.is_some()).count()
    }
}

/// Which applications are asked.
pub(crate) struct Breaker {
    core: Mutex<Core>,
    down: Gauge,
    opened: Counter,
    ended: Counter,
    probed: Counter,
    refused: Counter,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        let event = |event: &'static str| counter!("countersign_worker_breaker_total", "event" => event);
        Self {
            core: Mutex::default(),
            down: gauge!("countersign_worker_types_down"),
            opened: event("down"),
            ended: event("up"),
            probed: event("probed"),
            refused: event("refused"),
        }
    }

    /// How long no messages of this type and of that identity are passed on, if so. Who hears it need not wait for a place.
    pub(crate) fn closed_for(&self, kind: &str, asker: IdentityTag) -> Option<Duration> {
        let left = self.lock().closed_for(kind, asker, Instant::now())?;
        self.refused.increment(1);
        Some(left)
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// How long none is.
    pub(crate) fn admit(&self, kind: &str, asker: IdentityTag) -> Result<(), Duration> {
        let admitted = self.lock().admit(kind, asker, Instant::now());
        match admitted {
            Ok(true) => self.probed.increment(1),
            Ok(false) => {}
            Err(_) => self.refused.increment(1),
        }
        admitted.map(|_| ())
    }

    /// A call for that identity that was made at `began` has ended, with a sign of life or without.
    pub(crate) fn ended(&self, kind: &Arc<str>, asker: IdentityTag, answered: bool, began: Instant) {
        let (mut core, now) = (self.lock(), Instant::now());
        let news = match answered {
            true => core.answered(kind, now),
            false => core.silent(kind, asker, began, now),
        };
        if news.is_none() {
            return;
        }
        self.down.set(core.down() as f64);
        drop(core);
        // A client may call a message anything, so its type is not told.
        if news == Some(News::Down) {
            self.opened.increment(1);
            warn!("an application does not answer; its messages are refused with `busy` until it does");
        } else {
            self.ended.increment(1);
            info!("an application answers again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // Nothing under this lock panics half-way through a change.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(number: u8) -> IdentityTag {
        IdentityTag::of(&[number; 32])
    }

    /// Calls of as many identities.
    fn silent(core: &mut Core, times: u32, now: Instant) -> Vec<Option<News>> {
        (0..times)
            .map(|number| core.silent(&"a".into(), asker(number as u8), now, now))
            .collect()
    }

    #[test]
    fn it_counts_as_down_when_enough_in_a_row_were_silent_and_not_before() {
        let (mut core, now) = (Core::default(), Instant::now());
        assert!(silent(&mut core, MOST_SILENCES - 1, now).iter().all(Option::is_none));
        assert_eq!(core.answered("a", now), None);
        assert!(silent(&mut core, MOST_SILENCES - 1, now).iter().all(Option::is_none));
        assert_eq!(core.admit("a", asker(100), now), Ok(false));
        assert_eq!(silent(&mut core, 2, now), [Some(News::Down), None], "told once");
        assert_eq!(core.admit("a", asker(100), now), Err(FIRST_PAUSE));
        assert_eq!(core.admit("b", asker(100), now), Ok(false), "another may well be there");
    }

    #[test]
    fn who_asks_what_is_never_answered_closes_it_for_no_one_else() {
        let (mut core, now) = (Core::default(), Instant::now());
        for number in 0..2 * MOST_SILENCES {
            core.silent(&"a".into(), asker((number % 2) as u8), now, now);
        }
        assert_eq!(core.admit("a", asker(0), now), Err(FIRST_PAUSE));
        assert_eq!(core.admit("a", asker(1), now), Err(FIRST_PAUSE));
        assert_eq!(core.admit("a", asker(2), now), Ok(false));
        // One of another identity, and it is no longer those two.
        core.silent(&"a".into(), asker(2), now, now);
        assert_eq!(core.admit("a", asker(3), now), Err(FIRST_PAUSE));
        assert_eq!(core.answered("a", now), Some(News::Up));
        core.silent(&"a".into(), asker(3), now, now);
        assert_eq!(core.admit("a", asker(3), now), Ok(false));
    }

    #[test]
    fn one_is_let_through_now_and_then_and_more_rarely_until_one_is_answered() {
        let (mut core, start) = (Core::default(), Instant::now());
        silent(&mut core, MOST_SILENCES, start);
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let left = core.admit("a", asker(100), now).unwrap_err();
            pauses.push(left.as_secs());
            now += left;
            assert_eq!(core.admit("a", asker(100), now), Ok(true));
            assert!(core.admit("a", asker(100), now).is_err(), "only one");
            core.silent(&"a".into(), asker(100), now, now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        assert_eq!((core.answered("a", now), core.down()), (Some(News::Up), 0));
        assert_eq!(core.admit("a", asker(100), now), Ok(false));
    }

    #[test]
    fn what_was_asked_before_it_came_back_does_not_count_against_it() {
        let (mut core, start) = (Core::default(), Instant::now());
        silent(&mut core, MOST_SILENCES, start);
        let back = start + Duration::from_secs(2);
        assert_eq!(core.answered("a", back), Some(News::Up));
        let later = back + Duration::from_secs(1);
        for _ in 0..2 * MOST_SILENCES {
            assert_eq!(core.silent(&"a".into(), asker(1), start, later), None);
        }
        assert_eq!(core.admit("a", asker(100), later), Ok(false));
        let calls = (0..MOST_SILENCES).map(|_| core.silent(&"a".into(), asker(1), later, later));
        assert_eq!(calls.last(), Some(Some(News::Down)), "but what was asked since does");
        assert_eq!(core.answered("a", later), Some(News::Up));
        assert_eq!(core.answered("a", later + 2 * REMEMBERED), None);
        assert!(core.0.is_empty());
    }

    #[test]
    fn no_number_of_types_makes_it_grow() {
        let (mut core, mut now) = (Core::default(), Instant::now());
        silent(&mut core, MOST_SILENCES, now);
        for number in 0..MOST_TYPES * 2 {
            now += Duration::from_millis(1);
            core.silent(&number.to_string().into(), asker(1), now, now);
        }
        assert_eq!(core.0.len(), MOST_TYPES);
    }
}
