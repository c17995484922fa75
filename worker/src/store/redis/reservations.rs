//! How much is held of connections that are nobody's yet.
//!
//! It is counted apart from what is held, in a slot of its own: first counted, then held. What is counted and not held
//! after all is given back when its time is over.

use shared::wire::id::ConnectionId;

use super::{RedisStore, keep_ms};
use crate::store::{Reservation, StoreError};

impl RedisStore {
    pub(super) async fn count_reservation(
        &self,
        connection: ConnectionId,
        reservation: &Reservation,
    ) -> Result<bool, StoreError> {
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
    }

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
