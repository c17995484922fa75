//! What a connection has asked and not yet been told: pure, and the reason why
//! an answer is written once however often the queue brings it.
//!
//! The broker and the workers deliver at least once. Each message that is
//! forwarded gets the next sequence, each answer carries the sequence that it
//! answers and its place among that request's answers; whatever is not the next
//! of an open request has been written before, and is dropped.

use std::collections::VecDeque;

use shared::wire::envelope::Part;
use shared::wire::id::Sequence;
use tokio::sync::OwnedSemaphorePermit;

/// The open requests of one connection.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// The sequence of the first slot.
    first: Sequence,
    slots: VecDeque<Slot>,
    /// Open messages.
    open: u32,
    /// Those of them that may prove who the connection is.
    proving: u32,
    /// Open releases: they are ours, so they do not count against the client's share.
    releases: u32,
    most: u32,
    /// What room open messages take, if their connection has never proved who it is.
    room: Option<Box<Taken>>,
}

/// What room open messages take, by their sequences.
#[derive(Debug, Default)]
struct Taken(Vec<(Sequence, OwnedSemaphorePermit)>);

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The client's: a message.
    Message {
        /// Whether it may have a token, by which those behind it are to be decided.
        proves: bool,
    },
    /// Ours: that what is held be handled.
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// Waits for the answer of this index.
    Open {
        next_index: u32,
        kind: Kind,
        second: bool,
    },
    Settled,
}

/// What to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// It is new; `settled` if it was the last of its request.
    Deliver { settled: bool },
    /// It was delivered, or refused, before; or it answers what was sent back.
    Duplicate,
}

impl Kind {
    fn proves(self) -> bool {
        matches!(self, Self::Message { proves: true })
    }
}

impl InFlight {
    /// At most `most` requests may be open.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            first: Sequence::FIRST,
            slots: VecDeque::new(),
            open: 0,
            proving: 0,
            releases: 0,
            most: u32::try_from(most).unwrap_or(u32::MAX),
            room: None,
        }
    }

    /// Opens a request.
    pub(crate) fn forward(&mut self, kind: Kind) -> Sequence {
        let sequence = self.next();
        self.slots.push_back(Slot::Open {
            next_index: 0,
            kind,
            second: false,
        });
        *self.count(kind) += 1;
        self.proving += u32::from(kind.proves());
        sequence
    }

    /// Keeps the room that an open message takes, until it is settled.
    pub(crate) fn keep(&mut self, sequence: Sequence, room: Option<OwnedSemaphorePermit>) {
        if let Some(room) = room {
            self.room.get_or_insert_default().0.push((sequence, room));
        }
    }

    /// The connection has proved who it is: its messages take no room of those that have not.
    pub(crate) fn give_back_room(&mut self) {
        self.room = None;
    }

    /// The sequence that the next request will have.
    pub(crate) fn next(&self) -> Sequence {
        Sequence::new(self.first.get() + self.slots.len() as u64)
    }

    /// Takes note of an answer to the first or second sending. The last of its request closes it.
    pub(crate) fn answer(&mut self, sequence: Sequence, part: Part, to_second: bool) -> Acceptance {
        let Some(slot) = self.slot(sequence) else {
            return Acceptance::Duplicate;
        };
        match slot {
            Slot::Open { next_index, second, .. } if part.index >= *next_index && to_second == *second => {
                *next_index = part.index.saturating_add(1);
                let settled = !part.more;
                if settled {
                    self.settle(sequence);
                }
                Acceptance::Deliver { settled }
            }
            Slot::Open { .. } | Slot::Settled => Acceptance::Duplicate,
        }
    }

    /// What the first or second sending of a request proves is known, although it is not answered. Tells whether it is
    /// open.
    pub(crate) fn proved(&mut self, sequence: Sequence, of_second: bool) -> bool {
        let Some(Slot::Open { kind, second, .. }) = self.slot(sequence) else {
            return false;
        };
        if *second != of_second {
            return false;
        }
        if let Kind::Message { proves } = kind
            && std::mem::take(proves)
        {
            self.proving -= 1;
        }
        true
    }

    /// The request was sent back: it is to be sent a second time, and only the answer to that counts. Tells whether it
    /// was the first time. What was answered of it already is not written again.
    pub(crate) fn send_back(&mut self, sequence: Sequence) -> bool {
        match self.slot(sequence) {
            Some(Slot::Open {
                kind: Kind::Message { .. },
                second,
                ..
            }) => !std::mem::replace(second, true),
            _ => false,
        }
    }

    /// Closes a request of which the first or second sending will not be answered. Tells whether it was open.
    pub(crate) fn refuse(&mut self, sequence: Sequence, sending: bool) -> bool {
        let open = matches!(self.slot(sequence), Some(Slot::Open { second, .. }) if *second == sending);
        if open {
            self.settle(sequence);
        }
        open
    }

    /// Whether another message may be sent. Settled ones behind an open one count too, or one that is never
    /// answered would let the rest grow without bound.
    pub(crate) fn has_room(&self) -> bool {
        self.open < self.most && self.slots.len() < (self.most as usize).saturating_mul(SETTLED_PER_OPEN)
    }

    /// Whether nothing is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open == 0 && self.releases == 0
    }

    /// How many messages are open.
    pub(crate) fn open_messages(&self) -> usize {
        self.open as usize
    }

    /// Whether a release is open.
    pub(crate) fn is_releasing(&self) -> bool {
        self.releases > 0
    }

    /// Whether that request is open.
    pub(crate) fn is_open(&self, sequence: Sequence) -> bool {
        self.place(sequence)
            .and_then(|place| self.slots.get(place))
            .is_some_and(|slot| *slot != Slot::Settled)
    }

    /// The first message that is open. What has settled in front of the first open request is not kept, so only a
    /// release makes this look further.
    pub(crate) fn oldest_open(&self) -> Option<Sequence> {
        self.first_open(|kind| matches!(kind, Kind::Message { .. }))
    }

    /// The first request that is open.
    pub(crate) fn oldest(&self) -> Option<Sequence> {
        self.first_open(|_| true)
    }

    /// Whether a message is open that may prove who the connection is.
    pub(crate) fn is_proving(&self) -> bool {
        self.proving > 0
    }

    /// The first message that is open and may prove who the connection is.
    pub(crate) fn oldest_proving(&self) -> Option<Sequence> {
        if self.proving == 0 {
            return None;
        }
        self.first_open(Kind::proves)
    }

    fn first_open(&self, wanted: impl Fn(Kind) -> bool) -> Option<Sequence> {
        let is_wanted = |slot: &Slot| matches!(slot, Slot::Open { kind, .. } if wanted(*kind));
        let place = self.slots.iter().position(is_wanted)?;
        Some(Sequence::new(self.first.get() + place as u64))
    }

    fn count(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Message { .. } => &mut self.open,
            Kind::Release => &mut self.releases,
        }
    }

    fn place(&self, sequence: Sequence) -> Option<usize> {
        usize::try_from(sequence.get().checked_sub(self.first.get())?).ok()
    }

    fn slot(&mut self, sequence: Sequence) -> Option<&mut Slot> {
        let place = self.place(sequence)?;
        self.slots.get_mut(place)
    }

    fn settle(&mut self, sequence: Sequence) {
        if let Some(taken) = &mut self.room {
            taken.0.retain(|(other, _)| *other != sequence);
        }
        if let Some(slot) = self.slot(sequence)
            && let Slot::Open { kind, .. } = std::mem::replace(slot, Slot::Settled)
        {
            *self.count(kind) -= 1;
            self.proving -= u32::from(kind.proves());
        }
        while self.slots.front() == Some(&Slot::Settled) {
            self.slots.pop_front();
            self.first = self.first.next();
        }
        if self.slots.is_empty() {
            // Most connections are idle most of the time, and there are many.
            self.slots.shrink_to(0);
        }
    }
}

/// How many slots (8 bytes each) a connection may have for each request that it may have open: a slow answer holds up
/// the others only after sixteen times as many have overtaken it.
const SETTLED_PER_OPEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const MESSAGE: Kind = Kind::Message { proves: false };
    const LAST: Acceptance = Acceptance::Deliver { settled: true };
    const FIRST_OF_TWO: Part = Part { index: 0, more: true };
    const SECOND_OF_TWO: Part = Part { index: 1, more: false };

    #[test]
    fn an_answer_that_comes_twice_is_written_once() {
        let mut in_flight = InFlight::new(4);
        let sequence = in_flight.forward(MESSAGE);
        assert_eq!(in_flight.answer(sequence, Part::ONLY, false), LAST);
        assert_eq!(in_flight.answer(sequence, Part::ONLY, false), Acceptance::Duplicate);
        assert!(in_flight.is_empty());
    }

    #[test]
    fn a_worker_that_died_between_two_answers_has_its_first_told_once() {
        let mut in_flight = InFlight::new(4);
        let sequence = in_flight.forward(MESSAGE);
        assert_eq!(
            in_flight.answer(sequence, FIRST_OF_TWO, false),
            Acceptance::Deliver { settled: false }
        );
        assert_eq!(in_flight.answer(sequence, FIRST_OF_TWO, false), Acceptance::Duplicate);
        assert_eq!(in_flight.answer(sequence, SECOND_OF_TWO, false), LAST);
        assert_eq!(in_flight.answer(sequence, SECOND_OF_TWO, false), Acceptance::Duplicate);
    }

    #[test]
    fn an_answer_to_what_was_refused_is_dropped() {
        let mut in_flight = InFlight::new(4);
        let sequence = in_flight.forward(MESSAGE);
        assert!(in_flight.refuse(sequence, false));
        assert!(!in_flight.refuse(sequence, false));
        assert_eq!(in_flight.answer(sequence, Part::ONLY, false), Acceptance::Duplicate);
    }

    #[test]
    fn an_answer_to_what_was_never_asked_is_dropped() {
        let mut in_flight = InFlight::new(4);
        assert_eq!(
            in_flight.answer(Sequence::new(9), Part::ONLY, false),
            Acceptance::Duplicate
        );
        assert_eq!(
            in_flight.answer(Sequence::new(0), Part::ONLY, false),
            Acceptance::Duplicate
        );
    }

    #[test]
    fn there_is_room_again_when_something_is_answered() {
        let mut in_flight = InFlight::new(2);
        let first = in_flight.forward(MESSAGE);
        in_flight.forward(MESSAGE);
        assert!(!in_flight.has_room());
        in_flight.answer(first, Part::ONLY, false);
        assert!(in_flight.has_room());
    }

    #[test]
    fn one_request_that_is_never_answered_does_not_let_the_rest_grow_without_bound() {
        let mut in_flight = InFlight::new(2);
        in_flight.forward(MESSAGE);
        let mut answered = 0;
        while in_flight.has_room() {
            let sequence = in_flight.forward(MESSAGE);
            in_flight.answer(sequence, Part::ONLY, false);
            answered += 1;
            assert!(answered < 1_000);
        }
    }

    #[test]
    fn a_slot_is_small() {
        assert_eq!(size_of::<Slot>(), 8);
    }

    #[test]
    fn what_was_sent_back_is_answered_by_its_second_sending_only() {
        let mut in_flight = InFlight::new(4);
        let sequence = in_flight.forward(MESSAGE);
        assert!(in_flight.send_back(sequence));
        assert!(!in_flight.send_back(sequence));
        assert_eq!(in_flight.answer(sequence, Part::ONLY, false), Acceptance::Duplicate);
        assert!(
            !in_flight.refuse(sequence, false),
            "the first sending's refusal is late"
        );
        assert!(in_flight.is_open(sequence));
        assert_eq!(in_flight.answer(sequence, Part::ONLY, true), LAST);
    }

    #[test]
    fn what_was_answered_in_part_and_is_sent_back_goes_on_where_it_was() {
        let mut in_flight = InFlight::new(4);
        let sequence = in_flight.forward(MESSAGE);
        in_flight.answer(sequence, FIRST_OF_TWO, false);
        assert!(in_flight.send_back(sequence));
        assert_eq!(in_flight.answer(sequence, FIRST_OF_TWO, true), Acceptance::Duplicate);
        assert_eq!(in_flight.answer(sequence, SECOND_OF_TWO, true), LAST);
    }

    #[test]
    fn a_release_takes_no_share_of_the_clients() {
        let mut in_flight = InFlight::new(1);
        let release = in_flight.forward(Kind::Release);
        assert!(in_flight.has_room() && !in_flight.is_empty());
        let message = in_flight.forward(MESSAGE);
        assert!(!in_flight.has_room());
        assert_eq!(in_flight.oldest_open(), Some(message));
        in_flight.answer(message, Part::ONLY, false);
        assert_eq!(in_flight.oldest_open(), None);
        in_flight.answer(release, Part::ONLY, false);
        assert!(in_flight.is_empty());
    }

    #[test]
    fn what_may_prove_who_it_is_is_known_until_it_is_settled() {
        let mut in_flight = InFlight::new(4);
        in_flight.forward(MESSAGE);
        assert!(!in_flight.is_proving());
        let first = in_flight.forward(Kind::Message { proves: true });
        let second = in_flight.forward(Kind::Message { proves: true });
        assert_eq!(in_flight.oldest_proving(), Some(first));
        in_flight.answer(first, Part::ONLY, false);
        assert_eq!(in_flight.oldest_proving(), Some(second));
        in_flight.refuse(second, false);
        assert!(!in_flight.is_proving() && in_flight.oldest_proving().is_none());
    }

    proptest! {
        /// Whatever the order and repetition of single answers, each request is answered once.
        #[test]
        fn each_request_is_answered_once(order in proptest::collection::vec(0_u64..20, 0..200)) {
            let mut in_flight = InFlight::new(20);
            let asked: Vec<_> = (0..20).map(|_| in_flight.forward(MESSAGE)).collect();
            let mut delivered: BTreeMap<Sequence, u32> = BTreeMap::new();
            for which in &order {
                let sequence = asked[usize::try_from(*which).unwrap()];
                if in_flight.answer(sequence, Part::ONLY, false) == LAST {
                    *delivered.entry(sequence).or_default() += 1;
                }
            }
            prop_assert!(delivered.values().all(|times| *times == 1));
            let distinct: std::collections::BTreeSet<_> = order.iter().collect();
            prop_assert_eq!(delivered.len(), distinct.len());
            prop_assert_eq!(in_flight.open_messages(), 20 - distinct.len());
        }
    }
}
