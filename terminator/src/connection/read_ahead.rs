//! What was read from a socket and may not be forwarded yet.
//!
//! A connection whose share in flight is used up is held back by TCP, but not at
//! once: were its socket not read at all, no ping behind its messages would be answered,
//! no one would see that its client has left, and a fresh token or a cancel behind them would come too late. So some is
//! read ahead, in order: a little for each connection, and more as long as all connections together leave room for it.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::service::clock::Timestamp;

use tokio::sync::OwnedSemaphorePermit;

use super::load::Load;
use super::looks::Looks;
use crate::broker::budget::Budgets;

/// How much may wait. The message that reaches it may be as large as a message may be.
#[derive(Clone, Copy)]
struct Bound {
    messages: usize,
    bytes: usize,
}

/// What each connection may have read ahead.
const ALWAYS: Bound = Bound {
    messages: 64,
    bytes: 16 * 1_024,
};
/// The same for a connection that has never authenticated.
const ALWAYS_EARLY: Bound = Bound {
    messages: 4,
    bytes: 1_024,
};
/// What it may have while there is room for it, or more messages if more may be in flight.
const AT_MOST: Bound = Bound {
    messages: 64,
    bytes: 1_024 * 1_024,
};
/// The same for a connection that has never authenticated.
const AT_MOST_EARLY: Bound = Bound {
    messages: 16,
    bytes: 16 * 1_024,
};

impl Bound {
    const fn is_above(self, load: Load) -> bool {
        load.texts < self.messages && load.bytes < self.bytes
    }

    const fn always(authenticated: bool) -> Self {
        if authenticated { ALWAYS } else { ALWAYS_EARLY }
    }

    fn at_most(authenticated: bool, max_in_flight: usize) -> Self {
        match authenticated {
            true => Self {
                messages: AT_MOST.messages.max(max_in_flight),
                ..AT_MOST
            },
            false => AT_MOST_EARLY,
        }
    }
}

/// What a client has sent.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) text: Bytes,
    /// When, by the own clock.
    pub(crate) at: Timestamp,
    pub(crate) looks: Looks,
}

/// Messages that wait to be forwarded, in the order in which they came. Most connections never have any, and it is
/// small then.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// Each with its share of the room for all, if it needs one.
    texts: VecDeque<(Received, Option<OwnedSemaphorePermit>)>,
    bytes: usize,
}

impl Waiting {
    fn is_within(&self, bound: Bound) -> bool {
        bound.is_above(Load {
            texts: self.texts.len(),
            bytes: self.bytes,
        })
    }

    fn share(
        &self,
        message: &Received,
        budgets: &Budgets,
        authenticated: impl FnOnce() -> bool,
    ) -> Option<OwnedSemaphorePermit> {
        if self.is_within(ALWAYS_EARLY) {
            return None;
        }
        let authenticated = authenticated();
        if self.is_within(Bound::always(authenticated)) {
            return None;
        }
        budgets.ahead(authenticated).try_take(message.text.len())
    }
}

/// Whether a connection that was authenticated once may read on, of which so much waits for its turn, which is fixed.
pub(crate) fn may_line_up(lined_up: Load, budgets: &Budgets) -> bool {
    Bound::at_most(true, budgets.max_in_flight).is_above(lined_up)
}

impl ReadAhead {
    /// Whether more may be read.
    pub(crate) fn has_room(&self, budgets: &Budgets, authenticated: impl FnOnce() -> bool) -> bool {
        self.0.as_deref().is_none_or(|waiting| {
            let authenticated = authenticated();
            waiting.is_within(Bound::always(authenticated))
                || waiting.is_within(Bound::at_most(authenticated, budgets.max_in_flight))
                    && budgets.ahead(authenticated).has_room()
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_deref().map_or(0, |waiting| waiting.texts.len())
    }

    /// Adds what was read of a connection that is `authenticated`, or was.
    pub(crate) fn push(&mut self, message: Received, budgets: &Budgets, authenticated: impl FnOnce() -> bool) {
        let waiting = self.0.get_or_insert_default();
        let share = waiting.share(&message, budgets, authenticated);
        waiting.bytes += message.text.len();
        waiting.texts.push_back((message, share));
    }

    /// The message that came first.
    pub(crate) fn first(&self) -> Option<&Received> {
        Some(&self.0.as_deref()?.texts.front()?.0)
    }

    /// The place of the first that looks like that, unless it is behind a log-out.
    pub(crate) fn position(&self, looks: impl FnMut(Looks) -> bool) -> Option<usize> {
        let texts = &self.0.as_deref()?.texts;
        let of_one_session = texts
            .iter()
            .map(|(message, _)| message)
            .take_while(|message| !message.looks.barrier || message.looks.proves);
        of_one_session.map(|message| message.looks).position(looks)
    }

    /// Puts back what was taken last, which is there in any case.
    pub(crate) fn push_front(&mut self, message: Received) {
        let waiting = self.0.get_or_insert_default();
        waiting.bytes += message.text.len();
        waiting.texts.push_front((message, None));
    }

    /// Takes it.
    pub(crate) fn pop(&mut self) -> Option<Received> {
        Some(self.pop_with_share()?.0)
    }

    /// Takes it with its share of the room for all.
    pub(crate) fn pop_with_share(&mut self) -> Option<(Received, Option<OwnedSemaphorePermit>)> {
        let waiting = self.0.as_deref_mut()?;
        let (message, share) = waiting.texts.pop_front()?;
        waiting.bytes -= message.text.len();
        if waiting.texts.is_empty() {
            self.0 = None;
        }
        Some((message, share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(text: impl Into<Bytes>) -> Received {
        Received {
            text: text.into(),
            at: Timestamp::default(),
            looks: Looks {
                acknowledges: false,
                logs_out: false,
                barrier: false,
                proves: false,
                mark: None,
                cancels: false,
            },
        }
    }

    const EACH: usize = 1_024;

    /// How many messages of so many bytes are read ahead while none is forwarded.
    fn most(ahead: &mut ReadAhead, bytes: usize, budgets: &Budgets, authenticated: bool) -> usize {
        let mut count = 0;
        while ahead.has_room(budgets, || authenticated) {
            ahead.push(received(vec![b'x'; bytes]), budgets, || authenticated);
            count += 1;
        }
        count
    }

    #[test]
    fn it_is_bounded_in_messages_and_gives_back_what_came_first() {
        let budgets = Budgets::new(1 << 30, 1 << 30, 1);
        let mut ahead = ReadAhead::default();
        assert_eq!(most(&mut ahead, 1, &budgets, true), AT_MOST.messages);
        ahead.push_front(received("first"));
        assert_eq!(ahead.first().unwrap().text, "first");
        assert_eq!(ahead.pop().unwrap().text, "first");
        ahead.pop();
        assert!(ahead.has_room(&budgets, || true) && !ahead.has_room(&budgets, || false));
        while ahead.pop().is_some() {}
        assert_eq!(most(&mut ahead, 1, &budgets, false), AT_MOST_EARLY.messages);
        let budgets = Budgets::new(1 << 30, 1 << 30, 100);
        assert_eq!(most(&mut ReadAhead::default(), 1, &budgets, true), 100);
    }

    #[test]
    fn it_is_bounded_in_bytes_of_one_and_of_all() {
        // A quarter of the first is for what is read ahead.
        let budgets = Budgets::new(8 * AT_MOST.bytes, AT_MOST_EARLY.bytes, 10_000);
        let mut all: Vec<_> = (0..3).map(|_| ReadAhead::default()).collect();
        assert_eq!(most(&mut all[0], EACH, &budgets, true), AT_MOST.bytes / EACH);
        most(&mut all[1], EACH, &budgets, true);
        let left = (2 * ALWAYS.bytes).div_ceil(EACH);
        assert_eq!(most(&mut all[2], EACH, &budgets, true), ALWAYS.bytes / EACH + left);
        // Each has a little, and what is given back is for others.
        let mut last = ReadAhead::default();
        assert_eq!(most(&mut last, EACH, &budgets, true), ALWAYS.bytes / EACH);
        drop(all);
        assert!(last.has_room(&budgets, || true));
        let mut early: Vec<_> = (0..3).map(|_| ReadAhead::default()).collect();
        assert_eq!(most(&mut early[0], EACH, &budgets, false), AT_MOST_EARLY.bytes / EACH);
        assert_eq!(
            most(&mut early[1], EACH, &budgets, false),
            2,
            "what the first had without asking is left"
        );
        assert_eq!(most(&mut early[2], EACH, &budgets, false), 1);
    }
}
