//! Who may begin a handshake, and who is told that they may not.
//!
//! A handshake costs memory, a file, and with TLS a signature, before anyone is known. So each address has a share: of
//! handshakes that are under way, and of those that begin within a second. All together they have a share too; when that
//! is used up the oldest gives way, since an honest handshake is over in a moment and the others hold on. Anyone who is refused
//! is answered from a pool apart, so that those who read their refusal slowly take no place of those who shake hands.
//!
//! One lock, and no one waits under it: the loop that accepts never waits for anyone.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many handshakes may be under way at a time, all addresses together.
const MOST_PENDING: usize = 1_024;
/// How many refusals may be under way at a time, and how many of one address. Anyone who is refused beyond is not answered.
const MOST_REFUSALS: usize = 256;
const MOST_REFUSALS_OF_ADDRESS: usize = 16;
/// How many seconds' worth of handshakes may begin at once: all clients behind one gateway come back together after a
/// terminator has ended.
const BURST_S: u32 = 5;
/// Below this many addresses it is not worthwhile to look which can be forgotten.
const SMALLEST_SWEEP: usize = 1_024;

/// What one address may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PerAddress {
    /// How many handshakes may be under way.
    pub(crate) pending: Option<usize>,
    /// How many may begin within a second.
    pub(crate) per_second: Option<NonZeroU32>,
}

/// All handshakes and refusals that are under way.
pub(crate) struct Arrivals {
    per_address: PerAddress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last: u64,
    /// By age.
    pending: BTreeMap<u64, Pending>,
    refusals: usize,
    addresses: HashMap<IpAddr, Address>,
    /// How many addresses there may be before those are looked for that can be forgotten.
    sweep_at: usize,
}

struct Pending {
    /// Whose it is; nothing while only a proxy knows.
    address: Option<IpAddr>,
    evicted: CancellationToken,
}

#[derive(Default)]
struct Address {
    pending: usize,
    refusals: usize,
    /// When all handshakes that have begun are paid for, at so many a second.
    paid_at: Option<Instant>,
}

/// A handshake that is under way. It ends when this is dropped.
pub(crate) struct Handshake {
    arrivals: Arc<Arrivals>,
    number: u64,
    evicted: CancellationToken,
}

/// A refusal that is under way. It ends when this is dropped.
pub(crate) struct Refusing {
    arrivals: Arc<Arrivals>,
    address: IpAddr,
}

impl Arrivals {
    pub(crate) fn new(per_address: PerAddress) -> Self {
        Self {
            per_address,
            state: Mutex::default(),
        }
    }

    /// Begins a handshake, unless the address has used up its share. If all have used up theirs, the oldest gives way. One that
    /// comes through a proxy is no one's until it is [`assign`](Handshake::assign)ed.
    pub(crate) fn begin(self: &Arc<Self>, address: Option<IpAddr>, now: Instant) -> Option<Handshake> {
        let mut state = self.lock();
        state.sweep(now);
        if let Some(address) = address
            && !state.address(address).admits(self.per_address, now)
        {
            return None;
        }
        if state.pending.len() >= MOST_PENDING
            && let Some((_, oldest)) = state.pending.pop_first()
        {
            oldest.evicted.cancel();
            state.over(&oldest);
        }
        if let Some(address) = address {
            state.address(address).pending += 1;
        }
        state.last += 1;
        let (number, evicted) = (state.last, CancellationToken::new());
        let pending = Pending {
            address,
            evicted: evicted.clone(),
        };
        state.pending.insert(number, pending);
        Some(Handshake {
            arrivals: self.clone(),
            number,
            evicted,
        })
    }

    /// Makes room for the answer to someone who is refused; none if there is none.
    pub(crate) fn refuse(self: &Arc<Self>, address: IpAddr) -> Option<Refusing> {
        let mut state = self.lock();
        if state.refusals >= MOST_REFUSALS || state.address(address).refusals >= MOST_REFUSALS_OF_ADDRESS {
            return None;
        }
        state.refusals += 1;
        state.address(address).refusals += 1;
        Some(Refusing {
            arrivals: self.clone(),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn address(&mut self, address: IpAddr) -> &mut Address {
        self.addresses.entry(address).or_default()
    }

    /// One of its handshakes is over.
    fn over(&mut self, pending: &Pending) {
        if let Some(address) = pending.address {
            self.address(address).pending -= 1;
        }
    }

    /// Forgets addresses of which nothing is under way, whenever their number has doubled.
    fn sweep(&mut self, now: Instant) {
        if self.addresses.len() < self.sweep_at.max(SMALLEST_SWEEP) {
            return;
        }
        self.addresses.retain(|_, address| !address.is_forgettable(now));
        self.sweep_at = self.addresses.len().saturating_mul(2);
    }
}

impl Address {
    /// Whether another handshake may begin. If so, it counts against the rate.
    fn admits(&mut self, share: PerAddress, now: Instant) -> bool {
        if share.pending.is_some_and(|most| self.pending >= most) {
            return false;
        }
        let Some(per_second) = share.per_second else {
            return true;
        };
        let paid_at = self.paid_at.unwrap_or(now).max(now) + Duration::from_secs(1) / per_second.get();
        if paid_at > now + Duration::from_secs(BURST_S.into()) {
            return false;
        }
        self.paid_at = Some(paid_at);
        true
    }

    fn is_forgettable(&self, now: Instant) -> bool {
        self.pending == 0 && self.refusals == 0 && self.paid_at.is_none_or(|at| at <= now)
    }
}

impl Handshake {
    /// Says whose it is, unless that address has used up its share.
    pub(crate) fn assign(&self, address: IpAddr, now: Instant) -> bool {
        let mut state = self.arrivals.lock();
        if !state.address(address).admits(self.arrivals.per_address, now) {
            return false;
        }
        // One that has had to give way is about to end.
        let Some(pending) = state.pending.get_mut(&self.number) else {
            return true;
        };
        let before = pending.address.replace(address);
        state.address(address).pending += 1;
        if let Some(before) = before {
            state.address(before).pending -= 1;
        }
        true
    }

    /// Ends when it has to give way to a younger one.
    pub(crate) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        let mut state = self.arrivals.lock();
        if let Some(pending) = state.pending.remove(&self.number) {
            state.over(&pending);
        }
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        let mut state = self.arrivals.lock();
        state.refusals -= 1;
        state.address(self.address).refusals -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(pending: usize, per_second: u32) -> Arc<Arrivals> {
        Arc::new(Arrivals::new(PerAddress {
            pending: Some(pending),
            per_second: NonZeroU32::new(per_second),
        }))
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn an_address_has_so_many_handshakes_under_way_and_costs_no_other_any() {
        let (arrivals, now) = (arrivals(2, 0), Instant::now());
        let first = arrivals.begin(Some(address(1)), now).unwrap();
        let _second = arrivals.begin(Some(address(1)), now).unwrap();
        assert!(arrivals.begin(Some(address(1)), now).is_none());
        assert!(arrivals.begin(Some(address(2)), now).is_some());
        drop(first);
        assert!(arrivals.begin(Some(address(1)), now).is_some());
    }

    #[test]
    fn an_address_begins_so_many_within_a_second_after_a_burst() {
        let (arrivals, now) = (arrivals(1, 10), Instant::now());
        let begun = |at| {
            (0..100)
                .filter(|_| arrivals.begin(Some(address(1)), at).is_some())
                .count()
        };
        assert_eq!(begun(now), 50);
        assert_eq!(begun(now + Duration::from_secs(1)), 10);
        assert_eq!(begun(now + Duration::from_secs(60)), 50);
        assert!(arrivals.begin(Some(address(2)), now).is_some());
    }

    #[test]
    fn a_handshake_through_a_proxy_counts_for_its_client_once_that_is_known() {
        let (arrivals, now) = (arrivals(2, 0), Instant::now());
        let all: Vec<_> = (0..4).map(|_| arrivals.begin(None, now).unwrap()).collect();
        let assigned = |number: usize, to| all[number].assign(address(to), now);
        assert!(assigned(0, 1) && assigned(1, 1));
        assert!(!assigned(2, 1), "one more than its share");
        assert!(assigned(2, 2) && assigned(3, 2));
        assert!(
            arrivals.begin(Some(address(1)), now).is_none(),
            "not by another way either"
        );
        drop(all);
        assert!(arrivals.lock().addresses.values().all(|address| address.pending == 0));
    }

    #[test]
    fn when_all_places_are_taken_the_oldest_gives_way_and_gives_nothing_up_twice() {
        let (arrivals, now) = (arrivals(MOST_PENDING, 0), Instant::now());
        let mut all: Vec<_> = (0..MOST_PENDING)
            .map(|_| arrivals.begin(Some(address(1)), now).unwrap())
            .collect();
        let _younger = arrivals.begin(Some(address(2)), now).unwrap();
        assert!(all[0].evicted.is_cancelled() && !all[1].evicted.is_cancelled());
        drop(all.remove(0));
        assert_eq!(arrivals.lock().pending.len(), MOST_PENDING);
        drop(all);
        assert_eq!(arrivals.lock().address(address(1)).pending, 0);
    }

    #[test]
    fn refusals_have_a_pool_of_their_own_of_which_one_address_has_a_share() {
        let (arrivals, now) = (arrivals(1, 0), Instant::now());
        let all: Vec<_> = (0..100).filter_map(|_| arrivals.refuse(address(1))).collect();
        assert_eq!(all.len(), MOST_REFUSALS_OF_ADDRESS);
        assert!(arrivals.refuse(address(2)).is_some() && arrivals.begin(Some(address(1)), now).is_some());
        drop(all);
        let all: Vec<_> = (0..1_000)
            .filter_map(|number| arrivals.refuse(address(number)))
            .collect();
        assert_eq!(all.len(), MOST_REFUSALS);
    }

    #[test]
    fn addresses_that_have_gone_are_forgotten() {
        let (arrivals, mut now) = (arrivals(1, 10), Instant::now());
        for number in 0..20 * SMALLEST_SWEEP as u32 {
            drop(arrivals.begin(Some(address(number)), now));
            now += Duration::from_millis(10);
        }
        assert!(arrivals.lock().addresses.len() <= 2 * SMALLEST_SWEEP);
    }
}
