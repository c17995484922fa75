//! In which queue each connection's messages wait for the workers: all of one connection in one, and in each as many
//! connections as in any other.

use shared::bus::Route;
use shared::bus::topology::{Names, keys};
use shared::wire::id::ConnectionId;

/// The ways to these queues.
pub(crate) struct Shards {
    exchange: String,
    /// One at least.
    routes: Vec<Route>,
}

impl Shards {
    /// To so many.
    pub(crate) fn new(names: &Names, count: u16) -> Self {
        let exchange = names.internal_exchange().name;
        let routes = (0..count.max(1)).map(|shard| Route::new(&exchange, &keys::forward(shard)));
        Self {
            routes: routes.collect(),
            exchange,
        }
    }

    /// The way of that connection's messages. Connections are numbered one after the other.
    pub(crate) fn of(&self, connection: ConnectionId) -> Route {
        let place = connection.number % self.routes.len() as u64;
        let route = usize::try_from(place).ok().and_then(|place| self.routes.get(place));
        route
            .cloned()
            .unwrap_or_else(|| Route::new(&self.exchange, keys::FORWARD))
    }

    /// Through which exchange they all go.
    pub(crate) fn exchange(&self) -> &str {
        &self.exchange
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use shared::wire::id::TerminatorId;

    use super::*;

    #[test]
    fn each_connection_has_its_queue_and_all_queues_have_as_many() {
        let names = Names::new("test");
        let terminator = TerminatorId::random();
        for (count, all) in [(0, 1), (1, 1), (3, 3)] {
            let shards = Shards::new(&names, count);
            let mut seen = BTreeMap::new();
            for number in 0..30 {
                let connection = ConnectionId { terminator, number };
                assert_eq!(shards.of(connection), shards.of(connection));
                *seen.entry(shards.of(connection).key.to_string()).or_insert(0) += 1;
            }
            assert_eq!(seen.len(), all);
            assert!(seen.values().all(|count| *count == 30 / all), "{seen:?}");
        }
    }
}
