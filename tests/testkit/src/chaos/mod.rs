//! The bus of one process of many, in bad weather: for the simulator.
//!
//! All processes of a simulation share one [`MemoryBus`]. Each has a
//! [`ChaosBus`] of its own on it, which stands for the network between the two
//! and for what a broker may do there, and no more:
//!
//! - everything takes a while, each way, but what one publisher sends stays in its order, and what one
//!   consumer is given, too;
//! - a connection may be lost: what was published and not confirmed is published again through the next one, in
//!   order, and what was delivered and not acknowledged is delivered again, to anyone;
//! - a publication may be one for which the broker closes the connection ([`DEADLY`]);
//! - a process may die: what it sent may have arrived or not, and it hears nothing any more.
//!
//! Chance comes from [`Rng`] and time from tokio's clock, so that under a paused
//! clock the same seed does the same again.

mod consumer;
mod publisher;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::bus::batch::{Packer, Returning, Unpacking};
use shared::bus::memory::MemoryBus;
use shared::bus::topology::Queue;
use shared::bus::{Bus, Closing, Consumer, Link, Looking, PublishTimeout, Publisher};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::rng::Rng;

/// What has this in its body costs the connection that it is published on, each time.
pub const DEADLY: &str = "costs its connection";
/// How often something takes as long as it may, instead of a moment, in a hundred times.
const SLOW_PERCENT: u64 = 10;

/// How long things take on their way.
#[derive(Clone, Copy, Debug)]
pub struct LatencyModel {
    /// At most, most of the time.
    pub usual: Duration,
    /// At most, ever.
    pub slow: Duration,
}

/// Which of a process's two connections to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The one on which it publishes.
    Publishing,
    /// The one on which it consumes.
    Consuming,
}

/// One process's way to the broker that all share.
pub struct ChaosBus {
    shared: MemoryBus,
    latency: LatencyModel,
    gone: CancellationToken,
    state: Arc<Mutex<State>>,
    /// The way back for what is given back out of a batch; one for each process, and gone with it.
    returning: Returning,
}

struct State {
    rng: Rng,
    publishers: Vec<mpsc::UnboundedSender<Duration>>,
    consumers: Vec<mpsc::UnboundedSender<Duration>>,
    /// One channel for each who asked: those who wait for one channel are woken in no fixed order.
    links: Vec<watch::Sender<Link>>,
}

/// What one publisher or consumer has of its process's connections.
struct Wire {
    bus: MemoryBus,
    latency: LatencyModel,
    rng: Rng,
    /// The connection is lost for so long.
    lost: mpsc::UnboundedReceiver<Duration>,
    /// The process is dead.
    gone: CancellationToken,
}

impl ChaosBus {
    /// A way to `shared` for one process.
    pub fn new(shared: &MemoryBus, latency: LatencyModel, rng: Rng) -> Self {
        let gone = CancellationToken::new();
        let state = Arc::new(Mutex::new(State {
            rng,
            publishers: Vec::new(),
            consumers: Vec::new(),
            links: Vec::new(),
        }));
        let returning = {
            let (bus, gone, state) = (shared.clone(), gone.clone(), state.clone());
            Returning::new(move || publisher_on(bus, latency, gone, &state, Packer::new(None)))
        };
        Self {
            shared: shared.clone(),
            latency,
            gone,
            state,
            returning,
        }
    }

    /// Loses a connection, and has the next one after `away`. If `told`, the process notices that the broker is away.
    pub fn lose(&self, role: Role, away: Duration, told: bool) {
        let state = self.state();
        let relays = match role {
            Role::Publishing => &state.publishers,
            Role::Consuming => &state.consumers,
        };
        for relay in relays {
            // One that has ended has nothing to lose.
            let _ = relay.send(away);
        }
        if told {
            for link in state.links.clone() {
                link.send_replace(Link::Away("lost".into()));
                tokio::spawn(async move {
                    sleep(away).await;
                    link.send_replace(Link::Up);
                });
            }
        }
    }

    /// The process dies, as by `kill -9`.
    pub fn kill(&self) {
        self.gone.cancel();
    }

    /// Cancelled when the process dies.
    pub fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // Nothing under this lock panics half-way through a change.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn publisher_on(
    bus: MemoryBus,
    latency: LatencyModel,
    gone: CancellationToken,
    state: &Mutex<State>,
    packer: Packer,
) -> Publisher {
    let (publisher, queue) = Publisher::new();
    let (sender, lost) = mpsc::unbounded_channel();
    let rng = {
        let mut state = lock(state);
        state.publishers.push(sender);
        state.rng.fork()
    };
    let wire = Wire {
        bus,
        latency,
        rng,
        lost,
        gone,
    };
    tokio::spawn(publisher::Relay::new(wire, packer).run(queue));
    publisher
}

impl Bus for ChaosBus {
    fn publisher(&self, _: PublishTimeout) -> Publisher {
        publisher_on(
            self.shared.clone(),
            self.latency,
            self.gone.clone(),
            &self.state,
            self.shared.packer(),
        )
    }

    fn consumer(&self, queue: Queue, prefetch: u16) -> Consumer {
        let (consumer, backend) = Consumer::new(Unpacking::of(&queue, &self.returning));
        let (sender, lost) = mpsc::unbounded_channel();
        let rng = {
            let mut state = self.state();
            state.consumers.push(sender);
            state.rng.fork()
        };
        let wire = Wire {
            bus: self.shared.clone(),
            latency: self.latency,
            rng,
            lost,
            gone: self.gone.clone(),
        };
        tokio::spawn(consumer::Relay::new(wire, queue, prefetch, backend).run());
        consumer
    }

    fn is_consumed<'a>(&'a self, queue: &'a str) -> Looking<'a> {
        let mut rng = self.state().rng.fork();
        let (there, back) = (self.latency.delay(&mut rng), self.latency.delay(&mut rng));
        Box::pin(async move {
            sleep(there).await;
            let consumed = self.shared.is_consumed(queue).await;
            sleep(back).await;
            if self.gone.is_cancelled() {
                std::future::pending::<()>().await;
            }
            consumed
        })
    }

    fn is_there<'a>(&'a self, queue: &'a str) -> Looking<'a> {
        self.shared.is_there(queue)
    }

    fn is_gone<'a>(&'a self, queue: &'a str) -> Looking<'a> {
        self.shared.is_gone(queue)
    }

    fn link(&self) -> watch::Receiver<Link> {
        let (sender, link) = watch::channel(Link::Up);
        self.state().links.push(sender);
        link
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(std::future::ready(()))
    }
}

impl LatencyModel {
    /// How long something takes, one way.
    pub fn delay(&self, rng: &mut Rng) -> Duration {
        let most = if rng.chance(SLOW_PERCENT) {
            self.slow
        } else {
            self.usual
        };
        rng.time(most)
    }
}

impl Wire {
    /// When something arrives that leaves now, on a way on which nothing overtakes what came at `last`.
    fn arrival(&mut self, last: Option<Instant>) -> Instant {
        let arrival = Instant::now() + self.latency.delay(&mut self.rng);
        last.map_or(arrival, |last| last.max(arrival))
    }
}

/// The first of what is on its way, if it has arrived.
fn due<T>(coming: &mut VecDeque<T>, arrived: impl FnOnce(&T) -> bool) -> Option<T> {
    if coming.front().is_some_and(arrived) {
        coming.pop_front()
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
