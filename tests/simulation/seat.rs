//! A person with a client: takes sockets, writes, reads, renews when asked, leaves.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value as Json, json};
use shared::wire::protocol::push_ack::PUSH_ACK;
use testkit::chaos::DEADLY;
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

use crate::parts::outside::revoke;
use crate::parts::token::{Proof, Token};
use crate::scenario::{Kind, Revoke, Say, Seat, Step};
use crate::trace::{End, Event, Socket};
use crate::world::{PIPE_BYTES, World};

/// How long a person waits for answers at most before doing something else.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long after its acknowledgement a revocation is in force everywhere, and tokens are issued in another second.
const IN_FORCE: Duration = Duration::from_secs(3);
/// How often, and in which distance, a client tries to connect.
const MOST_TRIES: usize = 20;
const RETRY: Duration = Duration::from_millis(300);
/// How long a client waits for a handshake, to open or to close.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A server's frame of up to 64 KiB begins with so many bytes at least (RFC 6455 §5.2).
const FRAME_HEAD_BYTES: usize = 2;

pub(crate) struct Person {
    world: Arc<World>,
    seat: Seat,
    line: Option<Line>,
    /// What the last connection may be resumed by.
    resume: Option<String>,
}

/// A socket, and the task that serves it.
struct Line {
    orders: mpsc::UnboundedSender<Order>,
    state: Arc<State>,
    task: JoinHandle<()>,
}

type Orders = mpsc::UnboundedReceiver<Order>;

enum Order {
    Say(Say),
    /// It has read those pushes.
    Acknowledge(Vec<String>),
    Leave {
        abruptly: bool,
    },
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Notify,
    tired: Notify,
}

#[derive(Default)]
struct Inner {
    /// What was asked and not yet answered.
    open: BTreeSet<String>,
    /// How many messages are not yet written.
    unwritten: usize,
    /// By what this connection may be resumed.
    resume: Option<String>,
    /// What the next message that authenticates asks for.
    resuming: Option<String>,
    /// For how long the client does not read, from now on.
    asleep: Option<Duration>,
    /// Whether the client is about to come with a fresh token.
    renewing: bool,
}

impl Person {
    pub(crate) fn new(world: Arc<World>, seat: Seat) -> Self {
        Self {
            world,
            seat,
            line: None,
            resume: None,
        }
    }

    /// Does all that there is to do, and stays.
    pub(crate) async fn act(&mut self) {
        for (after, step) in self.seat.steps.clone() {
            sleep(after).await;
            self.step(step).await;
        }
    }

    pub(crate) async fn step(&mut self, step: Step) {
        if self.line.as_ref().is_some_and(|line| line.task.is_finished()) {
            self.hang_up();
        }
        match step {
            Step::Connect { resuming } => {
                if self.line.is_none() {
                    self.connect(resuming).await;
                }
            }
            Step::Say(say) => {
                // A client library connects again by itself.
                if self.line.is_none() {
                    self.connect(true).await;
                }
                self.order(Order::Say(say));
            }
            Step::Doze(asleep) => {
                if let Some(line) = &self.line {
                    line.state.lock().asleep = Some(asleep);
                    line.state.tired.notify_one();
                }
            }
            Step::Quiet => {
                if let Some(line) = &self.line {
                    // Some messages have no answer, others wait for a token that does not come.
                    let _ = timeout(PATIENCE, line.state.quiet()).await;
                }
            }
            Step::Revoke(target) => {
                let grace = Duration::ZERO;
                revoke(&self.world, Revoke { target, grace }).await;
                sleep(IN_FORCE).await;
            }
            Step::Leave { abruptly } => {
                self.order(Order::Leave { abruptly });
                self.hang_up();
            }
        }
    }

    fn order(&self, order: Order) {
        if let Some(line) = &self.line {
            line.state.lock().unwritten += usize::from(matches!(order, Order::Say(_)));
            // Anyone who has just been cut off speaks to no one.
            let _ = line.orders.send(order);
        }
    }

    fn hang_up(&mut self) {
        if let Some(line) = self.line.take() {
            let told = line.state.lock().resume.take();
            self.resume = told.or(self.resume.take());
        }
    }

    async fn connect(&mut self, resuming: bool) {
        let mut tries = 0..MOST_TRIES;
        let (socket, gone) = loop {
            if tries.next().is_none() {
                return;
            }
            if let Some((stream, gone)) = self.world.connect() {
                let shaking = client_async("ws://simulation/", stream);
                if let Ok(Ok((socket, _))) = timeout(HANDSHAKE, shaking).await {
                    break (socket, gone);
                }
            }
            sleep(RETRY).await;
        };
        let (orders, ordered) = mpsc::unbounded_channel();
        let state = Arc::new(State::default());
        let name = self.world.next_socket();
        self.world.trace.note(Event::Opened(name));
        state.lock().resuming = self.resume.take().filter(|_| resuming);
        let wire = Wire {
            world: self.world.clone(),
            name,
            subject: self.seat.subject,
            renews: self.seat.renews,
            orders: orders.clone(),
            state: state.clone(),
        };
        if self.world.settings().push_ack {
            // It says before any comes that it acknowledges them.
            let _ = orders.send(Order::Acknowledge(Vec::new()));
        }
        let task = tokio::spawn(wire.serve(socket, ordered, gone));
        self.line = Some(Line { orders, state, task });
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }

    /// For how long not to read, as soon as that is wanted.
    async fn sleep(&self) -> Duration {
        loop {
            if let Some(asleep) = self.lock().asleep.take() {
                return asleep;
            }
            self.tired.notified().await;
        }
    }

    fn is_busy(&self) -> bool {
        let inner = self.lock();
        inner.unwritten > 0 || !inner.open.is_empty()
    }

    async fn quiet(&self) {
        while self.is_busy() {
            self.changed.notified().await;
        }
    }
}

/// One socket, as the two tasks of its client share it.
struct Wire {
    world: Arc<World>,
    name: Socket,
    subject: &'static str,
    renews: Option<(Duration, Duration)>,
    orders: mpsc::UnboundedSender<Order>,
    state: Arc<State>,
}

type Writing = SplitSink<WebSocketStream<DuplexStream>, Message>;
type Reading = SplitStream<WebSocketStream<DuplexStream>>;

impl Wire {
    /// Serves the socket until it ends.
    async fn serve(self, socket: WebSocketStream<DuplexStream>, ordered: Orders, gone: CancellationToken) {
        let (writing, reading) = socket.split();
        let wire = Arc::new(self);
        let done = CancellationToken::new();
        let (left, leaving) = oneshot::channel();
        // A client reads while it writes; else both sides might wait for the other to read.
        let writer = tokio::spawn(
            done.clone()
                .run_until_cancelled_owned(wire.clone().write(writing, ordered, left)),
        );
        let end = tokio::select! {
            biased;
            () = gone.cancelled() => End::Crash,
            end = wire.read(reading, leaving) => end,
        };
        wire.world.trace.note(Event::Closed(wire.name, end));
        done.cancel();
        let _ = writer.await;
        {
            let mut state = wire.state.lock();
            state.open.clear();
            state.unwritten = 0;
        }
        wire.state.changed.notify_one();
    }

    async fn read(&self, mut reading: Reading, mut leaving: oneshot::Receiver<bool>) -> End {
        // Bytes that were read since the client last slept, while which they may have waited for it.
        let mut awake_bytes = usize::MAX;
        let mut end = None;
        loop {
            let frame = tokio::select! {
                biased;
                left = &mut leaving, if !leaving.is_terminated() => match left {
                    Ok(true) => return End::Client,
                    Ok(false) => {
                        // What still comes until the server has said good-bye, too.
                        end = Some(End::Client);
                        continue;
                    }
                    Err(_) => continue,
                },
                asleep = self.state.sleep() => {
                    self.world.trace.note(Event::Asleep(self.name));
                    sleep(asleep).await;
                    self.world.trace.note(Event::Awake(self.name));
                    awake_bytes = 0;
                    continue;
                }
                frame = reading.next() => frame,
            };
            match frame {
                Some(Ok(Message::Text(text))) => {
                    awake_bytes = awake_bytes.saturating_add(text.len() + FRAME_HEAD_BYTES);
                    self.take(&text, awake_bytes <= PIPE_BYTES);
                }
                Some(Ok(Message::Close(frame))) => {
                    end = end.or(Some(End::Server(frame.map_or(1005, |frame| frame.code.into()))));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return end.unwrap_or(End::Server(1006)),
            }
        }
    }

    fn take(&self, text: &str, waited: bool) {
        let json: Json = serde_json::from_str(text).expect("the server writes JSON");
        if json["type"] == "auth.required" {
            self.renew();
        }
        let mut state = self.state.lock();
        if let Some(resume) = json["auth"]["resume"].as_str() {
            state.resume = Some(resume.to_owned());
        }
        let more = json["type"] == "reply" && json["payload"]["n"] == 0 && is_two(json["id"].as_str());
        if let Some(id) = json["id"].as_str().filter(|_| !more) {
            state.open.remove(id);
        }
        drop(state);
        self.state.changed.notify_one();
        if json["type"] == "push" && self.world.settings().push_ack {
            let ids = json["id"].as_str().into_iter().map(str::to_owned).collect();
            let _ = self.orders.send(Order::Acknowledge(ids));
        }
        self.world.trace.note(Event::Received {
            socket: self.name,
            json,
            waited,
        });
    }

    /// What a client library does when it is asked for a token: it asks its provider, once at a time.
    fn renew(&self) {
        let Some((after, lifetime)) = self.renews.filter(|_| !self.world.is_over()) else {
            return;
        };
        if std::mem::replace(&mut self.state.lock().renewing, true) {
            return;
        }
        let (world, orders, state) = (self.world.clone(), self.orders.clone(), self.state.clone());
        let proof = Proof::Valid {
            subject: self.subject,
            lifetime,
        };
        tokio::spawn(async move {
            sleep(after).await;
            state.lock().renewing = false;
            let kind = Kind::Authenticate;
            if !world.is_over() {
                // It may have been cut off meanwhile.
                let _ = orders.send(Order::Say(Say { kind, proof }));
            }
        });
    }

    async fn write(self: Arc<Self>, mut writing: Writing, mut orders: Orders, left: oneshot::Sender<bool>) {
        let mut last = None;
        while let Some(order) = orders.recv().await {
            match order {
                Order::Say(say) => {
                    let text = self.say(say, &mut last);
                    {
                        let mut state = self.state.lock();
                        state.unwritten = state.unwritten.saturating_sub(1);
                    }
                    self.state.changed.notify_one();
                    if writing.send(Message::text(text)).await.is_err() {
                        break;
                    }
                }
                Order::Acknowledge(ids) => {
                    let text = json!({"type": PUSH_ACK, "ids": ids}).to_string();
                    if writing.send(Message::text(text)).await.is_err() {
                        break;
                    }
                }
                Order::Leave { abruptly } => {
                    let _ = left.send(abruptly);
                    if !abruptly {
                        let _ = timeout(HANDSHAKE, writing.close()).await;
                    }
                    break;
                }
            }
        }
        // The socket is the reader's from here on, who sees it end.
        std::future::pending::<()>().await;
    }

    /// The text of a message, noted as sent. `last` is the good token that was used last.
    fn say(&self, Say { kind, proof }: Say, last: &mut Option<Token>) -> String {
        let id = self.world.next_id(kind);
        let token = self.world.mint.issue(proof, last.as_ref());
        if let Proof::Valid { .. } = proof {
            last.clone_from(&token);
        }
        let mut message = json!({"id": id, "type": kind.name()});
        if let Some(token) = &token {
            message["token"] = token.text.as_str().into();
        }
        let mut state = self.state.lock();
        let resume = if kind == Kind::Authenticate {
            state.resuming.take()
        } else {
            None
        };
        if let Some(resume) = &resume {
            message["payload"] = json!({"resume": resume});
        }
        if kind == Kind::Deadly {
            message["payload"] = DEADLY.into();
        }
        if kind != Kind::Silent {
            state.open.insert(id.clone());
        }
        drop(state);
        self.world.trace.note(Event::Sent {
            socket: self.name,
            id,
            kind,
            token,
            resumes: resume,
        });
        message.to_string()
    }
}

/// Ids tell what was asked.
pub(crate) fn is_two(id: Option<&str>) -> bool {
    id.is_some_and(|id| id.starts_with("two-"))
}
