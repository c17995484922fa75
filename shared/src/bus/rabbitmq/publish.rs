//! One confirm channel, and everything that is on its way through it.
//!
//! Publications leave in the order of their submission, up to [`WINDOW`] of them
//! unconfirmed at a time. What a lost channel had not confirmed leaves again through the
//! next, in the same order. All of it happens in one task, because two that publish on one
//! channel can swap delivery tags.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::Channel;
use lapin::options::ConfirmSelectOptions;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::connection::{Connections, Generation, present};
use super::pending::{Pending, Sending, Sent};
use crate::bus::{Link, Patience, Publication, PublishError};

/// The most unconfirmed publications of a channel. lapin walks through all of them at each confirm that covers
/// several, and the broker confirms in batches of a few hundred.
const WINDOW: usize = 1_000;
/// How many submissions are taken over at a time, before confirms get their turn.
const BURST: usize = 64;
/// How often patience is looked at: fine beside the seconds that it lasts.
const PATIENCE_PERIOD: Duration = Duration::from_millis(250);
/// The time for opening a channel.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until all publishers are dropped and all publications settled.
pub(super) async fn run(
    queue: mpsc::Receiver<Publication>,
    connections: Connections,
    link: watch::Receiver<Link>,
    patience: Patience,
) {
    let mut task = PublishTask {
        queue,
        connections,
        link,
        patience,
        pending: Pending::new(format!("{:08x}", rand::random::<u32>())),
        down_since: Some(Instant::now()),
        ended: false,
    };
    while let Some(generation) = task.next_generation().await {
        if task.publish_on(&generation).await == Outcome::Finished {
            return;
        }
        // Whatever failed, a fresh connection is the way to know where we are.
        generation.lost.cancel();
    }
    task.pending.settle_all(PublishError::Ended);
}

#[derive(PartialEq, Eq)]
enum Outcome {
    /// There is nothing left to do, for ever.
    Finished,
    /// The channel is no good any more.
    Lost,
}

struct PublishTask {
    queue: mpsc::Receiver<Publication>,
    connections: Connections,
    link: watch::Receiver<Link>,
    patience: Patience,
    pending: Pending,
    /// Since when nothing leaves.
    down_since: Option<Instant>,
    /// All publishers are dropped.
    ended: bool,
}

impl PublishTask {
    /// Waits for a connection; nothing when there is no need for one any more.
    async fn next_generation(&mut self) -> Option<Arc<Generation>> {
        self.down_since.get_or_insert_with(Instant::now);
        let mut patience_check = patience_check();
        loop {
            if self.ended && self.pending.is_empty() {
                return None;
            }
            let refusing = self.out_of_patience();
            tokio::select! {
                generation = present(&mut self.connections) => return generation,
                _ = patience_check.tick() => {
                    self.give_up_the_late();
                    self.ended |= self.queue.is_closed() && self.queue.is_empty();
                }
                publication = self.queue.recv(), if refusing => match publication {
                    Some(publication) => publication.settle(Err(PublishError::Away)),
                    None => self.ended = true,
                },
            }
        }
    }

    async fn publish_on(&mut self, generation: &Generation) -> Outcome {
        let opening = timeout(CHANNEL_TIMEOUT, open(generation)).await;
        let Ok(Ok(channel)) = opening else { return Outcome::Lost };
        let mut in_flight = FuturesUnordered::new();
        for (id, route_and_message) in self.pending.all() {
            in_flight.push(send(&channel, id, route_and_message));
        }
        let mut burst = Vec::with_capacity(BURST);
        let mut patience_check = patience_check();
        loop {
            let flowing = self.flowing();
            let refusing = !flowing && self.out_of_patience();
            if self.ended && self.pending.is_empty() {
                // A channel that does not close now goes with its connection.
                let _ = timeout(CHANNEL_TIMEOUT, channel.close(200, "done".into())).await;
                return Outcome::Finished;
            }
            let room = WINDOW.saturating_sub(self.pending.len()).min(BURST);
            tokio::select! {
                biased;
                () = generation.lost.cancelled() => return Outcome::Lost,
                Some(first) = in_flight.next() => {
                    let settled = gather(first, &mut in_flight);
                    if !self.pending.settle(settled) {
                        return Outcome::Lost;
                    }
                }
                count = self.queue.recv_many(&mut burst, room), if room > 0 && !self.ended && (flowing || refusing) => {
                    self.ended = count == 0;
                    self.gather_more(&mut burst, room).await;
                    for publication in burst.drain(..) {
                        if refusing {
                            publication.settle(Err(PublishError::Away));
                        } else {
                            let (id, sending) = self.pending.accept(publication);
                            in_flight.push(send(&channel, id, sending));
                        }
                    }
                }
                _ = patience_check.tick() => self.give_up_the_late(),
            }
        }
    }

    /// Lets whoever is ready submit too, before a burst leaves. Each waking of lapin's thread costs as much as several
    /// publications, and under load most of them can be had for one.
    async fn gather_more(&mut self, burst: &mut Vec<Publication>, room: usize) {
        tokio::task::yield_now().await;
        while burst.len() < room
            && let Ok(publication) = self.queue.try_recv()
        {
            burst.push(publication);
        }
    }

    /// Whether publications leave just now; remembers since when they do not.
    fn flowing(&mut self) -> bool {
        let flowing = *self.link.borrow() != Link::Blocked;
        if flowing {
            self.down_since = None;
        } else {
            self.down_since.get_or_insert_with(Instant::now);
        }
        flowing
    }

    fn out_of_patience(&self) -> bool {
        match (self.patience, self.down_since) {
            (Patience::Limited(limit), Some(since)) => since.elapsed() >= limit,
            _ => false,
        }
    }

    fn give_up_the_late(&mut self) {
        let Patience::Limited(limit) = self.patience else {
            return;
        };
        if self.out_of_patience() {
            self.pending.settle_all(PublishError::Away);
        } else {
            self.pending.settle_older_than(limit);
        }
    }
}

fn patience_check() -> tokio::time::Interval {
    let mut check = interval(PATIENCE_PERIOD);
    check.set_missed_tick_behavior(MissedTickBehavior::Delay);
    check
}

async fn open(generation: &Generation) -> lapin::Result<Channel> {
    let channel = generation.connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions { nowait: false }).await?;
    Ok(channel)
}

/// Publishes and waits for the confirm. Its first poll hands the frames to lapin, so the order of first polls is the
/// order on the wire.
async fn send(channel: &Channel, id: u64, sending: Sending) -> Sent {
    let result = sending.on(channel).await;
    Sent { id, result }
}

/// All that is settled by now. A returned message is told with whichever confirm comes next, so
/// confirms are believed only together with all that came at the same time.
fn gather<F: Future<Output = Sent>>(first: Sent, in_flight: &mut FuturesUnordered<F>) -> Vec<Sent> {
    let mut settled = vec![first];
    while let Some(Some(sent)) = in_flight.next().now_or_never() {
        settled.push(sent);
    }
    settled
}
