//! What the page's handlers work with.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use shared::bus::PublishError;
use shared::service::admin::Console;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use worker::store::Store;

use super::backend::Backend;
use super::injector::Injector;
use super::journey::Journeys;
use super::page::cors::Cors;
use super::workers::Workers;
use crate::token::mint::Signer;

/// How many pages may watch at a time.
pub(super) const MAX_WATCHERS: usize = 64;

/// What the page's server works with.
pub(crate) struct Page {
    pub(super) signer: Signer,
    pub(super) injector: Injector,
    /// Pushes and revokes.
    pub(super) backend: Backend,
    pub(super) workers: Arc<Workers>,
    pub(super) store: Arc<dyn Store>,
    /// How long after its expiry a token still counts.
    pub(super) leeway: Duration,
    pub(super) journeys: Journeys,
    pub(super) console: Console,
    pub(super) watchers: Arc<Semaphore>,
    pub(super) closing: CancellationToken,
    /// Which pages besides it may ask for a token.
    pub(super) cors: Cors,
    pub(super) addresses: Addresses,
}

/// Why the page does not get what it asked for.
pub(super) type Refused = (StatusCode, String);

/// The queue does not take it.
pub(super) fn unavailable(error: PublishError) -> Refused {
    (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

/// Where the page and the WebSocket are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// Of the page.
    pub(crate) page: SocketAddr,
    /// Of the terminator.
    pub(crate) socket: SocketAddr,
}
