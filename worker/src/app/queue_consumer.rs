//! Deliveries of one queue, until the worker stops.
//!
//! A consumer must outlive what it delivered, because to drop it is to give all
//! of that back; so anyone who holds an intake keeps it until its deliveries are done.

use shared::bus::{Consumer, Delivery};
use tokio_util::sync::CancellationToken;

/// How a worker ends: first it takes nothing new, then nothing at all.
#[derive(Clone, Default)]
pub(crate) struct Shutdown {
    /// Nothing new is taken, what was taken is finished.
    pub(crate) stop: CancellationToken,
    /// The time for that is over: what is not finished is given back.
    pub(crate) kill: CancellationToken,
}

pub(crate) struct QueueConsumer {
    consumer: Consumer,
    shutdown: Shutdown,
    stopping: bool,
    in_order: bool,
}

impl QueueConsumer {
    pub(crate) fn new(consumer: Consumer, shutdown: Shutdown) -> Self {
        Self {
            consumer,
            shutdown,
            stopping: false,
            in_order: false,
        }
    }

    /// Of a queue with a single active consumer. When the worker stops, it leaves the queue only when it is dropped: a
    /// consumer that is cancelled may be followed by another while it still has something to finish, which that other
    /// would overtake. What was delivered and not taken by then goes back, in its order.
    pub(crate) fn in_order(consumer: Consumer, shutdown: Shutdown) -> Self {
        Self {
            in_order: true,
            ..Self::new(consumer, shutdown)
        }
    }

    /// Waits for something that is needed before the first delivery; nothing when the worker stops.
    pub(crate) async fn unless_stopped<T>(&self, needed: impl Future<Output = T>) -> Option<T> {
        self.shutdown.stop.run_until_cancelled(needed).await
    }

    /// Waits until the worker stops, and takes nothing new from then on. It ends once.
    pub(crate) async fn stopped(&mut self) {
        if self.stopping {
            return std::future::pending().await;
        }
        self.shutdown.stop.cancelled().await;
        self.stopping = true;
        self.consumer.stop();
    }

    /// Whether what comes next is here already, because it came together with what was taken last.
    pub(crate) fn is_amid_batch(&self) -> bool {
        self.consumer.is_amid_batch()
    }

    /// Leaves that to other workers, as if it had not come.
    pub(crate) fn leave_the_rest(&mut self) {
        self.consumer.leave_the_rest();
    }

    /// Whether what comes next is acknowledged together with what was taken, and so has to be taken, too.
    fn is_amid_order(&self) -> bool {
        self.in_order && self.is_amid_batch()
    }

    /// The next delivery; nothing when the worker stops and all that had been delivered was taken.
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.kill.cancelled() => return None,
                () = self.shutdown.stop.cancelled(), if !(self.stopping || self.is_amid_order()) => {
                    if self.in_order {
                        return None;
                    }
                    self.stopping = true;
                    self.consumer.stop();
                }
                delivery = self.consumer.recv() => return delivery,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::bus::memory::MemoryBus;
    use shared::bus::topology::Names;
    use shared::bus::{Bus, Message, PublishTimeout, Route};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_intake_in_order_leaves_its_place_to_the_next_only_when_it_is_dropped() {
        let names = Names::new("test");
        let bus = MemoryBus::new(&names.common());
        let queue = names.pushes();
        for (in_order, stays) in [(true, true), (false, false)] {
            let shutdown = Shutdown::default();
            let consumer = bus.consumer(queue.clone(), 10);
            let mut intake = match in_order {
                true => QueueConsumer::in_order(consumer, shutdown.clone()),
                false => QueueConsumer::new(consumer, shutdown.clone()),
            };
            let publishing = bus.publisher(PublishTimeout::Endless);
            let route = Route::queue(&queue.name);
            publishing.publish(route, Message::default()).await.unwrap();
            let unfinished = intake.next().await.expect("it was published");
            shutdown.stop.cancel();
            assert!(intake.next().await.is_none());
            assert_eq!(bus.is_consumed(&queue.name).await, stays);
            unfinished.ack();
            drop(intake);
            tokio::task::yield_now().await;
            assert!(!bus.is_consumed(&queue.name).await);
        }
    }
}
