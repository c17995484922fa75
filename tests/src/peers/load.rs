//! Many messages from many connections, while a claim does harm; and the count of what came of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use super::client::{Client, Received};
use crate::history::{Event, History, Judgement, judge};
use crate::nodes::program::Program;
use crate::wait::{Span, eventually};

/// After the last answer, a connection listens so long for answers that should not come.
const LISTEN_AFTER: Duration = Duration::from_millis(500);

/// A load to be: by default 8 connections with 100 messages each, 8 of them in flight.
#[derive(Debug, Clone)]
pub struct Load {
    targets: Vec<SocketAddr>,
    connections: usize,
    messages: usize,
    in_flight: usize,
    per_second: Option<u32>,
    token: String,
    kind: String,
    ordered: bool,
    history: History,
}

impl Load {
    /// Spread evenly over these terminators, each message with this token.
    #[must_use]
    pub fn on<'p>(terminators: impl IntoIterator<Item = &'p Program>, token: &str) -> Self {
        Self::on_addresses(terminators.into_iter().map(Program::address), token)
    }

    /// The same, over whatever listens at these addresses.
    #[must_use]
    pub fn on_addresses(addresses: impl IntoIterator<Item = SocketAddr>, token: &str) -> Self {
        Self {
            targets: addresses.into_iter().collect(),
            connections: 8,
            messages: 100,
            in_flight: 8,
            per_second: None,
            token: token.to_owned(),
            kind: "echo".to_owned(),
            ordered: true,
            history: History::in_memory(),
        }
    }

    /// How many connections.
    #[must_use]
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = count;
        self
    }

    /// How many messages each connection sends; `usize::MAX` for as many as fit in before [`Running::enough`].
    #[must_use]
    pub fn messages(mut self, count: usize) -> Self {
        self.messages = count;
        self
    }

    /// How many of a connection's messages may be unanswered at once.
    #[must_use]
    pub fn in_flight(mut self, count: usize) -> Self {
        self.in_flight = count;
        self
    }

    /// How many messages all connections together send in a second, each from its first answer on, whatever else is answered: a
    /// system that stands still has it all to catch up with.
    #[must_use]
    pub fn per_second(mut self, count: u32) -> Self {
        self.per_second = Some(count);
        self
    }

    /// The `type` of the messages, instead of `echo`.
    #[must_use]
    pub fn kind(mut self, kind: &str) -> Self {
        kind.clone_into(&mut self.kind);
        self
    }

    /// Has all that is sent and heard written down there, where others write, too.
    #[must_use]
    pub fn noted_in(mut self, history: &History) -> Self {
        self.history = history.clone();
        self
    }

    /// On terminators with `order = none`.
    #[must_use]
    pub fn unordered(mut self) -> Self {
        self.ordered = false;
        self
    }

    /// Starts. `limit` is for the whole: what is unanswered then is counted as such.
    #[must_use]
    pub fn start(self, limit: Duration) -> Running {
        let deadline = Instant::now() + limit;
        let answered = Arc::new(AtomicUsize::new(0));
        let enough = Arc::new(AtomicBool::new(false));
        let history = self.history.clone();
        let mut connections = JoinSet::new();
        for number in 0..self.connections {
            let share = Share {
                load: self.clone(),
                number,
                deadline,
                answered: answered.clone(),
                enough: enough.clone(),
            };
            connections.spawn(share.run());
        }
        Running {
            connections,
            answered,
            enough,
            history,
            limit,
        }
    }

    /// Runs to its end without any harm done.
    pub async fn run(self, limit: Duration) -> Tally {
        self.start(limit).finish().await
    }
}

/// A load that goes on while the claim does something else.
#[derive(Debug)]
pub struct Running {
    connections: JoinSet<Tally>,
    answered: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
    history: History,
    limit: Duration,
}

impl Running {
    /// Waits until so many messages are answered, to do harm in the middle.
    pub async fn until_answered(&self, count: usize) {
        eventually(self.limit, &format!("{count} messages are answered"), async || {
            let answered = self.answered();
            if answered >= count { Ok(()) } else { Err(answered) }
        })
        .await;
    }

    /// How many messages are answered by now.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether every connection has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        // Each connection has its own handle on the count.
        Arc::strong_count(&self.answered) == 1
    }

    /// Sends nothing more, as if each connection had sent all its messages.
    pub fn enough(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    /// Waits for the end and counts.
    pub async fn finish(self) -> Tally {
        let tallies = self.connections.join_all().await;
        let tally = tallies.into_iter().fold(Tally::default(), Tally::and);
        let judgement = judge(&self.history.lines());
        Tally { judgement, ..tally }
    }
}

/// What came of a load.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Messages sent.
    pub sent: usize,
    /// Messages that got a `reply`.
    pub replied: usize,
    /// Messages that were refused, by the code of the error.
    pub refused: BTreeMap<String, usize>,
    /// The `id`s to which nothing came.
    pub unanswered: BTreeSet<String>,
    /// The `id`s to which more than one answer came.
    pub answered_twice: BTreeSet<String>,
    /// The `id`s whose answer came to a connection that had not asked: never other than empty in a sound system.
    pub strayed: BTreeSet<String>,
    /// Connections that ended before their work did, by close code; 0 for a break without one.
    pub broken: BTreeMap<u16, usize>,
    /// What the judge of histories says of all of it: whose answers they are, their order, and the rest.
    pub judgement: Judgement,
}

impl Tally {
    /// Asserts that each message got exactly one `reply`.
    ///
    /// # Panics
    /// If not: with the whole tally.
    pub fn assert_each_replied_once(&self) {
        self.assert_each_answered_once();
        assert_eq!(self.replied, self.sent, "some were refused: {self:?}");
    }

    /// Asserts that each message got exactly one answer, be it `reply` or `error`, and that no promise is broken: replies are
    /// in the order of the messages.
    ///
    /// # Panics
    /// If not: with the whole tally.
    pub fn assert_each_answered_once(&self) {
        let once = self.unanswered.is_empty() && self.answered_twice.is_empty() && self.strayed.is_empty();
        assert!(once && self.sent > 0, "not each message was answered once: {self:?}");
        self.judgement.assert_sound();
    }

    fn and(mut self, other: Self) -> Self {
        self.sent += other.sent;
        self.replied += other.replied;
        other
            .refused
            .into_iter()
            .for_each(|(code, count)| *self.refused.entry(code).or_default() += count);
        other
            .broken
            .into_iter()
            .for_each(|(code, count)| *self.broken.entry(code).or_default() += count);
        self.unanswered.extend(other.unanswered);
        self.answered_twice.extend(other.answered_twice);
        self.strayed.extend(other.strayed);
        self
    }
}

/// What one connection does.
struct Share {
    load: Load,
    number: usize,
    deadline: Instant,
    answered: Arc<AtomicUsize>,
    enough: Arc<AtomicBool>,
}

impl Share {
    async fn run(self) -> Tally {
        let mut tally = Tally::default();
        let connection = format!("c{}", self.number);
        let token = Claims::of(&self.load.token);
        let mut asked = BTreeSet::new();
        let target = self.load.targets[self.number % self.load.targets.len()];
        let mut client = Client::to_address(target)
            .open()
            .await
            .expect("the terminator accepts the connection");
        self.load.history.note(Event::Opened {
            connection: connection.clone(),
            subject: token.subject,
            ordered: self.load.ordered,
        });
        let mut answered_first = None;
        loop {
            while self.has_more(&tally) && self.is_due(&tally, answered_first) {
                let id = format!("{connection}-{}", tally.sent);
                let payload = json!({"of": connection, "id": id});
                let message = json!({"id": id, "type": self.load.kind, "token": self.load.token, "payload": payload});
                self.load.history.note(Event::Sent {
                    connection: connection.clone(),
                    id: id.clone(),
                    until_ms: token.until_ms,
                });
                tally.sent += 1;
                asked.insert(id.clone());
                tally.unanswered.insert(id);
                // A broken connection shows in the next read.
                let _ = client.send(message.to_string().into()).await;
            }
            let now = Instant::now();
            let goes_on = self.has_more(&tally) && now < self.deadline;
            let until = match self.next_at(&tally, answered_first) {
                Some(next) if goes_on => next.min(self.deadline),
                _ if tally.unanswered.is_empty() => now + LISTEN_AFTER,
                _ => self.deadline,
            };
            match client.next(until.saturating_duration_since(now).max(1.ms())).await {
                Some(Received::Json(message)) => {
                    self.note(&mut tally, &asked, &message);
                    self.load.history.note(Event::Heard {
                        connection: connection.clone(),
                        message,
                    });
                    if tally.unanswered.is_empty() {
                        answered_first.get_or_insert_with(Instant::now);
                    }
                }
                Some(Received::Closed(reason)) => {
                    let code = reason.map_or(0, |(code, _)| code);
                    *tally.broken.entry(code).or_default() += 1;
                    self.load.history.note(Event::Closed { connection, code });
                    return tally;
                }
                None if goes_on => {}
                None => return tally,
            }
        }
    }

    /// Whether it is time for another message.
    fn is_due(&self, tally: &Tally, answered_first: Option<Instant>) -> bool {
        match self.next_at(tally, answered_first) {
            Some(next) => next <= Instant::now(),
            None => tally.unanswered.len() < self.load.in_flight,
        }
    }

    /// When the next message is sent, where that goes by the clock.
    fn next_at(&self, tally: &Tally, answered_first: Option<Instant>) -> Option<Instant> {
        let per_second = f64::from(self.load.per_second?) / self.load.connections as f64;
        Some(match answered_first {
            Some(since) => since + Duration::from_secs_f64(tally.sent as f64 / per_second),
            None if tally.sent == 0 => Instant::now(),
            None => self.deadline,
        })
    }

    fn has_more(&self, tally: &Tally) -> bool {
        tally.sent < self.load.messages && !self.enough.load(Ordering::Relaxed)
    }

    fn note(&self, tally: &mut Tally, asked: &BTreeSet<String>, message: &Value) {
        // What has no id of ours is no answer: a push, a notice.
        let (Some(id), Some("reply" | "error")) = (message["id"].as_str(), message["type"].as_str()) else {
            return;
        };
        if !asked.contains(id) {
            tally.strayed.insert(id.to_owned());
        } else if !tally.unanswered.remove(id) {
            tally.answered_twice.insert(id.to_owned());
        } else {
            self.answered.fetch_add(1, Ordering::Relaxed);
            match message["error"]["code"].as_str() {
                Some(code) => *tally.refused.entry(code.to_owned()).or_default() += 1,
                None => tally.replied += 1,
            }
        }
    }
}

/// What a history needs of a token; of what is none, nothing.
struct Claims {
    subject: String,
    until_ms: Option<u64>,
}

impl Claims {
    fn of(token: &str) -> Self {
        let payload = token
            .split('.')
            .nth(1)
            .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims: Value = payload
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default();
        Self {
            subject: claims["sub"].as_str().unwrap_or_default().to_owned(),
            until_ms: claims["exp"].as_u64().map(|seconds| seconds * 1_000),
        }
    }
}
