//! What every admitted socket is given: a place in the registry, a way to the broker, its rules.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;

use super::permit::{ConnectionPermit, Open};
use super::stream::Stream;
use crate::admin::metrics::Metrics;
use crate::broker::forward::Forwarder;
use crate::broker::phase::Phase;
use crate::connection::Connection;
use crate::connection::registry::Registry;

/// All that the sockets of one terminator have in common.
pub(crate) struct ConnectionFactory {
    pub(crate) registry: Arc<Registry>,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) idle_timeout: Duration,
}

impl ConnectionFactory {
    /// The connection of a socket, which counts as open as long as it is there.
    pub(crate) fn connection(&self, socket: WebSocketStream<Stream>, permit: ConnectionPermit) -> Connection {
        let entry = self.registry.admit();
        let told_limits = permit.asks_limits;
        self.metrics().connections_opened.increment(1);
        let open = Open::new(self.metrics().clone(), permit);
        Connection::new(
            socket,
            (entry, open),
            self.forwarder.clone(),
            self.phase.clone(),
            self.idle_timeout,
            told_limits,
        )
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.forwarder.metrics
    }
}
