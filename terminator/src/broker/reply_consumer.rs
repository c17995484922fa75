//! The way back: answers and commands out of the return queue, each to its connection, and what is revoked to all.

use std::sync::Arc;

use shared::bus::{Consumer, Delivery, Whole};
use shared::service::trace::{Span, SpanKind};
use shared::wire::envelope::{Bounced, Clocks, Command, Epoch, Reply, Return, Spread, Verdict};
use shared::wire::id::{ConnectionId, MessageId};
use shared::wire::revocation::{Revocation, Revocations};
use shared::wire::seal::Sealer;
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, warn};

use super::undelivered::{Back, UndeliveredPublisher};
use crate::admin::message_event::MessageEvent;
use crate::connection::registry::Registry;
use crate::context::TerminatorContext;
use crate::session::DeliveryResult;
use crate::session::notices::refuse::cannot_be_read;

/// What the one task holds that empties the return queue.
pub(crate) struct ReplyConsumer {
    pub(crate) registry: Arc<Registry>,
    pub(crate) undelivered: UndeliveredPublisher,
    /// What has been revoked. Only this task brings grants, so it alone need know.
    revoked: Revocations,
    /// The epoch of the store, for anyone who announces connections.
    epochs: watch::Sender<Option<Epoch>>,
    /// For the same: connections of which the store knows.
    entered: mpsc::UnboundedSender<ConnectionId>,
    sealer: Sealer,
}

impl ReplyConsumer {
    pub(crate) fn new(
        registry: Arc<Registry>,
        undelivered: UndeliveredPublisher,
        epochs: watch::Sender<Option<Epoch>>,
        entered: mpsc::UnboundedSender<ConnectionId>,
        sealer: Sealer,
    ) -> Self {
        Self {
            registry,
            undelivered,
            revoked: Revocations::default(),
            epochs,
            entered,
            sealer,
        }
    }

    /// Runs until the consumer has no more.
    pub(crate) async fn run(mut self, mut answers: Consumer) {
        while let Some(delivery) = answers.recv().await {
            self.bring(delivery).await;
        }
    }

    async fn bring(&mut self, delivery: Delivery) {
        if delivery.is_redelivered() {
            self.common().metrics.redeliveries.increment(1);
        }
        let Some(returned) = Return::read(&delivery.message) else {
            self.common().metrics.answers_malformed.increment(1);
            return delivery.ack();
        };
        match returned {
            Return::Revoked(revocations) => {
                self.revoke(&revocations);
                delivery.ack();
            }
            Return::Epoch(epoch) => {
                // Each worker that saw it begin may have said so.
                self.epochs.send_if_modified(|last| last.replace(epoch) != Some(epoch));
                delivery.ack();
            }
            // It is for workers alone.
            Return::Rules(_) | Return::Cancelled(_) | Return::Load(_) => delivery.ack(),
            Return::Reply(message_id, answer) => self.answer(message_id, answer, delivery),
            Return::Command(connection, Command::Entered) => {
                // Without an announcer, the terminator is over.
                let _ = self.entered.send(connection);
                delivery.ack();
            }
            Return::Command(connection, command) => self.command(connection, command, delivery),
            Return::Spread(spread) => self.spread(&spread, delivery).await,
        }
    }

    /// Brings each of its connections a copy, as if each had come by itself; no more at a time than the broker would give out
    /// of those.
    async fn spread(&self, spread: &Spread, delivery: Delivery) {
        let whole = Whole::of(delivery);
        for connection in spread.connections() {
            self.common().around.load.until_room().await;
            let part = whole.part(spread.to_one(connection));
            self.command(connection, Command::Write(spread.write.clone()), part);
        }
        whole.finish();
    }

    fn answer(&self, message_id: MessageId, mut answer: Reply, mut delivery: Delivery) {
        if answer.verdict == Verdict::Again {
            self.open(message_id, &mut answer, &mut delivery);
        }
        if let Some(clocks) = Clocks::read(&delivery.message.properties) {
            self.common().around.clock.hear(clocks);
        }
        if answer.part.more && delivery.message.body.is_empty() {
            // A grant whose answer takes its time. Of a connection that is gone it means nothing.
            if let Some(peer) = self.registry.find(message_id.connection) {
                peer.notify(|session, now| session.granted(message_id.sequence, answer, &self.revoked, now));
            }
            return delivery.ack();
        }
        self.common().observer.tell(&message_id, MessageEvent::Replied);
        let wanted = answer.identity.is_some() && !delivery.message.body.is_empty();
        let (part, second) = (answer.part, answer.second);
        let waits = if answer.verdict == Verdict::Again {
            let tracer = &self.common().tracer;
            tracer.follow_headers(&delivery.message.properties, "wait", SpanKind::Consumer)
        } else {
            Span::NONE
        };
        let brought = match self.registry.find(message_id.connection) {
            Some(peer) => peer.notify(|session, now| {
                session.answer(message_id.sequence, answer, delivery, waits, &self.revoked, now)
            }),
            None => DeliveryResult::Unknown(delivery),
        };
        let wanted = match &brought {
            // It was written before the connection ended, or has gone back already.
            DeliveryResult::Unknown(_) if self.registry.has_come(message_id, part, second) => false,
            _ => wanted,
        };
        self.note(brought, wanted);
    }

    /// What is sent back is as it was sent. If it cannot be opened any more, that is its answer.
    fn open(&self, message_id: MessageId, answer: &mut Reply, delivery: &mut Delivery) {
        delivery.message.body = match self.sealer.open(message_id, &delivery.message.body) {
            Ok(opened) => opened,
            Err(why) => {
                warn!(%message_id, %why, "a returned message cannot be opened, and is refused: was its key removed from seal-keys?");
                answer.verdict = Verdict::Done;
                cannot_be_read()
            }
        };
    }

    fn command(&self, connection: ConnectionId, command: Command, delivery: Delivery) {
        let wanted = match &command {
            Command::Write(write) => write.identity.is_some(),
            Command::Wake { .. } | Command::OverLimit { .. } | Command::Check { .. } => true,
            Command::Fetched { .. } | Command::Replaced | Command::Entered => false,
        };
        let brought = match self.registry.find(connection) {
            Some(peer) => peer.notify(|session, now| session.command(command, delivery, now.instant)),
            None => DeliveryResult::Gone(delivery),
        };
        self.note(brought, wanted);
    }

    /// Counts what came. What came for no one goes back if someone else may have it.
    fn note(&self, brought: DeliveryResult, wanted: bool) {
        let metrics = &self.common().metrics;
        match brought {
            DeliveryResult::Taken => metrics.answers_delivered.increment(1),
            DeliveryResult::Duplicate => metrics.answers_duplicate.increment(1),
            DeliveryResult::Gone(delivery) | DeliveryResult::Unknown(delivery) if wanted => {
                self.undelivered.send(Back::Undelivered(delivery, Bounced::Gone))
            }
            DeliveryResult::Gone(delivery) | DeliveryResult::Unknown(delivery) => {
                metrics.answers_orphaned.increment(1);
                delivery.ack();
            }
        }
    }

    fn revoke(&mut self, revocations: &[Revocation]) {
        self.common().metrics.revocations.increment(revocations.len() as u64);
        let now = self.common().now();
        for revocation in revocations {
            debug!(target = ?revocation.target, effective = revocation.effective.as_millis(), "revocation received");
            if !self.revoked.add(*revocation, now.wall) {
                error!("there are more revocations than a process keeps: one does not apply to new connections");
            }
        }
        for revocation in revocations {
            for peer in self.registry.meant_by(revocation.target) {
                if peer.change(|session, now| session.heed(&self.revoked, now)) {
                    peer.wake.notify_one();
                }
            }
        }
    }

    fn common(&self) -> &TerminatorContext {
        self.registry.common()
    }
}
