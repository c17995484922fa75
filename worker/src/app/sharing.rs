//! What a worker has more of than it can handle soon, for workers that have nothing to do.
//!
//! A worker takes in more than it handles, or anyone who proves who they are would wait in the queue behind slow messages. But
//! what waits here for a place ([`places`](crate::handler::places)) could be handled by a worker that has joined, or is done with
//! its own. So a worker where something waits whenever it is looked at, be it each for a moment, tells the others; those with nothing to do say so;
//! and then half of what waits goes back to the queue, the newest of the longest line first, as if it had not come. That is
//! repeated while something waits here and someone has nothing to do, and costs nothing otherwise.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::topology::{Names, keys};
use shared::bus::{Publisher, Route};
use shared::service::chance;
use shared::wire::envelope::{self, Load, Spare};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::handler::places::Places;

/// How often it is looked at whether something waits. What does so once is a matter of moments; twice in a row, and a worker that
/// has joined has work.
const LOOK_PERIOD: Duration = Duration::from_millis(250);

/// How much is given back at a time.
const MOST_AT_A_TIME: usize = 128;

/// What one worker shares.
pub(crate) struct Sharing {
    /// A number that it draws at its start.
    me: String,
    places: Arc<Places>,
    /// Another has too much.
    asked: Notify,
}

impl Sharing {
    pub(crate) fn new(places: Arc<Places>) -> Self {
        Self {
            me: format!("{:016x}", chance::number()),
            places,
            asked: Notify::new(),
        }
    }

    /// Tells the others what this worker has too much of, and, when they have, that it has nothing to do, unless it is
    /// `stopping`. Runs for ever.
    pub(crate) async fn tell(self: Arc<Self>, publisher: Publisher, names: Names, stopping: CancellationToken) {
        let mut looks = interval(LOOK_PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut waited = false;
        loop {
            let spare = tokio::select! {
                _ = looks.tick() => {
                    let waits = self.places.has_surplus();
                    (std::mem::replace(&mut waited, waits) && waits).then_some(Spare::Messages)
                }
                () = self.asked.notified() => {
                    (self.places.is_idle() && !stopping.is_cancelled()).then_some(Spare::Places)
                }
            };
            let Some(spare) = spare else { continue };
            let load = Load {
                worker: self.me.clone(),
                spare,
            };
            let route = Route::new(&names.internal_exchange().name, keys::RULES);
            if let Err(reason) = publisher.publish(route, envelope::load(&load)).await {
                debug!(%reason, "the load of this worker was not sent to the other workers");
            }
        }
    }

    /// Another worker has told its own.
    pub(crate) fn hear(&self, load: &Load) {
        match load.spare {
            _ if load.worker == self.me => {}
            Spare::Messages => self.asked.notify_one(),
            Spare::Places => self.places.hand_on(MOST_AT_A_TIME),
        }
    }
}
