//! Room for what clients have sent. Who waits for it is served in the order of arrival.
//!
//! Two things are bounded in bytes: what the broker has not confirmed, of all connections, because it is kept here; and what
//! workers have not answered, of all connections that have never said who they are, because everyone's messages wait behind
//! it.

use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// In how large pieces room is given out, in bytes.
const UNIT: usize = 1_024;

/// So many bytes, given out in pieces.
#[derive(Clone)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    most: usize,
}

/// Room for all.
pub(crate) struct Budgets {
    unconfirmed: Budget,
    unauthenticated: Budget,
    ahead: Budget,
    unauthenticated_ahead: Budget,
    /// How many messages of one connection may be in flight.
    pub(crate) max_in_flight: usize,
}

/// Room for one message, given back when these are dropped.
pub(crate) struct Room {
    /// Until the broker has confirmed it.
    pub(crate) unconfirmed: OwnedSemaphorePermit,
    /// Until a worker has answered it, or its connection has proved who it is.
    pub(crate) unanswered: Option<OwnedSemaphorePermit>,
}

/// Room when it comes; none if it never does.
pub(crate) type Coming = Pin<Box<dyn Future<Output = Option<Room>> + Send>>;

impl Budget {
    fn new(bytes: usize) -> Self {
        let most = bytes.div_ceil(UNIT).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            units: Arc::new(Semaphore::new(most)),
            most,
        }
    }

    /// One message may come, however large it is.
    fn units_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT).clamp(1, self.most)).unwrap_or(u32::MAX)
    }

    /// Room for a message of so many bytes, if there is some now.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.units.clone().try_acquire_many_owned(self.units_of(bytes)).ok()
    }

    /// Whether there is any now.
    pub(crate) fn has_room(&self) -> bool {
        self.units.available_permits() > 0
    }

    async fn take(self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = self.units_of(bytes);
        self.units.acquire_many_owned(units).await.ok()
    }
}

impl Budgets {
    /// So many bytes of all, and so many of those who have never said who they are. A quarter as many, and as many, may be read
    /// ahead of their turn besides.
    pub(crate) fn new(unconfirmed: usize, unauthenticated: usize, max_in_flight: usize) -> Self {
        Self {
            unconfirmed: Budget::new(unconfirmed),
            unauthenticated: Budget::new(unauthenticated),
            ahead: Budget::new(unconfirmed / 4),
            unauthenticated_ahead: Budget::new(unauthenticated),
            max_in_flight,
        }
    }

    /// Room for what is read ahead of its turn, beyond the little that each connection has.
    pub(crate) fn ahead(&self, is_authenticated: bool) -> &Budget {
        match is_authenticated {
            true => &self.ahead,
            false => &self.unauthenticated_ahead,
        }
    }

    /// Room for a message of so many bytes, of a connection that `is_authenticated` or was.
    ///
    /// # Errors
    /// A place in the line, if there is none now.
    pub(crate) fn take(&self, bytes: usize, is_authenticated: bool) -> Result<Room, Coming> {
        let early = (!is_authenticated).then_some(&self.unauthenticated);
        let unanswered = early.map(|budget| budget.try_take(bytes));
        let waits = unanswered.as_ref().is_some_and(Option::is_none);
        if let (false, Some(unconfirmed)) = (waits, self.unconfirmed.try_take(bytes)) {
            return Ok(Room {
                unconfirmed,
                unanswered: unanswered.flatten(),
            });
        }
        let (early, all) = (early.cloned(), self.unconfirmed.clone());
        Err(Box::pin(async move {
            let unanswered = match early {
                Some(budget) => Some(budget.take(bytes).await?),
                None => None,
            };
            Some(Room {
                unconfirmed: all.take(bytes).await?,
                unanswered,
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn there_is_room_for_so_many_bytes_and_who_waits_is_served_in_turn() {
        let rooms = Budgets::new(4 * UNIT, UNIT, 1);
        let first = rooms.take(3 * UNIT, true).ok().unwrap();
        let mut large = rooms.take(2 * UNIT, true).err().unwrap();
        assert!(poll!(&mut large).is_pending());
        // There would be room for it, but others came before.
        let mut small = rooms.take(1, true).err().unwrap();
        assert!(poll!(&mut small).is_pending());
        drop(first);
        assert!(large.await.is_some() && small.await.is_some());
        assert!(
            rooms.take(1_000 * UNIT, true).is_ok(),
            "one message may be as large as it likes"
        );
    }

    #[tokio::test]
    async fn who_has_not_said_who_they_are_waits_for_nobody_but_their_like() {
        let rooms = Budgets::new(100 * UNIT, UNIT, 1);
        let stranger = rooms.take(UNIT, false).ok().unwrap();
        assert!(rooms.take(UNIT, true).is_ok_and(|room| room.unanswered.is_none()));
        let mut other = rooms.take(UNIT, false).err().unwrap();
        assert!(poll!(&mut other).is_pending());
        drop(stranger);
        assert!(other.await.is_some_and(|room| room.unanswered.is_some()));
    }
}
