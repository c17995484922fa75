//! What a socket brings, from the frame to the broker, or to where it waits until it may be forwarded.

use std::time::Duration;

use bytes::Bytes;
use shared::bus::PublishError;
use shared::protocol::CloseCode;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::{Connection, Leaving};
use crate::ending::Ending;
use crate::parked::{Parked, Unsent};
use crate::phase::Phase;
use crate::refuse::refusal;
use crate::session::Session;

/// How long what was sent before a frame that broke the rules may wait to be forwarded and answered.
const BROKEN_PATIENCE: Duration = Duration::from_secs(10);

/// Whether anything more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Goes,
    /// A frame broke the rules: what came before it is forwarded, and then it ends like that.
    Broken(Ending),
    /// All of that is forwarded, and its answers are waited for.
    Over(Ending),
}

impl Connection {
    /// A socket that is not read holds its client back by TCP. Of nobody in particular no more is kept than must be.
    pub(super) fn may_read(&self) -> bool {
        self.reading == Reading::Goes
            && self.leaving != Leaving::WhenQuiet
            && self.ahead.has_room(|| self.entry.peer.look(Session::was_ever_bound))
    }

    fn may_forward(&self) -> bool {
        let forwarding = !matches!(*self.phase.borrow(), Phase::Waiting | Phase::Over);
        forwarding && self.parked.is_none() && self.entry.peer.look(Session::may_forward)
    }

    pub(super) fn on_frame(&mut self, frame: Message) -> Option<Ending> {
        self.last_heard = Instant::now();
        self.pinged = false;
        if self.limiter.as_ref().is_some_and(|limiter| limiter.check().is_err()) {
            return Some(Ending::close(CloseCode::RateLimited));
        }
        match frame {
            Message::Text(text) => return self.on_text(text.into()),
            Message::Binary(_) => return self.on_broken(Ending::close(CloseCode::Unsupported)),
            // A ping is answered by the library, and a close ends the stream.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
        None
    }

    /// Nothing more can be read. What was sent before that is answered first.
    pub(super) fn on_broken(&mut self, ending: Ending) -> Option<Ending> {
        if ending == Ending::Left {
            return Some(ending);
        }
        self.reading = Reading::Broken(ending);
        self.timer.as_mut().reset(Instant::now() + BROKEN_PATIENCE);
        None
    }

    pub(super) fn close_if_broken(&mut self) {
        if let Reading::Broken(ending) = self.reading
            && self.ahead.is_empty()
            && self.parked.is_none()
        {
            self.reading = Reading::Over(ending);
            self.entry.peer.close(ending);
        }
    }

    /// Whether it sends more than it may before it has proved who it is.
    fn is_too_early(&mut self, is_authenticated: bool) -> bool {
        if is_authenticated {
            self.early_limiter = None;
        }
        self.early_limiter
            .as_ref()
            .is_some_and(|limiter| limiter.check().is_err())
    }

    fn on_text(&mut self, text: Bytes) -> Option<Ending> {
        self.forwarder.metrics.messages_received.increment(1);
        if self.ahead.is_empty() && self.may_forward() {
            return self.forward(text);
        }
        self.ahead.push(text);
        self.entry.peer.reads_ahead(self.ahead.len());
        None
    }

    /// Forwards what was read before it could be, as far as it can be now.
    pub(crate) fn forward_ahead(&mut self) -> Option<Ending> {
        if self.ahead.is_empty() {
            return None;
        }
        let mut ending = None;
        while ending.is_none()
            && self.may_forward()
            && let Some(text) = self.ahead.pop()
        {
            ending = self.forward(text);
        }
        self.entry.peer.reads_ahead(self.ahead.len());
        ending
    }

    fn forward(&mut self, text: Bytes) -> Option<Ending> {
        let is_authenticated = self.entry.peer.look(Session::was_ever_bound);
        if self.is_too_early(is_authenticated) {
            return Some(Ending::close(CloseCode::RateLimited));
        }
        let peer = &self.entry.peer;
        if *self.phase.borrow() == Phase::Refusing {
            self.forwarder.metrics.message_refused(PublishError::Away);
            peer.tell(refusal(&text, PublishError::Away));
            return None;
        }
        match self.forwarder.rooms.take(text.len(), is_authenticated) {
            Ok(room) => {
                let publication = self.forwarder.message(peer, text, Some(room));
                self.submit(publication);
            }
            Err(room) => {
                self.parked = Some(Parked::ForBytes(Box::new(Unsent {
                    text,
                    room,
                    forwarder: self.forwarder.clone(),
                    peer: peer.clone(),
                })));
            }
        }
        None
    }
}
