//! What all connections of one terminator have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use shared::service::clock::Clock;
use shared::service::trace::Tracer;
use tokio::time::Instant;

use crate::admin::closings::Closings;
use crate::admin::levels::Levels;
use crate::admin::metrics::Metrics;
use crate::broker::PREFETCH;
use crate::connection::index::Index;
use crate::connection::load::TotalLoad;
use crate::session::recent::Keys;
use crate::timers::expiries::Expiries;
use crate::timers::now::Now;
use crate::timers::wheel::Wheel;
use crate::timers::workers_clock::WorkersClock;

/// The most that may be kept behind fetches, all connections together. It is not acknowledged, and the broker gives out no
/// more than a certain number of those: half of them is left for what ends the fetches.
const MOST_BEHIND: usize = PREFETCH as usize / 2;

/// What all connections of one terminator have in common.
pub(crate) struct TerminatorContext {
    pub(crate) metrics: Arc<Metrics>,
    /// By which tokens are judged.
    pub(crate) clock: WorkersClock,
    pub(crate) wheel: Wheel,
    pub(crate) expiries: Expiries,
    pub(crate) keys: Keys,
    pub(crate) shares: ConnectionLimits,
    pub(crate) tracer: Tracer,
    pub(crate) closings: Closings,
    pub(crate) index: Index,
    /// What is kept for all connections.
    pub(crate) load: TotalLoad,
    /// How much is kept behind fetches.
    behind: AtomicUsize,
    /// How many fetches were asked for.
    fetches: AtomicU64,
}

/// How much one connection may take, and all together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// How many messages may be on their way.
    pub(crate) max_in_flight: usize,
    /// How many messages may be on their way of one that has never proved who it is.
    pub(crate) unauthenticated_in_flight: usize,
    /// How many bytes may wait to be written.
    pub(crate) send_queue_bytes: usize,
    /// How many bytes may wait to be written, of all.
    pub(crate) send_queue_bytes_total: usize,
    /// How long it may be nobody's, from the beginning.
    pub(crate) auth_timeout: Option<Duration>,
    /// How long it may be without any answer to what it has asked.
    pub(crate) answer_timeout: Option<Duration>,
    /// How many of its messages go to one worker together, one after the other; nothing if they need no order.
    pub(crate) run: Option<usize>,
}

impl TerminatorContext {
    pub(crate) fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>, shares: ConnectionLimits, tracer: Tracer) -> Self {
        let now = Instant::now();
        Self {
            metrics,
            clock: WorkersClock::new(clock),
            wheel: Wheel::new(now),
            expiries: Expiries::new(now),
            keys: Keys::default(),
            shares,
            tracer,
            closings: Closings::default(),
            index: Index::default(),
            load: TotalLoad::new(shares.send_queue_bytes_total),
            behind: AtomicUsize::new(0),
            fetches: AtomicU64::new(0),
        }
    }

    /// Whether more may be kept behind fetches.
    pub(crate) fn has_room_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed) < MOST_BEHIND
    }

    /// What a connection takes of all has changed.
    pub(crate) fn levels(&self, connection: u64, before: Levels, after: Levels) {
        if before == after {
            return;
        }
        self.behind.fetch_add(after.held_outbound, Ordering::Relaxed);
        self.behind.fetch_sub(before.held_outbound, Ordering::Relaxed);
        self.expiries.moved(before.grant_ends, after.grant_ends);
        self.index.moved(connection, before.owner, after.owner);
        self.load.moved(before.load, after.load);
        self.metrics.levels(before, after);
    }

    /// A name for a fetch, which no other of this terminator has; never 0.
    pub(crate) fn name_of_fetch(&self) -> u64 {
        self.fetches.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            wall: self.clock.now(),
        }
    }
}
