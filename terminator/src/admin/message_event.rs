//! What happens to messages on their way through a terminator: as data, and where it is told.
//!
//! What happens to a connection is in `session::effect`. No event has a token or a payload.

use std::fmt::{Debug, Display};
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};
use shared::service::trace::TraceId;
use shared::wire::envelope::Bounced;
use shared::wire::id::ConnectionId;
use tracing::debug;
use tracing::field::display;

use super::metrics::Metrics;

/// Gets each event as it happens, with what it is about: it must neither wait nor panic.
pub type Listener = Arc<dyn Fn(&dyn Display, &MessageEvent) + Send + Sync>;

/// What has happened to a message. Serialized, it is what else there is to tell.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum MessageEvent {
    /// It was taken from the socket, and is forwarded.
    Forwarded {
        /// How large it is.
        bytes: usize,
        /// Whether what comes behind it waits for its reply.
        barrier: bool,
        /// The trace that it is in.
        #[serde(skip)]
        trace_id: Option<TraceId>,
    },
    /// Its turn has come, and it is forwarded.
    TurnCame {
        /// How large it is.
        bytes: usize,
    },
    /// It is forwarded ahead of its turn.
    Ahead,
    /// It is forwarded a second time.
    Resent,
    /// It asks for what is held, which may be handled.
    ReleaseRequested {
        /// Of which connection, if of another.
        from: Option<ConnectionId>,
    },
    /// The broker has confirmed it.
    Confirmed {
        /// How long that took.
        #[serde(skip)]
        took: Duration,
        /// The trace that it is in.
        #[serde(skip)]
        trace_id: Option<TraceId>,
    },
    /// A reply to it has come.
    Replied,
    /// A connection asks for what is held for it to be written.
    FetchRequested,
    /// Something is given back instead of being written.
    Bounced {
        /// Why it could not be written.
        #[serde(serialize_with = "as_debug")]
        why: Bounced,
    },
    /// It is written to the socket.
    Written {
        /// The trace that it is in.
        #[serde(skip)]
        trace_id: Option<TraceId>,
    },
}

impl MessageEvent {
    /// The stage of a journey that it is.
    pub const fn stage(&self) -> &'static str {
        match self {
            Self::Forwarded { .. } | Self::TurnCame { .. } => "forward",
            Self::Ahead => "ahead",
            Self::Resent => "again",
            Self::ReleaseRequested { .. } => "release",
            Self::Confirmed { .. } => "queue",
            Self::Replied => "return",
            Self::FetchRequested => "fetch",
            Self::Bounced { .. } => "bounced",
            Self::Written { .. } => "socket",
        }
    }

    const fn trace_id(&self) -> Option<TraceId> {
        match *self {
            Self::Forwarded { trace_id, .. } | Self::Confirmed { trace_id, .. } | Self::Written { trace_id } => {
                trace_id
            }
            _ => None,
        }
    }
}

/// Tells events: to metrics, to the log, and to anyone who listens.
pub(crate) struct Observer {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) listener: Option<Listener>,
}

impl Observer {
    /// Tells that something has happened to `of`.
    pub(crate) fn tell(&self, of: &dyn Display, event: MessageEvent) {
        match event {
            MessageEvent::Confirmed { took, .. } => {
                self.metrics.messages_confirmed.increment(1);
                self.metrics.publish_confirm_duration_seconds.record(took);
            }
            MessageEvent::FetchRequested => self.metrics.fetches.increment(1),
            MessageEvent::Bounced { why } => self.metrics.given_back(why),
            _ => {}
        }
        let (stage, trace_id) = (event.stage(), event.trace_id().map(display));
        debug!(target: "countersign::journey", stage, message_id = %of, trace_id, ?event);
        if let Some(listener) = &self.listener {
            listener(of, &event);
        }
    }
}

fn as_debug<S: Serializer>(value: &impl Debug, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:?}"))
}
