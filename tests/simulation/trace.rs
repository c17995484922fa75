//! All that could be seen from outside, in its order: what the oracle judges, and what makes two runs the same.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use serde_json::Value as Json;

use crate::parts::clock::SimClock;
use crate::parts::jumps::Jump;
use crate::parts::losing::Loss;
use crate::parts::token::{Roles, Token};
use crate::scenario::Kind;

/// A client's socket; counts all of a simulation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Socket(pub(crate) usize);

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "socket {}", self.0)
    }
}

/// How a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// We closed it with this code.
    Server(u16),
    /// Its client left.
    Client,
    /// Its terminator died.
    Crash,
}

/// What an operator revokes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// All tokens of a subject.
    Subject(&'static str),
    /// The token of that `jti`.
    Token(String),
}

/// Something that could be seen.
#[expect(dead_code, reason = "some fields are for whoever reads the report")]
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A client has a socket.
    Opened(Socket),
    /// A client wrote a message.
    Sent {
        socket: Socket,
        id: String,
        kind: Kind,
        token: Option<Token>,
        /// By which key it asks for what another connection has left, if it does.
        resumes: Option<String>,
    },
    /// A client read one.
    Received {
        socket: Socket,
        json: Json,
        /// Whether it may have waited until the client read again.
        waited: bool,
    },
    /// A client does not read any more.
    Asleep(Socket),
    /// It reads again.
    Awake(Socket),
    /// A socket ended.
    Closed(Socket, End),
    /// The application was given a message.
    Handled { id: String, subject: String, roles: Roles },
    /// A producer publishes a push.
    Pushing {
        id: String,
        subject: &'static str,
        producer: usize,
    },
    /// A producer was told what became of one.
    Outcome(String, Json),
    /// An operator takes something back.
    Revoking { number: usize, taken: Taken, grace_ms: u64 },
    /// An operator was told that it is revoked.
    Revoked(usize, Json),
    /// Something breaks, or is fixed.
    Fault(String),
    /// A worker dies.
    Killed,
    /// The store loses something that it had acknowledged.
    Lost(Loss),
    /// A terminator's clock is turned.
    Turned(Jump),
    /// All machines wake, which slept for so long.
    Slept { ms: u64 },
    /// From now on nothing breaks.
    Calm,
}

/// Who writes events, and when.
#[derive(Clone)]
pub(crate) struct Trace {
    clock: SimClock,
    events: Arc<Mutex<Vec<(u64, Event)>>>,
}

impl Trace {
    pub(crate) fn new(clock: SimClock) -> Self {
        Self {
            clock,
            events: Arc::default(),
        }
    }

    pub(crate) fn note(&self, event: Event) {
        let now = self.clock.ms();
        if std::env::var_os("SIM_LOG").is_some() {
            // To where the log goes, past what tests capture.
            let _ = writeln!(std::io::stderr(), "{}", Line(&(now, event.clone())));
        }
        self.events.lock().expect("no holder panics").push((now, event));
    }

    /// All events, each with its milliseconds since the beginning.
    pub(crate) fn take(&self) -> Vec<(u64, Event)> {
        std::mem::take(&mut *self.events.lock().expect("no holder panics"))
    }
}

/// Without the token's text, which no one wants to read.
#[derive(Clone, Debug)]
pub(crate) struct Line<'a>(pub(crate) &'a (u64, Event));

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, event) = self.0;
        write!(f, "{at:>7} ms  ")?;
        match event {
            Event::Sent {
                socket,
                id,
                kind,
                token,
                resumes,
            } => {
                write!(f, "{socket:?} sends {id} {kind:?}")?;
                if resumes.is_some() {
                    write!(f, ", resuming")?;
                }
                match token {
                    Some(token) if token.genuine => write!(
                        f,
                        ", {} of {}, {} to {} ms, {:?}",
                        token.jti, token.subject, token.issued_ms, token.expires_ms, token.roles
                    ),
                    Some(_) => write!(f, ", a forgery"),
                    None => Ok(()),
                }
            }
            Event::Received { socket, json, waited } => {
                let late = if *waited { " late" } else { "" };
                write!(f, "{socket:?} reads{late} {json}")
            }
            other => write!(f, "{other:?}"),
        }
    }
}

/// A number that two traces have in common only if they are the same.
pub(crate) fn digest(trace: &[(u64, Event)]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for event in trace {
        Line(event).to_string().hash(&mut hasher);
    }
    hasher.finish()
}
