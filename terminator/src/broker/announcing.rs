//! Brings back what others have forgotten of this terminator, or it of them.
//!
//! The store knows which connections an identity has. When it may have lost that, the
//! terminators tell the workers of their connections anew, so many at a time. The same
//! is done when this terminator was without the broker for so long that its return
//! queue may have gone, and when that was gone indeed: workers take the connections of such a queue out of the store.
//! What was revoked meanwhile it has missed, so it asks for all revocations.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use shared::bus::Link;
use shared::service::backoff::Backoff;
use shared::service::chance;
use shared::wire::envelope::Epoch;
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::revocation::TRUSTED_WITHOUT_BROKER;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info};

use super::forward::Forwarder;
use crate::connection::handle::ConnectionHandle;
use crate::connection::registry::Registry;
use crate::session::Session;
use crate::timers::now::Now;

/// How many connections are announced at a time, and how long after each other: 2,000 a second.
const SLICE: usize = 100;
const SLICE_PAUSE: Duration = Duration::from_millis(50);

/// When those are announced again that the broker did not take.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// When a connection is announced again of which no worker has said that the store knows it, and how much longer it takes while that
/// goes on.
const LEAST_WAIT: Duration = Duration::from_secs(5);
const MOST_WAIT: Duration = Duration::from_secs(60);

/// How often this process sees that it runs and has the broker: it may have been frozen meanwhile.
const BEAT: Duration = Duration::from_secs(5);

/// How long after all were announced those are that have changed since.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// By number, the message that had last changed each connection when it was announced.
type Announced = HashMap<u64, Sequence>;

pub(crate) struct Announcer {
    pub(crate) registry: Arc<Registry>,
    pub(crate) forwarder: Arc<Forwarder>,
    /// The last that was heard of; nothing until one is.
    pub(crate) epochs: watch::Receiver<Option<Epoch>>,
    pub(crate) link: watch::Receiver<Link>,
    /// Of the return queue.
    pub(crate) renewals: watch::Receiver<u64>,
    /// Connections of which the store knows.
    pub(crate) entered: mpsc::UnboundedReceiver<ConnectionId>,
}

/// Connections that were announced, and of which it is not known yet that the store knows them.
struct Unconfirmed {
    connections: BTreeSet<ConnectionId>,
    /// When they are announced again.
    at: Instant,
    backoff: Backoff,
}

impl Unconfirmed {
    fn new() -> Self {
        Self {
            connections: BTreeSet::new(),
            at: Instant::now(),
            backoff: Backoff::new(LEAST_WAIT, MOST_WAIT),
        }
    }

    fn announced(&mut self, connections: impl Iterator<Item = ConnectionId>) {
        self.connections.extend(connections);
        self.at = Instant::now() + self.backoff.next_wait(chance::share());
    }

    fn entered(&mut self, connection: ConnectionId) {
        self.connections.remove(&connection);
        if self.connections.is_empty() {
            self.backoff = Backoff::new(LEAST_WAIT, MOST_WAIT);
        }
    }
}

impl Announcer {
    /// Runs for ever.
    pub(crate) async fn run(mut self) {
        let (mut epochs, mut link, mut renewals) = (self.epochs.clone(), self.link.clone(), self.renewals.clone());
        let (mut seen, mut was_renewed) = (None, false);
        let mut unconfirmed = Unconfirmed::new();
        loop {
            // Whatever ends, the others go on.
            tokio::select! {
                biased;
                Ok(()) = epochs.changed() => {
                    info!("the store may have lost connections: they are announced again");
                    let announced = self.announce_all(&HashMap::new(), &mut unconfirmed).await;
                    // What a worker recorded before is heard of here only later.
                    sleep(STRAGGLERS).await;
                    self.announce_all(&announced, &mut unconfirmed).await;
                    self.tell_events_again().await;
                }
                Ok(()) = link.changed() => {}
                Ok(()) = renewals.changed() => was_renewed = true,
                Some(connection) = self.entered.recv() => {
                    unconfirmed.entered(connection);
                    continue;
                }
                () = sleep_until(unconfirmed.at), if !unconfirmed.connections.is_empty() => {
                    let connections = std::mem::take(&mut unconfirmed.connections);
                    let waiting = connections.into_iter().filter_map(|one| self.registry.find(one)).collect();
                    self.announce(waiting, &mut unconfirmed).await;
                }
                () = sleep(BEAT) => {}
            }
            if !link.borrow_and_update().is_up() {
                continue;
            }
            let now = Now {
                instant: Instant::now(),
                // The workers' may seem to jump when something new is heard of it.
                wall: self.registry.common().around.clock.own_now(),
            };
            let was_long_away = seen.replace(now).is_some_and(|seen| is_too_long(seen, now));
            if std::mem::take(&mut was_renewed) || was_long_away {
                info!(
                    was_long_away,
                    "the queue of this terminator was gone, or may have been: requests all revocations, and announces all connections"
                );
                self.ask_for_revocations().await;
                self.announce_all(&HashMap::new(), &mut unconfirmed).await;
                self.tell_events_again().await;
            }
        }
    }

    /// Workers that remember which connections are open may have lost that, or have told the end of those of a terminator that
    /// was away for so long.
    async fn tell_events_again(&self) {
        if self.registry.common().events.is_none() {
            return;
        }
        for slice in self.registry.all().chunks(SLICE) {
            slice
                .iter()
                .for_each(|peer| peer.change(|session, now| session.tell_again(now.instant)));
            sleep(SLICE_PAUSE).await;
        }
    }

    async fn ask_for_revocations(&self) {
        while let Err(reason) = self.forwarder.back(&self.registry).await {
            debug!(%reason, "the request for all revocations could not be sent; will try again");
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Announces all connections but those that were announced as they are. Tells which it has announced, and as what.
    async fn announce_all(&self, before: &Announced, unconfirmed: &mut Unconfirmed) -> Announced {
        let mut all = self.registry.all();
        all.retain(|peer| {
            let by = peer.look(Session::changed_by);
            by.is_some() && before.get(&peer.id().number) != by.as_ref()
        });
        self.announce(all, unconfirmed).await
    }

    async fn announce(&self, mut waiting: Vec<Arc<ConnectionHandle>>, unconfirmed: &mut Unconfirmed) -> Announced {
        let mut announced = Announced::new();
        unconfirmed.announced(waiting.iter().map(|peer| peer.id()));
        while !waiting.is_empty() {
            let mut untold = Vec::new();
            for slice in waiting.chunks(SLICE) {
                let told = join_all(slice.iter().map(|peer| self.forwarder.announced(peer))).await;
                for (peer, told) in slice.iter().zip(told) {
                    match told {
                        Ok(by) => announced.extend(by.map(|by| (peer.id().number, by))),
                        Err(_) => untold.push(Arc::<ConnectionHandle>::clone(peer)),
                    }
                }
                sleep(SLICE_PAUSE).await;
            }
            // Those that have ended since have told so themselves.
            untold.retain(|peer| self.registry.find(peer.id()).is_some());
            if !untold.is_empty() {
                sleep(RETRY_PAUSE).await;
            }
            waiting = untold;
        }
        announced
    }
}

/// By either clock: one stands still while the machine sleeps, and the other may be turned.
fn is_too_long(seen: Now, now: Now) -> bool {
    let by_monotonic = now.instant.saturating_duration_since(seen.instant);
    let by_wall = now.wall.saturating_since(seen.wall);
    by_monotonic.max(by_wall) >= TRUSTED_WITHOUT_BROKER
}
