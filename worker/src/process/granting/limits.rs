//! How much one identity may have and do, on all its connections together.

use bytes::Bytes;
use futures_util::future::join_all;
use shared::wire::envelope::Command;
use shared::wire::id::ConnectionId;
use shared::wire::protocol::{CloseCode, Effect, ErrorBody, ErrorCode};
use shared::wire::tag::IdentityTag;
use tracing::debug;

use crate::auth::identity::Identity;
use crate::auth::recorded::{Proven, Recording, Unrecorded};
use crate::process::Pipeline;

/// Why a connection is not granted what its token earns it.
pub(in crate::process) struct Ungranted {
    pub(in crate::process) error: ErrorBody,
    /// With what the connection is closed, if it is.
    pub(in crate::process) close: Option<CloseCode>,
}

impl From<ErrorBody> for Ungranted {
    fn from(error: ErrorBody) -> Self {
        Self { error, close: None }
    }
}

impl Ungranted {
    /// Its identity has as many connections as it may have.
    pub(in crate::process) fn over_limit() -> Self {
        let close = CloseCode::ConnectionLimit;
        Self {
            error: ErrorBody::new(ErrorCode::Forbidden, close.reason()),
            close: Some(close),
        }
    }
}

impl Pipeline {
    /// Has it recorded who a connection is. If its identity has too many others, they are looked after, since some of them may be gone.
    ///
    /// # Errors
    /// If that cannot be recorded, or may not be.
    pub(in crate::process) async fn record(&self, proven: &Proven<'_>) -> Result<Recording, Unrecorded> {
        match self.recorder.record(proven).await {
            Err(Unrecorded::OverLimit(holders)) if self.has_lost(proven.identity, &holders).await => {
                self.recorder.record(proven).await
            }
            recorded => recorded,
        }
    }

    /// Whether one of these connections is known to be gone, with its terminator; it has left its identity then. Of others that are
    /// gone their terminators say so, and they leave a moment later.
    async fn has_lost(&self, identity: IdentityTag, connections: &[ConnectionId]) -> bool {
        let is_lost = async |connection: &ConnectionId| {
            let check = Command::Check { identity };
            let sent = self.send_command(*connection, &check, Bytes::new()).await;
            sent == Ok(false) && self.store.unregister(identity, *connection, None).await.is_ok()
        };
        join_all(connections.iter().map(is_lost)).await.contains(&true)
    }

    /// Has connections closed that are more than their identity may have.
    pub(in crate::process) async fn close_oldest(&self, identity: IdentityTag, oldest: &[ConnectionId]) {
        for connection in oldest {
            match self
                .send_command(*connection, &Command::OverLimit { identity }, Bytes::new())
                .await
            {
                Ok(true) => {
                    self.metrics.closes(CloseCode::ConnectionLimit);
                    debug!(%connection, "the oldest of too many connections is closed");
                }
                // Its terminator is gone, and it with that. If the store does not take it, it is named again.
                Ok(false) => {
                    let _ = self.store.unregister(identity, *connection, None).await;
                }
                // It is named again when the next one comes.
                Err(reason) => debug!(%connection, %reason, "the oldest of too many connections is not closed"),
            }
        }
    }

    /// What the sender of a message is told if its identity sends too many; none if it does not.
    pub(in crate::process) async fn too_fast(&self, identity: &Identity, again: bool) -> Option<ErrorBody> {
        // What comes again was counted when it came first.
        let rate = self
            .rules
            .messages_per_second_per_identity
            .filter(|_| !again && !identity.is_anonymous())?;
        let wait = match self.store.pace(identity.tag(), rate).await {
            Ok(wait) => wait?,
            // It protects the application, and says nothing of what an identity may do.
            Err(reason) => {
                self.metrics.store_failed();
                debug!(%reason, "a message is not counted against its identity's rate");
                return None;
            }
        };
        let wait_ms = u64::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
        let why = "your identity sends more messages a second than it may";
        let error = ErrorBody::new(ErrorCode::RateLimited, why);
        Some(error.retry_after_ms(wait_ms).having(Effect::None))
    }
}
