//! What a socket brings, from the frame to the broker, or to where it waits until it may be forwarded.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use shared::bus::PublishError;
use shared::wire::envelope::run;
use shared::wire::protocol::{ClientLimits, CloseCode};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::close_reason::CloseReason;
use super::handle::ConnectionHandle;
use super::load::Load;
use super::parked::{Parked, Unsent};
use super::read_ahead::may_line_up;
use super::{Connection, ForwardSpan};
use crate::broker::phase::Phase;
use crate::session::Session;
use crate::session::notices::refuse::refusal;

/// How long what was sent before a frame that broke the rules may wait to be forwarded and answered.
const BROKEN_PATIENCE: Duration = Duration::from_secs(10);

/// Whether anything more can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Goes,
    /// A frame broke the rules: what came before it is forwarded, and then it ends like that.
    Broken(CloseReason),
    /// All of that is forwarded, and its answers are waited for.
    Over(CloseReason),
}

impl Connection {
    /// A socket that is not read holds its client back by TCP. Of no one in particular no more is kept than must be.
    pub(super) fn may_read(&self) -> bool {
        self.reading == Reading::Goes
            && self.leaving != ForwardSpan::WhenQuiet
            && (!self.lined_up || may_line_up(self.entry.peer.look(Session::lined_up), &self.forwarder.rooms))
            && self
                .ahead
                .has_room(&self.forwarder.rooms, || self.was_ever_authenticated())
    }

    fn was_ever_authenticated(&self) -> bool {
        self.entry.peer.look(Session::was_ever_authenticated)
    }

    fn may_forward(&self) -> bool {
        let is_its_turn = |session: &Session| session.may_forward(Instant::now());
        self.is_forwarding() && self.parked.is_none() && self.entry.peer.look(is_its_turn)
    }

    fn is_forwarding(&self) -> bool {
        !matches!(*self.phase.borrow(), Phase::Waiting | Phase::Terminated)
    }

    pub(super) fn on_frame(&mut self, frame: Message) -> Option<CloseReason> {
        self.last_heard = Instant::now();
        self.pinged = false;
        if self.limiter.as_ref().is_some_and(|limiter| limiter.check().is_err()) {
            return Some(CloseReason::close(CloseCode::RateLimited));
        }
        match frame {
            Message::Text(text) => return self.on_text(text.into()),
            Message::Binary(_) => return self.on_broken(CloseReason::close(CloseCode::Unsupported)),
            // A ping is answered by the library, and a close ends the stream.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
        }
        None
    }

    /// Nothing more can be read. What was sent before that is answered first.
    pub(super) fn on_broken(&mut self, ending: CloseReason) -> Option<CloseReason> {
        if ending == CloseReason::Left {
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
            self.entry
                .peer
                .notify(|session, now| session.close(ending, now.instant));
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

    fn on_text(&mut self, text: Bytes) -> Option<CloseReason> {
        self.forwarder.metrics.messages_received.increment(1);
        // A page cannot send pings. What it can have instead costs no worker anything, and waits for nothing.
        if self.told_limits && ClientLimits::is_request(&text) {
            self.entry.peer.tell(self.forwarder.client_limits.to_json().into());
            return None;
        }
        let message = self
            .forwarder
            .received(text, self.entry.peer.common().around.clock.own_now());
        let looks = message.looks;
        if looks.acknowledges && self.acknowledge(&message.text) {
            return None;
        }
        if looks.logs_out {
            self.entry.peer.change(|session, _| session.reads_log_out());
        }
        let peer = &self.entry.peer;
        self.ahead.push(message, &self.forwarder.rooms, || {
            peer.look(Session::was_ever_authenticated)
        });
        // What came with it is read first, so that it goes together; but not what may give up what is before it.
        if looks.cancels { self.forward_ahead() } else { None }
    }

    /// Takes all frames that are there, as far as they may be read: they came together, and what of them is forwarded goes together.
    pub(super) fn on_frames(&mut self, first: Message) -> Option<CloseReason> {
        let mut ended = self.on_frame(first);
        while ended.is_none() && self.may_read() {
            ended = match self.socket.next().now_or_never() {
                Some(Some(Ok(frame))) => self.on_frame(frame),
                Some(Some(Err(error))) => self.on_broken(CloseReason::of(&error)),
                Some(None) => Some(CloseReason::Left),
                None => break,
            };
        }
        ended
    }

    /// Forwards what was read, as far as it can be now.
    pub(crate) fn forward_ahead(&mut self) -> Option<CloseReason> {
        if self.lined_up {
            self.lined_up = self.entry.peer.look(Session::lined_up) != Load::default();
        }
        if self.ahead.is_empty() {
            return None;
        }
        let mut ending = None;
        while ending.is_none() && !self.ahead.is_empty() && self.may_forward() {
            ending = self.forward();
        }
        self.send_ahead();
        let waits = !self.ahead.is_empty();
        if waits || self.waits_ahead {
            let reads = self.may_read();
            self.entry
                .peer
                .change(|session, now| session.reads_ahead(&self.ahead, reads, now.instant));
        }
        self.waits_ahead = waits;
        ending
    }

    /// Forwards the first that was read, and what may go with it.
    fn forward(&mut self) -> Option<CloseReason> {
        let peer = self.entry.peer.clone();
        if *self.phase.borrow() == Phase::Refusing {
            return self.refuse_first(&peer);
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        let mut ending = None;
        peer.change(|session, now| {
            let (most, is_authenticated) = (session.most_in_a_run(), session.was_ever_authenticated());
            while taken.len() < most
                && let Some(next) = self.ahead.first()
            {
                let (looks, length) = (next.looks, next.text.len());
                bytes += length;
                if !taken.is_empty() && (bytes > run::MOST_BYTES || !session.may_follow(looks)) {
                    break;
                }
                if self.is_too_early(is_authenticated) {
                    ending = Some(CloseReason::close(CloseCode::RateLimited));
                    break;
                }
                let Some(message) = self.ahead.pop() else { break };
                match self.forwarder.rooms.take(length, is_authenticated) {
                    Ok(room) => {
                        let (sequence, snapshot) = session.forward(looks, room.unanswered, now.instant);
                        taken.push((message, sequence, snapshot, room.unconfirmed));
                    }
                    Err(room) if taken.is_empty() => {
                        self.parked = Some(Parked::ForBytes(Box::new(Unsent {
                            message: Some(message),
                            room,
                            forwarder: self.forwarder.clone(),
                            peer: peer.clone(),
                        })));
                        break;
                    }
                    Err(_) => {
                        self.ahead.push_front(message);
                        break;
                    }
                }
            }
        });
        let opened = taken.into_iter().map(|(message, sequence, snapshot, unconfirmed)| {
            let asked = (sequence, snapshot);
            self.forwarder.opened(&peer, message, asked, Some(unconfirmed))
        });
        if let Some(publication) = self.forwarder.together(opened.collect()) {
            self.submit(publication);
        }
        ending
    }

    /// The broker has been away for too long.
    fn refuse_first(&mut self, peer: &ConnectionHandle) -> Option<CloseReason> {
        if self.is_too_early(self.was_ever_authenticated()) {
            return Some(CloseReason::close(CloseCode::RateLimited));
        }
        let message = self.ahead.pop()?;
        self.forwarder.metrics.message_refused(PublishError::Away);
        if message.looks.logs_out {
            peer.notify(|session, _| session.refuses_log_out());
        }
        peer.tell(refusal(&message.text, PublishError::Away));
        None
    }

    /// Sends ahead of its turn what may give up what is before it, or renew the connection, if that has waited long enough. What was read before it gets
    /// its place in the order.
    fn send_ahead(&mut self) {
        let peer = self.entry.peer.clone();
        let cancels = self.ahead.position(|looks| looks.cancels).is_some();
        if self.ahead.is_empty() || !(peer.change(|session, now| session.sends_ahead(now.instant)) || cancels) {
            return;
        }
        while self.parked.is_none()
            && self.is_forwarding()
            && let Some(place) = peer.look(|session| self.ahead.position(|looks| session.may_go_ahead(looks)))
        {
            let before = (0..place).map_while(|_| self.ahead.pop_with_share());
            before.for_each(|(message, share)| peer.change(|session, _| session.line_up(message, share)));
            // It may come back, too.
            self.lined_up = true;
            let Some(message) = self.ahead.pop() else { return };
            let publication = self.forwarder.ahead(&peer, message);
            self.submit(publication);
        }
    }
}
