//! A terminator without a listening socket, within another program: streams in memory come through the real handshake.

use std::sync::{Arc, Weak};

use shared::credentials::{Credentials, Register};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::either::Either;
use tokio_util::task::TaskTracker;

use crate::accept::entrance::Entrance;
use crate::accept::listener::Acceptor;
use crate::accept::open_files::OpenFiles;
use crate::accept::origin::AllowedOrigins;
use crate::accept::upgrade::{self, Request};
use crate::runtime::Runtime;
use crate::{Parts, StartError, Terminator, TerminatorConfig};

/// How many bytes of this are the head of a request that gets a socket. Nothing: more bytes are needed. For anyone who tries
/// what bytes come to (`tests/fuzz`).
///
/// # Errors
/// The response to one that gets none.
pub fn read_handshake(bytes: &[u8]) -> Result<Option<usize>, String> {
    match upgrade::read(bytes, &AllowedOrigins::default()) {
        Request::Partial => Ok(None),
        Request::Upgrade { length, .. } => Ok(Some(length)),
        Request::Refused(refusal) => Err(refusal.response()),
    }
}

/// The way in.
pub(crate) struct Door {
    /// The door closes with the runtime, not with the handle.
    acceptor: Weak<Acceptor>,
    connections: TaskTracker,
}

impl Door {
    pub(crate) fn of(runtime: &Runtime) -> Self {
        Self {
            acceptor: Arc::downgrade(&runtime.acceptor),
            connections: runtime.connections.clone(),
        }
    }
}

impl Terminator {
    /// Starts a terminator that listens to no one: [`serve_stream`](Self::serve_stream) brings it its clients. It has no
    /// admin address unless the settings give it one, and its [`addr`](Self::addr) means nothing.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub async fn without_socket(config: TerminatorConfig, parts: Parts) -> Result<Self, StartError> {
        let files = OpenFiles::unlimited(config.max_connections);
        let credentials = Credentials::new(&Register::default());
        let entrance = Entrance::with_admin(&config, (None, credentials), Vec::new(), files).await?;
        Self::start(config, parts, entrance)
    }

    /// Serves a client at the other end of that stream, from its HTTP request on, until the connection ends.
    pub fn serve_stream(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        if let Some(acceptor) = self.door.acceptor.upgrade() {
            self.door
                .connections
                .spawn(async move { acceptor.admit_stream(Either::Right(Box::new(stream))).await });
        }
    }
}
