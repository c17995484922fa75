//! One client under load.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::time::{sleep_until, timeout_at};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::window::Window;
use super::{Losses, Plan};
use crate::bench::measure::{Latencies, Phase, Phases};
use crate::support::message::Answer;
use crate::support::ws::Socket;

/// For the last answers: as long as a person would wait.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// When messages are due.
#[derive(Debug)]
pub(super) enum Pace {
    /// As soon as there is room: each answer makes some.
    Closed,
    /// One every `interval`, the first after `offset`, whether answers come or not.
    Open { interval: Duration, offset: Duration },
}

impl Pace {
    /// Of client `number`: the clients take turns.
    pub(super) fn new(plan: &Plan, number: usize) -> Self {
        match plan.rate {
            None => Self::Closed,
            Some(rate) => {
                let turn = Duration::from_secs_f64(1.0 / rate);
                Self::Open {
                    interval: turn.mul_f64(plan.connections as f64),
                    offset: turn.mul_f64(number as f64),
                }
            }
        }
    }

    /// When message `number` is due; none if at once.
    fn due(&self, began: Instant, number: u64) -> Option<Instant> {
        match self {
            Self::Closed => None,
            Self::Open { interval, offset } => Some(began + *offset + interval.mul_f64(number as f64)),
        }
    }
}

/// A connection that sends and counts.
pub(super) struct Client {
    socket: Socket,
    /// What stands behind a message's id.
    tail: String,
    in_flight: usize,
    pace: Pace,
    window: Window,
    sent: u64,
    losses: Losses,
}

impl Client {
    pub(super) fn new(socket: Socket, token: Option<&str>, plan: &Plan, pace: Pace) -> Self {
        Self {
            socket,
            tail: tail(token, plan.size),
            in_flight: plan.in_flight,
            pace,
            window: Window::default(),
            sent: 0,
            losses: Losses::default(),
        }
    }

    /// Sends until the phase says drain, and waits for the last answers. Tells what was lost, and why the connection
    /// did not last if it did not.
    pub(super) async fn run(mut self, phases: Phases, latencies: Rc<Latencies>) -> (Losses, Option<anyhow::Error>) {
        let outcome = self.converse(phases, &latencies).await;
        self.losses.lost += self.window.waiting() as u64;
        self.losses.closed += u64::from(outcome.is_err());
        if outcome.is_ok() {
            // All has been counted; how the server takes its leave matters no more.
            let _ = self.socket.close(None).await;
        }
        (self.losses, outcome.err())
    }

    async fn converse(&mut self, mut phases: Phases, latencies: &Latencies) -> anyhow::Result<()> {
        let began = Instant::now();
        while phases.now() != Phase::Drain {
            let due = self.send_due(began).await?;
            tokio::select! {
                frame = self.socket.next() => self.hear(frame, latencies)?,
                _ = phases.changes.changed() => {}
                () = async { match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                } } => {}
            }
        }
        let deadline = tokio::time::Instant::now() + DRAIN_TIMEOUT;
        while self.window.waiting() > 0 {
            match timeout_at(deadline, self.socket.next()).await {
                Ok(frame) => self.hear(frame, latencies)?,
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Sends all that is due and has room. Tells when the next one is due, if time is what it waits for.
    async fn send_due(&mut self, began: Instant) -> anyhow::Result<Option<Instant>> {
        let before = self.sent;
        let mut next = None;
        let now = Instant::now();
        while self.window.waiting() < self.in_flight {
            let due = self.pace.due(began, self.sent);
            if due.is_some_and(|due| due > now) {
                next = due;
                break;
            }
            // From when it was due, not from when it could be sent: a stall counts for all that it holds up.
            let number = self.window.send(due.unwrap_or(now));
            let message = format!("{{\"id\":\"{number}\",{}", self.tail);
            self.sent += 1;
            self.socket.feed(Message::text(message)).await.context("cannot send")?;
        }
        if self.sent > before {
            self.socket.flush().await.context("cannot send")?;
        }
        Ok(next)
    }

    /// Takes a frame, and all that have come with it.
    fn hear(&mut self, frame: Option<Result<Message, Error>>, latencies: &Latencies) -> anyhow::Result<()> {
        let mut next = Some(frame);
        while let Some(frame) = next {
            match frame {
                Some(Ok(Message::Text(text))) => self.count(text.as_bytes(), latencies),
                Some(Ok(Message::Close(frame))) => bail!("the server closed it: {frame:?}"),
                // tungstenite answers a ping with the next flush.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("it ended without a close frame"),
            }
            next = self.socket.next().now_or_never();
        }
        Ok(())
    }

    fn count(&mut self, text: &[u8], latencies: &Latencies) {
        // What is no answer to a message is none of our business: `auth.ok` on its own.
        let Some(answer) = Answer::read(text) else { return };
        let Some(id) = &answer.id else {
            self.losses.refused += u64::from(answer.is_refusal());
            return;
        };
        match id.parse().ok().and_then(|number| self.window.answer(number)) {
            None => self.losses.duplicated += 1,
            Some(_) if answer.is_refusal() => self.losses.refused += 1,
            Some(since) => latencies.answered(since.elapsed()),
        }
    }
}

/// All of a message behind its id, so long that the whole has `size` bytes with a number of six digits.
fn tail(token: Option<&str>, size: usize) -> String {
    let token = token.map_or_else(String::new, |token| format!("\"token\":\"{token}\","));
    let before = format!("\"type\":\"echo\",{token}\"payload\":\"");
    let head = "{\"id\":\"123456\",".len();
    let padding = size.saturating_sub(head + before.len() + "\"}".len());
    format!("{before}{}\"}}", "x".repeat(padding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::fleet::Auth;

    #[test]
    fn a_message_has_the_size_that_was_asked_for_and_is_one() {
        let message = format!("{{\"id\":\"123456\",{}", tail(Some("a.b.c"), 256));
        assert_eq!(message.len(), 256);
        let json: serde_json::Value = serde_json::from_str(&message).unwrap();
        assert_eq!((&json["id"], &json["token"]), (&"123456".into(), &"a.b.c".into()));
    }

    #[test]
    fn a_message_without_a_token_is_as_long_as_one_with_it() {
        let message = format!("{{\"id\":\"123456\",{}", tail(None, 256));
        assert_eq!(message.len(), 256);
        let json: serde_json::Value = serde_json::from_str(&message).unwrap();
        assert!(json.get("token").is_none());
    }

    #[test]
    fn a_token_longer_than_the_message_is_not_cut() {
        let message = format!("{{\"id\":\"1\",{}", tail(Some(&"t".repeat(300)), 256));
        let json: serde_json::Value = serde_json::from_str(&message).unwrap();
        assert_eq!(
            (json["token"].as_str().unwrap().len(), &json["payload"]),
            (300, &"".into())
        );
    }

    #[test]
    fn clients_take_turns_at_the_rate_of_all() {
        let plan = Plan {
            auth: Auth::PerMessage,
            connections: 4,
            in_flight: 1,
            size: 1,
            rate: Some(1_000.0),
            token_lifetime: Duration::ZERO,
        };
        let began = Instant::now();
        let due = |client, number| Pace::new(&plan, client).due(began, number).map(|due| due - began);
        assert_eq!(due(0, 0), Some(Duration::ZERO));
        assert_eq!(due(3, 0), Some(Duration::from_millis(3)));
        assert_eq!(due(0, 5), Some(Duration::from_millis(20)));
    }
}
