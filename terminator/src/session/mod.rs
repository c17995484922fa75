//! What a connection has become by all that it sent and all that came for it: its
//! requests, its authentication, what is held, and what waits to be written.
//!
//! Nothing here waits, reads a clock, touches a socket or a queue, counts or logs. Whatever
//! happens to a connection is one call, with the time as an argument: a message of its own
//! ([`forward`](Session::forward), [`ordering`]), something from the return queue
//! ([`returned`]), a moment that has come ([`timing`]). What follows at once is an
//! [`Effect`], which the connection's handle carries out; the rest is taken
//! out by the connection's task: what to ask the workers
//! ([`next_request`](Session::next_request)) and what to write ([`writing`]).

pub(crate) mod acknowledging;
pub(crate) mod auth_state;
pub(crate) mod effect;
pub(crate) mod guard;
pub(crate) mod held;
pub(crate) mod in_flight;
mod keeping;
pub(crate) mod notices;
mod ordering;
pub(crate) mod outbound;
pub(crate) mod recent;
mod returned;
mod showing;
mod timing;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::bus::{Delivery, PublishError};
use shared::service::clock::Timestamp;
use shared::service::trace::Span;
use shared::wire::envelope::AuthSnapshot;
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::protocol::CloseCode;
use shared::wire::tag::IdentityTag;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::admin::levels::Levels;
use crate::connection::close_reason::CloseReason;
use crate::connection::index::Owner;
use crate::connection::looks::{Looks, Mark};
use crate::connection::outgoing::{Entry, Outgoing, Queue};
use crate::context::Surroundings;
use crate::events::{Event as ConnectionEvent, Happening, News};
use crate::session::auth_state::log_outs::LogOuts;
use crate::session::auth_state::{AuthState, Authentication};
use crate::session::held::{Due, Held, Stand};
use crate::session::in_flight::{InFlight, Kind};
use crate::session::notices::refuse::{refusal, unauthenticated};
use crate::session::outbound::Outbound;
use crate::session::recent::Recent;
use crate::timers::wheel::Tick;

use self::acknowledging::Pushes;
use self::effect::{Effect, Effects, Event};
use self::keeping::{BeingWritten, length};
pub(crate) use self::returned::DeliveryResult;
pub use self::showing::{Shown, State};
pub(crate) use self::writing::Dismissed;

/// How long a connection that is to be closed waits for the answers to what it sent.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The state of one connection.
pub(crate) struct Session {
    around: Arc<Surroundings>,
    id: ConnectionId,
    in_flight: InFlight,
    auth_state: AuthState,
    /// How many messages were read and could not be forwarded yet.
    ahead: u16,
    /// Nothing behind this message is forwarded until it is settled.
    barrier: Option<Sequence>,
    /// Whether it may be decided as it was forwarded last: nothing before it was unsettled.
    barrier_decides: bool,
    /// Messages that workers have sent back, and others that wait for their turn, until all before them is settled.
    again: BTreeMap<Sequence, SentBack>,
    held: Held,
    outbound: Outbound<Outgoing>,
    outgoing: Queue,
    recent: Recent,
    /// What was pushed to a client that acknowledges that; none if it does not.
    unacknowledged: Pushes,
    /// What is being written; none if nothing is.
    writing: Option<BeingWritten>,
    /// How many bytes those have.
    again_bytes: u32,
    /// The token that its last message had.
    last_token: Option<Mark>,
    /// When it last asked something, or heard an answer.
    progress: Instant,
    /// The sequence of the first request that was open then; 0 if none was.
    oldest_asked: u64,
    /// When to see whether it still waits for one.
    answer_due: Option<Instant>,
    /// When to send ahead what would renew it and waits for its turn.
    ahead_due: Option<Instant>,
    log_outs: Option<Box<LogOuts>>,
    /// Whether the client was asked for a fresh token since the last one came.
    asked: bool,
    /// When to see whether it has ever authenticated.
    auth_due: Option<Instant>,
    /// What it sends from here on comes too late to authenticate it.
    late_from: Option<Sequence>,
    life: Life,
    /// Whether its client has left.
    left: bool,
    /// For when it is armed on the wheel.
    armed: Option<Tick>,
    /// What it waits for has changed.
    rearm: bool,
    effects: Effects,
    /// What has happened to it that is to be told; none if no one is told of it.
    news: Option<Box<News>>,
}

/// How far a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Open,
    /// Nothing is forwarded any more; what is in flight may settle until then, and then it ends.
    Closing {
        until: Instant,
        ending: CloseReason,
    },
    /// It ends now.
    CloseReason(CloseReason),
    /// It has ended: what comes for it now comes for no one.
    Gone,
    /// And others know what it has left open.
    Forgotten,
}

/// A message that a worker has sent back, or that waits to be sent for the first time.
pub(crate) struct SentBack {
    pub(crate) body: Bytes,
    /// When it was received, if it was not sent before.
    pub(crate) first: Option<Timestamp>,
    /// When it was received, if it was, as far as that was said.
    pub(crate) received: Option<Timestamp>,
    /// How long it waits here, if it is traced.
    pub(crate) span: Span,
    /// Its share of the room for what is read ahead.
    pub(crate) _share: Option<OwnedSemaphorePermit>,
}

/// What is to be asked of the workers.
pub(crate) struct Next {
    pub(crate) sequence: Sequence,
    pub(crate) snapshot: AuthSnapshot,
    pub(crate) what: What,
}

pub(crate) enum What {
    /// A message that has waited here, for the first or second time.
    Again(SentBack),
    /// That what is held be handled: of another connection all, and of this one what is known to be held.
    Release {
        from: Option<ConnectionId>,
        known: Option<Vec<Sequence>>,
    },
}

impl Session {
    pub(crate) fn new(around: Arc<Surroundings>, id: ConnectionId, now: Instant) -> Self {
        let limits = around.limits;
        Self {
            news: None,
            around,
            id,
            in_flight: InFlight::new(limits.max_in_flight),
            auth_state: AuthState::new(),
            ahead: 0,
            barrier: None,
            barrier_decides: false,
            again: BTreeMap::new(),
            held: Held::default(),
            outbound: Outbound::new(limits.send_queue_bytes),
            outgoing: Queue::default(),
            recent: Recent::default(),
            unacknowledged: None,
            writing: None,
            again_bytes: 0,
            last_token: None,
            progress: now,
            oldest_asked: 0,
            answer_due: None,
            ahead_due: None,
            log_outs: None,
            asked: false,
            auth_due: limits.auth_timeout.map(|timeout| now + timeout),
            late_from: None,
            life: Life::Open,
            left: false,
            armed: None,
            rearm: true,
            effects: Effects::default(),
        }
    }

    /// What follows from what has happened, in its order.
    pub(crate) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    fn acknowledge_delivery(&mut self, delivery: Delivery) {
        self.effects.add(Effect::Acknowledge(Box::new(delivery)));
    }

    fn happened(&mut self, event: Event) {
        self.effects.add(Effect::Event(event));
    }

    /// The client has sent a message; if it is a barrier, nothing behind it is forwarded until it is settled.
    ///
    /// What may not be decided before is what has a token: it may be by that, and by no other, that this one acts. For a
    /// barrier it is all there is, and a release is unsettled business too, and none is begun while it may be decided: a
    /// log-out refuses what is held, which no one else may be handling meanwhile.
    ///
    /// What room it takes is given back when it is answered.
    pub(crate) fn forward(
        &mut self,
        looks: Looks,
        room: Option<OwnedSemaphorePermit>,
        now: Instant,
    ) -> (Sequence, AuthSnapshot) {
        let releases = || self.in_flight.is_releasing() || self.due_release(now).is_some();
        let unsettled = if looks.barrier {
            self.in_flight.open_messages() > 0 || releases()
        } else {
            self.in_flight.is_proving()
        };
        let snapshot = AuthSnapshot {
            unsettled,
            ..self.snapshot()
        };
        let sequence = self.open(looks, !snapshot.unsettled);
        self.asks(now);
        self.in_flight.keep(sequence, room);
        (sequence, snapshot)
    }

    /// One more of its messages is open. If it is a barrier, it `decides` when it may be decided as it is sent now.
    fn open(&mut self, looks: Looks, decides: bool) -> Sequence {
        self.last_token = looks.mark.or(self.last_token);
        let sequence = self.in_flight.forward(Kind::Message { proves: looks.proves });
        if looks.barrier {
            self.barrier = Some(sequence);
            self.barrier_decides = decides;
        }
        if looks.logs_out {
            self.log_outs.get_or_insert_default().sent(sequence);
        }
        sequence
    }

    /// How it stands, when nothing is unsettled.
    pub(crate) fn snapshot(&self) -> AuthSnapshot {
        AuthSnapshot {
            held: self.held.len() > 0,
            ordered: self.around.limits.run.is_some(),
            unsure: !self.around.clock.is_known(),
            ..self.auth_state.snapshot()
        }
    }

    /// The message that last changed its authentication.
    pub(crate) fn changed_by(&self) -> Option<Sequence> {
        self.auth_state.by()
    }

    /// Whether another message may be forwarded.
    pub(crate) fn may_forward(&self, now: Instant) -> bool {
        self.life == Life::Open && !self.is_behind_barrier() && self.has_room() && self.is_its_turn(now)
    }

    /// Whether its share in flight is not used up: no one in particular has a small one.
    fn has_room(&self) -> bool {
        let share = self.around.limits.unauthenticated_in_flight;
        self.in_flight.has_room() && (self.was_ever_authenticated() || self.in_flight.open_messages() < share)
    }

    /// Whether it has ever proved who it is.
    pub(crate) fn was_ever_authenticated(&self) -> bool {
        self.auth_state.was_ever_authenticated()
    }

    /// How it stood when it ended. What is unsettled may still prove who it was.
    pub(crate) fn last_snapshot(&self) -> AuthSnapshot {
        AuthSnapshot {
            unsettled: self.in_flight.is_proving(),
            ..self.snapshot()
        }
    }

    fn is_behind_barrier(&self) -> bool {
        self.barrier.is_some_and(|barrier| self.in_flight.is_open(barrier))
    }

    /// What is to be asked of the workers next. It is asked, then.
    pub(crate) fn next_request(&mut self, now: Instant) -> Option<Next> {
        if self.life != Life::Open {
            return None;
        }
        self.next_again(now).or_else(|| self.next_release(now))
    }

    /// The message that was sent back and has none before it that it must wait for.
    fn next_again(&mut self, now: Instant) -> Option<Next> {
        let (sequence, _) = self.again.first_key_value()?;
        let is_barrier = self.barrier == Some(*sequence);
        let awaited = if is_barrier {
            self.in_flight.oldest_open()
        } else {
            self.in_flight.oldest_proving()
        };
        if awaited.is_some_and(|awaited| awaited < *sequence) || !self.has_come_to_those_that_wait(now) {
            return None;
        }
        // What was sent before a log-out and can be released is.
        if is_barrier && (self.in_flight.is_releasing() || self.due_release(now).is_some()) {
            return None;
        }
        let (sequence, sent_back) = self.again.pop_first()?;
        self.again_bytes = self.again_bytes.saturating_sub(length(&sent_back.body));
        self.asks(now);
        self.barrier_decides |= is_barrier;
        if sent_back.first.is_none() {
            self.happened(Event::Resent);
        }
        Some(Next {
            sequence,
            snapshot: AuthSnapshot {
                again: sent_back.first.is_none(),
                held: self.held.len() > 0,
                ordered: self.around.limits.run.is_some(),
                unsure: !self.around.clock.is_known(),
                ..self.auth_state.snapshot_at(sequence, now)
            },
            what: What::Again(sent_back),
        })
    }

    fn due_release(&self, now: Instant) -> Option<Due> {
        if self.is_behind_barrier() && self.barrier_decides {
            return None;
        }
        let stand = self.stand(now);
        self.held.due(stand).filter(|_| !(stand.live && self.answers_first()))
    }

    fn stand(&self, now: Instant) -> Stand {
        Stand {
            now,
            live: self.auth_state.is_live(now),
            by: self.auth_state.by(),
            oldest_open: self.oldest_under_way(),
        }
    }

    fn next_release(&mut self, now: Instant) -> Option<Next> {
        let due = self.due_release(now)?;
        let snapshot = self.snapshot();
        let sequence = self.in_flight.forward(Kind::Release);
        self.asks(now);
        self.held.ask(due, sequence);
        self.happened(Event::ReleaseRequested);
        Some(Next {
            sequence,
            snapshot,
            what: What::Release {
                from: due.from,
                known: due.from.is_none().then(|| self.held.sequences()),
            },
        })
    }

    /// The queue did not take the first or `second` sending of a request. A client that waits for the answer is told;
    /// `body` is what it sent. Tells whether it was.
    pub(crate) fn refused(
        &mut self,
        sequence: Sequence,
        second: bool,
        body: &Bytes,
        error: PublishError,
        now: Instant,
    ) -> bool {
        let release = self.held.is_release(sequence);
        if !self.in_flight.refuse(sequence, second) {
            return false;
        }
        if release {
            self.held.refused(now);
            self.rearm = true;
            return false;
        }
        self.tell(self.refusal_of(body, error));
        true
    }

    /// A log-out was read, which may have to wait.
    pub(crate) fn reads_log_out(&mut self) {
        self.log_outs.get_or_insert_default().read();
    }

    /// A log-out that was read is refused.
    pub(crate) fn refuses_log_out(&mut self) {
        self.log_outs.get_or_insert_default().refused();
    }

    /// Whether its client has logged out, and nothing is pushed to it any more although that is not settled. If an answer is held,
    /// what is held is fetched all the same: the log-out waits for it.
    fn is_logging_out(&self) -> bool {
        let log_outs = self.log_outs.as_deref();
        log_outs.is_some_and(|all| all.is_any(&self.in_flight)) && !self.outbound.owes_answer()
    }

    /// A message that was never forwarded will not be.
    pub(crate) fn refuse_unsent(&mut self, body: &Bytes, error: PublishError) {
        self.tell(self.refusal_of(body, error));
    }

    fn refusal_of(&self, body: &Bytes, error: PublishError) -> Bytes {
        if self.ends_for_authentication() {
            unauthenticated(body)
        } else {
            refusal(body, error)
        }
    }

    /// Something of our own is to be written.
    pub(crate) fn tell(&mut self, text: Bytes) {
        self.push(Entry::Text(Outgoing::notice(text)));
    }

    /// The sequence that its next message would have.
    pub(crate) fn next_sequence(&self) -> Sequence {
        self.in_flight.next()
    }

    /// What it leaves open, for anyone who remembers it; none if it never asked anything.
    pub(crate) fn take_in_flight(&mut self) -> Option<InFlight> {
        if !self.is_gone() {
            // Its task has not come to its end.
            self.tells(Happening::Closed(CloseReason::Cut(CloseCode::Internal)));
        }
        self.life = Life::Forgotten;
        let in_flight = std::mem::replace(&mut self.in_flight, InFlight::new(0));
        (in_flight.next() != Sequence::FIRST).then_some(in_flight)
    }

    /// Whether all that it sent is answered and all answers are written.
    pub(crate) fn is_quiet(&self) -> bool {
        self.in_flight.is_empty() && self.outgoing.is_empty()
    }

    /// Whether a message is not settled: it waits to be sent a second time, or may still be sent back for it.
    pub(crate) fn is_undecided(&self) -> bool {
        self.in_flight.open_messages() > 0
    }

    /// Whether it ends now, whatever it is about.
    pub(crate) fn is_urgent(&self) -> bool {
        self.ending().is_some()
    }

    /// How it ends, if it is to end at once.
    pub(crate) fn ending(&self) -> Option<CloseReason> {
        match self.life {
            Life::CloseReason(ending) => Some(ending),
            Life::Open | Life::Closing { .. } | Life::Gone | Life::Forgotten => None,
        }
    }

    /// With which code it ends if its grant is over.
    pub(crate) fn end_of_grant(&self, now: Instant) -> CloseCode {
        match self.auth_state.authentication() {
            Some(authentication) if authentication.is_revoked(now) => CloseCode::Revoked,
            Some(_) | None => CloseCode::AuthRequired,
        }
    }

    /// Whether it has ended, and was told to have.
    pub(crate) const fn is_gone(&self) -> bool {
        matches!(self.life, Life::Gone | Life::Forgotten)
    }

    /// Whether it takes its leave, now or when what is in flight has settled.
    pub(crate) fn is_closing(&self) -> bool {
        self.life != Life::Open
    }

    /// Whose it is, and until when a write in that name that has begun may take, if there is a limit.
    pub(crate) fn write_limit(&self) -> Option<(IdentityTag, Option<Instant>)> {
        self.auth_state
            .authentication()
            .map(|authentication| (authentication.identity, authentication.write_limit()))
    }

    pub(crate) fn levels(&self) -> Levels {
        if matches!(self.life, Life::Gone | Life::Forgotten) {
            return Levels::default();
        }
        Levels {
            in_flight: self.in_flight.open_messages() + self.waiting_in_order(),
            held_inbound: self.held.len(),
            held_outbound: self.outbound.behind(),
            grant_ends: self.auth_state.authentication().map(Authentication::ends_at),
            owner: self.auth_state.authentication().map(|authentication| Owner {
                identity: authentication.identity,
                token_id: authentication.token_id,
                session: authentication.session,
            }),
            load: self.load(),
        }
    }

    fn push(&mut self, entry: Entry) {
        if !self.outgoing.push(entry, self.send_bound()) {
            self.end(CloseCode::SlowReader);
        }
    }

    /// Its client has left. What that sent before is brought to its end, and there is nothing left to be closed.
    pub(crate) fn leave(&mut self) {
        self.left = true;
    }

    /// It ends at once.
    fn end(&mut self, code: CloseCode) {
        if matches!(self.life, Life::Open | Life::Closing { .. }) && !self.left {
            self.life = Life::CloseReason(CloseReason::close(code));
        }
    }

    /// It ends when what is in flight has settled.
    pub(crate) fn close(&mut self, ending: CloseReason, now: Instant) {
        if self.life != Life::Open || self.left {
            return;
        }
        self.life = Life::Closing {
            until: now + SETTLE_TIMEOUT,
            ending,
        };
        self.rearm = true;
        self.again_bytes = 0;
        for (sequence, SentBack { body, first, .. }) in std::mem::take(&mut self.again) {
            self.refused(sequence, first.is_none(), &body, PublishError::Ended, now);
        }
    }

    /// What happens to it is told outside.
    pub(crate) fn begin_news(&mut self) {
        self.news = Some(News::begin());
    }

    /// Something has happened to it that may be told outside.
    fn tells(&mut self, what: Happening) {
        if let Some(news) = &mut self.news {
            news.note(what, self.auth_state.authentication().map(Authentication::holder));
        }
    }

    /// All that is so of it is to be told again, as what was told may be lost.
    pub(crate) fn tell_again(&mut self, now: Instant) {
        if let Some(news) = self
            .news
            .as_mut()
            .filter(|_| !matches!(self.life, Life::Gone | Life::Forgotten))
        {
            let authentication = self.auth_state.authentication();
            news.repeat(
                authentication.map(Authentication::holder),
                authentication.is_some_and(|authentication| now >= authentication.deadline),
            );
        }
    }

    /// What has happened to it and was not told yet, in its order.
    pub(crate) fn take_news(&mut self) -> Vec<ConnectionEvent> {
        self.news.as_mut().map(|news| news.take()).unwrap_or_default()
    }

    /// No one is told of it any more.
    pub(crate) fn forget_news(&mut self) {
        self.news = None;
    }

    fn ends_for_authentication(&self) -> bool {
        match self.life {
            Life::Closing { ending, .. } | Life::CloseReason(ending) => ending.is_for_authentication(),
            Life::Open | Life::Gone | Life::Forgotten => false,
        }
    }
}
