//! Where payloads and their ids come from: the flags, or the lines of a file.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use serde_json::Value;
use tokio::sync::mpsc;

use crate::support::lines;
use crate::support::message::json;

/// One million = 1,000,000 pushes: above that it is no longer a person who pushes.
const MAX_COUNT: u64 = 1_000_000;

/// What is pushed: one payload from the arguments, or those of a file.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    /// What to push: any JSON. Without it, and without --file, standard input is read, one payload a line.
    #[arg(long, value_name = "JSON", value_parser = json)]
    payload: Option<Value>,
    /// Push the lines of this file, each a payload that goes out as it stands; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["payload", "count"])]
    file: Option<PathBuf>,
    /// How many times to push --payload.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "payload",
          value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    count: u64,
}

/// The payloads, one after the other.
pub(super) enum Payloads {
    /// The same, so many times more.
    Copies { text: String, count: u64, left: u64 },
    /// Each line is one.
    Lines(mpsc::Receiver<io::Result<String>>),
}

impl SourceArgs {
    /// Begins to read.
    ///
    /// # Errors
    /// If there is nothing to read, or the file cannot be opened.
    pub(super) fn open(&self) -> anyhow::Result<Payloads> {
        if let Some(payload) = &self.payload {
            return Ok(Payloads::Copies {
                text: payload.to_string(),
                count: self.count,
                left: self.count,
            });
        }
        let path = self.file.as_deref().unwrap_or(Path::new("-"));
        if self.file.is_none() && io::stdin().is_terminal() {
            bail!("say what to push: --payload JSON, --file FILE, or one payload a line on standard input");
        }
        Ok(Payloads::Lines(lines::read(path)?))
    }
}

impl Payloads {
    /// How many there will be, if that is known.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Copies { count, .. } => Some(*count),
            Self::Lines(_) => None,
        }
    }

    /// The next one; nothing after the last.
    pub(super) async fn next(&mut self) -> Option<anyhow::Result<String>> {
        match self {
            Self::Copies { left: 0, .. } => None,
            Self::Copies { text, left, .. } => {
                *left -= 1;
                Some(Ok(text.clone()))
            }
            Self::Lines(lines) => lines.recv().await.map(|line| line.map_err(Into::into)),
        }
    }
}

/// The pushes' ids. Each has one before it leaves: should the broker be lost, it is published again under the same.
pub(super) struct Ids {
    base: String,
    numbered: bool,
}

impl Ids {
    /// Ids that begin with `given`, or with something random.
    pub(super) fn new(given: Option<&str>, count: Option<u64>) -> Self {
        Self {
            base: given.map_or_else(|| format!("{:016x}", rand::random::<u64>()), str::to_owned),
            numbered: count != Some(1),
        }
    }

    /// The id of push `number`, from 0.
    pub(super) fn of(&self, number: u64) -> String {
        if self.numbered {
            format!("{}-{}", self.base, number + 1)
        } else {
            self.base.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_push_has_the_very_id_that_was_given_and_several_have_a_number() {
        assert_eq!(Ids::new(Some("p"), Some(1)).of(0), "p");
        assert_eq!(Ids::new(Some("p"), Some(2)).of(1), "p-2");
        assert_eq!(Ids::new(Some("p"), None).of(0), "p-1");
        assert_ne!(Ids::new(None, Some(1)).of(0), Ids::new(None, Some(1)).of(0));
    }
}
