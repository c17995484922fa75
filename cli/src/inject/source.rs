//! Where the messages come from: the flags, or the lines of a file.

use std::io;
use std::path::PathBuf;

use clap::Args;
use tokio::sync::mpsc;

use crate::support::lines;
use crate::support::message::MessageArgs;

/// One million = 1,000,000 messages: above that, `bench` is the tool.
const MAX_COUNT: u64 = 1_000_000;

/// What is injected: one message from the arguments, or those of a file.
#[derive(Debug, Args)]
pub(super) struct SourceArgs {
    #[command(flatten)]
    message: MessageArgs,
    /// How many of the message. With --id, each gets a number: ID-1, ID-2, …
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MAX_COUNT))]
    count: u64,
    /// Send the lines of this file instead, each a whole message that goes out as it stands; - is standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["payload", "id", "count", "kind"])]
    file: Option<PathBuf>,
}

/// The messages, one after the other.
pub(super) enum Source {
    /// The same message, `sent` times so far.
    Copies {
        message: MessageArgs,
        sent: u64,
        count: u64,
    },
    /// Whole messages.
    Lines(mpsc::Receiver<io::Result<String>>),
}

impl SourceArgs {
    pub(super) fn open(&self) -> anyhow::Result<Source> {
        Ok(match &self.file {
            Some(path) => Source::Lines(lines::read(path)?),
            None => Source::Copies {
                message: self.message.clone(),
                sent: 0,
                count: self.count,
            },
        })
    }
}

impl Source {
    /// How many there will be, if that is known.
    pub(super) fn count(&self) -> Option<u64> {
        match self {
            Self::Copies { count, .. } => Some(*count),
            Self::Lines(_) => None,
        }
    }

    /// The next message; nothing after the last.
    pub(super) async fn next(&mut self) -> Option<anyhow::Result<String>> {
        match self {
            Self::Copies { sent, count, .. } if *sent >= *count => None,
            Self::Copies { message, sent, count } => {
                *sent += 1;
                let id = message.id.as_ref().map(|id| {
                    if *count == 1 {
                        id.clone()
                    } else {
                        format!("{id}-{sent}")
                    }
                });
                Some(Ok(message.message(id.as_deref())))
            }
            Self::Lines(lines) => lines.recv().await.map(|line| line.map_err(Into::into)),
        }
    }
}
