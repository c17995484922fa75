//! The handlers that a worker brings along, from their setting to their work.
//!
//! In two steps, because what they need comes in two: what can be wrong with a
//! setting is known before anything is consumed, and what they work with is there only
//! with the worker.

use std::sync::Arc;

use shared::bus::topology::{Names, Topology};
use shared::service::chance;

use super::amqp::Amqp;
use super::http::{Http, Target};
use super::relay::Relay;
use super::{Echo, Erased, Handler};
use crate::app::parts::{Limits, Parts};
use crate::config::HandlerKind;
use crate::outbound::Outbound;
use crate::outbound::pushes::Pushes;
use crate::outbound::pushes::known::Known;
use crate::web::NoClient;

/// What a worker does with messages.
pub(crate) enum Application {
    /// What the program says that the worker is part of.
    Own(Box<dyn Erased>),
    /// `relay`.
    Relay,
    /// `http:URL`.
    Http(Target),
    /// `amqp`, with the number of this worker's queue for answers.
    Amqp(u64),
}

impl Application {
    pub(crate) fn own(handler: impl Handler) -> Self {
        Self::Own(Box::new(handler))
    }

    /// As the setting has it.
    ///
    /// # Errors
    /// If there is no TLS.
    pub(crate) fn configured(kind: &HandlerKind, limits: &Limits) -> Result<Self, NoClient> {
        Ok(match kind {
            HandlerKind::Echo => Self::own(Echo),
            HandlerKind::Relay => Self::Relay,
            HandlerKind::Http(url) => Self::Http(Target::new(url, limits.concurrency)?),
            HandlerKind::Amqp => Self::Amqp(chance::number()),
        })
    }

    /// What must be on the broker before anything is handled.
    pub(crate) fn topology(&self, names: &Names) -> Topology {
        match self {
            Self::Own(_) | Self::Relay | Self::Http(_) => Topology::default(),
            Self::Amqp(number) => Topology {
                exchanges: vec![names.app_exchange()],
                queues: vec![names.reply_queue(*number), names.rejected()],
            },
        }
    }

    /// Begins its work, with what the worker has.
    pub(crate) fn begin(self, parts: &Parts, names: &Names, outbound: &Arc<Outbound>) -> Box<dyn Erased> {
        let limit = parts.limits.handler_timeout;
        match self {
            Self::Own(handler) => handler,
            Self::Relay => Box::new(Relay {
                pushes: Arc::new(Pushes {
                    outbound: outbound.clone(),
                    issuers: parts.issuers.clone(),
                    known: Arc::new(Known::new()),
                    shards: None,
                }),
                tells_presence: parts.limits.relay_tells_presence,
            }),
            Self::Http(target) => Box::new(Http::begin(target, limit)),
            Self::Amqp(number) => Box::new(Amqp::begin(&*parts.bus, names, names.reply_queue(number), limit)),
        }
    }
}
