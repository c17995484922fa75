//! Pushes: from a producer's confirm channel to the sockets of those that they are for.
//!
//! So many pushes are on their way at a time; the next goes when one has come to all who are to get it. The producer is
//! no one special, and asks for no outcome.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::future::{join_all, select};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use shared::bus::topology::{Names, Topology, keys};
use shared::bus::{Bus as _, Message as Amqp, Properties, Publication, PublishTimeout, Publisher, Route, Value};
use shared::service::chance;
use shared::service::clock::{Clock as _, SystemClock};
use shared::wire::envelope::JSON;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::Target;
use super::fleet::{Auth, OPENING, authenticate};
use super::measure::{self, Figures, Latencies, Phase, Phases, round};
use super::options::BenchArgs;
use super::table::cpu_columns;
use crate::support::broker;
use crate::support::message::Answer;
use crate::support::ws::{self, Socket};

/// For the last frames: as long as a person would wait.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Of what a socket may have waiting (512 texts) no connection of an identity comes near the end.
const MOST_TO_ONE_IDENTITY: usize = 256;
/// So many subjects may be named in one message.
const MOST_SUBJECTS: usize = 1_000;

/// Whom the pushes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spread {
    /// One identity that all connections are authenticated as.
    OneIdentity,
    /// As many identities as connections, by turns.
    OneEach,
    /// As many identities as connections, all of them named in each message: it is a push to each.
    Named,
}

/// What was measured of each.
#[derive(Debug, Serialize)]
pub(crate) struct Pushes {
    one_identity: Row,
    one_each: Row,
    /// None if there are more connections than a message may name subjects.
    named: Option<Row>,
}

/// One way to push.
#[derive(Debug, Serialize)]
struct Row {
    connections: usize,
    pushes_per_s: f64,
    frames_per_s: f64,
    /// From the push's publication to its frame.
    p50_us: u64,
    p99_us: u64,
    lost: u64,
    duplicated: u64,
    refused: u64,
    /// Per push.
    cpu_us: BTreeMap<String, Option<f64>>,
}

impl Pushes {
    /// To one identity with all connections, and to as many identities with one each, one by one and by the header `subjects`.
    ///
    /// # Errors
    /// If a connection cannot be opened, or the broker is not there.
    pub(super) async fn measure(args: &BenchArgs, target: &Target, namespace: &str) -> anyhow::Result<Self> {
        Ok(Self {
            one_identity: Row::measure(args, target, namespace, Spread::OneIdentity).await?,
            one_each: Row::measure(args, target, namespace, Spread::OneEach).await?,
            named: match args.connections() {
                ..=MOST_SUBJECTS => Some(Row::measure(args, target, namespace, Spread::Named).await?),
                _ => None,
            },
        })
    }

    pub(super) fn is_clean(&self) -> bool {
        self.rows()
            .all(|(_, row)| row.lost + row.duplicated + row.refused == 0 && row.frames_per_s > 0.0)
    }

    fn rows(&self) -> impl Iterator<Item = (&'static str, &Row)> {
        let named = self.named.iter().map(|row| ("to many by one message", row));
        [("to one identity", &self.one_identity), ("to one each", &self.one_each)]
            .into_iter()
            .chain(named)
    }
}

impl Row {
    async fn measure(args: &BenchArgs, target: &Target, namespace: &str, spread: Spread) -> anyhow::Result<Self> {
        let connections = args.connections();
        let subjects = subjects(spread, connections);
        // To how many connections a message goes, and how many of them are one push's.
        let (to, each) = match spread {
            Spread::OneIdentity => (connections, connections),
            Spread::OneEach => (1, 1),
            Spread::Named => (connections, 1),
        };
        let lifetime = args.plan(Auth::Explicit).token_lifetime;
        let sockets = open(target, &subjects, connections, lifetime).await?;
        let bus = broker::connect(broker::at(args.amqp_url())?, Topology::default()).await?;
        let board = Rc::new(Board {
            each: u32::try_from(to).unwrap_or(u32::MAX),
            most: match spread {
                Spread::OneIdentity | Spread::Named => args.total_in_flight().min(MOST_TO_ONE_IDENTITY),
                Spread::OneEach => args.total_in_flight(),
            },
            ..Board::default()
        });
        let producer = Producer {
            publisher: bus.publisher(PublishTimeout::Endless),
            route: Route::new(&Names::new(namespace).exchange().name, keys::PUSH),
            payload: serde_json::to_vec(&"x".repeat(args.size))?.into(),
            addressees: match spread {
                Spread::Named => vec![("subjects", serde_json::to_string(&subjects)?)],
                _ => subjects.into_iter().map(|subject| ("subject", subject)).collect(),
            },
        };
        let load = async |phases: Phases, latencies: Rc<Latencies>| {
            let readers = join_all(sockets.into_iter().map(|socket| read(socket, &board, &latencies)));
            let pushing = std::pin::pin!(push(producer, &board, phases));
            // Readers end when their connections do, which should not be before all is pushed.
            select(pushing, readers).await;
            Ok(())
        };
        let (figures, ()) = measure::slice(args.slice(), &target.processes, load).await?;
        broker::hang_up(&bus).await;
        Ok(Self::new(connections, each, &figures, &board))
    }

    fn new(connections: usize, each: usize, figures: &Figures, board: &Board) -> Self {
        let per_push = |us: Option<f64>| us.map(|us| round(us * each as f64));
        Self {
            connections,
            pushes_per_s: round(figures.rate() / each.max(1) as f64),
            frames_per_s: round(figures.rate()),
            p50_us: figures.histogram.value_at_quantile(0.5),
            p99_us: figures.histogram.value_at_quantile(0.99),
            lost: board.missing(),
            duplicated: board.duplicated.get(),
            refused: board.refused.get(),
            cpu_us: figures
                .cpu_us_per_message()
                .into_iter()
                .map(|(name, us)| (name, per_push(us)))
                .collect(),
        }
    }
}

fn subjects(spread: Spread, connections: usize) -> Vec<String> {
    // What is still on its way to another fleet's is not for this one.
    let fleet = chance::number();
    let count = match spread {
        Spread::OneIdentity => 1,
        Spread::OneEach | Spread::Named => connections,
    };
    (0..count).map(|number| format!("p{fleet:016x}-{number}")).collect()
}

async fn open(
    target: &Target,
    subjects: &[String],
    connections: usize,
    lifetime: Duration,
) -> anyhow::Result<Vec<Socket>> {
    let of_all = subjects.iter().cycle().take(connections);
    let sockets = stream::iter(of_all).map(|subject| async move {
        let token = target.signer.token(subject, SystemClock.now(), lifetime, &[])?;
        let mut socket = ws::connect(&target.url, None).await?;
        authenticate(&mut socket, &token).await?;
        anyhow::Ok(socket)
    });
    sockets.buffer_unordered(OPENING).try_collect().await
}

/// What is on its way.
#[derive(Default)]
struct Board {
    /// To how many connections a push goes.
    each: u32,
    /// How many pushes may be under way.
    most: usize,
    under_way: RefCell<HashMap<u64, Sent>>,
    room: Notify,
    duplicated: Cell<u64>,
    refused: Rc<Cell<u64>>,
}

struct Sent {
    at: Instant,
    left: u32,
}

impl Board {
    fn has_room(&self) -> bool {
        self.under_way.borrow().len() < self.most
    }

    fn sent(&self, number: u64) {
        let sent = Sent {
            at: Instant::now(),
            left: self.each,
        };
        self.under_way.borrow_mut().insert(number, sent);
    }

    /// A frame has come: how long that took, if it was still to come.
    fn came(&self, number: u64) -> Option<Duration> {
        let mut under_way = self.under_way.borrow_mut();
        let Some(sent) = under_way.get_mut(&number) else {
            self.duplicated.set(self.duplicated.get() + 1);
            return None;
        };
        sent.left -= 1;
        let took = sent.at.elapsed();
        if sent.left == 0 {
            under_way.remove(&number);
            self.room.notify_one();
        }
        Some(took)
    }

    /// How many frames did not come.
    fn missing(&self) -> u64 {
        self.under_way.borrow().values().map(|sent| u64::from(sent.left)).sum()
    }
}

struct Producer {
    publisher: Publisher,
    route: Route,
    payload: bytes::Bytes,
    /// By which header, and for whom: by turns.
    addressees: Vec<(&'static str, String)>,
}

impl Producer {
    fn publication(&self, number: u64) -> Publication {
        let place = usize::try_from(number).unwrap_or_default() % self.addressees.len().max(1);
        let (header, subject) = self.addressees.get(place).cloned().unwrap_or_default();
        Publication {
            route: self.route.clone(),
            message: Amqp {
                body: self.payload.clone(),
                properties: Properties {
                    content_type: Some(JSON.to_owned()),
                    message_id: Some(number.to_string()),
                    headers: vec![(header.to_owned(), Value::Text(subject))],
                    ..Properties::default()
                },
            },
            // What is not taken does not come, and is told as lost.
            receipt: Box::new(|_| {}),
        }
    }
}

/// Keeps the pushes coming until the phase says drain, and waits for the last frames.
async fn push(producer: Producer, board: &Board, mut phases: Phases) {
    let mut number = 0;
    while phases.now() != Phase::Drain {
        while board.has_room() {
            board.sent(number);
            producer.publisher.submit(producer.publication(number)).await;
            number += 1;
        }
        tokio::select! {
            () = board.room.notified() => {}
            _ = phases.changes.changed() => {}
        }
    }
    let drained = async {
        while board.missing() > 0 {
            board.room.notified().await;
        }
    };
    // What has not come by then is lost.
    let _ = timeout(DRAIN_TIMEOUT, drained).await;
}

async fn read(mut socket: Socket, board: &Board, latencies: &Latencies) -> anyhow::Result<()> {
    let mut last = None;
    while let Some(frame) = socket.next().await {
        let Message::Text(text) = frame.context("the terminator closed the connection")? else {
            continue;
        };
        let Some(answer) = Answer::read(text.as_bytes()) else {
            continue;
        };
        let number = answer.id.as_ref().and_then(|id| id.parse().ok());
        match number {
            Some(number) if answer.kind == "push" && last < Some(number) => {
                last = Some(number);
                if let Some(took) = board.came(number) {
                    latencies.answered(took);
                }
            }
            // All that is for one connection comes in its order: this one has come before.
            Some(_) if answer.kind == "push" => board.duplicated.set(board.duplicated.get() + 1),
            _ if answer.is_refusal() => board.refused.set(board.refused.get() + 1),
            _ => {}
        }
    }
    bail!("it ended")
}

impl fmt::Display for Pushes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<33} {:>10} {:>10} {:>10} {:>10}  CPU µs per push",
            "pushes", "pushes/s", "frames/s", "p50 ms", "p99 ms"
        )?;
        for (what, row) in self.rows() {
            let (p50_ms, p99_ms) = (row.p50_us as f64 / 1_000.0, row.p99_us as f64 / 1_000.0);
            let what = format!("{what}, {} open", row.connections);
            writeln!(
                f,
                "{what:<33} {:>10.0} {:>10.0} {p50_ms:>10.2} {p99_ms:>10.2}  {}; lost {}, duplicated {}",
                row.pushes_per_s,
                row.frames_per_s,
                cpu_columns(&row.cpu_us),
                row.lost,
                row.duplicated
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_is_under_way_until_all_of_its_connections_have_it() {
        let board = Board {
            each: 2,
            most: 1,
            ..Board::default()
        };
        board.sent(7);
        assert!(!board.has_room());
        assert!(board.came(7).is_some());
        assert_eq!(board.missing(), 1);
        assert!(board.came(7).is_some());
        assert!(board.has_room());
        assert!(board.came(7).is_none());
        assert_eq!((board.missing(), board.duplicated.get()), (0, 1));
    }

    #[test]
    fn pushes_are_for_one_identity_or_for_one_each() {
        assert_eq!(subjects(Spread::OneIdentity, 50).len(), 1);
        for spread in [Spread::OneEach, Spread::Named] {
            let each = subjects(spread, 50);
            assert_eq!(each.iter().collect::<std::collections::HashSet<_>>().len(), 50);
        }
    }
}
