//! One client, through all its connections.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

use super::{Targets, end_of, subject};
use crate::history::{Event, History, now_ms};
use crate::peers::client::{Client, Received};
use crate::tokens::token::token_for;
use crate::wait::Span;

/// How long a token lives: through any drill's fault.
const LIFETIME: Duration = Duration::from_secs(900);
/// A client that was refused or lost its connection comes back after this.
const RECONNECT_PAUSE: Duration = Duration::from_millis(300);

/// A connection, and the key to what it is owed.
struct Left {
    connection: String,
    key: String,
}

pub(super) struct Seat {
    pub(super) number: usize,
    pub(super) targets: Targets,
    pub(super) history: History,
    /// Between two messages.
    pub(super) period: Duration,
    /// How long it keeps a connection, if it is restless.
    pub(super) life: Option<Duration>,
    /// Whether it shows the key of the connection that it has lost.
    pub(super) resumes: bool,
    pub(super) ending: watch::Receiver<Option<Instant>>,
}

impl Seat {
    pub(super) async fn run(mut self) {
        let mut left = None;
        // They do not all send at the same moment.
        sleep(self.period.mul_f64(rand::random())).await;
        for life in 0_usize.. {
            if end_of(&self.ending).is_some() {
                return;
            }
            let target = self.targets.of(self.number + life);
            let client = match target {
                Some(target) => Client::to_address(target).attempt().await.ok(),
                None => None,
            };
            if let Some(client) = client
                && self.live(client, life, &mut left).await
            {
                return;
            }
            sleep(RECONNECT_PAUSE).await;
        }
    }

    /// One connection. Tells whether all is over. `left` is the last connection of which it has the key; it shows that key, if it
    /// is one of those that do.
    async fn live(&mut self, mut client: Client, life: usize, left: &mut Option<Left>) -> bool {
        let connection = &format!("c{}.{life}", self.number);
        let subject = subject(self.number);
        self.history.note(Event::Opened {
            connection: connection.to_owned(),
            subject: subject.clone(),
            ordered: true,
        });
        let token = token_for(&subject).expiring_in(LIFETIME).mint();
        let until_ms = now_ms() + u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let leaves = self.life.map(|life| Instant::now() + life);
        let mut open = BTreeSet::new();
        if let Some(Left { connection: of, key }) = left.take().filter(|_| self.resumes) {
            self.history.note(Event::Resumed {
                connection: connection.to_owned(),
                of,
            });
            let id = format!("{life}-in");
            let message = json!({"id": id, "type": "auth.authenticate", "token": token, "payload": {"resume": key}});
            self.send(&mut client, connection, until_ms, id, &message, &mut open)
                .await;
        }
        let mut tick = interval(self.period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 0_u64.. {
            let mut ticked = false;
            while !ticked {
                let end = end_of(&self.ending);
                if end.is_some_and(|end| open.is_empty() || Instant::now() >= end) {
                    return true;
                }
                let leave = leaves.filter(|_| end.is_none());
                tokio::select! {
                    _ = tick.tick() => ticked = end.is_none(),
                    came = client.next(Duration::MAX) => match came {
                        Some(Received::Json(message)) => self.heard(connection, message, &mut open, left),
                        Some(Received::Closed(reason)) => {
                            self.closed(connection, reason.map_or(0, |(code, _)| code));
                            return false;
                        }
                        None => {}
                    },
                    () = sleep_until(leave.unwrap_or_else(Instant::now)), if leave.is_some() => {
                        self.closed(connection, 0);
                        client.close().await;
                        return false;
                    }
                    _ = self.ending.changed(), if end.is_none() => {}
                    () = sleep(200.ms()), if end.is_some() => {}
                }
            }
            let id = format!("{life}-{number}");
            let kind = if number % 2 == 0 { "echo" } else { "whoami" };
            let message = json!({"id": id, "type": kind, "token": token, "payload": {"of": connection, "id": id}});
            self.send(&mut client, connection, until_ms, id, &message, &mut open)
                .await;
        }
        unreachable!("numbers do not end")
    }

    async fn send(
        &self,
        client: &mut Client,
        connection: &str,
        until_ms: u64,
        id: String,
        message: &Value,
        open: &mut BTreeSet<String>,
    ) {
        self.history.note(Event::Sent {
            connection: connection.to_owned(),
            id: id.clone(),
            until_ms: Some(until_ms),
        });
        open.insert(id);
        // A connection that is broken shows in the next read.
        let _ = client.send(message.to_string().into()).await;
    }

    fn heard(&self, connection: &str, message: Value, open: &mut BTreeSet<String>, left: &mut Option<Left>) {
        if let Some(id) = message["id"].as_str() {
            open.remove(id);
        }
        if let Some(key) = message["auth"]["resume"].as_str() {
            *left = Some(Left {
                connection: connection.to_owned(),
                key: key.to_owned(),
            });
        }
        self.history.note(Event::Heard {
            connection: connection.to_owned(),
            message,
        });
    }

    fn closed(&self, connection: &str, code: u16) {
        self.history.note(Event::Closed {
            connection: connection.to_owned(),
            code,
        });
    }
}
