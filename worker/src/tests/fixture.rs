//! A worker with all that is around it, in this process, on a clock that is turned by hand.

use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, RangeInclusive};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::{Value as Json, json};
use shared::bus::memory::MemoryBus;
use shared::bus::topology::{Names, Queue, keys};
use shared::bus::{Bus, Consumer, Delivery, Message, Properties, PublishTimeout, Publisher, Route};
use shared::service::clock::{Clock, ManualClock, Timestamp};
use shared::service::trace::Tracer;
use shared::wire::envelope::{AuthSnapshot, ForwardedMessage, MessageKind, Reply, Return};
use shared::wire::grant::Policy;
use shared::wire::id::{ConnectionId, MessageId, Sequence, TerminatorId};
use shared::wire::protocol::ErrorCode;
use shared::wire::tag::IdentityTag;
use tokio::sync::Notify;

use super::connection::{hear, stranger};
use crate::app::consumers::Consumers;
use crate::auth::identity::Issuer;
use crate::config::{Elevation, HoldOverflow, Policies, RequiredScopes, Strategy};
use crate::handler::builtin::Application;
use crate::store::{
    Around, Call, HoldLimits, MemoryStore, Registered, Settings, Store, StoreError, UnauthenticatedLimits,
};
use crate::token::{Keys, Rules, Verifier};
use crate::{Answers, Handler, HandlerError, Limits, Parts, Request, Worker};

pub(super) const START: Timestamp = Timestamp::from_secs(1_800_000_000);
/// Bound to the queue of messages by the terminators' key, but open to everyone.
pub(super) const FOREIGN_EXCHANGE: &str = "foreign";
pub(super) const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "app";
const SECRET: &[u8] = b"a-secret-of-more-than-32-bytes,for-tests";
pub(super) const HOLD_TTL: Duration = Duration::from_secs(300);
/// Of the paused clock: nothing in a test takes that long.
const NEVER: Duration = Duration::from_secs(120);

/// Everything but the worker, which a test starts when it wants to.
pub(super) struct Fixture {
    pub(super) names: Names,
    pub(super) bus: Arc<MemoryBus>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) store: Arc<FlakyStore>,
    pub(super) app: Arc<App>,
    pub(super) limits: Limits,
    pub(super) publisher: Publisher,
    pub(super) terminator: TerminatorId,
    returns: Consumer,
    snapshots: Mutex<HashMap<ConnectionId, AuthSnapshot>>,
    /// Those that their terminators were told to close, because another has taken over.
    pub(super) replaced: Vec<ConnectionId>,
    /// What came for several connections and is not looked at yet.
    spread: VecDeque<Message>,
}

impl Fixture {
    pub(super) fn new() -> Self {
        let names = Names::new("test");
        let mut topology = names.common();
        topology.extend(names.events());
        // An operator may bind exchanges of their own, even with our keys.
        let foreign = (FOREIGN_EXCHANGE.to_owned(), keys::FORWARD.to_owned());
        topology
            .queues
            .iter_mut()
            .filter(|queue| **queue == names.messages())
            .for_each(|queue| {
                queue.bindings.push(foreign.clone());
            });
        let bus = Arc::new(MemoryBus::new(&topology).with_batches(names.clone()));
        let clock = Arc::new(ManualClock::at(START));
        let terminator = TerminatorId::random();
        Self {
            store: Arc::new(FlakyStore::new(clock.clone())),
            app: Arc::default(),
            limits: Limits {
                namespace: "test".to_owned(),
                prefetch: 100,
                concurrency: 10,
                type_percent: 100,
                identity_percent: 100,
                max_deliveries: 5,
                handler_timeout: Duration::from_secs(5),
                unauthenticated: UnauthenticatedLimits {
                    hold: HoldLimits {
                        of_sender: 25,
                        messages: 3,
                        bytes: 10_000,
                        ttl: HOLD_TTL,
                    },
                    bytes_of_terminator: 1_000_000,
                    bytes_of_all: 1_000_000,
                },
                hold: HoldLimits {
                    of_sender: 25,
                    messages: 3,
                    bytes: 10_000,
                    ttl: HOLD_TTL,
                },
                on_expired_push: Policy::Reauthenticate,
                idempotency: None,
                drain_timeout: Duration::from_secs(20),
                strategy: Strategy::Both,
                relay_tells_presence: true,
                rules_digest: String::new(),
                reply_queues: None,
                elevation: Elevation::Connection,
                client_claims: vec!["azp".to_owned(), "client_id".to_owned()],
                on_unauthenticated: Policies::all(Policy::Reauthenticate),
                required_scopes: RequiredScopes::default(),
                scope_claims: Vec::new(),
                public_types: crate::config::PublicTypes::default(),
                message_shards: 1,
                push_shards: 1,
                removed_key_grace: Duration::from_secs(30),
                connection_events: None,
                resume_window: Some(HOLD_TTL),
                hold_overflow: HoldOverflow::Newest,
                connections_per_identity: None,
                messages_per_second_per_identity: None,
            },
            publisher: bus.publisher(PublishTimeout::Endless),
            returns: bus.consumer(names.return_queue(terminator), 100),
            replaced: Vec::new(),
            spread: VecDeque::new(),
            names,
            bus,
            clock,
            terminator,
            snapshots: Mutex::default(),
        }
    }

    /// Starts a worker. There may be several.
    pub(super) fn worker(&self) -> Worker {
        self.worker_of(Application::own(TestHandler(self.app.clone())))
    }

    /// Starts a worker that does this with messages.
    pub(super) fn worker_of(&self, application: Application) -> Worker {
        let parts = Parts {
            bus: self.bus.clone(),
            store: self.store.clone(),
            verifier: Arc::new(verifier()),
            issuers: vec![Issuer::new(ISSUER)],
            clock: self.clock.clone(),
            limits: self.limits.clone(),
            sealing: crate::Sealing::OFF,
            listener: None,
        };
        Worker {
            running: Consumers::start(parts, application, Tracer::OFF),
            tracer: Tracer::OFF,
            events: None,
            api: None,
            outside: None,
        }
    }

    pub(super) fn connection(&self, number: u64) -> ConnectionId {
        ConnectionId {
            terminator: self.terminator,
            number,
        }
    }

    pub(super) fn message_id(&self, number: u64, sequence: u64) -> MessageId {
        MessageId {
            connection: self.connection(number),
            sequence: Sequence::new(sequence),
        }
    }

    /// What a terminator publishes.
    pub(super) async fn forward(&self, message_id: MessageId, body: impl Into<Bytes>) {
        self.notify(message_id, MessageKind::Message, body.into()).await;
    }

    /// Messages of one connection with these sequences, of that type and with alice's token.
    pub(super) async fn forward_all(&self, sequences: RangeInclusive<u64>, kind: &str) {
        for sequence in sequences {
            let body = message("i", kind, "alice", &Json::Null);
            self.forward(self.message_id(1, sequence), body).await;
        }
    }

    pub(super) async fn notify(&self, message_id: MessageId, notice: MessageKind, body: Bytes) {
        let snapshot = self.snapshot_of(message_id.connection);
        self.forwarded(message_id, notice, snapshot, body).await;
    }

    /// What a terminator publishes, saying that of the connection.
    pub(super) async fn forwarded(
        &self,
        message_id: MessageId,
        notice: MessageKind,
        snapshot: AuthSnapshot,
        body: Bytes,
    ) {
        let reply_to = self.names.return_queue(self.terminator).name;
        let forwarded = ForwardedMessage {
            message_id,
            notice,
            snapshot,
        };
        let message = forwarded.to_message(body, &reply_to, self.clock.now());
        let route = Route::new(&self.names.internal_exchange().name, keys::FORWARD);
        self.publisher
            .publish(route, message)
            .await
            .expect("there is a queue for it");
    }

    /// How the connection stands, as far as its terminator has heard.
    fn snapshot_of(&self, connection: ConnectionId) -> AuthSnapshot {
        let mut snapshots = self.snapshots.lock().unwrap();
        snapshots.entry(connection).or_insert_with(stranger).clone()
    }

    /// What anyone publishes.
    pub(super) async fn inject(&self, body: impl Into<Bytes>, properties: Properties) {
        self.publish(Route::new(&self.names.exchange().name, keys::MESSAGE), body, properties)
            .await;
    }

    pub(super) async fn publish(&self, route: Route, body: impl Into<Bytes>, properties: Properties) {
        let message = Message {
            body: body.into(),
            properties,
        };
        self.publisher
            .publish(route, message)
            .await
            .expect("there is a queue for it");
    }

    /// The next answer to the terminator, as JSON (`null` if it is empty), and its properties.
    pub(super) async fn answer(&mut self) -> (Properties, Json) {
        loop {
            let Message { body, properties } = self.returned().await;
            if let Some((message_id, answer)) = Reply::read(&properties) {
                let mut snapshots = self.snapshots.lock().unwrap();
                let snapshot = snapshots.entry(message_id.connection).or_insert_with(stranger);
                hear(snapshot, message_id, &answer);
                if body.is_empty() && answer.part.more {
                    // A grant that is told before its answer.
                    continue;
                }
            }
            return (properties, json_of(&body));
        }
    }

    /// The next message to one connection: what is for several counts as that many.
    pub(super) async fn returned(&mut self) -> Message {
        if let Some(message) = self.spread.pop_front() {
            return message;
        }
        let message = self.raw().await;
        let Some(Return::Spread(spread)) = Return::read(&message) else {
            return message;
        };
        let each = spread.connections().map(|connection| spread.to_one(connection));
        self.spread.extend(each);
        self.spread.pop_front().expect("it is for somebody")
    }

    /// The next message to the terminator, as it lay in its queue.
    pub(super) async fn raw(&mut self) -> Message {
        let delivery = tokio::time::timeout(NEVER, self.returns.recv());
        let mut delivery = delivery.await.expect("nothing came").expect("the bus lives");
        let message = delivery.take_message();
        delivery.ack();
        message
    }

    /// What the broker says of a message that it gave up where workers try again.
    pub(super) fn died_in_retry(&self) -> (String, shared::bus::Value) {
        let [retry, _] = self.names.retries(self.limits.max_deliveries);
        (
            shared::bus::DEATH_QUEUE.to_owned(),
            shared::bus::Value::Text(retry.name),
        )
    }

    /// Sees that no answer is on its way to the terminator.
    pub(super) async fn expect_no_answer(&mut self) {
        let delivery = tokio::time::timeout(NEVER, self.returns.recv()).await;
        assert!(delivery.is_err(), "an answer came");
    }

    /// Asks as a client's terminator, and waits for the one answer.
    pub(super) async fn ask(&mut self, message_id: MessageId, body: impl Into<Bytes>) -> Json {
        self.forward(message_id, body).await;
        let (properties, answer) = self.answer().await;
        assert_eq!(properties.correlation_id, Some(message_id.to_string()));
        answer
    }

    /// The next message of that queue.
    pub(super) async fn next_of(&self, queue: Queue) -> Message {
        let mut consumer = self.bus.consumer(queue, 1);
        let delivery = tokio::time::timeout(NEVER, consumer.recv());
        let mut delivery: Delivery = delivery.await.expect("nothing came").expect("the bus lives");
        let message = delivery.take_message();
        delivery.ack();
        settle().await;
        message
    }

    /// Takes `count` messages out of the queue and dies with them.
    pub(super) async fn die_with(&self, queue: Queue, count: usize) {
        let mut consumer = self.bus.consumer(queue, 100);
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(consumer.recv().await);
        }
        drop(consumer);
        settle().await;
    }

    /// The terminator is gone, and its queue with it.
    pub(super) async fn lose_the_terminator(&mut self) {
        self.returns = self.bus.consumer(self.names.inject_queue(99), 1);
        // Longer than an unused queue is kept.
        tokio::time::sleep(Duration::from_secs(200)).await;
    }

    /// The terminator loses the broker, for so long, and comes back.
    pub(super) async fn leave_the_terminator_away(&mut self, away: Duration) {
        self.returns = self.bus.consumer(self.names.inject_queue(99), 1);
        tokio::time::sleep(away).await;
        self.returns = self.bus.consumer(self.names.return_queue(self.terminator), 100);
    }

    /// Reads what is given back, instead of the workers that start later.
    pub(super) fn undelivered_consumer(&self) -> Consumer {
        self.bus.consumer(self.names.undelivered(), 10)
    }

    /// Whether nothing of that queue waits or is unsettled.
    pub(super) async fn is_empty(&self, queue: &Queue) -> bool {
        settle().await;
        self.bus.depth(&queue.name) == (0, 0)
    }
}

pub(super) fn json_of(body: &[u8]) -> Json {
    if body.is_empty() {
        return Json::Null;
    }
    serde_json::from_slice(body).expect("an answer is JSON")
}

/// Lets every task run until all of them wait: the paused clock moves only then.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// A client message with a good token of `subject`.
pub(super) fn message(id: &str, kind: &str, subject: &str, payload: &Json) -> String {
    let token = token_for(subject, 300);
    json!({"id": id, "type": kind, "token": token, "payload": payload}).to_string()
}

/// A token that expires that many seconds after [`START`].
pub(super) fn token_for(subject: &str, expires_in: i64) -> String {
    let part = |json: Json| URL_SAFE_NO_PAD.encode(json.to_string());
    let expires_at = i64::try_from(START.as_secs()).unwrap() + expires_in;
    let claims = json!({"iss": ISSUER, "sub": subject, "aud": AUDIENCE, "exp": expires_at});
    let signed = format!("{}.{}", part(json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn verifier() -> Verifier {
    static FILES: AtomicU64 = AtomicU64::new(0);
    let file = FILES.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("worker-tests-{}-{file}", std::process::id()));
    std::fs::write(&path, SECRET).expect("a temporary file");
    let source = format!("hmac:{}", path.display()).parse().expect("a source of keys");
    let keys = Keys::load(&[source], &[Issuer::new(ISSUER)], &[]).expect("a good secret");
    std::fs::remove_file(&path).expect("our own file");
    Verifier::new(keys, Rules::new(vec![AUDIENCE.to_owned()]), 100)
}

/// What the application saw, and what a test holds it by.
#[derive(Default)]
pub(super) struct App {
    pub(super) seen: Mutex<Vec<Seen>>,
    pub(super) open: Notify,
    busy: AtomicUsize,
    pub(super) busiest: AtomicUsize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) subject: String,
    pub(super) kind: String,
    pub(super) message_id: Option<MessageId>,
}

impl App {
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Does what the message's `type` says.
struct TestHandler(Arc<App>);

impl Handler for TestHandler {
    async fn handle(&self, request: Request<'_>) -> Result<Answers, HandlerError> {
        let seen = Seen {
            subject: request.identity.subject.as_str().to_owned(),
            kind: request.kind.to_owned(),
            message_id: request.forwarded_id,
        };
        self.0.seen.lock().unwrap().push(seen);
        let busy = self.0.busy.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.busiest.fetch_max(busy, Ordering::SeqCst);
        let result = act(request, &self.0).await;
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
        result
    }
}

async fn act(request: Request<'_>, app: &App) -> Result<Answers, HandlerError> {
    let echo = || Answers::raw(request.payload.map(ToOwned::to_owned));
    match request.kind {
        "none" => Ok(Answers::none()),
        "three" => Ok(Answers::one(&0)?.and(Answers::one(&1)?).and(Answers::one(&2)?)),
        "along" => Ok(Answers::push_to_connection(&1)?
            .and(Answers::push_to_identity(&2)?)
            .and(echo())
            .and(Answers::push_to_connection(&3)?)),
        "along to all" => Ok(Answers::push_to_identity(&2)?.and(echo())),
        "too many along" => (0..200).try_fold(echo(), |said, n| Ok(said.and(Answers::push_to_connection(&n)?))),
        "forbidden" => Err(HandlerError::new(ErrorCode::Forbidden, "not yours")),
        "panic" => panic!("as asked"),
        "hang" => std::future::pending().await,
        "own" => Err(HandlerError::own("out_of_stock", "sold")
            .detailed(&json!({"left": 0}))?
            .temporary(true)),
        "reserved" => Err(HandlerError::own("token_expired", "who?")),
        "wait" => {
            app.open.notified().await;
            Ok(echo())
        }
        "brief" => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(echo())
        }
        "slow" => {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(echo())
        }
        _ => Ok(echo()),
    }
}

/// The store in memory, which can be away, and keeps what was written to it.
pub(super) struct FlakyStore {
    pub(super) inner: MemoryStore,
    pub(super) away: AtomicBool,
    /// How often it was asked about, or told of, a connection.
    pub(super) calls: AtomicUsize,
    writes: AtomicUsize,
    /// Who registers just before the next thing is held.
    pub(super) registers_before_a_hold: Mutex<Option<(IdentityTag, Registered)>>,
    /// How often dropping what was held fails.
    pub(super) failing_drops: AtomicUsize,
    /// The same for messages.
    pub(super) failing_message_drops: AtomicUsize,
    /// Which connection is closed, by which sequence, just before the next connection is entered.
    pub(super) closes_before_a_register: Mutex<Option<(ConnectionId, Sequence)>>,
}

/// How many revocations a store keeps.
pub(super) const MAX_REVOCATIONS: usize = 3;

impl FlakyStore {
    fn new(clock: Arc<ManualClock>) -> Self {
        let settings = Settings {
            url: "memory:".to_owned(),
            namespace: "test".to_owned(),
            timeout: Duration::from_secs(1),
            leeway: Rules::LEEWAY,
            max_revocations: MAX_REVOCATIONS,
        };
        Self {
            inner: MemoryStore::new(&settings, clock),
            away: AtomicBool::new(false),
            calls: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            registers_before_a_hold: Mutex::default(),
            failing_drops: AtomicUsize::new(0),
            failing_message_drops: AtomicUsize::new(0),
            closes_before_a_register: Mutex::default(),
        }
    }

    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub(super) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("away".into()));
        }
        Ok(())
    }
}

/// It is asked as any store is.
impl Deref for FlakyStore {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        self
    }
}

impl Around for FlakyStore {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn around<'a, T: Send + 'a>(&'a self, operation: &'static str, call: Call<'a, T>) -> Call<'a, T> {
        Box::pin(async move {
            if !matches!(operation, "overdue" | "revocations" | "epoch" | "ping") {
                self.calls.fetch_add(1, Ordering::SeqCst);
            }
            self.check()?;
            match operation {
                "record" => _ = self.writes.fetch_add(1, Ordering::SeqCst),
                "register" => {
                    let closed = self.closes_before_a_register.lock().unwrap().take();
                    if let Some((connection, by)) = closed {
                        self.inner().close(connection, by).await?;
                    }
                }
                "hold_write" => {
                    let late = self.registers_before_a_hold.lock().unwrap().take();
                    if let Some((identity, entry)) = late {
                        self.inner().register(identity, entry).await?;
                    }
                }
                "drop_messages" => fails_once_less(&self.failing_message_drops)?,
                "drop_writes" => fails_once_less(&self.failing_drops)?,
                _ => {}
            }
            call.await
        })
    }
}

fn fails_once_less(failing: &AtomicUsize) -> Result<(), StoreError> {
    let one_less = failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    match one_less {
        Ok(_) => Err(StoreError::Unavailable("as asked".into())),
        Err(_) => Ok(()),
    }
}
