//! Which exchanges and queues there are, and why each is as it is.
//!
//! ```text
//! clients' terminators ─▶ <ns>.internal ─ forward ──▶ <ns>.messages ─▶ workers ─▶ <ns>.return.<id> ─▶ terminator
//!                                                       │ redelivered: by a worker, `retry`
//!                                                       ├▶ <ns>.retry ── one at a time ─▶ workers
//!                                                       │ delivery limit: by the broker, `failed`
//!                                                       └▶ <ns>.failed ─▶ workers, which take the token out ─▶ <ns>.dead
//!                        with `message-shards`: `forward.<n>` ──▶ <ns>.messages.<n> ─▶ likewise
//! any injector ─────────▶ <ns> ────────── message ──▶ <ns>.injected ─▶ workers ─▶ whatever queue it names, if it may
//!                                                       │ likewise, `injected`
//!                                                       ├▶ <ns>.injected.retry ── one at a time ─▶ workers
//!                                                       │ likewise, `injected-failed`
//!                                                       └▶ <ns>.injected.failed ─▶ workers ─▶ <ns>.dead
//! workers with that handler ─▶ <ns>.app ─ the message's type ─▶ applications' queues ─▶ applications ─▶ <ns>.reply.<id>
//! any producer ─────────▶ <ns> ────────── push ────▶ <ns>.pushes ─────── one worker ─▶ <ns>.return.<id> ─▶ terminator
//!                                    with `push-shards`: <ns>.pushes ─ one worker ─▶ <ns>.push.<n> ─ one worker each ─▶ likewise
//! any operator ─────────▶ <ns> ────────── revoke ──▶ <ns>.revocations ─▶ workers ─ <ns>.internal, `revoked` ─▶ all of
//!                                                       <ns>.return.<id> and <ns>.worker.<id>
//! with `connection-events`: terminators ─▶ <ns>.events ─ connection.opened … connection.closed ─▶ anyone who has bound a queue
//!                           terminators ─▶ <ns>.internal ─ open ─▶ <ns>.open ─ one worker ─▶ the store
//! what was not written: by terminators, and by the broker what sat too long, `undelivered` ─▶ <ns>.undelivered
//!                                                       ─ one worker ─▶ the store's holds
//! ```
//!
//! Pushes, and what comes back undelivered, have one consumer at a time (a single
//! active consumer), so that they keep their order; another takes over when it is gone.
//!
//! Two exchanges, because a message id on a message is believed for the exchange that
//! it came through: injectors have no permission to write to `<ns>.internal`.
//!
//! What outsiders publish waits, is tried again and fails in queues of its own, which
//! workers read through a connection of its own: whatever it does there, it does to
//! others like it, and never to clients' messages.
//!
//! All durable queues are quorum queues: they keep what they confirmed when a
//! node dies, count deliveries, and were measured to be faster than a durable
//! classic queue.

use std::sync::Arc;
use std::time::Duration;

use super::{ReplyQueues, Route, direct_reply};
use crate::wire::id::TerminatorId;

/// How often the broker gives out one message of `<ns>.messages` before it counts as failed. It is the limit of
/// RabbitMQ 4 where none is set. A message that was given back once is moved to `<ns>.retry`, so only a worker that
/// dies while it moves one comes near this; `max-deliveries` is the limit of `<ns>.retry`.
const MESSAGES_DELIVERY_LIMIT: u32 = 20;

/// How often something may be given back that must not be forgotten for it: what failed, because no one else has it, and
/// dead letters, which people look at by taking them and giving them back. The broker counts: without a limit of ours
/// RabbitMQ 4 forgets what was given back 20 times, and RabbitMQ 3 puts it behind all others.
const ENDLESS_DELIVERY_LIMIT: u32 = 1_000_000;

/// The most messages that may wait for workers: at 1 KiB each, 1 GiB on the broker's disk. Beyond it the broker
/// refuses, and clients are told `busy`.
const MESSAGES_MAX_LENGTH: u32 = 1_000_000;

/// The most bytes of bodies that may wait in a queue, whatever they are worth each: a disk is full by bytes.
const MAX_LENGTH_BYTES: u64 = 2 * 1_024 * 1_024 * 1_024;

/// How long an answer may wait for its terminator: longer than a reconnect with its back-off, shorter than a
/// person waits.
const RETURN_TTL: Duration = Duration::from_secs(60);

/// How long a return queue outlives its last consumer. It must be longer than [`RETURN_TTL`], or what is in the queue
/// goes with it rather than to `<ns>.undelivered`.
const RETURN_EXPIRES: Duration = Duration::from_secs(180);

/// How long dead letters and undelivered answers are kept: a week-end and a day.
const DEAD_TTL: Duration = Duration::from_secs(3 * 24 * 3600);
const UNDELIVERED_TTL: Duration = Duration::from_secs(24 * 3600);

/// How long a worker's queue of revocations outlives it. A worker that was away for longer reads them from the store.
const WORKER_EXPIRES: Duration = Duration::from_secs(180);

/// The most dead letters that are kept; the oldest go first.
const DEAD_MAX_LENGTH: u32 = 100_000;

/// The most that may wait to be put away.
const UNDELIVERED_MAX_LENGTH: u32 = 100_000;

/// The most answers of applications that may wait for a worker, which takes them as they come: a thousand times as many as
/// it asks for at a time.
const REPLIES_MAX_LENGTH: u32 = 100_000;

/// What stands after the namespace in the name of each queue that is there once.
const OURS: [&str; 12] = [
    "messages",
    "retry",
    "failed",
    "dead",
    "undelivered",
    "pushes",
    "revocations",
    "injected",
    "injected.retry",
    "injected.failed",
    REJECTED,
    OPEN,
];

/// The other words that stand after the namespace in names of ours.
const RESERVED: [&str; 10] = [
    "internal", "app", "return", "worker", "reply", "inject", "push", "moved", "moving", EVENTS,
];

/// Whether no namespace may have that word behind a dot: it would have the names of the namespace before the dot.
pub fn is_reserved(word: &str) -> bool {
    OURS.contains(&word) || RESERVED.contains(&word)
}

/// Whether a queue could be one that only terminators, workers and the broker of some namespace put something into.
fn is_of_a_namespace(queue: &str) -> bool {
    let one_of_many = |word: &str, number: &str| {
        let is_number = number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
        ["return", "worker", "reply"].contains(&word) && is_number
    };
    let one_of_few = |word: &str, number: &str| {
        ["push", "messages"].contains(&word)
            && (1..=2).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut words = queue.rsplit('.');
    match (words.next(), words.next(), words.next()) {
        (Some(last), Some(_), None) => OURS.contains(&last),
        (Some(last), Some(before), Some(_)) => {
            OURS.contains(&last) || one_of_many(before, last) || one_of_few(before, last)
        }
        _ => false,
    }
}

/// What stands after the namespace in the names of the tool's own queues.
const INJECT: &str = ".inject.";

/// With what the names of the queues of terminators begin, after the namespace.
const RETURN: &str = "return.";

/// The same for those of workers.
const WORKER: &str = "worker.";

/// The same for those to which pushes are passed on.
const PUSH: &str = "push.";
/// The most of those that there are.
pub const MOST_PUSH_SHARDS: u16 = 16;

/// The same for those where clients' messages wait, besides the first.
const MESSAGES: &str = "messages.";
/// The most queues that clients' messages wait in.
pub const MOST_MESSAGE_SHARDS: u16 = 16;

/// The same for those of workers where applications answer.
const REPLY: &str = "reply.";
/// The name of the queue of what applications reject.
const REJECTED: &str = "rejected";

/// The name of the queue in which workers find which connections are open.
const OPEN: &str = "open";
/// The name of the exchange for events.
const EVENTS: &str = "events";

/// The names of everything on the broker, all under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    namespace: String,
    /// Into which queues besides direct replies an answer may go because someone else says so; nothing means any.
    replies: Option<Arc<ReplyQueues>>,
}

/// An exchange, durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// By what it chooses queues.
    pub kind: ExchangeKind,
}

/// By what an exchange chooses the queues of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeKind {
    /// By the very key.
    Direct,
    /// By the words of the key, of which `*` is any one, and `#` any number (AMQP 0-9-1 §3.1.3.3).
    Topic,
}

/// A queue, with all that its declaration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// What kind of queue it is.
    pub kind: QueueKind,
    /// The exchanges and keys that lead to it, besides its name on the default exchange.
    pub bindings: Vec<(String, String)>,
    /// Those that led to it in earlier versions, and must not any more.
    pub former_bindings: Vec<(String, String)>,
    /// Who may put something into it.
    pub filled_by: FilledBy,
}

/// Who may put something into a queue. What outsiders wrote is read through a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilledBy {
    /// Terminators and workers.
    Us,
    /// Anyone who may publish to the exchange for everyone, or answer.
    Outsiders,
}

/// What kind of queue it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueKind {
    /// Replicated, durable, for everyone.
    Quorum(Limits),
    /// Of one connection, and gone with it: the answers of an injector.
    Exclusive,
}

/// What a quorum queue does not keep.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How often a message may be given back before it is dead-lettered: it is delivered once more than this.
    pub delivery_limit: Option<u32>,
    /// How long a message may wait.
    pub message_ttl: Option<Duration>,
    /// How long the queue itself may be unused.
    pub expires: Option<Duration>,
    /// How many messages may wait, and what happens beyond.
    pub max_length: Option<(u32, Overflow)>,
    /// How many bytes their bodies may have in all; the same happens beyond.
    pub max_length_bytes: Option<u64>,
    /// The exchange and key for what is not kept.
    pub dead_letter: Option<(String, String)>,
    /// Whether only one of its consumers is given messages, and another only when that one is gone.
    pub single_active_consumer: bool,
    /// With which priority this consumer is that one, where the broker asks (RabbitMQ 4). It belongs to the consumer, and not to
    /// the queue.
    pub priority: Option<u8>,
}

/// What a full queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It refuses the new. (Needed for at-least-once dead-lettering, too.)
    RejectPublish,
    /// It forgets the oldest.
    DropHead,
}

impl Names {
    /// The names under `namespace`.
    pub fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            replies: None,
        }
    }

    /// The exchange for everyone: keys `message`, `push` and `revoke`.
    pub fn exchange(&self) -> Exchange {
        Exchange {
            name: self.namespace.clone(),
            kind: ExchangeKind::Direct,
        }
    }

    /// The exchange for terminators, workers and the broker's own dead-lettering.
    pub fn internal_exchange(&self) -> Exchange {
        Exchange {
            name: format!("{}.internal", self.namespace),
            kind: ExchangeKind::Direct,
        }
    }

    /// The exchange from which applications take messages, by their `type`; only where workers have that handler.
    pub fn app_exchange(&self) -> Exchange {
        Exchange {
            name: format!("{}.app", self.namespace),
            kind: ExchangeKind::Topic,
        }
    }

    /// The exchange from which anyone who may read there takes what happens to connections; only with `connection-events`.
    pub fn events_exchange(&self) -> Exchange {
        Exchange {
            name: format!("{}.{EVENTS}", self.namespace),
            kind: ExchangeKind::Topic,
        }
    }

    /// Where terminators say which connections they have open, for the day when they cannot; only with `connection-events`.
    /// One consumer at a time, so that what is said of a connection keeps its order.
    pub fn open_connections(&self) -> Queue {
        let limits = Limits {
            delivery_limit: Some(ENDLESS_DELIVERY_LIMIT),
            max_length: Some((MESSAGES_MAX_LENGTH, Overflow::RejectPublish)),
            max_length_bytes: Some(MAX_LENGTH_BYTES),
            single_active_consumer: true,
            ..Limits::default()
        };
        self.internal_queue(OPEN, keys::OPEN, limits)
    }

    /// What must be there besides, with `connection-events`.
    pub fn events(&self) -> Topology {
        Topology {
            exchanges: vec![self.events_exchange()],
            queues: vec![self.open_connections()],
        }
    }

    /// Where clients' messages wait for a worker.
    pub fn messages(&self) -> Queue {
        let queue = self.internal_queue(
            "messages",
            keys::FORWARD,
            self.waiting(MESSAGES_DELIVERY_LIMIT, keys::FAILED),
        );
        Queue {
            // What outsiders publish came here once.
            former_bindings: vec![(self.exchange().name, keys::MESSAGE.to_owned())],
            ..queue
        }
    }

    /// Where clients' messages of the connections of one shard wait for a worker. The first is [`messages`](Self::messages).
    pub fn message_shard(&self, number: u16) -> Queue {
        if number == 0 {
            return self.messages();
        }
        let limits = self.waiting(MESSAGES_DELIVERY_LIMIT, keys::FAILED);
        self.internal_queue(&format!("{MESSAGES}{number}"), &keys::forward(number), limits)
    }

    /// All queues where clients' messages wait, if there are so many.
    pub fn message_shards(&self, count: u16) -> impl Iterator<Item = Queue> {
        (0..count.clamp(1, MOST_MESSAGE_SHARDS)).map(|number| self.message_shard(number))
    }

    /// The queue where clients' messages with that key wait.
    pub fn messages_by(&self, key: &str) -> String {
        let number = key
            .strip_prefix(keys::FORWARD_TO)
            .and_then(|number| number.parse().ok());
        self.message_shard(number.unwrap_or_default()).name
    }

    /// Whether clients' messages wait in that queue.
    pub fn is_of_messages(&self, queue: &str) -> bool {
        let rest = self.rest_of(queue).and_then(|rest| rest.strip_prefix('.'));
        rest.is_some_and(|rest| rest == "messages" || rest.starts_with(MESSAGES))
    }

    /// Where messages wait for a worker that came from anyone else.
    pub fn injected(&self) -> Queue {
        let limits = self.waiting(MESSAGES_DELIVERY_LIMIT, keys::INJECTED_FAILED);
        self.public_queue("injected", keys::MESSAGE, limits)
    }

    /// Where a message that was given back waits to be processed alone: clients', and others'. A message is delivered at most
    /// `max_deliveries` times in all to be processed: once where it came first, the rest from here.
    pub fn retries(&self, max_deliveries: u32) -> [Queue; 2] {
        let limit = max_deliveries.saturating_sub(2);
        let injected = self.waiting(limit, keys::INJECTED_FAILED);
        [
            self.internal_queue("retry", keys::RETRY, self.waiting(limit, keys::FAILED)),
            Queue {
                filled_by: FilledBy::Outsiders,
                ..self.internal_queue("injected.retry", keys::INJECTED, injected)
            },
        ]
    }

    /// Where the broker puts what reached its delivery limit, token and all, until a worker has taken the token out: clients'
    /// messages and what was not delivered to them, and what came from anyone else. Nothing here is forgotten: if they are full,
    /// the broker keeps it where it was.
    pub fn failures(&self) -> [Queue; 2] {
        let limits = Limits {
            delivery_limit: Some(ENDLESS_DELIVERY_LIMIT),
            max_length: Some((MESSAGES_MAX_LENGTH, Overflow::RejectPublish)),
            max_length_bytes: Some(MAX_LENGTH_BYTES),
            ..Limits::default()
        };
        [
            self.internal_queue("failed", keys::FAILED, limits.clone()),
            Queue {
                filled_by: FilledBy::Outsiders,
                ..self.internal_queue("injected.failed", keys::INJECTED_FAILED, limits)
            },
        ]
    }

    /// Where failed messages without their tokens wait for a person.
    pub fn dead(&self) -> Queue {
        let limits = Limits {
            delivery_limit: Some(ENDLESS_DELIVERY_LIMIT),
            message_ttl: Some(DEAD_TTL),
            max_length: Some((DEAD_MAX_LENGTH, Overflow::DropHead)),
            max_length_bytes: Some(MAX_LENGTH_BYTES),
            ..Limits::default()
        };
        self.internal_queue("dead", keys::DEAD, limits)
    }

    /// Where answers and pushes go that could not be written, until they are put away. One consumer at a time, so that they
    /// are in the order in which they were given back, and what asks for them comes after them. What cannot be put away in time
    /// is dead-lettered; a full one refuses, and a terminator offers it again.
    pub fn undelivered(&self) -> Queue {
        let limits = Limits {
            message_ttl: Some(UNDELIVERED_TTL),
            max_length: Some((UNDELIVERED_MAX_LENGTH, Overflow::RejectPublish)),
            single_active_consumer: true,
            ..self.waiting(MESSAGES_DELIVERY_LIMIT, keys::FAILED)
        };
        self.internal_queue("undelivered", keys::UNDELIVERED, limits)
    }

    /// Where pushes wait. One consumer at a time, so that those of one producer keep their order.
    pub fn pushes(&self) -> Queue {
        let limits = Limits {
            single_active_consumer: true,
            ..self.waiting(MESSAGES_DELIVERY_LIMIT, keys::INJECTED_FAILED)
        };
        self.public_queue("pushes", keys::PUSH, limits)
    }

    /// Where pushes wait that were passed on, each identity's in one of these. One consumer at a time, like [`pushes`](Self::pushes).
    pub fn push_shard(&self, number: u16) -> Queue {
        let limits = Limits {
            single_active_consumer: true,
            ..self.waiting(MESSAGES_DELIVERY_LIMIT, keys::FAILED)
        };
        Queue {
            name: format!("{}.{PUSH}{number}", self.namespace),
            kind: QueueKind::Quorum(limits),
            bindings: Vec::new(),
            former_bindings: Vec::new(),
            filled_by: FilledBy::Us,
        }
    }

    /// Whether pushes wait in that queue.
    pub fn is_of_pushes(&self, queue: &str) -> bool {
        let rest = self.rest_of(queue).and_then(|rest| rest.strip_prefix('.'));
        rest.is_some_and(|rest| rest == "pushes" || rest.starts_with(PUSH))
    }

    /// Where revocations wait until they are recorded.
    pub fn revocations(&self) -> Queue {
        let limits = self.waiting(MESSAGES_DELIVERY_LIMIT, keys::INJECTED_FAILED);
        self.public_queue("revocations", keys::REVOKE, limits)
    }

    /// Where one worker hears of revocations. It is named, so that it survives a lost connection. It keeps everything; what an
    /// operator's policy has it drop is put back (see `undelivered`).
    pub fn worker_queue(&self, worker: u64) -> Queue {
        let limits = Limits {
            expires: Some(WORKER_EXPIRES),
            dead_letter: Some((self.internal_exchange().name, keys::UNDELIVERED.to_owned())),
            ..Limits::default()
        };
        let mut queue = self.internal_queue(&format!("{WORKER}{worker:016x}"), keys::REVOKED, limits);
        let internal = self.internal_exchange().name;
        queue.bindings.push((internal, keys::RULES.to_owned()));
        queue
    }

    /// Where the answers of applications for one worker wait. Nothing is bound to it: they come by its name. It is named, so
    /// that it survives a lost connection, and durable, so that an answer that was confirmed to an application arrives.
    pub fn reply_queue(&self, worker: u64) -> Queue {
        let limits = Limits {
            message_ttl: Some(RETURN_TTL),
            expires: Some(WORKER_EXPIRES),
            max_length: Some((REPLIES_MAX_LENGTH, Overflow::RejectPublish)),
            max_length_bytes: Some(MAX_LENGTH_BYTES),
            ..Limits::default()
        };
        Queue {
            name: format!("{}.{REPLY}{worker:016x}", self.namespace),
            kind: QueueKind::Quorum(limits),
            bindings: Vec::new(),
            former_bindings: Vec::new(),
            filled_by: FilledBy::Outsiders,
        }
    }

    /// Where the broker puts what applications reject, if their queues say so; only where workers have that handler. Nothing is
    /// bound to it: it comes by its name.
    pub fn rejected(&self) -> Queue {
        let limits = Limits {
            message_ttl: Some(RETURN_TTL),
            max_length: Some((REPLIES_MAX_LENGTH, Overflow::RejectPublish)),
            max_length_bytes: Some(MAX_LENGTH_BYTES),
            ..Limits::default()
        };
        Queue {
            name: format!("{}.{REJECTED}", self.namespace),
            kind: QueueKind::Quorum(limits),
            bindings: Vec::new(),
            former_bindings: Vec::new(),
            filled_by: FilledBy::Outsiders,
        }
    }

    /// Whether it is a queue for the answers of applications.
    pub fn is_of_replies(&self, queue: &str) -> bool {
        let rest = self.rest_of(queue).and_then(|rest| rest.strip_prefix('.'));
        rest.is_some_and(|rest| rest.starts_with(REPLY))
    }

    /// Where the answers for one terminator wait. It is named, so that it survives a lost connection.
    pub fn return_queue(&self, terminator: TerminatorId) -> Queue {
        let limits = Limits {
            message_ttl: Some(RETURN_TTL),
            expires: Some(RETURN_EXPIRES),
            dead_letter: Some((self.internal_exchange().name, keys::UNDELIVERED.to_owned())),
            ..Limits::default()
        };
        // Revocations come the same way as what they forbid to write.
        self.internal_queue(&format!("{RETURN}{terminator}"), keys::REVOKED, limits)
    }

    /// A queue for the answers of one injector.
    pub fn inject_queue(&self, id: u64) -> Queue {
        Queue {
            name: format!("{}{INJECT}{id:016x}", self.namespace),
            kind: QueueKind::Exclusive,
            bindings: Vec::new(),
            former_bindings: Vec::new(),
            filled_by: FilledBy::Us,
        }
    }

    /// Whether `queue` is one that only terminators, workers and the broker put something into. An injector who names
    /// one as its `reply_to` would have a worker write where its own permissions do not let it.
    pub fn is_ours(&self, queue: &str) -> bool {
        let suffix = queue
            .strip_prefix(&self.namespace)
            .and_then(|rest| rest.strip_prefix('.'));
        let is_of_one = |suffix: &str| {
            [RETURN, WORKER, REPLY, PUSH, MESSAGES]
                .iter()
                .any(|prefix| suffix.starts_with(prefix))
        };
        suffix.is_some_and(|suffix| OURS.contains(&suffix) || is_of_one(suffix))
    }

    /// Whether what is published there may be a batch: it ends at a terminator or at workers, and is not counted by the broker
    /// one by one, as what is tried again is.
    pub fn takes_batches(&self, route: &Route) -> bool {
        match self.rest_of(&route.exchange) {
            Some(".internal") => keys::is_forward(&route.key) || [keys::UNDELIVERED, keys::OPEN].contains(&&*route.key),
            _ if route.exchange.is_empty() => {
                let suffix = self.rest_of(&route.key).and_then(|rest| rest.strip_prefix('.'));
                suffix.is_some_and(|suffix| suffix.starts_with(RETURN) || suffix.starts_with(PUSH))
            }
            _ => false,
        }
    }

    /// What stands behind the namespace.
    fn rest_of<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.namespace.as_str())
    }

    /// The same names, where only those queues may be answered.
    #[must_use]
    pub fn answering(self, replies: ReplyQueues) -> Self {
        Self {
            replies: Some(Arc::new(replies)),
            ..self
        }
    }

    /// Whether an answer may go to `queue` because someone else says so: it is a direct reply that the broker can read, or
    /// one of the tool's, or allowed; and none of any namespace.
    pub fn may_be_answered(&self, queue: &str) -> bool {
        if let Some(is_readable) = direct_reply::readable(queue) {
            return is_readable;
        }
        let of_tool = || {
            let rest = queue.strip_prefix(&self.namespace);
            rest.is_some_and(|rest| rest.starts_with(INJECT))
        };
        let allowed = || self.replies.as_ref().is_none_or(|replies| replies.allow(queue));
        !queue.is_empty() && !self.is_ours(queue) && (of_tool() || !is_of_a_namespace(queue) && allowed())
    }

    /// What must be there before anything is published: declared by terminator and worker alike, in this order.
    pub fn common(&self) -> Topology {
        Topology {
            exchanges: vec![self.exchange(), self.internal_exchange()],
            queues: self
                .failures()
                .into_iter()
                // The new binding is there before the former one goes: what is published meanwhile comes twice rather than never.
                .chain([
                    self.injected(),
                    self.messages(),
                    self.dead(),
                    self.undelivered(),
                    self.pushes(),
                    self.revocations(),
                ])
                .collect(),
        }
    }

    /// What waits for a worker: refused when there is too much of it, and dead-lettered under `failed` when it was given back
    /// too often.
    fn waiting(&self, delivery_limit: u32, failed: &str) -> Limits {
        Limits {
            delivery_limit: Some(delivery_limit),
            max_length: Some((MESSAGES_MAX_LENGTH, Overflow::RejectPublish)),
            max_length_bytes: Some(MAX_LENGTH_BYTES),
            dead_letter: Some((self.internal_exchange().name, failed.to_owned())),
            ..Limits::default()
        }
    }

    fn public_queue(&self, suffix: &str, key: &str, limits: Limits) -> Queue {
        Queue {
            name: format!("{}.{suffix}", self.namespace),
            kind: QueueKind::Quorum(limits),
            bindings: vec![(self.exchange().name, key.to_owned())],
            former_bindings: Vec::new(),
            filled_by: FilledBy::Outsiders,
        }
    }

    fn internal_queue(&self, suffix: &str, key: &str, limits: Limits) -> Queue {
        Queue {
            name: format!("{}.{suffix}", self.namespace),
            kind: QueueKind::Quorum(limits),
            bindings: vec![(self.internal_exchange().name, key.to_owned())],
            former_bindings: Vec::new(),
            filled_by: FilledBy::Us,
        }
    }
}

/// Exchanges and queues to declare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Declared first.
    pub exchanges: Vec<Exchange>,
    /// Declared and bound after them.
    pub queues: Vec<Queue>,
}

impl Topology {
    /// The same, and that.
    pub fn extend(&mut self, more: Self) {
        self.exchanges.extend(more.exchanges);
        self.queues.extend(more.queues);
    }
}

/// The routing keys.
pub mod keys {
    /// Anyone: a client message. Through the exchange for everyone.
    pub const MESSAGE: &str = "message";
    /// Anyone: something for an identity or a connection. Through the exchange for everyone.
    pub const PUSH: &str = "push";
    /// Anyone: something to be revoked. Through the exchange for everyone.
    pub const REVOKE: &str = "revoke";
    /// Worker: something was revoked, to all terminators and workers.
    pub const REVOKED: &str = "revoked";
    /// What a worker tells all workers alone: of its rules, and of what clients have given up.
    pub const RULES: &str = "rules";
    /// Terminator: a given an id client message.
    pub const FORWARD: &str = "forward";
    /// Behind it, on a dot, the number of a shard other than the first.
    pub(super) const FORWARD_TO: &str = "forward.";

    /// The key of what is for that shard of clients' messages.
    pub fn forward(shard: u16) -> String {
        match shard {
            0 => FORWARD.to_owned(),
            _ => format!("{FORWARD_TO}{shard}"),
        }
    }

    /// Whether it is the key of a given an id client message, whatever its shard.
    pub fn is_forward(key: &str) -> bool {
        key == FORWARD || key.starts_with(FORWARD_TO)
    }

    /// Worker: a client's message that was given back.
    pub const RETRY: &str = "retry";
    /// Worker: one of anyone else.
    pub const INJECTED: &str = "injected";
    /// Broker: a client's message that reached its delivery limit.
    pub const FAILED: &str = "failed";
    /// Broker: one of anyone else.
    pub const INJECTED_FAILED: &str = "injected-failed";
    /// Worker: a dead letter without its token.
    pub const DEAD: &str = "dead";
    /// Terminator: which connections it has open.
    pub const OPEN: &str = "open";
    /// Terminator: what could not be written; broker: what was not fetched in time.
    pub const UNDELIVERED: &str = "undelivered";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_a_return_queue_before_the_queue_itself_goes() {
        const { assert!(RETURN_TTL.as_secs() < RETURN_EXPIRES.as_secs()) }
    }

    #[test]
    fn the_longest_namespace_fits_a_queue_name() {
        let names = Names::new(&"n".repeat(64));
        assert!(names.return_queue(TerminatorId::random()).name.len() <= 255);
    }

    #[test]
    fn the_queues_of_injectors_and_of_others_are_not_ours() {
        let names = Names::new("n");
        let ours = [
            names.messages(),
            names.injected(),
            names.dead(),
            names.undelivered(),
            names.open_connections(),
            names.pushes(),
            names.revocations(),
            names.worker_queue(1),
            names.reply_queue(1),
            names.return_queue(TerminatorId::random()),
            names.push_shard(0),
            names.push_shard(MOST_PUSH_SHARDS - 1),
            names.message_shard(MOST_MESSAGE_SHARDS - 1),
        ];
        let ours = ours
            .iter()
            .chain(&names.retries(5))
            .chain(&names.failures())
            .cloned()
            .collect::<Vec<_>>();
        assert!(ours.iter().all(|queue| names.is_ours(&queue.name)));
        assert!(ours.iter().all(|queue| !names.clone().may_be_answered(&queue.name)));
        let others = [
            names.inject_queue(1).name,
            "nn.messages".into(),
            "n".into(),
            "n.answers".into(),
            "answers".into(),
        ];
        assert!(others.iter().all(|queue| !names.is_ours(queue)));
    }

    #[test]
    fn each_shard_of_messages_is_reached_by_its_key_alone_and_takes_batches() {
        let names = Names::new("n");
        let shards: Vec<_> = names.message_shards(3).collect();
        assert_eq!(shards[0], names.messages());
        assert_eq!(names.message_shards(0).count(), 1);
        assert_eq!(names.message_shards(u16::MAX).count(), usize::from(MOST_MESSAGE_SHARDS));
        for (number, queue) in (0..).zip(&shards) {
            let key = keys::forward(number);
            assert_eq!(queue.bindings, [("n.internal".to_owned(), key.clone())]);
            assert!(names.is_of_messages(&queue.name) && keys::is_forward(&key));
            assert_eq!(names.messages_by(&key), queue.name);
            assert!(names.takes_batches(&Route::new("n.internal", &key)));
            assert_eq!(queue.kind, names.messages().kind);
        }
        for other in ["n.retry", "n.messagesx", "m.messages.1"] {
            assert!(!names.is_of_messages(other), "{other}");
        }
        for other in ["retry", "forwarded", ""] {
            assert!(!keys::is_forward(other), "{other}");
        }
    }

    #[test]
    fn an_answer_goes_only_where_the_asker_may_read() {
        let replies = <ReplyQueues as crate::service::config::Value>::parse(r"^amq\.gen-,^reports\.").unwrap();
        let names = Names::new("n").answering(replies);
        for (queue, allowed) in [
            (
                "amq.rabbitmq.reply-to.g1h2AA5yZXBseUA2MDUxODA0MwAADGoAAAAAZaWkMQ==.3H0xhtuWmxl7TSZ9wz0ZvA==",
                true,
            ),
            ("amq.rabbitmq.reply-to", false),
            ("amq.rabbitmq.reply-to.AAAA.BBBB", false),
            ("amq.rabbitmq.reply-to.g1h2AA5yZXBseUA", false),
            ("amq.gen-abc", true),
            ("n.inject.0000000000000001", true),
            ("reports.daily", true),
            ("reports.messages", false),
            ("reports.return.0123456789abcdef", false),
            ("reports.return.daily", true),
            ("reports.push.3", false),
            ("reports.messages.3", false),
            ("n.messages.15", false),
            ("reports.push.daily", true),
            ("other", false),
            ("n.return.0123456789abcdef", false),
            ("n.messages", false),
            ("other.retry", false),
            ("", false),
        ] {
            assert_eq!(names.may_be_answered(queue), allowed, "{queue}");
        }
        assert!(Names::new("n").may_be_answered("other"), "where there is no list");
    }

    #[test]
    fn a_message_is_processed_as_often_as_max_deliveries_says() {
        for queue in Names::new("n").retries(5) {
            let QueueKind::Quorum(limits) = queue.kind else {
                panic!("retry is a quorum queue")
            };
            let from_messages = 1;
            let from_retry = limits.delivery_limit.unwrap() + 1;
            assert_eq!(from_messages + from_retry, 5);
        }
    }
}
