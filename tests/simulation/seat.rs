//! A person with a client: takes sockets, writes, reads, renews when asked, leaves.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value as Json, json};
use tokio::io::DuplexStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

use crate::outside::revoke;
use crate::scenario::{Kind, Revoke, Say, Seat, Step};
use crate::token::{Proof, Token};
use crate::trace::{End, Event, Socket};
use crate::world::World;

/// How long a person waits for answers at most before doing something else.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long after its acknowledgement a revocation is in force everywhere, and tokens are issued in another second.
const IN_FORCE: Duration = Duration::from_secs(3);
/// How long a client waits for a handshake, to open or to close.
const HANDSHAKE: Duration = Duration::from_secs(5);

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

enum Order {
    Say(Say),
    Leave { abruptly: bool },
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    /// What was asked and not yet answered.
    open: BTreeSet<String>,
    resume: Option<String>,
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
            Step::Say(say) => self.order(Order::Say(say)),
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
            // Whoever has just been cut off speaks to nobody.
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
        let Some((stream, gone)) = self.world.connect() else {
            return;
        };
        let shaking = client_async("ws://simulation/", stream);
        let Ok(Ok((socket, _))) = timeout(HANDSHAKE, shaking).await else {
            return;
        };
        let (orders, ordered) = mpsc::unbounded_channel();
        let state = Arc::new(State::default());
        let name = self.world.next_socket();
        self.world.trace.note(Event::Opened(name));
        let wire = Wire {
            world: self.world.clone(),
            name,
            socket,
            subject: self.seat.subject,
            renews: self.seat.renews,
            resume: self.resume.take().filter(|_| resuming),
            last: None,
            orders: orders.clone(),
            state: state.clone(),
        };
        let task = tokio::spawn(wire.serve(ordered, gone));
        self.line = Some(Line { orders, state, task });
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }

    async fn quiet(&self) {
        while !self.lock().open.is_empty() {
            self.changed.notified().await;
        }
    }
}

struct Wire {
    world: Arc<World>,
    name: Socket,
    socket: WebSocketStream<DuplexStream>,
    subject: &'static str,
    renews: Option<(Duration, Duration)>,
    resume: Option<String>,
    /// The good token that was used last.
    last: Option<Token>,
    orders: mpsc::UnboundedSender<Order>,
    state: Arc<State>,
}

impl Wire {
    async fn serve(mut self, mut orders: mpsc::UnboundedReceiver<Order>, gone: CancellationToken) {
        let end = loop {
            tokio::select! {
                biased;
                () = gone.cancelled() => break End::Crash,
                frame = self.socket.next() => match frame {
                    Some(Ok(Message::Text(text))) => self.read(&text),
                    Some(Ok(Message::Close(frame))) => break End::Server(frame.map_or(1005, |frame| frame.code.into())),
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break End::Server(1006),
                },
                Some(order) = orders.recv() => match order {
                    Order::Say(say) => self.say(say).await,
                    Order::Leave { abruptly } => {
                        if !abruptly {
                            self.close().await;
                        }
                        break End::Client;
                    }
                },
            }
        };
        self.world.trace.note(Event::Closed(self.name, end));
        if let End::Server(_) = end {
            // Our half of the closing handshake (RFC 6455 §7.1.2).
            let _ = timeout(HANDSHAKE, self.socket.close(None)).await;
        }
        self.state.lock().open.clear();
        self.state.changed.notify_one();
    }

    fn read(&self, text: &str) {
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
        self.world.trace.note(Event::Received(self.name, json));
    }

    /// What a client library does when it is asked for a token: it asks its provider, once at a time.
    fn renew(&self) {
        let Some((after, lifetime)) = self.renews else { return };
        if std::mem::replace(&mut self.state.lock().renewing, true) {
            return;
        }
        let (orders, state) = (self.orders.clone(), self.state.clone());
        let proof = Proof::Valid {
            subject: self.subject,
            lifetime,
        };
        tokio::spawn(async move {
            sleep(after).await;
            state.lock().renewing = false;
            let kind = Kind::Authenticate;
            // It may have been cut off meanwhile.
            let _ = orders.send(Order::Say(Say { kind, proof }));
        });
    }

    async fn say(&mut self, say: Say) {
        let Say { kind, proof } = say;
        let id = self.world.next_id(kind);
        let token = self.world.mint.issue(proof, self.last.as_ref());
        if let Proof::Valid { .. } = proof {
            self.last.clone_from(&token);
        }
        let mut message = json!({"id": id, "type": kind.name()});
        if let Some(token) = &token {
            message["token"] = token.text.as_str().into();
        }
        let resume = if kind == Kind::Authenticate { self.resume.take() } else { None };
        if let Some(resume) = &resume {
            message["payload"] = json!({"resume": resume});
        }
        if kind != Kind::Silent {
            self.state.lock().open.insert(id.clone());
        }
        self.world.trace.note(Event::Sent {
            socket: self.name,
            id,
            kind,
            token,
            resumes: resume.is_some(),
        });
        // If the server has just closed, the next read tells.
        let _ = timeout(HANDSHAKE, self.socket.send(Message::text(message.to_string()))).await;
    }

    /// Says good-bye and reads until the server has, too.
    async fn close(&mut self) {
        let closing = async {
            let _ = self.socket.close(None).await;
            while let Some(Ok(frame)) = self.socket.next().await {
                if let Message::Text(text) = frame {
                    self.read(&text);
                }
            }
        };
        let _ = timeout(HANDSHAKE, closing).await;
    }
}

/// Ids tell what was asked.
pub(crate) fn is_two(id: Option<&str>) -> bool {
    id.is_some_and(|id| id.starts_with("two-"))
}
