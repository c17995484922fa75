//! Writing a batch to a socket: no longer than it may take.
//!
//! A batch has passed the guard when it was taken. A socket that does not take it
//! all at once keeps the rest in a buffer, and may be asked to take it when what
//! is in there must not be written any more. So there is a limit to the whole
//! batch, and a socket that is still blocked then is of no more use.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::str::Utf8Error;
use std::task::Poll;
use std::time::Duration;

use futures_util::{SinkExt, poll};
use shared::bus::Delivery;
use shared::service::trace::{KeyValue, Span, SpanKind, Tracer, words};
use shared::wire::envelope::Command;
use shared::wire::protocol::CloseCode;
use shared::wire::tag::IdentityTag;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::close_reason::CloseReason;
use super::handle::ConnectionHandle;
use super::outgoing::Outgoing;
use crate::accept::stream::Stream;
use crate::admin::message_event::{MessageEvent, Observer};
use crate::session::Session;

/// The time for one batch of writes to a socket whose buffer is full.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// What is being written.
pub(crate) struct Writing {
    waiting: VecDeque<Outgoing>,
    /// What is in the socket's buffer.
    fed: Vec<Fed>,
    tracer: Tracer,
    /// Whether anything of it is on behalf of an identity.
    guarded: bool,
    /// Whether its client acknowledges pushes.
    acknowledges: bool,
}

/// Something in the socket's buffer.
struct Fed {
    delivery: Delivery,
    /// Whether it is on behalf of an identity.
    guarded: bool,
    /// Whether it had been written before.
    again: bool,
    span: Span,
}

impl Writing {
    pub(crate) fn new(batch: VecDeque<Outgoing>, tracer: &Tracer, acknowledges: bool) -> Self {
        Self {
            acknowledges,
            guarded: batch.iter().any(|outgoing| outgoing.identity.is_some()),
            waiting: batch,
            fed: Vec::new(),
            tracer: tracer.clone(),
        }
    }

    /// Writes it all, which is then to be [acknowledged](Self::wanted). If it cannot, the connection ends, and the rest is in
    /// [`rest`](Self::rest).
    pub(crate) async fn run(
        &mut self,
        socket: &mut WebSocketStream<Stream>,
        peer: &ConnectionHandle,
    ) -> Result<(), CloseReason> {
        let guarded = self.guarded;
        let timeout = Instant::now() + WRITE_TIMEOUT;
        let grant = peer.look(Session::write_limit).filter(|_| guarded);
        let mut writing = pin!(self.write(socket));
        match poll!(writing.as_mut()) {
            Poll::Ready(written) => written.map_err(|error| CloseReason::of(&error)),
            // Few sockets are full at a time, so what it takes to wait for one is no part of every connection.
            Poll::Pending => Box::pin(blocked(writing, grant, (guarded, timeout), peer)).await,
        }
    }

    /// Whether what is in the socket's buffer is on behalf of an identity.
    pub(crate) const fn is_guarded(&self) -> bool {
        self.guarded
    }

    /// What was to be written on behalf of an identity, and was not, or not for certain.
    pub(crate) fn rest(self) -> impl Iterator<Item = Delivery> {
        let fed = self.fed.into_iter().filter_map(|fed| {
            fed.span.fail("not_written");
            fed.guarded.then_some(fed.delivery)
        });
        let waiting = self.waiting.into_iter().filter(|outgoing| outgoing.identity.is_some());
        fed.chain(waiting.filter_map(|outgoing| outgoing.delivery))
    }

    /// The next text. What is to be acknowledged for it waits until it is flushed.
    fn next_text(&mut self) -> Option<Result<Utf8Bytes, Utf8Error>> {
        loop {
            let outgoing = self.waiting.pop_front()?;
            let guarded = outgoing.identity.is_some();
            if let Some(delivery) = outgoing.delivery {
                let span = self.span(&delivery);
                self.fed.push(Fed {
                    delivery,
                    guarded,
                    again: outgoing.text.is_empty(),
                    span,
                });
            }
            // Of what had been written before, nothing is.
            if !outgoing.text.is_empty() {
                return Some(Utf8Bytes::try_from(outgoing.text));
            }
        }
    }

    /// The last part of what a worker has traced, if it has.
    fn span(&self, delivery: &Delivery) -> Span {
        let properties = &delivery.message.properties;
        let span = self.tracer.follow_headers(properties, "write", SpanKind::Consumer);
        span.describe(|| words::messaging("write", "process", &delivery.routing_key));
        span.describe(|| {
            let message_id = properties.correlation_id.clone().unwrap_or_default();
            let size = i64::try_from(delivery.message.body.len()).unwrap_or(i64::MAX);
            [
                KeyValue::new(words::CONVERSATION_ID, message_id),
                KeyValue::new(words::BODY_SIZE, size),
            ]
        });
        span
    }

    async fn write(&mut self, socket: &mut WebSocketStream<Stream>) -> Result<(), Error> {
        while let Some(text) = self.next_text() {
            // Workers write JSON; only a forged answer is no text, and it is dropped.
            if let Ok(text) = text {
                socket.feed(Message::Text(text)).await?;
            }
        }
        socket.flush().await
    }

    /// All is written, and acknowledged but for this: that of which the one who pushed it wants to know, or that its client is to
    /// acknowledge; and whether it had been written before.
    pub(crate) fn wanted(self, observer: &Observer) -> impl Iterator<Item = (Delivery, bool)> {
        let acknowledges = self.acknowledges;
        self.fed.into_iter().filter_map(move |fed| {
            let Fed {
                delivery, span, again, ..
            } = fed;
            let properties = &delivery.message.properties;
            if let Some(message_id) = &properties.correlation_id {
                let trace_id = span.trace_id();
                observer.tell(message_id, MessageEvent::Written { trace_id });
            }
            if Command::has_producer(properties) || (acknowledges && Command::is_push(properties)) {
                return Some((delivery, again));
            }
            delivery.ack();
            None
        })
    }
}

/// Goes on with what the socket did not take at once.
async fn blocked(
    mut writing: Pin<&mut impl Future<Output = Result<(), Error>>>,
    mut grant: Option<(IdentityTag, Option<Instant>)>,
    (guarded, timeout): (bool, Instant),
    peer: &ConnectionHandle,
) -> Result<(), CloseReason> {
    loop {
        let at_the_limit = sleep_until(limit(&mut grant, timeout, peer));
        let going_on = poll_fn(|context| {
            // A machine may have slept since it was blocked, and what was good then be over by the wall clock.
            if grant.is_some() {
                peer.change(|_, _| ());
                if Instant::now() >= limit(&mut grant, timeout, peer) {
                    return Poll::Ready(None);
                }
            }
            writing.as_mut().poll(context).map(Some)
        });
        tokio::select! {
            biased;
            written = going_on => if let Some(written) = written {
                return written.map_err(|error| CloseReason::of(&error));
            },
            () = peer.urgent() => return Err(interrupted(guarded, peer)),
            () = at_the_limit => {}
        }
        // The grant may have been renewed meanwhile.
        let now = Instant::now();
        if now >= timeout {
            return Err(CloseReason::close(CloseCode::SlowReader));
        }
        if now >= limit(&mut grant, timeout, peer) {
            return Err(CloseReason::Cut(peer.look(|session| session.end_of_grant(now))));
        }
    }
}

/// Until when a batch may take, as it is known now. Anyone who logs out meanwhile, or is someone else, gives no more time to
/// what was begun before.
fn limit(grant: &mut Option<(IdentityTag, Option<Instant>)>, timeout: Instant, peer: &ConnectionHandle) -> Instant {
    if let (Some((identity, limit)), Some((now, renewed))) = (grant.as_mut(), peer.look(Session::write_limit))
        && *identity == now
    {
        *limit = renewed;
    }
    let of_grant = grant.and_then(|(_, limit)| limit);
    of_grant.map_or(timeout, |limit| limit.min(timeout))
}

/// How a connection ends that is to end at once while its socket is blocked. To say good-bye, the socket would have to
/// take what is in its buffer first.
fn interrupted(guarded: bool, peer: &ConnectionHandle) -> CloseReason {
    match peer.look(Session::ending) {
        Some(ending) if guarded && ending.is_for_authentication() => {
            CloseReason::Cut(ending.code().unwrap_or(CloseCode::AuthRequired))
        }
        Some(ending) => ending,
        None => CloseReason::close(CloseCode::SlowReader),
    }
}
