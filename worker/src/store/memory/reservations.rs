//! How much is held of connections that are no one's yet.

use std::collections::BTreeMap;

use shared::service::clock::Timestamp;
use shared::wire::id::ConnectionId;

use super::MemoryStore;
use crate::store::{Call, Reservation, ReservationStore};

impl ReservationStore for MemoryStore {
    fn reserve<'a>(&'a self, connection: ConnectionId, reservation: &'a Reservation) -> Call<'a, bool> {
        self.step(move |state, now| state.reservations.reserve(connection, reservation, now))
    }

    fn unreserve(&self, connection: ConnectionId) -> Call<'_, ()> {
        self.step(move |state, _| state.reservations.unreserve(connection))
    }

    fn reserved(&self) -> Call<'_, u64> {
        self.step(|state, now| state.reservations.reserved(now))
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Reservations {
    /// How many bytes, and when they are given back.
    by_connection: BTreeMap<ConnectionId, (u64, Timestamp)>,
}

impl Reservations {
    pub(super) fn reserve(&mut self, connection: ConnectionId, reservation: &Reservation, now: Timestamp) -> bool {
        self.sweep(now);
        let bytes = reservation.bytes;
        let terminator = connection.terminator;
        let of_terminator = self.sum(|other| other.terminator == terminator);
        if of_terminator + bytes > reservation.most_of_terminator
            || self.sum(|_| true) + bytes > reservation.most_of_all
        {
            return false;
        }
        let (sum, until) = self.by_connection.entry(connection).or_insert((0, reservation.until));
        *sum += bytes;
        *until = (*until).max(reservation.until);
        true
    }

    pub(super) fn unreserve(&mut self, connection: ConnectionId) {
        self.by_connection.remove(&connection);
    }

    pub(super) fn reserved(&mut self, now: Timestamp) -> u64 {
        self.sweep(now);
        self.sum(|_| true)
    }

    fn sum(&self, counts: impl Fn(&ConnectionId) -> bool) -> u64 {
        let counted = self.by_connection.iter().filter(|(connection, _)| counts(connection));
        counted.map(|(_, (bytes, _))| bytes).sum()
    }

    fn sweep(&mut self, now: Timestamp) {
        self.by_connection.retain(|_, (_, until)| *until > now);
    }
}
