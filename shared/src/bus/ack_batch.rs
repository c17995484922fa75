//! Many acknowledgements in few frames.
//!
//! Deliveries of a channel are tagged 1, 2, 3, …, and `basic.ack` with
//! `multiple` acknowledges every tag up to its own (AMQP 0-9-1 §1.8.3.13). What
//! is done without a gap goes in one such frame; what is done beyond a gap goes
//! alone, so that one slow message holds up no other.

use std::collections::VecDeque;

use super::delivery::Settlement;

/// One frame to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// `basic.ack` with `multiple`: this tag and all before it.
    AckUpTo(u64),
    /// `basic.ack` of this tag alone.
    Ack(u64),
    /// `basic.nack` with `requeue`, of this tag alone.
    Requeue(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Outstanding,
    Done,
    Told,
}

/// The tags of one channel, from the first that the broker still waits for.
#[derive(Debug)]
pub(super) struct AckBatch {
    first: u64,
    tags: VecDeque<Tag>,
    /// Done since the last flush.
    fresh: Vec<u64>,
    frames: Vec<Frame>,
}

impl AckBatch {
    pub(super) fn new() -> Self {
        Self {
            first: 1,
            tags: VecDeque::new(),
            fresh: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// The broker has delivered `tag`; tags come in order, without gaps.
    pub(super) fn delivered(&mut self, tag: u64) {
        while self.first + self.tags.len() as u64 <= tag {
            self.tags.push_back(Tag::Outstanding);
        }
    }

    /// The consumer has settled `tag`.
    pub(super) fn settled(&mut self, tag: u64, settlement: Settlement) {
        let Some(slot) = self.slot(tag).filter(|slot| **slot == Tag::Outstanding) else {
            return;
        };
        match settlement {
            Settlement::Ack => {
                *slot = Tag::Done;
                self.fresh.push(tag);
            }
            Settlement::Requeue | Settlement::Leave => {
                *slot = Tag::Told;
                self.frames.push(Frame::Requeue(tag));
            }
        }
    }

    /// Whether the consumer has settled all that was delivered.
    pub(super) fn is_settled(&self) -> bool {
        !self.tags.contains(&Tag::Outstanding)
    }

    /// The frames that tell the broker all that was settled since the last flush, in the order in which to send them.
    pub(super) fn flush(&mut self) -> Vec<Frame> {
        let mut frames = std::mem::take(&mut self.frames);
        let mut up_to = None;
        while let Some(tag) = self.tags.front().filter(|tag| **tag != Tag::Outstanding) {
            if *tag == Tag::Done {
                up_to = Some(self.first);
            }
            self.tags.pop_front();
            self.first += 1;
        }
        frames.extend(up_to.map(Frame::AckUpTo));
        for tag in std::mem::take(&mut self.fresh) {
            if let Some(slot) = self.slot(tag) {
                *slot = Tag::Told;
                frames.push(Frame::Ack(tag));
            }
        }
        frames
    }

    fn slot(&mut self, tag: u64) -> Option<&mut Tag> {
        let index = usize::try_from(tag.checked_sub(self.first)?).ok()?;
        self.tags.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn batch_of(deliveries: u64) -> AckBatch {
        let mut batch = AckBatch::new();
        (1..=deliveries).for_each(|tag| batch.delivered(tag));
        batch
    }

    #[test]
    fn what_is_done_in_order_goes_in_one_frame() {
        let mut batch = batch_of(3);
        (1..=3).for_each(|tag| batch.settled(tag, Settlement::Ack));
        assert_eq!(batch.flush(), [Frame::AckUpTo(3)]);
        assert_eq!(batch.flush(), []);
    }

    #[test]
    fn a_slow_message_holds_up_no_other() {
        let mut batch = batch_of(3);
        batch.settled(3, Settlement::Ack);
        batch.settled(2, Settlement::Ack);
        assert_eq!(batch.flush(), [Frame::Ack(3), Frame::Ack(2)]);
        batch.settled(1, Settlement::Ack);
        assert_eq!(batch.flush(), [Frame::AckUpTo(1)]);
    }

    proptest! {
        /// A broker that only believes frames about tags it still waits for ends with exactly what was settled.
        #[test]
        fn the_broker_learns_all_that_was_settled_and_nothing_else(
            deliveries in 1_u64..60,
            settled in proptest::collection::vec((1_u64..60, proptest::bool::weighted(0.8), any::<bool>()), 0..120),
        ) {
            let mut batch = batch_of(deliveries);
            let mut outstanding: BTreeSet<u64> = (1..=deliveries).collect();
            let mut expected = outstanding.clone();
            let mut requeued = BTreeSet::new();
            let mut apply = |batch: &mut AckBatch| {
                for frame in batch.flush() {
                    let (Frame::AckUpTo(tag) | Frame::Ack(tag) | Frame::Requeue(tag)) = frame;
                    prop_assert!(outstanding.contains(&tag), "the broker closes a channel that settles an unknown tag");
                    match frame {
                        Frame::AckUpTo(tag) => outstanding.retain(|other| *other > tag),
                        Frame::Ack(tag) => { outstanding.remove(&tag); }
                        Frame::Requeue(tag) => { outstanding.remove(&tag); requeued.insert(tag); }
                    }
                }
                Ok(())
            };
            let mut requeues = BTreeSet::new();
            for (tag, ack, flush) in settled {
                if tag <= deliveries && expected.remove(&tag) && !ack {
                    requeues.insert(tag);
                }
                if tag <= deliveries {
                    batch.settled(tag, if ack { Settlement::Ack } else { Settlement::Requeue });
                }
                if flush {
                    apply(&mut batch)?;
                }
            }
            apply(&mut batch)?;
            prop_assert_eq!(outstanding, expected);
            prop_assert_eq!(requeued, requeues);
        }
    }
}
