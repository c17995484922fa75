//! What a connection has asked and not yet been told: pure, and the reason why
//! an answer is written once however often the queue brings it.
//!
//! The broker and the workers deliver at least once. Each message that is
//! forwarded gets the next sequence, each answer carries the sequence that it
//! answers and its place among that question's answers; whatever is not the next
//! of an open question has been written before, and is dropped.

use std::collections::VecDeque;

use shared::envelope::Part;
use shared::id::Sequence;

/// The open questions of one connection.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// The sequence of the first slot.
    first: Sequence,
    slots: VecDeque<Slot>,
    open: usize,
    most: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// Waits for the answer of this index.
    Open {
        next_index: u32,
    },
    Settled,
}

/// What to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is new; `settled` if it was the last of its question.
    Deliver { settled: bool },
    /// It was delivered, or refused, before.
    Duplicate,
}

impl InFlight {
    /// At most `most` questions may be open.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            first: Sequence::FIRST,
            slots: VecDeque::new(),
            open: 0,
            most,
        }
    }

    /// Opens a question.
    pub(crate) fn forward(&mut self) -> Sequence {
        let sequence = self.next();
        self.slots.push_back(Slot::Open { next_index: 0 });
        self.open += 1;
        sequence
    }

    /// The sequence that the next question will have.
    pub(crate) fn next(&self) -> Sequence {
        Sequence::new(self.first.get() + self.slots.len() as u64)
    }

    /// Takes note of an answer. The last of its question closes it.
    pub(crate) fn answer(&mut self, sequence: Sequence, part: Part) -> Verdict {
        let Some(slot) = self.slot(sequence) else {
            return Verdict::Duplicate;
        };
        match slot {
            Slot::Open { next_index } if part.index >= *next_index => {
                *next_index = part.index.saturating_add(1);
                let settled = !part.more;
                if settled {
                    self.settle(sequence);
                }
                Verdict::Deliver { settled }
            }
            Slot::Open { .. } | Slot::Settled => Verdict::Duplicate,
        }
    }

    /// Closes a question that will not be answered. Tells whether it was open.
    pub(crate) fn refuse(&mut self, sequence: Sequence) -> bool {
        let open = matches!(self.slot(sequence), Some(Slot::Open { .. }));
        if open {
            self.settle(sequence);
        }
        open
    }

    /// Whether another question may be asked. Settled ones behind an open one count too, or one that is never
    /// answered would let the rest grow without bound.
    pub(crate) fn has_room(&self) -> bool {
        self.open < self.most && self.slots.len() < self.most.saturating_mul(SETTLED_PER_OPEN)
    }

    /// Whether nothing is open.
    pub(crate) fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Closes all that is open, and tells how many that were.
    pub(crate) fn abandon(&mut self) -> usize {
        self.first = self.next();
        self.slots = VecDeque::new();
        std::mem::take(&mut self.open)
    }

    fn slot(&mut self, sequence: Sequence) -> Option<&mut Slot> {
        let index = usize::try_from(sequence.get().checked_sub(self.first.get())?).ok()?;
        self.slots.get_mut(index)
    }

    fn settle(&mut self, sequence: Sequence) {
        if let Some(slot) = self.slot(sequence) {
            *slot = Slot::Settled;
            self.open -= 1;
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

/// How many slots (8 bytes each) a connection may have for each question that it may have open: a slow answer holds up
/// the others only after sixteen times as many have overtaken it.
const SETTLED_PER_OPEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const LAST: Verdict = Verdict::Deliver { settled: true };
    const FIRST_OF_TWO: Part = Part { index: 0, more: true };
    const SECOND_OF_TWO: Part = Part { index: 1, more: false };

    #[test]
    fn an_answer_that_comes_twice_is_written_once() {
        let mut in_flight = InFlight::new(4);
        let sequence = in_flight.forward();
        assert_eq!(in_flight.answer(sequence, Part::ONLY), LAST);
        assert_eq!(in_flight.answer(sequence, Part::ONLY), Verdict::Duplicate);
        assert!(in_flight.is_empty());
    }

    #[test]
    fn a_worker_that_died_between_two_answers_has_its_first_told_once() {
        let mut in_flight = InFlight::new(4);
        let sequence = in_flight.forward();
        assert_eq!(
            in_flight.answer(sequence, FIRST_OF_TWO),
            Verdict::Deliver { settled: false }
        );
        assert_eq!(in_flight.answer(sequence, FIRST_OF_TWO), Verdict::Duplicate);
        assert_eq!(in_flight.answer(sequence, SECOND_OF_TWO), LAST);
        assert_eq!(in_flight.answer(sequence, SECOND_OF_TWO), Verdict::Duplicate);
    }

    #[test]
    fn an_answer_to_what_was_refused_is_dropped() {
        let mut in_flight = InFlight::new(4);
        let sequence = in_flight.forward();
        assert!(in_flight.refuse(sequence));
        assert!(!in_flight.refuse(sequence));
        assert_eq!(in_flight.answer(sequence, Part::ONLY), Verdict::Duplicate);
    }

    #[test]
    fn an_answer_to_what_was_never_asked_is_dropped() {
        let mut in_flight = InFlight::new(4);
        assert_eq!(in_flight.answer(Sequence::new(9), Part::ONLY), Verdict::Duplicate);
        assert_eq!(in_flight.answer(Sequence::new(0), Part::ONLY), Verdict::Duplicate);
    }

    #[test]
    fn there_is_room_again_when_something_is_answered() {
        let mut in_flight = InFlight::new(2);
        let first = in_flight.forward();
        in_flight.forward();
        assert!(!in_flight.has_room());
        in_flight.answer(first, Part::ONLY);
        assert!(in_flight.has_room());
    }

    #[test]
    fn one_question_that_is_never_answered_does_not_let_the_rest_grow_without_bound() {
        let mut in_flight = InFlight::new(2);
        in_flight.forward();
        let mut answered = 0;
        while in_flight.has_room() {
            let sequence = in_flight.forward();
            in_flight.answer(sequence, Part::ONLY);
            answered += 1;
            assert!(answered < 1_000);
        }
    }

    proptest! {
        /// Whatever the order and repetition of single answers, each question is answered once.
        #[test]
        fn each_question_is_answered_once(order in proptest::collection::vec(0_u64..20, 0..200)) {
            let mut in_flight = InFlight::new(20);
            let asked: Vec<_> = (0..20).map(|_| in_flight.forward()).collect();
            let mut delivered: BTreeMap<Sequence, u32> = BTreeMap::new();
            for which in &order {
                let sequence = asked[usize::try_from(*which).unwrap()];
                if in_flight.answer(sequence, Part::ONLY) == LAST {
                    *delivered.entry(sequence).or_default() += 1;
                }
            }
            prop_assert!(delivered.values().all(|times| *times == 1));
            let distinct: std::collections::BTreeSet<_> = order.iter().collect();
            prop_assert_eq!(delivered.len(), distinct.len());
            prop_assert_eq!(in_flight.open, 20 - distinct.len());
        }
    }
}
