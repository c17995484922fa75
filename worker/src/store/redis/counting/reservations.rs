//! How much is held of connections that are no one's yet.
//!
//! It is counted apart from what is held, in a slot of its own: first counted, then held. What is counted and not held
//! after all is given back when its time is over.

use shared::wire::id::ConnectionId;

use crate::store::redis::{RedisStore, keep_ms};
use crate::store::{Call, Reservation, ReservationStore, StoreError};

impl ReservationStore for RedisStore {
    fn reserve<'a>(&'a self, connection: ConnectionId, reservation: &'a Reservation) -> Call<'a, bool> {
        Box::pin(async move {
            let now = self.clock.now();
            let mut invocation = self.scripts.reserve.prepare_invoke();
            for what in ["{unauthenticated}:bytes", "{unauthenticated}:ends"] {
                invocation.key(self.of_all(what));
            }
            invocation
                .arg(now.as_millis())
                .arg(connection.to_string())
                .arg(reservation.bytes)
                .arg(reservation.until.as_millis())
                .arg(keep_ms(now, reservation.until))
                .arg(reservation.most_of_terminator)
                .arg(reservation.most_of_all);
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }

    fn unreserve(&self, connection: ConnectionId) -> Call<'_, ()> {
        Box::pin(async move { self.give_back_reservation(Some(connection)).await.map(|_| ()) })
    }

    fn reserved(&self) -> Call<'_, u64> {
        Box::pin(async move { self.give_back_reservation(None).await })
    }
}

impl RedisStore {
    /// Tells how much is counted, when that of `connection` is given back.
    pub(super) async fn give_back_reservation(&self, connection: Option<ConnectionId>) -> Result<u64, StoreError> {
        let mut invocation = self.scripts.unreserve.prepare_invoke();
        for what in ["{unauthenticated}:bytes", "{unauthenticated}:ends"] {
            invocation.key(self.of_all(what));
        }
        invocation
            .arg(self.clock.now().as_millis())
            .arg(connection.map(|connection| connection.to_string()).unwrap_or_default());
        self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }
}
