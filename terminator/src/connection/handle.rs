//! What others may do to a connection: bring it an answer, tell it that a message of its was refused, let its moment come.
//!
//! The connection's own task owns the socket; everyone else changes its
//! [`Session`] here, under a lock that no one waits under, and wakes it. What follows
//! from a change is carried out here, in its order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use shared::wire::id::ConnectionId;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::admin::observe::observe;
use crate::context::TerminatorContext;
use crate::events::publisher::EventSender;
use crate::session::Session;
use crate::session::effect::Effect;
use crate::timers::now::Now;

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
        let mut session = Session::new(common.around.clone(), id, Instant::now());
        if common.events.is_some() {
            session.begin_news();
        }
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

    /// Looks at it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Session) -> T) -> T {
        look(&self.lock())
    }

    /// Waits until it is to end at once.
    pub(crate) async fn urgent(&self) {
        while !self.look(Session::is_urgent) {
            self.wake.notified().await;
        }
    }

    /// Something happens to it that its own task brings about, or need not know of.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Session, Now) -> T) -> T {
        let mut session = self.lock();
        let now = self.common.now();
        let before = session.levels();
        session.observe(now);
        let result = change(&mut session, now);
        session.arm(now.instant, |moment, armed| {
            self.common.wheel.arm(self.id.number, moment, armed)
        });
        let after = session.levels();
        for effect in session.take_effects() {
            match effect {
                Effect::Acknowledge(delivery) => delivery.ack(),
                Effect::Event(event) => observe(event, self.id, &self.common.metrics),
            }
        }
        if let Some(events) = &self.common.events {
            self.tell_events(&mut session, events);
        }
        drop(session);
        self.common.levels(self.id.number, before, after);
        result
    }

    /// Hands on what has happened, under the lock, so that it stays in its order. Nothing is told of a connection if its beginning
    /// is not.
    fn tell_events(&self, session: &mut Session, events: &EventSender) {
        for event in session.take_news() {
            let is_beginning = event.is_beginning();
            if !events.tell(self.id, event, self.common.around.clock.now()) && is_beginning {
                return session.forget_news();
            }
        }
    }

    /// Something happens to it that its own task has to look at.
    pub(crate) fn notify<T>(&self, change: impl FnOnce(&mut Session, Now) -> T) -> T {
        let result = self.change(change);
        self.wake.notify_one();
        result
    }

    /// Something is to be written to it.
    pub(crate) fn tell(&self, text: Bytes) {
        self.notify(|session, _| session.tell(text));
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        // Nothing under this lock panics half-way through a change.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
