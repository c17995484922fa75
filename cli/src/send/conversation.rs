//! One connection: what is said, what comes back, and how it ends.

use std::collections::HashSet;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, value::RawValue};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{close_meaning, notice};
use crate::support::message::{Answer, ClientMessage, MessageArgs};
use crate::support::print;
use crate::support::ws::Socket;

/// For the server's half of a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The `id` of the message that authenticates the connection.
const AUTHENTICATION: &str = "authenticate";

/// A connection, and what is still to come on it.
pub(super) struct Conversation {
    socket: Socket,
    template: MessageArgs,
    timeout: Duration,
    sent: u64,
    /// Messages without an answer. Bounded by what a person or a file says until its end.
    waiting: HashSet<String>,
    refused: bool,
    open: bool,
}

enum Event {
    Line(io::Result<String>),
    LinesEnd,
    Frame(Message),
    ConnectionEnd,
    TooLate,
}

impl Conversation {
    pub(super) fn new(socket: Socket, template: MessageArgs, timeout: Duration) -> Self {
        Self {
            socket,
            template,
            timeout,
            sent: 0,
            waiting: HashSet::new(),
            refused: false,
            open: true,
        }
    }

    /// Sends the token on its own, for all that follows. What follows need not wait for the answer: the server reads in
    /// order.
    pub(super) async fn authenticate(&mut self, token: &str) -> anyhow::Result<()> {
        let message = ClientMessage::<()> {
            id: Some(AUTHENTICATION),
            kind: "auth.authenticate",
            token: Some(token),
            payload: None,
        };
        self.send(message.to_json(), Some(AUTHENTICATION.to_owned())).await
    }

    /// Sends the one message, and waits for its answer.
    pub(super) async fn one(&mut self) -> anyhow::Result<()> {
        let id = self
            .template
            .id
            .clone()
            .unwrap_or_else(|| format!("{:08x}", rand::random::<u32>()));
        let text = self.template.message(Some(&id));
        self.send(text, Some(id)).await?;
        let deadline = Instant::now() + self.timeout;
        self.converse(None, Some(deadline)).await
    }

    /// Sends each line, and prints whatever comes.
    pub(super) async fn interactive(&mut self, lines: mpsc::Receiver<io::Result<String>>) -> anyhow::Result<()> {
        self.converse(Some(lines), None).await
    }

    /// 0 all were answered without error, 1 some were refused, 2 some were not answered.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match (self.waiting.is_empty(), self.refused) {
            (true, false) => 0,
            (true, true) => 1,
            (false, _) => 2,
        })
    }

    /// Until the lines have ended and all are answered, or the connection or the patience ends.
    async fn converse(
        &mut self,
        mut lines: Option<mpsc::Receiver<io::Result<String>>>,
        mut deadline: Option<Instant>,
    ) -> anyhow::Result<()> {
        while self.open && (lines.is_some() || !self.waiting.is_empty()) {
            match self.next_event(&mut lines, deadline).await? {
                Event::Line(line) => self.say(&line.context("cannot read standard input")?).await?,
                Event::LinesEnd => {
                    lines = None;
                    deadline = Some(Instant::now() + self.timeout);
                }
                Event::Frame(frame) => self.hear(frame),
                Event::ConnectionEnd => {
                    print::note("the connection ended without a close frame");
                    self.open = false;
                }
                Event::TooLate => {
                    print::note(&format!("{} without an answer in time", self.waiting.len()));
                    break;
                }
            }
        }
        self.close().await;
        Ok(())
    }

    async fn next_event(
        &mut self,
        lines: &mut Option<mpsc::Receiver<io::Result<String>>>,
        deadline: Option<Instant>,
    ) -> anyhow::Result<Event> {
        Ok(tokio::select! {
            frame = self.socket.next() => match frame {
                Some(frame) => Event::Frame(frame.context("the connection broke")?),
                None => Event::ConnectionEnd,
            },
            line = async { match lines {
                Some(lines) => lines.recv().await,
                None => std::future::pending().await,
            } } => line.map_or(Event::LinesEnd, Event::Line),
            () = async { match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            } } => Event::TooLate,
        })
    }

    /// Sends a line: a whole message if it is one, else a payload.
    async fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let json: Value = match serde_json::from_str(line) {
            Ok(json) => json,
            Err(error) => {
                print::note(&format!("not sent, it is not JSON: {error}"));
                return Ok(());
            }
        };
        if json.get("type").is_some_and(Value::is_string) {
            let id = json.get("id").and_then(Value::as_str).map(str::to_owned);
            return self.send(line.to_owned(), id).await;
        }
        let id = (self.sent + 1).to_string();
        let payload: &RawValue = serde_json::from_str(line)?;
        let text = self.template.with_payload(Some(&id), Some(payload));
        self.send(text, Some(id)).await
    }

    async fn send(&mut self, text: String, id: Option<String>) -> anyhow::Result<()> {
        self.sent += 1;
        self.waiting.extend(id);
        self.socket
            .send(Message::text(text))
            .await
            .context("the connection broke")
    }

    fn hear(&mut self, frame: Message) {
        match frame {
            Message::Text(text) => {
                print::line(&text);
                if let Some(meaning) = notice::of(&text) {
                    print::note(&format!("  {meaning}"));
                }
                let Some(answer) = Answer::read(text.as_bytes()) else {
                    return;
                };
                self.refused |= answer.is_refusal();
                if let Some(id) = &answer.id {
                    self.waiting.remove(id.as_ref());
                }
            }
            Message::Binary(bytes) => print::note(&format!("a binary frame of {} bytes", bytes.len())),
            Message::Close(frame) => {
                let code = frame.as_ref().map_or(1005, |frame| frame.code.into());
                let reason = frame.as_ref().map_or("", |frame| frame.reason.as_str());
                print::note(&format!("closed with {code} {reason:?}: {}", close_meaning::of(code)));
                self.open = false;
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }

    async fn close(&mut self) {
        if !self.open {
            return;
        }
        let frame = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let close = async {
            if self.socket.close(Some(frame)).await.is_ok() {
                while let Some(Ok(_)) = self.socket.next().await {}
            }
        };
        // All that was wanted has come; how the server takes its leave matters no more.
        let _ = timeout(CLOSE_TIMEOUT, close).await;
    }
}
