//! What clients and producers sent and heard, line by line, and a judge who reads it.
//!
//! Anyone who drives a stack writes down each thing as it happens ([`History`]): one JSON object a line, on disk, so that a
//! run can be judged again by a better judge (`judge-history`). The judge ([`judge`]) sees only these lines, as Jepsen's
//! checkers do, and says which promise they break, and what the run was like.

mod judge;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::judge::{Broken, Judgement, judge};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened, as anyone who did it or heard it saw it. Connections have a name of their own each, never used again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A client connected.
    Opened {
        /// Its connection.
        connection: String,
        /// Who it is, whatever its tokens say.
        subject: String,
        /// Whether its terminator keeps messages in their order (`order = connection`).
        #[serde(default = "in_order")]
        ordered: bool,
    },
    /// A client shows a key, to hear what an earlier connection is still owed. This is written before it is sent.
    Resumed {
        /// On which connection.
        connection: String,
        /// Which connection's key it is.
        of: String,
    },
    /// A client handed a message over to its socket.
    Sent {
        /// On which connection.
        connection: String,
        /// The message's `id`, of which no other message of the connection has the same.
        id: String,
        /// Until when its token lives, in milliseconds since the epoch; none if it carries none.
        until_ms: Option<u64>,
    },
    /// An application was given a message.
    Handled {
        /// Of which connection.
        connection: String,
        /// The message's `id`.
        id: String,
    },
    /// A client heard something.
    Heard {
        /// On which connection.
        connection: String,
        /// All of it.
        message: Value,
    },
    /// A connection ended.
    Closed {
        /// Which.
        connection: String,
        /// The close code, or 0 for an end without one, or by the client.
        code: u16,
    },
    /// The broker confirmed a push.
    Pushed {
        /// Its `message_id`.
        id: String,
        /// To whom.
        subject: String,
    },
    /// The producer was told what became of a push.
    Told {
        /// Its `message_id`.
        id: String,
        /// What.
        outcome: Value,
    },
    /// What becomes of these is not heard any more: the producer has lost its reply queue.
    Deaf {
        /// Their `message_id`s.
        ids: Vec<String>,
    },
    /// A revocation of a subject was acknowledged.
    Revoked {
        /// Of whom.
        subject: String,
    },
    /// Harm was done.
    Fault {
        /// What.
        name: String,
    },
    /// The harm is over.
    Healed {
        /// Which.
        name: String,
    },
}

/// It is the terminators' default.
const fn in_order() -> bool {
    true
}

/// Where everyone writes. Clones write the same history.
#[derive(Debug, Clone)]
pub struct History(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    file: Option<File>,
    lines: Vec<Line>,
}

impl History {
    /// A new one, for which there is no file.
    #[must_use]
    pub fn in_memory() -> Self {
        Self(Arc::default())
    }

    /// A new one, in that file.
    ///
    /// # Panics
    /// If the file cannot be made.
    #[must_use]
    pub fn in_file(path: &Path) -> Self {
        let file = File::create(path).expect("a file for the history");
        Self(Arc::new(Mutex::new(Inner {
            file: Some(file),
            lines: Vec::new(),
        })))
    }

    /// Notes what happens now.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn note(&self, event: Event) {
        let at_ms = now_ms();
        let line = Line { at_ms, event };
        let mut text = serde_json::to_string(&line).expect("an event is JSON");
        text.push('\n');
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &mut inner.file {
            file.write_all(text.as_bytes()).expect("the history can be written");
        }
        inner.lines.push(line);
    }

    /// All of it so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }
}

/// Reads a history.
///
/// # Errors
/// A file that cannot be read, or a line that is none of ours.
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

/// Now, in milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
