//! One client socket, from upgrade to close.
//!
//! `serve` lists everything that can happen here. Frames are never interpreted:
//! each leaves for the broker with the token it brought. The task waits in one
//! place (`next_event`) and owns the socket alone, so nothing is split and
//! nothing but this task writes to it.

mod acknowledging;
pub(crate) mod close_reason;
pub(crate) mod closing;
pub(crate) mod handle;
pub(crate) mod index;
pub(crate) mod load;
pub(crate) mod looks;
pub(crate) mod outgoing;
pub(crate) mod parked;
pub(crate) mod read_ahead;
mod reading;
pub(crate) mod recently_closed;
pub(crate) mod registry;
pub(crate) mod relief;
pub(crate) mod write;

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use shared::bus::{Delivery, Publication, PublishError};
use shared::wire::envelope::Command;
use shared::wire::protocol::CloseCode;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::debug;

use self::reading::Reading;
use crate::broker::undelivered::Back;
use crate::connection::close_reason::CloseReason;

use crate::accept::permit::Open;
use crate::accept::stream::Stream;
use crate::broker::forward::Forwarder;
use crate::broker::phase::Phase;
use crate::connection::parked::Parked;
use crate::connection::read_ahead::ReadAhead;
use crate::connection::registry::Entry;
use crate::connection::write::{WRITE_TIMEOUT, Writing};
use crate::session::Session;

/// One client socket.
pub(crate) struct Connection {
    pub(crate) socket: WebSocketStream<Stream>,
    pub(crate) entry: Entry,
    _open: Open,
    pub(crate) forwarder: Arc<Forwarder>,
    phase: watch::Receiver<Phase>,
    idle_timeout: Duration,
    limiter: Option<Box<DefaultDirectRateLimiter>>,
    /// For its messages, until it has proved who it is.
    early_limiter: Option<Box<DefaultDirectRateLimiter>>,
    /// Fires when the connection may have been silent too long, or when its turn to leave has come.
    timer: Pin<Box<Sleep>>,
    last_heard: Instant,
    pinged: bool,
    leaving: ForwardSpan,
    /// Whether its client was told what it may send, and may ask again.
    told_limits: bool,
    /// A request that found no room on its way to the broker; nothing is forwarded meanwhile.
    pub(crate) parked: Option<Parked>,
    /// What was read and may not be forwarded yet.
    pub(crate) ahead: ReadAhead,
    /// Whether something was there when that was told last.
    waits_ahead: bool,
    /// Whether some of it has got its place in the order, and waits with its session.
    lined_up: bool,
    reading: Reading,
    /// What is in the socket's buffer may be written until the limit of its grant only.
    pub(crate) unflushed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ForwardSpan {
    No,
    /// At the timer's next firing.
    Soon,
    /// As soon as all is answered.
    WhenQuiet,
}

enum Event {
    Frame(Message),
    Broken(Error),
    Left,
    Woken,
    Room,
    Phase,
    Timer,
}

impl Connection {
    pub(crate) fn new(
        socket: WebSocketStream<Stream>,
        (entry, open): (Entry, Open),
        forwarder: Arc<Forwarder>,
        phase: watch::Receiver<Phase>,
        idle_timeout: Duration,
        told_limits: bool,
    ) -> Self {
        let limits = forwarder.client_limits;
        Self {
            socket,
            entry,
            _open: open,
            forwarder,
            phase,
            idle_timeout,
            limiter: limits.messages_per_second.map(limiter),
            early_limiter: limits.unauthenticated_messages_per_second.map(limiter),
            timer: Box::pin(sleep(idle_timeout / 2)),
            last_heard: Instant::now(),
            pinged: false,
            leaving: ForwardSpan::No,
            told_limits,
            parked: None,
            ahead: ReadAhead::default(),
            waits_ahead: false,
            lined_up: false,
            reading: Reading::Goes,
            unflushed: false,
        }
    }

    /// Serves the socket until it ends, closes it, and tells the workers.
    ///
    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` has room for its argument and for the variable that this becomes"
    )]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let ending = self.serve().await;
            self.forwarder.metrics.connection_closed(ending);
            let (peer, common) = (&self.entry.peer, self.entry.peer.common());
            common.closings.note(common.around.clock.now(), peer.id(), ending);
            debug!(connection = %peer.id(), ?ending, "connection closed");
            Box::pin(closing::take_leave(self, ending)).await;
        }
    }

    async fn serve(&mut self) -> CloseReason {
        if let Some(ending) = self.on_phase() {
            return ending;
        }
        loop {
            let ended = match self.next_event().await {
                Event::Frame(frame) => self.on_frames(frame),
                Event::Broken(error) => self.on_broken(CloseReason::of(&error)),
                Event::Left => Some(CloseReason::Left),
                Event::Woken => self.on_woken().await,
                Event::Room => self.on_room(),
                Event::Phase => self.on_phase(),
                Event::Timer => self.on_timer().await,
            };
            let ended = ended.or_else(|| self.left_in_peace());
            if let Some(ending) = ended.or_else(|| self.forward_ahead()) {
                return ending;
            }
            self.close_if_broken();
        }
    }

    async fn next_event(&mut self) -> Event {
        let reading = self.may_read();
        tokio::select! {
            biased;
            () = self.entry.peer.wake.notified() => Event::Woken,
            Ok(()) = self.phase.changed() => Event::Phase,
            () = submitted(&mut self.parked), if self.parked.is_some() => Event::Room,
            () = &mut self.timer => Event::Timer,
            frame = self.socket.next(), if reading => match frame {
                Some(Ok(frame)) => Event::Frame(frame),
                Some(Err(error)) => Event::Broken(error),
                None => Event::Left,
            },
        }
    }

    /// Waits until the broker is back, or is given up.
    pub(crate) async fn broker_awaited(&mut self) {
        // Without a sender, the terminator is over.
        let _ = self.phase.wait_for(|phase| *phase != Phase::Waiting).await;
    }

    fn submit(&mut self, publication: Publication) {
        let waiting = self.forwarder.publisher.try_submit(publication).err();
        self.parked = waiting.map(Parked::InQueue);
    }

    fn on_room(&mut self) -> Option<CloseReason> {
        self.ask_workers();
        None
    }

    /// Asks what the connection has to ask on its own account, as far as there is room.
    pub(crate) fn ask_workers(&mut self) {
        while self.parked.is_none()
            && let Some(next) = self.entry.peer.change(|session, now| session.next_request(now.instant))
        {
            let publication = self.forwarder.next(&self.entry.peer, next);
            self.submit(publication);
        }
    }

    async fn on_woken(&mut self) -> Option<CloseReason> {
        loop {
            self.ask_workers();
            if self.entry.peer.look(Session::is_closing) {
                self.refuse_parked();
            }
            // What is not awaited does not stay in the task.
            let mut writing = {
                let batch = self.entry.peer.change(|session, now| session.take(now.instant));
                if batch.is_empty() {
                    if self.entry.peer.look(Session::has_held) {
                        // What it waited for may just have come.
                        self.ask_workers();
                    }
                    return None;
                }
                for back in batch.back {
                    self.forwarder.undelivered.send(back);
                }
                if batch.ending.is_some() {
                    return batch.ending;
                }
                let acknowledges = self.entry.peer.look(Session::acknowledges);
                Writing::new(batch.writes, &self.entry.peer.common().tracer, acknowledges)
            };
            let written = beside(pin!(writing.run(&mut self.socket, &self.entry.peer)), &mut self.parked).await;
            if let Err(ending) = written {
                self.unflushed = writing.is_guarded();
                // What was written before goes back before it.
                let unacknowledged = self.entry.peer.change(|session, _| session.take_unacknowledged());
                for delivery in unacknowledged.into_iter().chain(writing.rest()) {
                    self.forwarder
                        .undelivered
                        .send(Back::Undelivered(delivery, ending.bounced()));
                }
                return Some(ending);
            }
            let written = writing
                .wanted(&self.entry.peer.common().observer)
                .filter_map(|(delivery, again)| {
                    self.entry
                        .peer
                        .change(|session, now| session.wrote(delivery, again, now.instant))
                });
            self.conclude(written.collect());
        }
    }

    /// The one who pushed these is told that they have arrived, if they want to know.
    pub(crate) fn conclude(&self, arrived: Vec<Delivery>) {
        for delivery in arrived {
            if Command::has_producer(&delivery.message.properties) {
                self.forwarder.undelivered.send(Back::Written(delivery));
            } else {
                delivery.ack();
            }
        }
    }

    /// A connection that closes forwards nothing more, and says so.
    pub(crate) fn refuse_parked(&mut self) {
        if let Some(waiting) = self.parked.take() {
            waiting.give_up(PublishError::Ended);
        }
    }

    fn on_phase(&mut self) -> Option<CloseReason> {
        let phase = *self.phase.borrow_and_update();
        match phase {
            Phase::Terminated => return Some(CloseReason::close(CloseCode::Restart)),
            Phase::Draining { spread } if self.leaving == ForwardSpan::No => {
                self.leaving = ForwardSpan::Soon;
                self.timer
                    .as_mut()
                    .reset(Instant::now() + spread.mul_f64(rand::random()));
            }
            Phase::Draining { .. } | Phase::Forwarding | Phase::Waiting | Phase::Refusing => {}
        }
        None
    }

    /// A drained connection leaves when all that it asked is answered. What is held for it waits for the next.
    fn left_in_peace(&self) -> Option<CloseReason> {
        let may_leave = self.leaving == ForwardSpan::WhenQuiet && self.parked.is_none() && self.ahead.is_empty();
        let quiet = may_leave && self.entry.peer.look(Session::is_quiet);
        quiet.then_some(CloseReason::close(CloseCode::Restart))
    }

    async fn on_timer(&mut self) -> Option<CloseReason> {
        if let Reading::Broken(ending) | Reading::Over(ending) = self.reading {
            return Some(ending);
        }
        if self.leaving == ForwardSpan::Soon {
            self.leaving = ForwardSpan::WhenQuiet;
        }
        if !self.may_read() {
            // What is not read cannot be heard.
            self.last_heard = Instant::now();
        }
        let silent = self.last_heard.elapsed();
        if silent >= self.idle_timeout {
            return Some(CloseReason::close(CloseCode::GoingAway));
        }
        if silent >= self.idle_timeout / 2 && !self.pinged {
            self.pinged = true;
            let ping = self.socket.send(Message::Ping(Bytes::new()));
            let sent = beside(Box::pin(timeout(WRITE_TIMEOUT, ping)).as_mut(), &mut self.parked).await;
            // What waited may have left meanwhile, and more may follow it.
            self.ask_workers();
            if sent.is_err() {
                return Some(CloseReason::close(CloseCode::SlowReader));
            }
        }
        let next = if self.pinged {
            self.idle_timeout
        } else {
            self.idle_timeout / 2
        };
        self.timer.as_mut().reset(self.last_heard + next);
        None
    }
}

/// Does something that may take long, while what waits for room is handed over when there is some: the room that a slow
/// socket's message waited for would else be no one's meanwhile.
pub(crate) fn beside<F: Future>(
    mut doing: Pin<&mut F>,
    parked: &mut Option<Parked>,
) -> impl Future<Output = F::Output> {
    poll_fn(move |context| {
        let done = doing.as_mut().poll(context);
        if done.is_pending() {
            let _room = poll_submitted(parked, context);
        }
        done
    })
}

/// Hands over what waits for room, if anything does. Cancel-safe: it keeps its place in the line.
pub(crate) fn submitted(parked: &mut Option<Parked>) -> impl Future<Output = ()> {
    poll_fn(move |context| poll_submitted(parked, context))
}

fn poll_submitted(parked: &mut Option<Parked>, context: &mut Context<'_>) -> Poll<()> {
    if let Some(waiting) = parked {
        ready!(waiting.poll_submitted(context));
        *parked = None;
    }
    Poll::Ready(())
}

fn limiter(rate: NonZeroU32) -> Box<DefaultDirectRateLimiter> {
    Box::new(RateLimiter::direct(Quota::per_second(rate)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred thousand idle sockets are a hundred thousand of these.
    #[test]
    fn the_task_of_a_connection_is_small() {
        const fn size<F: Future>(_: fn(Connection) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(Connection::run) <= 1_040, "{}", size(Connection::run));
        assert!(
            size_of::<crate::connection::handle::ConnectionHandle>() <= 592,
            "{}",
            size_of::<crate::connection::handle::ConnectionHandle>()
        );
    }
}
