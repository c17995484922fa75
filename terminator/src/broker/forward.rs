//! The way out: a client's bytes, given an id, to the workers; and what happens when the broker will not have them.

use std::sync::Arc;

use bytes::Bytes;
use shared::bus::{Publication, PublishError, Publisher, Receipt};
use shared::service::clock::Timestamp;
use shared::wire::envelope::{AuthSnapshot, ForwardedMessage, MessageKind, release, run};
use shared::wire::id::{MessageId, Sequence};
use shared::wire::protocol::{ClientLimits, CloseCode};
use shared::wire::seal::Sealer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::budget::{Budgets, Room};
use super::forward_span::ForwardSpan;
use super::shards::Shards;
use super::undelivered::UndeliveredPublisher;
use crate::admin::message_event::MessageEvent;
use crate::admin::metrics::Metrics;
use crate::connection::handle::ConnectionHandle;
use crate::connection::looks::Glance;
use crate::connection::read_ahead::Received;
use crate::connection::registry::Registry;
use crate::context::TerminatorContext;
use crate::session::{Next, SentBack, What};

/// How many connections tell the workers of their end at a time. Thousands may end together, and no one's message is to
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
    /// What clients may send.
    pub(crate) client_limits: ClientLimits,
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
        (rooms, client_limits): (Budgets, ClientLimits),
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
            client_limits,
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

    /// The publication that asks these requests, which one worker handles one after the other; none if there are none.
    pub(crate) fn together(&self, mut opened: Vec<Opened>) -> Option<Publication> {
        if opened.len() <= 1 {
            return Some(opened.pop()?.into_publication(self));
        }
        let first = opened.first()?.forwarded.clone();
        let (entries, receipts): (Vec<_>, Vec<_>) = opened.into_iter().map(Opened::into_entry).unzip();
        let settle = move |outcome| receipts.into_iter().for_each(|receipt: Receipt| receipt(outcome));
        Some(Publication {
            route: self.shards.of(first.message_id.connection),
            message: run::to_message(&first, &entries, &self.return_queue),
            receipt: Box::new(settle),
        })
    }

    /// The publication of a message that goes ahead of its turn.
    pub(crate) fn ahead(&self, peer: &Arc<ConnectionHandle>, message: Received) -> Publication {
        let (sequence, snapshot) = peer.change(|session, now| session.send_ahead(message.looks, now.instant));
        let message_id = message_id(peer, sequence);
        peer.common().observer.tell(&message_id, MessageEvent::Ahead);
        let leaving = ForwardSpan::received(&peer.common().tracer).publish(
            message_id,
            message.text.len(),
            self.shards.exchange(),
        );
        self.forwarded(peer, message_id, snapshot, message, None, leaving)
            .into_publication(self)
    }

    /// Opens a request. If the broker refuses it, the client is told.
    pub(crate) fn open(&self, peer: &Arc<ConnectionHandle>, message: Received, room: Option<Room>) -> Opened {
        let (unconfirmed, unanswered) = room.map(|room| (room.unconfirmed, room.unanswered)).unzip();
        let asked = peer.change(|session, now| session.forward(message.looks, unanswered.flatten(), now.instant));
        self.opened(peer, message, asked, unconfirmed)
    }

    /// A request that is open by now, under that sequence.
    pub(crate) fn opened(
        &self,
        peer: &Arc<ConnectionHandle>,
        message: Received,
        (sequence, snapshot): (Sequence, AuthSnapshot),
        unconfirmed: Option<OwnedSemaphorePermit>,
    ) -> Opened {
        let leaving = ForwardSpan::received(&peer.common().tracer);
        let message_id = message_id(peer, sequence);
        let (bytes, barrier) = (message.text.len(), message.looks.barrier);
        let forwarded = MessageEvent::Forwarded {
            bytes,
            barrier,
            trace_id: leaving.trace_id(),
        };
        peer.common().observer.tell(&message_id, forwarded);
        let leaving = leaving.publish(message_id, bytes, self.shards.exchange());
        self.forwarded(peer, message_id, snapshot, message, unconfirmed, leaving)
    }

    /// The publication that asks what is to be asked on the connection's own account.
    pub(crate) fn next(&self, peer: &Arc<ConnectionHandle>, next: Next) -> Publication {
        let message_id = message_id(peer, next.sequence);
        match next.what {
            What::Again(SentBack {
                body,
                first,
                received,
                span,
                _share: _,
            }) => {
                let bytes = body.len();
                let (event, leaving) = match first {
                    Some(_) => (
                        MessageEvent::TurnCame { bytes },
                        ForwardSpan::received(&peer.common().tracer),
                    ),
                    None => (MessageEvent::Resent, ForwardSpan::again(span)),
                };
                peer.common().observer.tell(&message_id, event);
                let leaving = leaving.publish(message_id, bytes, self.shards.exchange());
                let clock = &peer.common().around.clock;
                let received = first.or_else(|| received.map(|moment| clock.to_own(moment)));
                let message = self.received(body, received.unwrap_or_else(|| clock.own_now()));
                self.forwarded(peer, message_id, next.snapshot, message, None, leaving)
                    .into_publication(self)
            }
            What::Release { from, known } => {
                let requested = MessageEvent::ReleaseRequested { from };
                peer.common().observer.tell(&message_id, requested);
                let peer_of_receipt = peer.clone();
                let receipt: Receipt = Box::new(move |outcome| {
                    if let Err(error) = outcome {
                        peer_of_receipt.notify(|session, now| {
                            session.refused(message_id.sequence, false, &Bytes::new(), error, now.instant)
                        });
                    }
                });
                self.publication(
                    peer,
                    message_id,
                    MessageKind::Release { from },
                    next.snapshot,
                    known.map_or_else(Bytes::new, |known| release::to_be_released(&known)),
                    receipt,
                )
            }
        }
    }

    /// The publication that tells the workers of a connection's end; none if they never heard of it.
    pub(crate) fn closed(&self, peer: &ConnectionHandle, code: Option<CloseCode>) -> Option<Publication> {
        let (sequence, snapshot) = peer.look(|session| (session.next_sequence(), session.last_snapshot()));
        if sequence == Sequence::FIRST {
            return None;
        }
        let code = code.map(CloseCode::code);
        // If it is lost, the connection's state ends with its token.
        let receipt = Box::new(|_| {});
        let message_id = message_id(peer, sequence);
        Some(self.publication(
            peer,
            message_id,
            MessageKind::Closed { code },
            snapshot,
            Bytes::new(),
            receipt,
        ))
    }

    /// Tells the workers that a connection is there, if it has proved who it is. Tells by which message it is as it is.
    ///
    /// # Errors
    /// If the broker did not take it.
    pub(crate) async fn announced(&self, peer: &ConnectionHandle) -> Result<Option<Sequence>, PublishError> {
        let (snapshot, gone) = peer.look(|session| (session.snapshot(), session.is_gone()));
        let Some(by) = snapshot.by.filter(|_| snapshot.grant.is_some() && !gone) else {
            return Ok(None);
        };
        let message_id = message_id(peer, by);
        self.tell(message_id, MessageKind::Announced, snapshot, peer.common())
            .await?;
        self.metrics.announced.increment(1);
        Ok(Some(by))
    }

    /// Asks the workers for all revocations.
    ///
    /// # Errors
    /// If the broker did not take it.
    pub(crate) async fn back(&self, registry: &Registry) -> Result<(), PublishError> {
        let message_id = MessageId {
            connection: registry.nobody(),
            sequence: Sequence::FIRST,
        };
        self.tell(
            message_id,
            MessageKind::Back,
            AuthSnapshot::default(),
            registry.common(),
        )
        .await
    }

    async fn tell(
        &self,
        message_id: MessageId,
        notice: MessageKind,
        snapshot: AuthSnapshot,
        common: &TerminatorContext,
    ) -> Result<(), PublishError> {
        let forwarded = ForwardedMessage {
            message_id,
            notice,
            snapshot,
        };
        let message = forwarded.to_message(Bytes::new(), &self.return_queue, common.around.clock.now());
        self.publisher
            .publish(self.shards.of(message_id.connection), message)
            .await
    }

    fn forwarded(
        &self,
        peer: &Arc<ConnectionHandle>,
        message_id: MessageId,
        snapshot: AuthSnapshot,
        message: Received,
        room: Option<OwnedSemaphorePermit>,
        leaving: ForwardSpan,
    ) -> Opened {
        let Received { text, at, looks: _ } = message;
        let trace = leaving.headers();
        let body = self.sealer.seal(message_id, text.clone());
        let (second, since) = (snapshot.again, Instant::now());
        let peer_of_receipt = peer.clone();
        let receipt: Receipt = Box::new(move |outcome: Result<(), PublishError>| {
            drop(room);
            match outcome {
                Ok(()) => {
                    let confirmed = MessageEvent::Confirmed {
                        took: since.elapsed(),
                        trace_id: leaving.trace_id(),
                    };
                    peer_of_receipt.common().observer.tell(&message_id, confirmed);
                }
                Err(error) => {
                    leaving.fail(error);
                    refuse(&peer_of_receipt, message_id.sequence, second, &text, error);
                }
            }
        });
        let entry = run::Entry {
            body,
            received: peer.common().around.clock.of_own(at),
            unsettled: snapshot.unsettled,
            trace,
        };
        let forwarded = ForwardedMessage {
            message_id,
            notice: MessageKind::Message,
            snapshot,
        };
        Opened {
            forwarded,
            entry,
            receipt,
        }
    }

    fn publication(
        &self,
        peer: &ConnectionHandle,
        message_id: MessageId,
        notice: MessageKind,
        snapshot: AuthSnapshot,
        body: Bytes,
        receipt: Receipt,
    ) -> Publication {
        let forwarded = ForwardedMessage {
            message_id,
            notice,
            snapshot,
        };
        Publication {
            route: self.shards.of(message_id.connection),
            message: forwarded.to_message(body, &self.return_queue, peer.common().around.clock.now()),
            receipt,
        }
    }
}

/// A request that is open, before it leaves.
pub(crate) struct Opened {
    forwarded: ForwardedMessage,
    entry: run::Entry,
    receipt: Receipt,
}

impl Opened {
    /// It leaves alone.
    pub(crate) fn into_publication(self, forwarder: &Forwarder) -> Publication {
        let run::Entry {
            body, received, trace, ..
        } = self.entry;
        let mut message = self.forwarded.to_message(body, &forwarder.return_queue, received);
        message.properties.headers.extend(trace);
        Publication {
            route: forwarder.shards.of(self.forwarded.message_id.connection),
            message,
            receipt: self.receipt,
        }
    }

    /// It leaves with others.
    fn into_entry(self) -> (run::Entry, Receipt) {
        (self.entry, self.receipt)
    }
}

fn message_id(peer: &ConnectionHandle, sequence: Sequence) -> MessageId {
    MessageId {
        connection: peer.id(),
        sequence,
    }
}

fn refuse(peer: &ConnectionHandle, sequence: Sequence, second: bool, text: &Bytes, error: PublishError) {
    if peer.notify(|session, now| session.refused(sequence, second, text, error, now.instant)) {
        peer.common().metrics.message_refused(error);
    }
}
