//! The way out: a client's bytes, stamped, to the workers; and what happens when the broker will not have them.

use std::sync::Arc;

use bytes::Bytes;
use shared::bus::topology::{Names, keys};
use shared::bus::{Publication, PublishError, Publisher, Route};
use shared::clock::{Clock, SystemClock};
use shared::envelope::{Notice, Question, Standing};
use shared::id::{Sequence, Stamp};
use tokio::time::Instant;
use tracing::debug;

use crate::metrics::Metrics;
use crate::peer::Peer;
use crate::refuse::refusal;

/// What all connections of a terminator share to forward their messages.
pub(crate) struct Forwarder {
    pub(crate) publisher: Publisher,
    pub(crate) metrics: Arc<Metrics>,
    route: Route,
    return_queue: String,
}

impl Forwarder {
    pub(crate) fn new(publisher: Publisher, names: &Names, return_queue: String, metrics: Arc<Metrics>) -> Self {
        let route = Route::new(&names.internal_exchange().name, keys::FORWARD);
        Self {
            publisher,
            metrics,
            route,
            return_queue,
        }
    }

    /// Opens a question, and makes the publication that asks it. If the broker refuses, the client is told.
    pub(crate) fn message(&self, peer: &Arc<Peer>, text: Bytes) -> Publication {
        let stamp = Stamp {
            connection: peer.id(),
            sequence: peer.forward(),
        };
        debug!(target: "countersign::journey", stage = "forward", %stamp, bytes = text.len(), "taken from the socket");
        self.metrics.in_flight.increment(1.0);
        let question = Question {
            stamp,
            notice: Notice::Message,
            standing: Standing::default(),
        };
        let message = question.to_message(text.clone(), &self.return_queue, SystemClock.now());
        let (peer, metrics, since) = (peer.clone(), self.metrics.clone(), Instant::now());
        let receipt = Box::new(move |outcome| match outcome {
            Ok(()) => {
                debug!(target: "countersign::journey", stage = "queue", %stamp, "confirmed by the queue");
                metrics.messages_confirmed.increment(1);
                metrics.confirm_seconds.record(since.elapsed().as_secs_f64());
            }
            Err(error) => refuse(&peer, &metrics, stamp.sequence, &text, error),
        });
        Publication {
            route: self.route.clone(),
            message,
            receipt,
        }
    }

    /// The publication that tells the workers of a connection's end; nothing if they never heard of it.
    pub(crate) fn closed(&self, peer: &Peer) -> Option<Publication> {
        self.metrics.in_flight.decrement(peer.abandon() as f64);
        let sequence = peer.next_sequence();
        if sequence == Sequence::FIRST {
            return None;
        }
        let stamp = Stamp {
            connection: peer.id(),
            sequence,
        };
        let question = Question {
            stamp,
            notice: Notice::Closed { code: None },
            standing: Standing::default(),
        };
        let message = question.to_message(Bytes::new(), &self.return_queue, SystemClock.now());
        // If it is lost, the connection's state ends with its token.
        Some(Publication {
            route: self.route.clone(),
            message,
            receipt: Box::new(|_| {}),
        })
    }
}

fn refuse(peer: &Peer, metrics: &Metrics, sequence: Sequence, text: &Bytes, error: PublishError) {
    if peer.refuse(sequence, || refusal(text, error)) {
        metrics.in_flight.decrement(1.0);
        metrics.message_refused(error);
    }
}
