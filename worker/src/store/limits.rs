//! How much one identity may have and do, on all terminators and workers together.
//!
//! Connections have *places*, which end with them. Messages are paced by the generic cell rate algorithm (GCRA, ITU-T I.371): all that
//! is kept of an identity is the moment by which all its messages are paid for.

use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::id::ConnectionId;
use shared::wire::tag::IdentityTag;

use super::around::store_part;

store_part! {
    /// Counts what an identity has and does.
    pub trait LimitStore {
        /// Takes a place among the connections that an identity may have at a time, or keeps the one that the connection has. The place
        /// ends when the connection is taken out of those of the identity, or at its time.
        fn admit(identity: IdentityTag, place: ConnectionSlot) -> Admission;

        /// Counts a message of an identity against its rate. Tells how long it must wait if that is used up; then it is not counted.
        fn pace(identity: IdentityTag, per_second: u32) -> Option<Duration>;
    }
}

/// How far an identity may be ahead of its rate, in microseconds: it may send the messages of a second at once.
pub(super) const BURST_US: u64 = 1_000_000;

/// How many connections are named at most to one that wants a place: each is looked after.
pub const MOST_NAMED: usize = 16;

shared::choice! {
    /// What happens to one connection more than an identity may have.
    pub enum OnConnectionLimit {
        /// It is closed itself.
        Refuse = "refuse",
        /// The oldest one is closed for it.
        CloseOldest = "close-oldest",
    }
}

/// How many connections an identity may have at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// The number of connections.
    pub most: u64,
    /// What happens to one more.
    pub on_more: OnConnectionLimit,
}

/// A place among the connections of an identity that is wanted.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionSlot {
    /// For which.
    pub connection: ConnectionId,
    /// When the place ends if the connection does not want it anew, and its close was never heard of.
    pub until: Timestamp,
    /// Whether the connection is authenticated already: then it is not refused.
    pub is_renewal: bool,
    /// The connection whose place it takes over, if it is one's successor.
    pub replaces: Option<ConnectionId>,
    /// How many there may be.
    pub limit: ConnectionLimit,
}

/// Whether a connection has its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It has. These are the oldest of those that are too many, and are to be closed; if there are many, the others are named later.
    Admitted(Vec<ConnectionId>),
    /// There is none. These are some of the connections that have one; others each time.
    Refused(Vec<ConnectionId>),
}

/// By when all messages of an identity are paid for after one more, in microseconds since the epoch; or how long to wait
/// with it. `paid_us` is what that was before.
pub(super) fn pace(paid_us: u64, now: Timestamp, per_second: u32) -> Result<u64, Duration> {
    let now_us = now.as_millis().saturating_mul(1_000);
    let paid_us = paid_us.max(now_us).saturating_add(interval_us(per_second));
    match (paid_us - now_us).checked_sub(BURST_US) {
        None | Some(0) => Ok(paid_us),
        Some(wait_us) => Err(Duration::from_micros(wait_us)),
    }
}

/// What a message costs, in microseconds.
pub(super) fn interval_us(per_second: u32) -> u64 {
    1_000_000 / u64::from(per_second.clamp(1, 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_a_second_may_come_at_once_and_then_one_in_its_time() {
        let now = Timestamp::from_secs(1_800_000_000);
        let mut paid = 0;
        for _ in 0..4 {
            paid = pace(paid, now, 4).unwrap();
        }
        assert_eq!(pace(paid, now, 4), Err(Duration::from_millis(250)));
        let later = now.saturating_add(Duration::from_millis(250));
        paid = pace(paid, later, 4).unwrap();
        assert!(pace(paid, later, 4).is_err());
        let much_later = now.saturating_add(Duration::from_secs(60));
        let at_once = (0..10).map_while(|_| pace(paid, much_later, 4).ok().inspect(|next| paid = *next));
        assert_eq!(at_once.count(), 4, "nothing is saved up beyond a second");
        assert_eq!(pace(0, now, 1).unwrap() - now.as_millis() * 1_000, 1_000_000);
    }
}
