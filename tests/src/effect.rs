//! Effects that can be counted from outside, whichever worker had them: each is a line at the end of a file.
//!
//! A message of type `effect` names the file. Its answer is the how-manieth effect it was, so that an answer which is
//! given again is told from one of a second effect.

use std::{fs, io::Write, path::Path, process, time::Duration};

use serde_json::{Value, json};
use shared::wire::protocol::ErrorCode;
use worker::{Answers, HandlerError, Request};

use crate::nodes::watchdog::Folder;

/// Between two looks whether a message that waits may go on.
const PAUSE: Duration = Duration::from_millis(10);

/// How long the answer of a `long` message is.
pub const LONG_BYTES: usize = 100_000;

/// The effects of one claim's messages.
#[derive(Debug)]
pub struct Effects(Folder);

impl Default for Effects {
    fn default() -> Self {
        Self(Folder::new("effects"))
    }
}

impl Effects {
    /// The payload of a message that has one, and then does what the word says: `die` once, be `busy` once, `forbid` it once, `wait`, `fail`,
    /// answer at `long`, or nothing else.
    #[must_use]
    pub fn payload(&self, then: &str) -> Value {
        json!({"file": self.0.join("effects"), "then": then})
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> usize {
        lines(&self.0.join("effects"))
    }

    /// Anyone who waits goes on.
    pub fn go_on(&self) {
        self.0.write("effects.go", "");
    }
}

/// Has the effect that the message asks for.
pub(crate) async fn handle(request: &Request<'_>) -> Result<Answers, HandlerError> {
    let payload: Value = request.payload_as()?;
    let file = Path::new(payload["file"].as_str().expect("the path of a file"));
    let mut effects = fs::File::options()
        .append(true)
        .create(true)
        .open(file)
        .expect("the claim's file");
    // One write, so that those of several processes do not mix.
    effects.write_all(b"effect\n").expect("the effect");
    let number = lines(file);
    match payload["then"].as_str().unwrap_or_default() {
        "die" if number == 1 => process::abort(),
        "busy" if number == 1 => return Err(HandlerError::new(ErrorCode::Busy, "just now")),
        "fail" => return Err(HandlerError::new(ErrorCode::BadRequest, format!("effect {number}"))),
        "long" => return Answers::one(&"x".repeat(LONG_BYTES)),
        "wait" => {
            let go = file.with_extension("go");
            // The handler's time bounds it.
            while !go.exists() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        "forbid" if number == 1 => return Err(HandlerError::new(ErrorCode::Forbidden, "not by this token")),
        _ => {}
    }
    Ok(Answers::one(&number)?.and(Answers::raw(None)))
}

fn lines(file: &Path) -> usize {
    fs::read_to_string(file).map_or(0, |text| text.lines().count())
}
