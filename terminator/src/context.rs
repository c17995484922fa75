//! What all connections of one terminator have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use shared::service::clock::Clock;
use shared::service::trace::Tracer;
use tokio::time::Instant;

use crate::admin::closings::Closings;
use crate::admin::levels::Levels;
use crate::admin::message_event::{Listener, Observer};
use crate::admin::metrics::Metrics;
use crate::broker::PREFETCH;
use crate::connection::index::Index;
use crate::connection::load::TotalLoad;
use crate::events::publisher::EventSender;
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
    /// What their sessions see of it.
    pub(crate) around: Arc<Surroundings>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) wheel: Wheel,
    pub(crate) expiries: Expiries,
    pub(crate) tracer: Tracer,
    pub(crate) closings: Closings,
    pub(crate) index: Index,
    /// Where it is told what happens to connections; none if it is not.
    pub(crate) events: Option<EventSender>,
}

/// What the session of each connection sees of what all have in common. It changes nothing here but the two counts: of what is
/// kept behind fetches, and of the names that fetches were given.
pub(crate) struct Surroundings {
    /// By which tokens are judged.
    pub(crate) clock: WorkersClock,
    pub(crate) keys: Keys,
    pub(crate) limits: ConnectionLimits,
    /// What is kept for all connections.
    pub(crate) load: TotalLoad,
    /// How much is kept behind fetches.
    behind: AtomicUsize,
    /// How many names were given to fetches.
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
    /// How long it may be no one's, from the beginning.
    pub(crate) auth_timeout: Option<Duration>,
    /// How long the oldest message that it has open may be without an answer.
    pub(crate) answer_timeout: Option<Duration>,
    /// How many of its messages go to one worker together, one after the other; none if they need no order.
    pub(crate) run: Option<usize>,
}

impl TerminatorContext {
    pub(crate) fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>, limits: ConnectionLimits, tracer: Tracer) -> Self {
        let now = Instant::now();
        Self {
            around: Arc::new(Surroundings {
                clock: WorkersClock::new(clock),
                keys: Keys::default(),
                limits,
                load: TotalLoad::new(limits.send_queue_bytes_total),
                behind: AtomicUsize::new(0),
                fetches: AtomicU64::new(0),
            }),
            observer: Arc::new(Observer {
                metrics: metrics.clone(),
                listener: None,
            }),
            metrics,
            wheel: Wheel::new(now),
            expiries: Expiries::new(now),
            tracer,
            closings: Closings::default(),
            index: Index::default(),
            events: None,
        }
    }

    /// The same, which tells there what happens to connections.
    #[must_use]
    pub(crate) fn telling(self, events: Option<EventSender>) -> Self {
        Self { events, ..self }
    }

    /// The same, whose messages' events someone listens to.
    #[must_use]
    pub(crate) fn heard_by(self, listener: Option<Listener>) -> Self {
        let metrics = self.metrics.clone();
        let observer = Arc::new(Observer { metrics, listener });
        Self { observer, ..self }
    }

    /// What a connection takes of all has changed.
    pub(crate) fn levels(&self, connection: u64, before: Levels, after: Levels) {
        if before == after {
            return;
        }
        self.around.behind.fetch_add(after.held_outbound, Ordering::Relaxed);
        self.around.behind.fetch_sub(before.held_outbound, Ordering::Relaxed);
        self.expiries.moved(before.grant_ends, after.grant_ends);
        self.index.moved(connection, before.owner, after.owner);
        self.around.load.moved(before.load, after.load);
        self.metrics.levels(before, after);
    }

    pub(crate) fn now(&self) -> Now {
        Now {
            instant: Instant::now(),
            wall: self.around.clock.now(),
        }
    }
}

impl Surroundings {
    /// Whether more may be kept behind fetches.
    pub(crate) fn has_room_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed) < MOST_BEHIND
    }

    /// A name for a fetch, which no other of this terminator has; never 0.
    pub(crate) fn name_of_fetch(&self) -> u64 {
        self.fetches.fetch_add(1, Ordering::Relaxed) + 1
    }
}
