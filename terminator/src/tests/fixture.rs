//! A terminator with all that is around it. The test plays the workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value as Json;
use shared::bus::memory::MemoryBus;
use shared::bus::topology::{Names, Queue, keys};
use shared::bus::{Bus, Consumer, Message, PublishTimeout, Publisher, Route};
use shared::service::clock::{Clock, Timestamp};
use shared::service::config::from_pairs;
use shared::wire::envelope::command::Write;
use shared::wire::envelope::undelivered::Undelivered;
use shared::wire::envelope::{Bounced, Change, Command, ForwardedMessage, MessageKind, Reply, Return, revoked};
use shared::wire::grant::{Grant, Policy};
use shared::wire::id::{ConnectionId, MessageId, TerminatorId};
use shared::wire::revocation::Revocation;
use shared::wire::tag::{IdentityTag, TokenTag};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::{Parts, Terminator, TerminatorConfig};

pub(super) const START: Timestamp = Timestamp::from_secs(1_800_000_000);
/// Of the paused clock: longer than anything that is waited for, shorter than a hold.
const NEVER: Duration = Duration::from_secs(20);
/// What a stream in memory takes before it blocks.
const ROOMY: usize = 1 << 20;

/// Everything but the workers.
pub(super) struct Fixture {
    pub(super) names: Names,
    pub(super) bus: Arc<MemoryBus>,
    pub(super) terminator: Terminator,
    pub(super) id: TerminatorId,
    clock: Arc<PausedClock>,
    publisher: Publisher,
    messages: Consumer,
    undelivered: Consumer,
}

/// Follows the clock of the tests, which moves when everyone waits, what the machine has slept, and who turns it back.
pub(super) struct PausedClock {
    start: Instant,
    slept_s: AtomicU64,
    back_s: AtomicU64,
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        let slept = Duration::from_secs(self.slept_s.load(Ordering::SeqCst));
        let back = Duration::from_secs(self.back_s.load(Ordering::SeqCst));
        START.saturating_add(self.start.elapsed() + slept).saturating_sub(back)
    }
}

impl Fixture {
    pub(super) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(super) async fn with(settings: &[(&str, &str)]) -> Self {
        let defaults = [
            ("admin-listen", "off"),
            ("auth-timeout", "off"),
            ("namespace", "test"),
            ("idle-timeout", "1h"),
            // Nearly all of these are about one message, whatever becomes of others.
            ("order", "none"),
        ];
        let settings = defaults.iter().chain(settings).copied();
        let config: TerminatorConfig = from_pairs(settings).expect("good settings");
        let names = Names::new("test");
        let mut topology = names.common();
        topology.extend(names.events());
        let bus = Arc::new(MemoryBus::new(&topology).with_batches(names.clone()));
        let clock = Arc::new(PausedClock {
            start: Instant::now(),
            slept_s: AtomicU64::new(0),
            back_s: AtomicU64::new(0),
        });
        let id = TerminatorId::random();
        let parts = Parts {
            bus: bus.clone(),
            clock: clock.clone(),
            id,
            listener: None,
        };
        Self {
            clock,
            terminator: Terminator::without_socket(config, parts).await.expect("it starts"),
            publisher: bus.publisher(PublishTimeout::Endless),
            messages: bus.consumer(names.messages(), 1_000),
            undelivered: bus.consumer(names.undelivered(), 1_000),
            names,
            bus,
            id,
        }
    }

    /// The machine has slept for so many seconds: the wall clock says so, the monotonic one does not.
    pub(super) fn sleep(&self, seconds: u64) {
        self.clock.slept_s.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The machine's clock is turned back by so many seconds.
    pub(super) fn turn_back(&self, seconds: u64) {
        self.clock.back_s.fetch_add(seconds, Ordering::SeqCst);
    }

    /// A client whose stream blocks only after a lot.
    pub(super) async fn client(&self) -> Client {
        self.client_with(ROOMY).await
    }

    /// A client whose stream blocks after so many bytes.
    pub(super) async fn client_with(&self, capacity: usize) -> Client {
        let (near, far) = tokio::io::duplex(capacity);
        self.terminator.serve_stream(far);
        let (socket, _) = tokio_tungstenite::client_async("ws://localhost/", near)
            .await
            .expect("a handshake");
        Client { socket }
    }

    /// A client that has this grant, and its connection.
    pub(super) async fn client_of(&mut self, grant: Grant) -> (Client, ConnectionId) {
        let client = self.client().await;
        self.authenticate(client, grant).await
    }

    pub(super) async fn authenticate(&mut self, mut client: Client, grant: Grant) -> (Client, ConnectionId) {
        let message_id = self.renew(&mut client, grant).await;
        (client, message_id.connection)
    }

    /// Has the client send a token, and a worker find it good.
    pub(super) async fn renew(&mut self, client: &mut Client, grant: Grant) -> MessageId {
        client.send("a token").await;
        let (forwarded, _) = self.forwarded().await;
        self.answer(forwarded.message_id, live(grant), "ok").await;
        assert_eq!(client.text().await, "ok");
        forwarded.message_id
    }

    /// The next thing that the workers are told.
    pub(super) async fn forwarded(&mut self) -> (ForwardedMessage, String) {
        let (forwarded, body) = self.bytes().await;
        (forwarded, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The same, whose body may be no text.
    pub(super) async fn bytes(&mut self) -> (ForwardedMessage, Bytes) {
        let delivery = tokio::time::timeout(NEVER, self.messages.recv());
        let mut delivery = delivery.await.expect("no forwarded came").expect("the bus lives");
        let message = delivery.take_message();
        delivery.ack();
        let forwarded = ForwardedMessage::read(&message.properties).expect("a forwarded");
        (forwarded, message.body)
    }

    pub(super) async fn expect_no_request(&mut self) {
        let waited = tokio::time::timeout(Duration::from_millis(500), self.messages.recv()).await;
        assert!(waited.is_err(), "a forwarded came: {waited:?}");
    }

    /// Answers a request.
    pub(super) async fn answer(&self, message_id: MessageId, answer: Reply, body: &str) {
        let message = answer.to_message(Some(message_id.to_string()), Bytes::from(body.to_owned()));
        self.give(message).await;
    }

    pub(super) async fn command(&self, connection: ConnectionId, command: Command, body: &str) {
        self.give(command.to_message(connection, Bytes::from(body.to_owned())))
            .await;
    }

    /// Pushes something to an identity on that connection; the text is its key too.
    pub(super) async fn push(&self, connection: ConnectionId, of: u8, text: &str) {
        self.command(connection, Command::Write(write(of, text, false)), text)
            .await;
    }

    /// Sends something out of a hold.
    pub(super) async fn release(&self, connection: ConnectionId, of: u8, text: &str) {
        self.command(connection, Command::Write(write(of, text, true)), text)
            .await;
    }

    pub(super) async fn revoke(&self, revocation: Revocation) {
        let route = Route::new(&self.names.internal_exchange().name, keys::REVOKED);
        self.publish(route, revoked(&[revocation])).await;
        settle().await;
    }

    /// Puts something into the return queue, and lets it be dealt with.
    pub(super) async fn give(&self, message: Message) {
        self.publish(Route::queue(&self.return_queue().name), message).await;
        settle().await;
    }

    pub(super) async fn publish(&self, route: Route, message: Message) {
        self.publisher.publish(route, message).await.expect("there is a queue");
    }

    /// The next thing that was given back or asked for.
    pub(super) async fn undelivered(&mut self) -> (Undelivered, String) {
        let delivery = tokio::time::timeout(NEVER, self.undelivered.recv());
        let mut delivery = delivery.await.expect("nothing was given back").expect("the bus lives");
        let message = delivery.take_message();
        delivery.ack();
        let body = String::from_utf8(message.body.to_vec()).unwrap();
        (Undelivered::read(&message).expect("it is one or the other"), body)
    }

    /// What was given back or asked for already, if anything was.
    pub(super) async fn undelivered_at_once(&mut self) -> Option<(Undelivered, String)> {
        settle().await;
        let waiting = self.bus.depth(&self.names.undelivered().name) != (0, 0);
        if waiting { Some(self.undelivered().await) } else { None }
    }

    pub(super) async fn expect_given_back(&mut self, why: Bounced, text: &str) {
        let (undelivered, body) = self.undelivered().await;
        assert_eq!(body, text);
        assert!(
            matches!(undelivered, Undelivered::Bounced(reason, _) if reason == why),
            "{undelivered:?}"
        );
    }

    pub(super) async fn expect_fetch(&mut self) {
        let (undelivered, _) = self.undelivered().await;
        assert!(matches!(undelivered, Undelivered::Fetch(_)), "{undelivered:?}");
    }

    pub(super) async fn expect_nothing_given_back(&mut self) {
        let waited = tokio::time::timeout(Duration::from_millis(500), self.undelivered.recv()).await;
        assert!(waited.is_err(), "something was given back: {waited:?}");
    }

    /// The end of a connection, as workers hear of it.
    pub(super) async fn closed(&mut self) -> (ForwardedMessage, Option<u16>) {
        loop {
            let (forwarded, _) = self.forwarded().await;
            if let MessageKind::Closed { code } = forwarded.notice {
                return (forwarded, code);
            }
        }
    }

    /// Whether all that was brought is acknowledged.
    pub(super) async fn is_all_settled(&self) -> bool {
        settle().await;
        self.bus.depth(&self.return_queue().name) == (0, 0)
    }

    pub(super) fn return_queue(&self) -> Queue {
        self.names.return_queue(self.id)
    }
}

/// One end of a socket.
pub(super) struct Client {
    pub(super) socket: WebSocketStream<DuplexStream>,
}

impl Client {
    pub(super) async fn send(&mut self, text: &str) {
        self.socket.send(Frame::text(text)).await.expect("it is open");
        settle().await;
    }

    /// Several texts, in one write.
    pub(super) async fn send_together(&mut self, texts: &[&str]) {
        for text in texts {
            self.socket.feed(Frame::text(*text)).await.expect("it is open");
        }
        self.socket.flush().await.expect("it is open");
        settle().await;
    }

    pub(super) async fn ping(&mut self, payload: &'static str) {
        let frame = Frame::Ping(Bytes::from_static(payload.as_bytes()));
        self.socket.send(frame).await.expect("it is open");
        settle().await;
    }

    /// What the next frame answers to a ping.
    pub(super) async fn pong(&mut self) -> Bytes {
        let frame = tokio::time::timeout(NEVER, self.socket.next());
        match frame.await.expect("nothing came") {
            Some(Ok(Frame::Pong(payload))) => payload,
            other => panic!("a pong was wanted, not {other:?}"),
        }
    }

    /// The next text.
    pub(super) async fn text(&mut self) -> String {
        loop {
            let frame = tokio::time::timeout(NEVER, self.socket.next());
            match frame.await.expect("nothing came") {
                Some(Ok(Frame::Text(text))) => return text.as_str().to_owned(),
                Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                other => panic!("a text was wanted, not {other:?}"),
            }
        }
    }

    pub(super) async fn json(&mut self) -> Json {
        serde_json::from_str(&self.text().await).expect("JSON")
    }

    pub(super) async fn expect_error(&mut self, code: &str) {
        let told = self.json().await;
        assert_eq!(told["error"]["code"], code, "{told}");
    }

    pub(super) async fn expect_required(&mut self, reason: &str) -> Json {
        let told = self.json().await;
        assert_eq!(
            (&told["type"], &told["reason"]),
            (&"auth.required".into(), &reason.into()),
            "{told}"
        );
        told
    }

    /// How many bytes still come until the stream ends.
    pub(super) async fn rest(mut self) -> usize {
        let (mut seen, mut buffer) = (0, [0_u8; 4_096]);
        loop {
            match self.socket.get_mut().read(&mut buffer).await {
                Ok(0) | Err(_) => return seen,
                Ok(read) => seen += read,
            }
        }
    }

    /// The code with which the server closes.
    pub(super) async fn close_code(&mut self) -> u16 {
        let frame = tokio::time::timeout(NEVER, self.socket.next());
        match frame.await.expect("it is not closed") {
            Some(Ok(Frame::Close(Some(frame)))) => frame.code.into(),
            other => panic!("a close was wanted, not {other:?}"),
        }
    }

    pub(super) async fn expect_nothing(&mut self) {
        let waited = tokio::time::timeout(Duration::from_millis(500), self.socket.next()).await;
        assert!(waited.is_err(), "something came: {waited:?}");
    }
}

/// Lets every task run until all of them wait: the paused clock moves only then.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

pub(super) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(super) fn identity(number: u8) -> IdentityTag {
    IdentityTag::of(&[number; 32])
}

/// A grant of that identity, until so many seconds after the start.
pub(super) fn grant(of: u8, seconds: u64, on_expired_push: Policy) -> Grant {
    let at = |seconds| START.saturating_add(Duration::from_secs(seconds));
    Grant {
        identity: identity(of),
        until: at(seconds),
        refresh_at: at(seconds * 2),
        token: TokenTag::of(&[9; 32]),
        token_id: None,
        session: None,
        issued_at: Some(START),
        proof: None,
        on_expired_push,
        hold_ms: 60_000,
        waiting: 0,
        resumes: None,
    }
}

/// The answer that brings a grant, and is in no one's name.
pub(super) fn live(grant: Grant) -> Reply {
    Reply {
        change: Some(Change::Live {
            grant,
            principal: "who".to_owned(),
        }),
        ..Reply::ONLY
    }
}

/// A handler's answer.
pub(super) fn reply(of: u8) -> Reply {
    Reply {
        identity: Some(identity(of)),
        ..Reply::ONLY
    }
}

pub(super) fn write(of: u8, key: &str, released: bool) -> Write {
    Write {
        key: key.to_owned(),
        identity: Some(identity(of)),
        producer: None,
        connections: 0,
        alone: false,
        asked_by: None,
        released,
        fetched: released,
        since: START,
        until: None,
    }
}

/// What a command or answer that was given back is.
pub(super) fn original(undelivered: Undelivered) -> Return {
    match undelivered {
        Undelivered::Bounced(_, original) => original,
        other => panic!("nothing that was given back: {other:?}"),
    }
}
