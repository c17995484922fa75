//! What others may do to a connection: bring it an answer, tell it that a message of its was refused, let its moment come.
//!
//! The connection's own task owns the socket; everybody else changes its
//! [`Session`] here, under a lock that nobody waits under, and wakes it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shared::bus::{Delivery, PublishError};
use shared::wire::envelope::{Command, Reply, Standing};
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::protocol::push_ack::PushAck;
use shared::wire::revocation::Revocations;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::close_reason::CloseReason;
use super::looks::Looks;
use super::outgoing::Batch;
use super::read_ahead::{ReadAhead, Received};
use crate::context::TerminatorContext;
use crate::session::acknowledging::Acknowledged;
use crate::session::in_flight::InFlight;
use crate::session::{DeliveryResult, Dismissed, Next, Session};
use crate::timers::now::Now;
use crate::timers::wheel::Tick;

/// One connection, as others see it.
pub(crate) struct ConnectionHandle {
    id: ConnectionId,
    common: Arc<TerminatorContext>,
    session: Mutex<Session>,
    /// Something was left for the connection's task.
    pub(crate) wake: Notify,
}

impl ConnectionHandle {
    pub(crate) fn new(id: ConnectionId, common: Arc<TerminatorContext>) -> Self {
        let session = Session::new(common.clone(), id, Instant::now());
        Self {
            id,
            common,
            session: Mutex::new(session),
            wake: Notify::new(),
        }
    }

    pub(crate) const fn id(&self) -> ConnectionId {
        self.id
    }

    pub(crate) fn common(&self) -> &TerminatorContext {
        &self.common
    }

    /// An answer came for it.
    pub(crate) fn answer(
        &self,
        sequence: Sequence,
        answer: Reply,
        delivery: Delivery,
        revoked: &Revocations,
        now: Now,
    ) -> DeliveryResult {
        let brought = self.change(|session| session.answer(sequence, answer, delivery, revoked, now));
        self.wake.notify_one();
        brought
    }

    /// It has a grant by a question that is not answered yet.
    pub(crate) fn granted(&self, sequence: Sequence, answer: Reply, revoked: &Revocations, now: Now) {
        self.change(|session| session.granted(sequence, answer, revoked, now));
        self.wake.notify_one();
    }

    /// A worker has something done for it.
    pub(crate) fn errand(&self, errand: Command, delivery: Delivery) -> DeliveryResult {
        let brought = self.change(|session| session.errand(errand, delivery));
        self.wake.notify_one();
        brought
    }

    /// Its client has got these pushes.
    pub(crate) fn acknowledge(&self, ack: &PushAck<'_>) -> Acknowledged {
        let acknowledged = self.change(|session| session.acknowledge(ack));
        // There may be room for what is held.
        self.wake.notify_one();
        acknowledged
    }

    /// That was written to it, or had been before. Given back is what its client does not have to acknowledge.
    pub(crate) fn wrote(&self, delivery: Delivery, again: bool) -> Option<Delivery> {
        self.change(|session| session.wrote(delivery, again, Instant::now()))
    }

    /// What was written to it and not acknowledged, as it has ended.
    pub(crate) fn take_unacknowledged(&self) -> Vec<Delivery> {
        self.change(Session::take_unacknowledged)
    }

    /// Something is taken back: that is all there is now.
    pub(crate) fn heed(&self, revoked: &Revocations, now: Now) {
        if self.change(|session| session.heed(revoked, now)) {
            self.wake.notify_one();
        }
    }

    /// A question of its will not be answered. Tells whether its client was waiting for that.
    pub(crate) fn refused(&self, sequence: Sequence, second: bool, body: &Bytes, error: PublishError) -> bool {
        let told = self.change(|session| session.refused(sequence, second, body, error, Instant::now()));
        self.wake.notify_one();
        told
    }

    /// A message of its that was never forwarded will not be.
    pub(crate) fn refuse_unsent(&self, body: &Bytes, error: PublishError) {
        self.change(|session| session.refuse_unsent(body, error));
        self.wake.notify_one();
    }

    /// A log-out was read, which may have to wait.
    pub(crate) fn reads_log_out(&self) {
        self.change(Session::reads_log_out);
    }

    /// A log-out that was read is refused.
    pub(crate) fn refuses_log_out(&self) {
        self.change(Session::refuses_log_out);
        self.wake.notify_one();
    }

    /// Its client has left.
    pub(crate) fn leave(&self) {
        self.change(Session::leave);
    }

    /// It reads too slowly, and others need what is kept for it.
    pub(crate) fn give_way(&self) {
        self.change(Session::give_way);
        self.wake.notify_one();
    }

    /// Its moment on the wheel has come.
    pub(crate) fn fire(&self, tick: Tick, now: Instant, forwarding: bool) {
        if self.change(|session| session.fire(tick, now, forwarding)) {
            self.wake.notify_one();
        }
    }

    /// Something is to be written to it.
    pub(crate) fn tell(&self, text: Bytes) {
        self.change(|session| session.tell(text));
        self.wake.notify_one();
    }

    /// It takes its leave, when what is in flight has settled.
    pub(crate) fn close(&self, ending: CloseReason) {
        self.change(|session| session.close(ending, Instant::now()));
        self.wake.notify_one();
    }

    /// It sends messages, which are forwarded together.
    pub(crate) fn forward_run(&self, run: impl FnOnce(&mut Session, Instant)) {
        self.change(|session| run(session, Instant::now()));
    }

    /// It has sent a message.
    pub(crate) fn forward(&self, looks: Looks, room: Option<OwnedSemaphorePermit>) -> (Sequence, Standing) {
        self.change(|session| session.forward(looks, room, Instant::now()))
    }

    /// These messages of its were read and cannot be forwarded yet.
    pub(crate) fn reads_ahead(&self, ahead: &ReadAhead) {
        self.change(|session| session.reads_ahead(ahead, Instant::now()));
    }

    /// Something of its may be sent ahead of its turn, if what would renew it has waited long enough.
    pub(crate) fn sends_ahead(&self) -> bool {
        self.change(|session| session.sends_ahead(Instant::now()))
    }

    /// A message of its waits for its turn.
    pub(crate) fn line_up(&self, message: Received) {
        self.change(|session| session.line_up(message));
    }

    /// A message of its is sent ahead of its turn.
    pub(crate) fn send_ahead(&self, looks: Looks) -> (Sequence, Standing) {
        self.change(|session| session.send_ahead(looks, Instant::now()))
    }

    /// What is to be asked of the workers next.
    pub(crate) fn next_question(&self) -> Option<Next> {
        self.change(|session| session.next_question(Instant::now()))
    }

    /// What is to be done for its socket now.
    pub(crate) fn take(&self) -> Batch {
        self.change(|session| session.take(Instant::now()))
    }

    /// It has ended like that.
    pub(crate) fn dismiss(&self, ending: CloseReason) -> Dismissed {
        self.change(|session| session.dismiss(ending))
    }

    /// The questions that it leaves open; nothing if it never asked any. Whoever still brings it something is to look for
    /// them where they are remembered.
    pub(crate) fn take_in_flight(&self) -> Option<InFlight> {
        self.change(Session::take_in_flight)
    }

    /// Looks at it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Session) -> T) -> T {
        look(&self.lock())
    }

    /// Looks at the clocks.
    pub(crate) fn observe(&self) {
        self.change(|_| ());
    }

    /// Has it armed for what it waits for, as it is from its beginning.
    pub(crate) fn arm(&self) {
        self.change(|_| ());
    }

    /// Waits until it is to end at once.
    pub(crate) async fn urgent(&self) {
        while !self.look(Session::is_urgent) {
            self.wake.notified().await;
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        let mut session = self.lock();
        let before = session.levels();
        session.observe(self.common.now());
        let result = change(&mut session);
        session.arm();
        let after = session.levels();
        drop(session);
        self.common.levels(self.id.number, before, after);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        // Nothing under this lock panics half-way through a change.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl ConnectionHandle {
    /// Gives it a grant, as the answer to its first message would.
    pub(crate) fn bind(&self, grant: shared::wire::grant::Grant, now: Now) {
        self.change(|session| session.bind(grant, now));
    }
}
