//! Deliveries of one queue, until the worker stops.
//!
//! A consumer must outlive what it delivered, because to drop it is to give all
//! of that back; so whoever holds an intake keeps it until its deliveries are done.

use shared::bus::{Consumer, Delivery};
use tokio_util::sync::CancellationToken;

/// How a worker ends: first it takes nothing new, then nothing at all.
#[derive(Clone, Default)]
pub(crate) struct Ending {
    /// Nothing new is taken, what was taken is finished.
    pub(crate) stop: CancellationToken,
    /// The time for that is over: what is not finished is given back.
    pub(crate) kill: CancellationToken,
}

pub(crate) struct Intake {
    consumer: Consumer,
    ending: Ending,
    stopping: bool,
}

impl Intake {
    pub(crate) fn new(consumer: Consumer, ending: Ending) -> Self {
        Self {
            consumer,
            ending,
            stopping: false,
        }
    }

    /// The next delivery; nothing when the worker stops and all that had been delivered was taken.
    pub(crate) async fn next(&mut self) -> Option<Delivery> {
        loop {
            tokio::select! {
                biased;
                () = self.ending.kill.cancelled() => return None,
                () = self.ending.stop.cancelled(), if !self.stopping => {
                    self.stopping = true;
                    self.consumer.stop();
                }
                delivery = self.consumer.recv() => return delivery,
            }
        }
    }
}
