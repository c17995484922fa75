//! One confirm channel, and everything that is on its way through it.
//!
//! Publications leave in the order of their submission, up to [`WINDOW`] of them
//! unconfirmed at a time. What a lost channel had not confirmed leaves again through the
//! next, in the same order. All of it happens in one task, because two that publish on one
//! channel can swap delivery tags.
//!
//! Something that someone else wrote may be what costs the channel: what leaves one by one then, and what is given up,
//! is for [`Suspicion`] to say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::Channel;
use lapin::options::ConfirmSelectOptions;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::TaskTracker;

use super::connection::{Connections, Generation, present};
use super::pending::{Pending, Sending, Sent};
use super::refusals::Refusals;
use crate::bus::batch::Packer;
use crate::bus::suspicion::{Loss, Suspicion, UnderWay};
use crate::bus::topology::Names;
use crate::bus::{Link, Publication, PublishError, PublishTimeout, Publisher};

/// The most unconfirmed publications of a channel. lapin walks through all of them at each confirm that covers
/// several, and the broker confirms in batches of a few hundred.
const WINDOW: usize = 1_000;
/// How many submissions are taken over at a time, before confirms get their turn.
const BURST: usize = 64;
/// How often patience is looked at: fine beside the seconds that it lasts.
const PATIENCE_PERIOD: Duration = Duration::from_millis(250);
/// A node that confirms nothing for so long, though it takes everything, may be cut off from the others. If the next is as
/// silent, it is the queue, or everyone has too much to do: then it is waited for twice as long, up to eight times.
const SILENCE: Duration = Duration::from_secs(10);
const MOST_DOUBLINGS: u32 = 3;
/// When a queue that may have no leader is asked again.
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);
/// A message that ends its connection does so as soon as the broker reads it. What ends one later is something else.
const JUDGED_WITHIN: Duration = Duration::from_secs(5);
/// The time for opening a channel.
const CHANNEL_TIMEOUT: Duration = Duration::from_secs(5);

/// A publisher on those connections, which packs what goes to the queues of `batches` that take it.
pub(super) fn start(
    connections: Connections,
    link: watch::Receiver<Link>,
    patience: PublishTimeout,
    batches: Option<Names>,
    tasks: &TaskTracker,
) -> Publisher {
    let (publisher, queue) = Publisher::new();
    let task = PublishTask {
        queue,
        room: publisher.room(),
        connections,
        link,
        patience,
        pending: Pending::new(format!("{:08x}", rand::random::<u32>())),
        down_since: Some(Instant::now()),
        ended: false,
        suspicion: Suspicion::default(),
        silences: 0,
        refusals: Refusals::default(),
        packer: Packer::new(batches),
    };
    tasks.spawn(run(task));
    publisher
}

/// Runs until all publishers are dropped and all publications settled.
async fn run(mut task: PublishTask) {
    while let Some(generation) = task.next_generation().await {
        match task.publish_on(&generation).await {
            Outcome::Finished => return,
            Outcome::Lost { under_way, loss } => {
                if let Some(blame) = task.suspicion.lost(under_way, loss) {
                    task.pending.blame(blame);
                    task.accept_apart();
                }
                if loss == Loss::Refusal {
                    sleep(REFUSAL_PAUSE).await;
                } else if loss != Loss::Channel {
                    if loss == Loss::Outage {
                        generation.note_outage();
                    }
                    // Whatever failed, a fresh connection is the way to know where we are.
                    generation.fail("lost a channel for publications");
                }
            }
        }
    }
    task.pending.settle_all(PublishError::Ended);
}

#[derive(PartialEq, Eq)]
enum Outcome {
    /// There is nothing left to do, for ever.
    Finished,
    /// The channel is no good any more.
    Lost {
        /// What was under way, if something was.
        under_way: UnderWay,
        /// What went with it.
        loss: Loss,
    },
}

struct PublishTask {
    queue: mpsc::Receiver<Publication>,
    /// How many bytes of properties the present connection carries.
    room: Arc<AtomicUsize>,
    connections: Connections,
    link: watch::Receiver<Link>,
    patience: PublishTimeout,
    pending: Pending,
    /// Since when nothing leaves.
    down_since: Option<Instant>,
    /// All publishers are dropped.
    ended: bool,
    suspicion: Suspicion,
    /// How many nodes in a row have confirmed nothing.
    silences: u32,
    refusals: Refusals,
    packer: Packer,
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

    async fn publish_on(&mut self, generation: &Arc<Generation>) -> Outcome {
        let opening = timeout(CHANNEL_TIMEOUT, open(generation)).await;
        let Ok(Ok(channel)) = opening else {
            return Outcome::Lost {
                under_way: UnderWay::Nothing,
                loss: Loss::Connection,
            };
        };
        self.room.store(room_for_headers(generation), Ordering::Relaxed);
        self.refusals.reopened();
        let mut in_flight = FuturesUnordered::new();
        let mut alone = None;
        if self.suspicion.one_by_one() {
            self.pending.take_apart(&self.packer);
            alone = self.pending.next_from(0).map(|(id, sending)| {
                in_flight.push(send(&channel, generation, id, sending));
                id
            });
            if alone.is_none() {
                self.suspicion.is_over();
            }
        } else {
            for (id, sending) in self.pending.all() {
                in_flight.push(send(&channel, generation, id, sending));
            }
        }
        let lost = |pending: &Pending, alone: Option<u64>, loss| {
            let under_way = match (alone, pending.unsettled()) {
                (Some(id), _) => UnderWay::One(id),
                (None, 0) => UnderWay::Nothing,
                (None, 1) => pending
                    .next_from(0)
                    .map_or(UnderWay::Nothing, |(id, _)| UnderWay::One(id)),
                (None, _) => UnderWay::Several,
            };
            Outcome::Lost { under_way, loss }
        };
        let mut burst = Vec::with_capacity(BURST);
        let mut patience_check = patience_check();
        // When something was confirmed last, or nothing was waited for; and when something was sent last.
        let (mut heard, mut sent) = (Instant::now(), Instant::now());
        loop {
            let flowing = self.flowing();
            if !flowing || self.pending.is_empty() {
                heard = Instant::now();
            }
            let refusing = !flowing && self.out_of_patience();
            if self.ended && self.pending.is_empty() {
                // A channel that does not close now goes with its connection.
                let _ = timeout(CHANNEL_TIMEOUT, channel.close(200, "done".into())).await;
                return Outcome::Finished;
            }
            let places = match self.suspicion.one_by_one() {
                true => 0,
                false => self.packer.places(self.pending.len(), WINDOW, BURST),
            };
            tokio::select! {
                biased;
                () = generation.lost.cancelled() => {
                    let loss = match generation.is_outage() || sent.elapsed() > JUDGED_WITHIN {
                        true => Loss::Outage,
                        false => Loss::Connection,
                    };
                    return lost(&self.pending, alone, loss);
                }
                Some(first) = in_flight.next() => {
                    let settled = gather(first, &mut in_flight);
                    if let Err(loss) = self.pending.settle(settled, &mut self.refusals, &generation.max_body) {
                        return lost(&self.pending, alone, loss);
                    }
                    for (id, sending) in self.accept_apart() {
                        sent = Instant::now();
                        if !self.suspicion.one_by_one() {
                            in_flight.push(send(&channel, generation, id, sending));
                        }
                    }
                    if self.pending.has_missed() {
                        generation.declare_again();
                    }
                    self.suspicion.confirmed();
                    self.silences = 0;
                    heard = Instant::now();
                    if let Some(id) = alone.take() {
                        sent = heard;
                        alone = self.pending.next_from(id + 1).map(|(id, sending)| {
                            in_flight.push(send(&channel, generation, id, sending));
                            id
                        });
                        if alone.is_none() {
                            self.suspicion.is_over();
                        }
                    }
                }
                count = self.queue.recv_many(&mut burst, places), if places > 0 && !self.ended && (flowing || refusing) => {
                    self.ended = count == 0;
                    self.gather_more(&mut burst, places).await;
                    if refusing {
                        burst.drain(..).for_each(|publication| publication.settle(Err(PublishError::Away)));
                    } else {
                        sent = Instant::now();
                        self.packer.pack(&mut burst, |publication| {
                            let (id, sending) = self.pending.accept(publication);
                            in_flight.push(send(&channel, generation, id, sending));
                        });
                    }
                }
                _ = patience_check.tick() => {
                    self.give_up_the_late();
                    if heard.elapsed() >= SILENCE * 2_u32.pow(self.silences.min(MOST_DOUBLINGS)) {
                        self.silences += 1;
                        if generation.suspect_its_node() {
                            return lost(&self.pending, alone, Loss::Silence);
                        }
                    }
                }
            }
        }
    }

    /// Lets anyone who is ready submit too, before a burst leaves. Each waking of lapin's thread costs as much as several
    /// publications, and under load most of them can be had for one.
    async fn gather_more(&mut self, burst: &mut Vec<Publication>, room: usize) {
        tokio::task::yield_now().await;
        while burst.len() < room
            && let Ok(publication) = self.queue.try_recv()
        {
            burst.push(publication);
        }
    }

    /// Takes over what left in a batch that the broker would not take.
    fn accept_apart(&mut self) -> Vec<(u64, Sending)> {
        let apart = std::iter::from_fn(|| self.packer.apart());
        apart.map(|publication| self.pending.accept(publication)).collect()
    }

    /// Whether publications leave at the moment; remembers since when they do not.
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
            (PublishTimeout::Limited(limit), Some(since)) => since.elapsed() >= limit,
            _ => false,
        }
    }

    fn give_up_the_late(&mut self) {
        let PublishTimeout::Limited(limit) = self.patience else {
            return;
        };
        if self.out_of_patience() {
            self.pending.settle_all(PublishError::Away);
        } else {
            self.pending.settle_older_than(limit);
        }
    }
}

/// What properties and headers may take of a frame: they must be in one (AMQP 0-9-1 §4.2.6).
fn room_for_headers(generation: &Generation) -> usize {
    match generation.connection.configuration().frame_max() {
        0 => usize::MAX,
        frame_max => frame_max as usize,
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
async fn send(channel: &Channel, generation: &Generation, id: u64, sending: Sending) -> Sent {
    let result = match sending.fits(generation.max_body.load(Ordering::Relaxed)) {
        Ok(()) => sending.on(channel, room_for_headers(generation)).await,
        Err(error) => Err(error),
    };
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
