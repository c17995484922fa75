//! One delivery that is for many: each has a part of it, and it is done when all of them are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Delivery, Settlement, Settler};
use crate::bus::Message;

/// A delivery that is being given out in parts. Dropped before it is [`finish`](Self::finish)ed, it comes again as a whole.
pub struct Whole {
    held: Arc<Held>,
    is_finished: bool,
}

/// A part's share in the duty to settle the whole.
pub(in crate::bus) struct Part(Arc<Held>);

/// Settled when the last one lets go of it.
struct Held {
    delivery: Option<Delivery>,
    /// It has to come again.
    is_spoiled: AtomicBool,
}

impl Whole {
    /// Of that delivery.
    pub fn of(delivery: Delivery) -> Self {
        Self {
            held: Arc::new(Held {
                delivery: Some(delivery),
                is_spoiled: AtomicBool::new(false),
            }),
            is_finished: false,
        }
    }

    /// A part, with what is its own. If it is given back, the whole comes again, all its parts with it.
    pub fn part(&self, message: Message) -> Delivery {
        let (exchange, routing_key, count) = match &self.held.delivery {
            Some(whole) => (whole.exchange.clone(), whole.routing_key.clone(), whole.delivery_count),
            None => Default::default(),
        };
        Delivery::new(
            message,
            exchange,
            routing_key,
            count,
            Settler::Part(Part(self.held.clone())),
        )
    }

    /// All parts are given out.
    pub fn finish(mut self) {
        self.is_finished = true;
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        if !self.is_finished {
            self.held.spoil();
        }
    }
}

impl Part {
    pub(in crate::bus) fn settle(self, settlement: Settlement) {
        if settlement != Settlement::Ack {
            self.0.spoil();
        }
    }

    pub(in crate::bus) fn is_stale(&self) -> bool {
        self.0.delivery.as_ref().is_none_or(Delivery::is_stale)
    }
}

impl Held {
    fn spoil(&self) {
        self.is_spoiled.store(true, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(delivery) = self.delivery.take()
            && !*self.is_spoiled.get_mut()
        {
            delivery.ack();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::memory::MemoryBus;
    use crate::bus::topology::Names;
    use crate::bus::{Bus, Consumer, PublishTimeout, Route};

    async fn delivered() -> (MemoryBus, Consumer, Delivery, String) {
        let names = Names::new("test");
        let bus = MemoryBus::new(&names.common());
        let queue = names.pushes();
        let mut consumer = bus.consumer(queue.clone(), 10);
        let route = Route::queue(&queue.name);
        let publisher = bus.publisher(PublishTimeout::Endless);
        publisher.publish(route, Message::default()).await.unwrap();
        let delivery = consumer.recv().await.expect("it was published");
        (bus, consumer, delivery, queue.name)
    }

    async fn depth(bus: &MemoryBus, queue: &str) -> (usize, usize) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        bus.depth(queue)
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_is_done_when_its_last_part_is() {
        let (bus, _consumer, delivery, queue) = delivered().await;
        let whole = Whole::of(delivery);
        let parts = [(); 2].map(|()| whole.part(Message::default()));
        whole.finish();
        for part in parts {
            assert_eq!(depth(&bus, &queue).await, (0, 1));
            part.ack();
        }
        assert_eq!(depth(&bus, &queue).await, (0, 0));
        let (bus, _consumer, delivery, queue) = delivered().await;
        Whole::of(delivery).finish();
        assert_eq!(depth(&bus, &queue).await, (0, 0), "one without parts is done at once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_is_given_back_has_the_whole_come_again_when_all_others_are_done() {
        let (bus, mut consumer, delivery, queue) = delivered().await;
        let whole = Whole::of(delivery);
        let [kept, lost] = [(); 2].map(|()| whole.part(Message::default()));
        whole.finish();
        drop(lost);
        assert_eq!(depth(&bus, &queue).await, (0, 1));
        kept.ack();
        assert!(consumer.recv().await.expect("it comes again").is_redelivered());
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_of_which_not_all_was_given_out_comes_again() {
        let (_bus, mut consumer, delivery, _) = delivered().await;
        let whole = Whole::of(delivery);
        whole.part(Message::default()).ack();
        drop(whole);
        assert!(consumer.recv().await.expect("it comes again").is_redelivered());
    }
}
