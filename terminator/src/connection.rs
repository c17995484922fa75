//! One client socket, from upgrade to close.
//!
//! `serve` lists everything that can happen here. Frames are never interpreted:
//! each leaves for the broker with the token it brought. The task waits in one
//! place (`next_event`) and owns the socket alone, so nothing is split and
//! nothing but this task writes to it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use shared::bus::{Publication, PublishError};
use shared::protocol::{CloseCode, ErrorBody, ErrorCode, ServerMessage};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as FrameCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use tracing::{debug, trace};

use crate::forward::Forwarder;
use crate::handshake::linger;
use crate::listener::Stream;
use crate::peer::Outgoing;
use crate::phase::Phase;
use crate::refuse::refusal;
use crate::registry::Entry;

/// The time for one batch of writes to a socket whose buffer is full.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);
/// The time for a last error and the closing handshake (RFC 6455 §7.1.2).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// What is still read and dropped from a client that broke the rules: 64 MiB, four of the largest messages.
const MOST_LINGER_BYTES: u64 = 64 * 1_024 * 1_024;

/// What a connection needs to know of its terminator's settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) idle_timeout: Duration,
    pub(crate) messages_per_second: Option<NonZeroU32>,
}

/// One client socket.
pub(crate) struct Connection {
    socket: WebSocketStream<Stream>,
    entry: Entry,
    forwarder: Arc<Forwarder>,
    phase: watch::Receiver<Phase>,
    idle_timeout: Duration,
    limiter: Option<Box<DefaultDirectRateLimiter>>,
    /// Fires when the connection may have been silent too long, or when its turn to leave has come.
    timer: Pin<Box<Sleep>>,
    last_heard: Instant,
    pinged: bool,
    leaving: Leaving,
    /// A message that found no room on its way to the broker; nothing is read meanwhile.
    parked: Option<Box<Publication>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
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

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// The client left, or its network did.
    Left,
    /// We close.
    Close(CloseCode),
}

impl Connection {
    pub(crate) fn new(
        socket: WebSocketStream<Stream>,
        entry: Entry,
        forwarder: Arc<Forwarder>,
        phase: watch::Receiver<Phase>,
        rules: Rules,
    ) -> Self {
        Self {
            socket,
            entry,
            forwarder,
            phase,
            idle_timeout: rules.idle_timeout,
            limiter: rules
                .messages_per_second
                .map(|rate| Box::new(RateLimiter::direct(Quota::per_second(rate)))),
            timer: Box::pin(sleep(rules.idle_timeout / 2)),
            last_heard: Instant::now(),
            pinged: false,
            leaving: Leaving::No,
            parked: None,
        }
    }

    /// Serves the socket until it ends, closes it, and tells the workers.
    pub(crate) async fn run(mut self) {
        let ending = self.serve().await;
        let code = match ending {
            Ending::Left => None,
            Ending::Close(code) => {
                // Whoever does not take the good-bye in time goes without.
                let _ = timeout(CLOSE_TIMEOUT, Box::pin(self.close(code))).await;
                Some(code)
            }
        };
        self.forwarder.metrics.connection_closed(code);
        debug!(connection = %self.entry.peer.id(), ?ending, "connection closed");
        Box::pin(self.tell_workers()).await;
    }

    async fn serve(&mut self) -> Ending {
        if let Some(ending) = self.on_phase() {
            return ending;
        }
        loop {
            let ended = match self.next_event().await {
                Event::Frame(frame) => self.on_frame(frame),
                Event::Broken(error) => Some(ending_of(&error)),
                Event::Left => Some(Ending::Left),
                Event::Woken => self.write_outgoing().await,
                Event::Room => self.submit_parked(),
                Event::Phase => self.on_phase(),
                Event::Timer => self.on_timer().await,
            };
            if let Some(ending) = ended.or_else(|| self.left_in_peace()) {
                return ending;
            }
        }
    }

    async fn next_event(&mut self) -> Event {
        let reading = self.may_read();
        tokio::select! {
            biased;
            () = self.entry.peer.wake.notified() => Event::Woken,
            Ok(()) = self.phase.changed() => Event::Phase,
            () = self.forwarder.publisher.ready(), if self.parked.is_some() => Event::Room,
            () = &mut self.timer => Event::Timer,
            frame = self.socket.next(), if reading => match frame {
                Some(Ok(frame)) => Event::Frame(frame),
                Some(Err(error)) => Event::Broken(error),
                None => Event::Left,
            },
        }
    }

    /// A socket that is not read holds its client back by TCP.
    fn may_read(&self) -> bool {
        let forwarding = !matches!(*self.phase.borrow(), Phase::Waiting | Phase::Over);
        forwarding && self.parked.is_none() && self.leaving != Leaving::WhenQuiet && self.entry.peer.has_room()
    }

    fn on_frame(&mut self, frame: Message) -> Option<Ending> {
        self.last_heard = Instant::now();
        self.pinged = false;
        if self.limiter.as_ref().is_some_and(|limiter| limiter.check().is_err()) {
            return Some(Ending::Close(CloseCode::RateLimited));
        }
        match frame {
            Message::Text(text) => self.on_text(text.into()),
            Message::Binary(_) => return Some(Ending::Close(CloseCode::Unsupported)),
            // A ping is answered by the library, and a close ends the stream.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
        None
    }

    fn on_text(&mut self, text: Bytes) {
        self.forwarder.metrics.messages_received.increment(1);
        let peer = &self.entry.peer;
        if *self.phase.borrow() == Phase::Refusing {
            self.forwarder.metrics.message_refused(PublishError::Away);
            peer.tell(refusal(&text, PublishError::Away));
            return;
        }
        let publication = self.forwarder.message(peer, text);
        self.submit(publication);
    }

    fn submit(&mut self, publication: Publication) {
        self.parked = self.forwarder.publisher.try_submit(publication).err();
    }

    fn submit_parked(&mut self) -> Option<Ending> {
        if let Some(publication) = self.parked.take() {
            self.submit(*publication);
        }
        None
    }

    async fn write_outgoing(&mut self) -> Option<Ending> {
        loop {
            if self.entry.peer.is_too_slow() {
                return Some(Ending::Close(CloseCode::SlowReader));
            }
            let outgoing = self.entry.peer.take_outgoing();
            if outgoing.is_empty() {
                return None;
            }
            let peer = self.entry.peer.clone();
            let written = tokio::select! {
                biased;
                written = timeout(WRITE_TIMEOUT, write_all(&mut self.socket, outgoing)) => written,
                () = async { while !peer.is_too_slow() { peer.wake.notified().await } } => continue,
            };
            match written {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Some(ending_of(&error)),
                Err(_) => return Some(Ending::Close(CloseCode::SlowReader)),
            }
        }
    }

    fn on_phase(&mut self) -> Option<Ending> {
        let phase = *self.phase.borrow_and_update();
        match phase {
            Phase::Over => return Some(Ending::Close(CloseCode::Restart)),
            Phase::Draining { spread } if self.leaving == Leaving::No => {
                self.leaving = Leaving::Soon;
                self.timer
                    .as_mut()
                    .reset(Instant::now() + spread.mul_f64(rand::random()));
            }
            Phase::Draining { .. } | Phase::Forwarding | Phase::Waiting | Phase::Refusing => {}
        }
        None
    }

    /// A drained connection leaves when all that it asked is answered.
    fn left_in_peace(&self) -> Option<Ending> {
        let quiet = self.leaving == Leaving::WhenQuiet && self.parked.is_none() && self.entry.peer.is_quiet();
        quiet.then_some(Ending::Close(CloseCode::Restart))
    }

    async fn on_timer(&mut self) -> Option<Ending> {
        if self.leaving == Leaving::Soon {
            self.leaving = Leaving::WhenQuiet;
        }
        if !self.may_read() {
            // What is not read cannot be heard.
            self.last_heard = Instant::now();
        }
        let silent = self.last_heard.elapsed();
        if silent >= self.idle_timeout {
            return Some(Ending::Close(CloseCode::GoingAway));
        }
        if silent >= self.idle_timeout / 2 && !self.pinged {
            self.pinged = true;
            let ping = self.socket.send(Message::Ping(Bytes::new()));
            if timeout(WRITE_TIMEOUT, ping).await.is_err() {
                return Some(Ending::Close(CloseCode::SlowReader));
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

    /// Says why, closes, and waits for the client to agree.
    async fn close(&mut self, code: CloseCode) {
        if let Some(error) = last_error(code) {
            let text = ServerMessage::error(None, &error).to_json();
            if self.socket.send(Message::text(text)).await.is_err() {
                return;
            }
        }
        let frame = CloseFrame {
            code: FrameCode::from(code.code()),
            reason: code.reason().into(),
        };
        if self.socket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = self.socket.next().await {
                trace!("a frame after our close");
            }
            // Behind frames that could not be read, more may be on its way.
            let _ = linger(self.socket.get_mut(), MOST_LINGER_BYTES).await;
        }
    }

    /// Workers that have heard of this connection are told that it is gone.
    async fn tell_workers(self) {
        let Self {
            entry,
            forwarder,
            parked,
            ..
        } = self;
        if let Some(publication) = parked {
            forwarder.publisher.submit(*publication).await;
        }
        let peer = entry.peer.clone();
        drop(entry);
        if let Some(notice) = forwarder.closed(&peer) {
            forwarder.publisher.submit(notice).await;
        }
    }
}

async fn write_all(socket: &mut WebSocketStream<Stream>, outgoing: VecDeque<Outgoing>) -> Result<(), Error> {
    let mut deliveries = Vec::with_capacity(outgoing.len());
    for Outgoing { text, delivery } in outgoing {
        // Workers write JSON; only a forged answer is no text, and it is dropped.
        if let Ok(text) = Utf8Bytes::try_from(text) {
            socket.feed(Message::Text(text)).await?;
        }
        deliveries.extend(delivery);
    }
    socket.flush().await?;
    for delivery in deliveries {
        if let Some(stamp) = &delivery.message.properties.correlation_id {
            debug!(target: "countersign::journey", stage = "socket", stamp, "written");
        }
        delivery.ack();
    }
    Ok(())
}

/// How a socket that failed is to end (RFC 6455 §7.4.1).
fn ending_of(error: &Error) -> Ending {
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    match error {
        Error::Capacity(_) => Ending::Close(CloseCode::TooBig),
        Error::Utf8(_) => Ending::Close(CloseCode::InvalidText),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Ending::Left,
        Error::Protocol(_) => Ending::Close(CloseCode::Protocol),
        _ => Ending::Left,
    }
}

/// The error that goes before a close, where one of the protocol's words fits.
fn last_error(code: CloseCode) -> Option<ErrorBody> {
    let word = match code {
        CloseCode::TooBig => ErrorCode::TooLarge,
        CloseCode::Unsupported => ErrorCode::BadRequest,
        CloseCode::RateLimited => ErrorCode::RateLimited,
        _ => return None,
    };
    Some(ErrorBody::new(word, code.reason()))
}
