//! What every admitted socket is given: a place in the registry, a way to the broker, its rules.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;

use super::stream::Stream;
use crate::admin::metrics::Metrics;
use crate::broker::forward::Forwarder;
use crate::broker::phase::Phase;
use crate::connection::registry::Registry;
use crate::connection::{Connection, Rules};

/// All that the sockets of one terminator have in common.
pub(crate) struct ConnectionFactory {
    pub(crate) registry: Arc<Registry>,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) rules: Rules,
}

impl ConnectionFactory {
    /// Serves a socket until it ends.
    pub(crate) async fn serve(&self, socket: WebSocketStream<Stream>) {
        let entry = self.registry.admit();
        self.metrics().connections_opened.increment(1);
        let _open = Open::new(self.metrics());
        Connection::new(socket, entry, self.forwarder.clone(), self.phase.clone(), self.rules)
            .run()
            .await;
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.forwarder.metrics
    }
}

/// Counts a socket as open until dropped.
struct Open<'a>(&'a Metrics);

impl<'a> Open<'a> {
    fn new(metrics: &'a Metrics) -> Self {
        metrics.connections.increment(1.0);
        Self(metrics)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.decrement(1.0);
    }
}
