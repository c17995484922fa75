//! How long after its end something was still written to a socket (P4).

use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::task::JoinHandle;

use crate::peers::client::{Client, Received};

/// What a reader saw of its connection's pushes.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// The pushes, with the moment at which each arrived.
    pub pushes: Vec<(SystemTime, Value)>,
    /// When a fresh token was first asked for because of an expiry.
    pub asked: Option<SystemTime>,
    /// How the connection ended, and when, if it has.
    pub closed: Option<(SystemTime, Option<u16>)>,
}

impl Seen {
    /// How long after `end` the last push arrived; none if none did after it.
    #[must_use]
    pub fn lateness(&self, end: SystemTime) -> Duration {
        let late = |(arrived, _): &(SystemTime, Value)| arrived.duration_since(end).ok();
        self.pushes.iter().filter_map(late).max().unwrap_or_default()
    }

    /// The pushes that arrived before `end`.
    #[must_use]
    pub fn in_time(&self, end: SystemTime) -> usize {
        self.pushes.iter().filter(|(arrived, _)| *arrived < end).count()
    }
}

/// A client that reads in the background, so that each arrival is noticed at once.
#[derive(Debug)]
pub struct Reader {
    task: JoinHandle<(Client, Seen)>,
    stop: tokio::sync::oneshot::Sender<()>,
}

impl Reader {
    /// Reads from now on.
    #[must_use]
    pub fn start(mut client: Client) -> Self {
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut seen = Seen::default();
            loop {
                let came = tokio::select! {
                    came = client.next(Duration::MAX) => came,
                    _ = &mut stopped => break,
                };
                if !note(&mut seen, came) {
                    break;
                }
            }
            (client, seen)
        });
        Self { task, stop }
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// What was seen until now, and the client.
    ///
    /// # Panics
    /// If what came was not what a server may send.
    pub async fn stop(self) -> (Client, Seen) {
        // One that has ended does not listen.
        let _ = self.stop.send(());
        self.task.await.expect("a sound reader")
    }
}

fn note(seen: &mut Seen, came: Option<Received>) -> bool {
    let now = SystemTime::now();
    match came {
        Some(Received::Json(message)) if message["type"] == "push" => {
            seen.pushes.push((now, message["payload"].clone()));
        }
        Some(Received::Json(message)) if message["reason"] == "expired" => {
            seen.asked.get_or_insert(now);
        }
        Some(Received::Json(_)) | None => {}
        Some(Received::Closed(reason)) => {
            seen.closed = Some((now, reason.map(|(code, _)| code)));
            return false;
        }
    }
    true
}
