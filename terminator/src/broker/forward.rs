//! The way out: a client's bytes, stamped, to the workers; and what happens when the broker will not have them.

use std::sync::Arc;

use bytes::Bytes;
use shared::bus::{Publication, PublishError, Publisher, Receipt};
use shared::service::clock::Timestamp;
use shared::wire::envelope::{ForwardedMessage, MessageKind, Standing, release, run};
use shared::wire::id::{MessageId, Sequence};
use shared::wire::protocol::CloseCode;
use shared::wire::seal::Sealer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::debug;

use super::budget::{Budgets, Room};
use super::forward_span::ForwardSpan;
use super::shards::Shards;
use super::undelivered::UndeliveredPublisher;
use crate::admin::metrics::Metrics;
use crate::connection::handle::ConnectionHandle;
use crate::connection::looks::Glance;
use crate::connection::read_ahead::Received;
use crate::connection::registry::Registry;
use crate::context::TerminatorContext;
use crate::session::{Next, SentBack, What};

/// How many connections tell the workers of their end at a time. Thousands may end together, and nobody's message is to
/// stand in line behind them.
const MOST_ENDS: usize = 64;

/// What all connections of a terminator share to forward their messages.
pub(crate) struct Forwarder {
    pub(crate) publisher: Publisher,
    pub(crate) undelivered: UndeliveredPublisher,
    pub(crate) metrics: Arc<Metrics>,
    shards: Shards,
    return_queue: String,
    glance: Glance,
    pub(crate) rooms: Budgets,
    sealer: Sealer,
    /// How many tell the workers of their end at a time.
    pub(crate) ends: Semaphore,
}

impl Forwarder {
    pub(crate) fn new(
        publisher: Publisher,
        undelivered: UndeliveredPublisher,
        shards: Shards,
        return_queue: String,
        metrics: Arc<Metrics>,
        rooms: Budgets,
        sealer: Sealer,
    ) -> Self {
        Self {
            publisher,
            undelivered,
            metrics,
            shards,
            return_queue,
            glance: Glance::new(false),
            rooms,
            sealer,
            ends: Semaphore::new(MOST_ENDS),
        }
    }

    /// The same, which looks for acknowledgements of pushes, too, if clients may send them.
    pub(crate) fn with_push_ack(self, push_ack: bool) -> Self {
        Self {
            glance: Glance::new(push_ack),
            ..self
        }
    }

    /// What has come from a socket, when it was that by the own clock.
    pub(crate) fn received(&self, text: Bytes, at: Timestamp) -> Received {
        let looks = self.glance.at(&text);
        Received { text, at, looks }
    }

    /// The publication that asks these questions, which one worker handles one after the other; nothing if there are none.
    pub(crate) fn together(&self, mut opened: Vec<Opened>) -> Option<Publication> {
        if opened.len() <= 1 {
            return Some(opened.pop()?.into_publication(self));
        }
        let first = opened.first()?.question.clone();
        let (entries, receipts): (Vec<_>, Vec<_>) = opened.into_iter().map(Opened::into_entry).unzip();
        let settle = move |outcome| receipts.into_iter().for_each(|receipt: Receipt| receipt(outcome));
        Some(Publication {
            route: self.shards.of(first.stamp.connection),
            message: run::to_message(&first, &entries, &self.return_queue),
            receipt: Box::new(settle),
        })
    }

    /// The publication of a message that goes ahead of its turn.
    pub(crate) fn ahead(&self, peer: &Arc<ConnectionHandle>, message: Received) -> Publication {
        let (sequence, standing) = peer.send_ahead(message.looks);
        let stamp = stamp(peer, sequence);
        debug!(target: "countersign::journey", stage = "ahead", %stamp, "sent ahead of its turn");
        let leaving =
            ForwardSpan::received(&peer.common().tracer).publish(stamp, message.text.len(), self.shards.exchange());
        self.question(peer, stamp, standing, message, None, leaving)
            .into_publication(self)
    }

    /// Opens a question. If the broker refuses it, the client is told.
    pub(crate) fn open(&self, peer: &Arc<ConnectionHandle>, message: Received, room: Option<Room>) -> Opened {
        let (unconfirmed, unanswered) = room.map(|room| (room.unconfirmed, room.unanswered)).unzip();
        let asked = peer.forward(message.looks, unanswered.flatten());
        self.opened(peer, message, asked, unconfirmed)
    }

    /// A question that is open by now, under that sequence.
    pub(crate) fn opened(
        &self,
        peer: &Arc<ConnectionHandle>,
        message: Received,
        (sequence, standing): (Sequence, Standing),
        unconfirmed: Option<OwnedSemaphorePermit>,
    ) -> Opened {
        let leaving = ForwardSpan::received(&peer.common().tracer);
        let stamp = stamp(peer, sequence);
        let (bytes, barrier) = (message.text.len(), message.looks.barrier);
        debug!(target: "countersign::journey", stage = "forward", %stamp, bytes, barrier, trace_id = leaving.trace_id(), "taken from the socket");
        let leaving = leaving.publish(stamp, bytes, self.shards.exchange());
        self.question(peer, stamp, standing, message, unconfirmed, leaving)
    }

    /// The publication that asks what is to be asked on the connection's own account.
    pub(crate) fn next(&self, peer: &Arc<ConnectionHandle>, next: Next) -> Publication {
        let stamp = stamp(peer, next.sequence);
        match next.what {
            What::Again(SentBack {
                body,
                first,
                received,
                span,
            }) => {
                let leaving = if first.is_some() {
                    debug!(target: "countersign::journey", stage = "forward", %stamp, bytes = body.len(), "its turn has come");
                    ForwardSpan::received(&peer.common().tracer)
                } else {
                    debug!(target: "countersign::journey", stage = "again", %stamp, "forwarded a second time");
                    ForwardSpan::again(span)
                };
                let leaving = leaving.publish(stamp, body.len(), self.shards.exchange());
                let clock = &peer.common().clock;
                let received = first.or_else(|| received.map(|moment| clock.to_own(moment)));
                let message = self.received(body, received.unwrap_or_else(|| clock.own_now()));
                self.question(peer, stamp, next.standing, message, None, leaving)
                    .into_publication(self)
            }
            What::Release { from, known } => {
                debug!(target: "countersign::journey", stage = "release", %stamp, from = from.map(tracing::field::display), "what is held may be handled");
                let peer_of_receipt = peer.clone();
                let receipt: Receipt = Box::new(move |outcome| {
                    if let Err(error) = outcome {
                        peer_of_receipt.refused(stamp.sequence, false, &Bytes::new(), error);
                    }
                });
                self.publication(
                    peer,
                    stamp,
                    MessageKind::Release { from },
                    next.standing,
                    known.map_or_else(Bytes::new, |known| release::to_be_released(&known)),
                    receipt,
                )
            }
        }
    }

    /// The publication that tells the workers of a connection's end; nothing if they never heard of it.
    pub(crate) fn closed(&self, peer: &ConnectionHandle, code: Option<CloseCode>) -> Option<Publication> {
        let (sequence, standing) = peer.look(|session| (session.next_sequence(), session.last_standing()));
        if sequence == Sequence::FIRST {
            return None;
        }
        let code = code.map(CloseCode::code);
        // If it is lost, the connection's state ends with its token.
        let receipt = Box::new(|_| {});
        let stamp = stamp(peer, sequence);
        Some(self.publication(
            peer,
            stamp,
            MessageKind::Closed { code },
            standing,
            Bytes::new(),
            receipt,
        ))
    }

    /// Tells the workers that a connection is there, if it has proved who it is. Tells by which message it is as it is.
    ///
    /// # Errors
    /// If the broker did not take it.
    pub(crate) async fn announced(&self, peer: &ConnectionHandle) -> Result<Option<Sequence>, PublishError> {
        let (standing, gone) = peer.look(|session| (session.standing(), session.is_gone()));
        let Some(by) = standing.by.filter(|_| standing.grant.is_some() && !gone) else {
            return Ok(None);
        };
        let stamp = stamp(peer, by);
        self.tell(stamp, MessageKind::Announced, standing, peer.common())
            .await?;
        self.metrics.announced.increment(1);
        Ok(Some(by))
    }

    /// Asks the workers for all revocations.
    ///
    /// # Errors
    /// If the broker did not take it.
    pub(crate) async fn back(&self, registry: &Registry) -> Result<(), PublishError> {
        let stamp = MessageId {
            connection: registry.nobody(),
            sequence: Sequence::FIRST,
        };
        self.tell(stamp, MessageKind::Back, Standing::default(), registry.common())
            .await
    }

    async fn tell(
        &self,
        stamp: MessageId,
        notice: MessageKind,
        standing: Standing,
        common: &TerminatorContext,
    ) -> Result<(), PublishError> {
        let question = ForwardedMessage {
            stamp,
            notice,
            standing,
        };
        let message = question.to_message(Bytes::new(), &self.return_queue, common.clock.now());
        self.publisher.publish(self.shards.of(stamp.connection), message).await
    }

    fn question(
        &self,
        peer: &Arc<ConnectionHandle>,
        stamp: MessageId,
        standing: Standing,
        message: Received,
        room: Option<OwnedSemaphorePermit>,
        leaving: ForwardSpan,
    ) -> Opened {
        let Received { text, at, looks: _ } = message;
        let trace = leaving.headers();
        let body = self.sealer.seal(stamp, text.clone());
        let (second, since) = (standing.again, Instant::now());
        let (peer_of_receipt, metrics) = (peer.clone(), self.metrics.clone());
        let receipt: Receipt = Box::new(move |outcome: Result<(), PublishError>| {
            drop(room);
            match outcome {
                Ok(()) => {
                    debug!(target: "countersign::journey", stage = "queue", %stamp, trace_id = leaving.trace_id(), "confirmed by the queue");
                    metrics.messages_confirmed.increment(1);
                    metrics
                        .publish_confirm_duration_seconds
                        .record(since.elapsed().as_secs_f64());
                }
                Err(error) => {
                    leaving.fail(error);
                    refuse(&peer_of_receipt, &metrics, stamp.sequence, second, &text, error);
                }
            }
        });
        let entry = run::Entry {
            body,
            received: peer.common().clock.of_own(at),
            unsettled: standing.unsettled,
            trace,
        };
        let question = ForwardedMessage {
            stamp,
            notice: MessageKind::Message,
            standing,
        };
        Opened {
            question,
            entry,
            receipt,
        }
    }

    fn publication(
        &self,
        peer: &ConnectionHandle,
        stamp: MessageId,
        notice: MessageKind,
        standing: Standing,
        body: Bytes,
        receipt: Receipt,
    ) -> Publication {
        let question = ForwardedMessage {
            stamp,
            notice,
            standing,
        };
        Publication {
            route: self.shards.of(stamp.connection),
            message: question.to_message(body, &self.return_queue, peer.common().clock.now()),
            receipt,
        }
    }
}

/// A question that is open, before it leaves.
pub(crate) struct Opened {
    question: ForwardedMessage,
    entry: run::Entry,
    receipt: Receipt,
}

impl Opened {
    /// It leaves alone.
    pub(crate) fn into_publication(self, forwarder: &Forwarder) -> Publication {
        let run::Entry {
            body, received, trace, ..
        } = self.entry;
        let mut message = self.question.to_message(body, &forwarder.return_queue, received);
        message.properties.headers.extend(trace);
        Publication {
            route: forwarder.shards.of(self.question.stamp.connection),
            message,
            receipt: self.receipt,
        }
    }

    /// It leaves with others.
    fn into_entry(self) -> (run::Entry, Receipt) {
        (self.entry, self.receipt)
    }
}

fn stamp(peer: &ConnectionHandle, sequence: Sequence) -> MessageId {
    MessageId {
        connection: peer.id(),
        sequence,
    }
}

fn refuse(
    peer: &ConnectionHandle,
    metrics: &Metrics,
    sequence: Sequence,
    second: bool,
    text: &Bytes,
    error: PublishError,
) {
    if peer.refused(sequence, second, text, error) {
        metrics.message_refused(error);
    }
}
