//! Dead letters: messages that could not be brought to an end, without their tokens.
//!
//! A queue cannot be read without taking from it. So letters are taken, looked at
//! and given back, which keeps their order: what is not done with when this ends,
//! or is ended, is in the queue as it was.

mod letter;
mod queue;
mod requeue;

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};

use self::letter::{DeadLetter, heading};
use self::queue::DeadLetterQueue;
use self::requeue::{Requeued, Requeuer};
use crate::support::broker::BrokerArgs;
use crate::support::{human, print};

const LIST_EXAMPLES: &str = "\
Examples:
  countersign inspect dead list
  countersign inspect dead list --json | jq -r 'select(.reason == \"delivery_limit\").name'";

const SHOW_EXAMPLES: &str = "\
Examples:
  countersign inspect dead show 1
  countersign inspect dead show 3f9a01c2 --json | jq .body";

const REQUEUE_EXAMPLES: &str = "\
Examples:
  countersign inspect dead requeue 3f9a01c2 --token \"$(countersign token mint alice)\"
  countersign inspect dead requeue --all --token \"$(countersign token mint support)\"

A letter's token is gone: no token is ever kept. The message is processed with the token that you give, and the
letter is dropped once the message is answered without error; if it is refused again, or not answered in time, it stays.
Pushes and revocations need no token.

Exit status: 0 all were processed, 1 some were refused or cannot be sent again, 2 some were not answered or not sent.";

const DROP_EXAMPLES: &str = "\
Examples:
  countersign inspect dead drop 3f9a01c2
  countersign inspect dead drop --all";

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List them, the oldest first.
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one, body and all.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(ShowArgs),
    /// Send one, or all, to the workers again, with a fresh token.
    #[command(after_help = REQUEUE_EXAMPLES)]
    Requeue(RequeueArgs),
    /// Drop one, or all. They are gone then.
    #[command(after_help = DROP_EXAMPLES)]
    Drop(DropArgs),
}

/// The arguments of `inspect dead list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// How many to list.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print JSON, a letter a line.
    #[arg(long)]
    json: bool,
}

/// The arguments of `inspect dead show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Its name or its number in the list. Names stay, numbers shift as letters go.
    #[arg(value_name = "LETTER")]
    which: Which,
    #[command(flatten)]
    broker: BrokerArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Which ones, and how.
#[derive(Debug, Args)]
pub(crate) struct RequeueArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// The token that authenticates the message anew; `countersign token mint NAME` makes one for development.
    #[arg(long, value_name = "JWT", env = "COUNTERSIGN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Send a message again even if something that looked like a token was taken out of its payload.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    broker: BrokerArgs,
    /// How long to wait for each answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = human::parse_duration)]
    timeout: Duration,
}

/// The arguments of `inspect dead drop`.
#[derive(Debug, Args)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    which: WhichArgs,
    #[command(flatten)]
    broker: BrokerArgs,
}

/// One or all.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WhichArgs {
    /// Its name or its number in the list. Names stay, numbers shift as letters go.
    #[arg(value_name = "LETTER")]
    which: Option<Which>,
    /// All that are there.
    #[arg(long)]
    all: bool,
}

/// How a person calls a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Which {
    /// Its place, from 1.
    Number(u32),
    Name(String),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_name = text.len() == letter::NAME_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match text.parse() {
            // No queue is so long that a number would look like a name.
            _ if is_name => Ok(Self::Name(text.to_ascii_lowercase())),
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ => Err("want a letter's name or number, as `countersign inspect dead list` shows them".to_owned()),
        }
    }
}

impl Which {
    fn is(&self, letter: &DeadLetter) -> bool {
        match self {
            Self::Number(number) => *number == letter.number,
            Self::Name(name) => *name == letter.name,
        }
    }
}

pub(super) async fn run(command: DeadCommand) -> anyhow::Result<ExitCode> {
    match command {
        DeadCommand::List(args) => list(args).await,
        DeadCommand::Show(args) => show(args).await,
        DeadCommand::Requeue(args) => requeue(args).await,
        DeadCommand::Drop(args) => drop_them(args).await,
    }
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let mut queue = DeadLetterQueue::open(&args.broker).await?;
    let mut listed = 0;
    while listed < args.limit
        && let Some(letter) = queue.take().await?
    {
        if listed == 0 && !args.json {
            print::line(&heading());
        }
        listed += 1;
        print::line(&if args.json { letter.to_json(false) } else { letter.row() });
    }
    let left = queue.left();
    queue.give_back().await?;
    match (listed, left) {
        (0, _) => print::note("there are no dead letters"),
        (_, 0) => {}
        (_, left) => print::note(&format!("and {left} more; --limit lists more of them")),
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let mut queue = DeadLetterQueue::open(&args.broker).await?;
    let found = find(&mut queue, &args.which).await;
    queue.give_back().await?;
    let letter = found?;
    print::line(&if args.json {
        letter.to_json(true)
    } else {
        letter.describe()
    });
    Ok(ExitCode::SUCCESS)
}

async fn drop_them(args: DropArgs) -> anyhow::Result<ExitCode> {
    let mut queue = DeadLetterQueue::open(&args.broker).await?;
    let mut dropped = 0_u32;
    if let Some(which) = &args.which.which {
        match find(&mut queue, which).await {
            Ok(letter) => queue.drop_letter(letter).await?,
            Err(error) => {
                queue.give_back().await?;
                return Err(error);
            }
        }
        dropped = 1;
    } else {
        // Those that come meanwhile no one has seen: they stay.
        let count = queue.count();
        while dropped < count
            && let Some(letter) = queue.take().await?
        {
            queue.drop_letter(letter).await?;
            dropped += 1;
        }
    }
    queue.give_back().await?;
    print::note(&format!("dropped {dropped}"));
    Ok(ExitCode::SUCCESS)
}

async fn requeue(args: RequeueArgs) -> anyhow::Result<ExitCode> {
    let mut queue = DeadLetterQueue::open(&args.broker).await?;
    let mut requeuer = Requeuer::open(&args.broker, args.timeout, args.token.as_deref(), args.force).await?;
    let mut results = Vec::new();
    if let Some(which) = &args.which.which {
        let letter = match find(&mut queue, which).await {
            Ok(letter) => letter,
            Err(error) => {
                queue.give_back().await?;
                return Err(error);
            }
        };
        results.push(requeue_one(&mut requeuer, &mut queue, letter).await?);
    } else {
        // A letter that is refused comes back as a letter of its own, or stays: none is tried twice.
        for _ in 0..queue.count() {
            let Some(letter) = queue.take().await? else { break };
            results.push(requeue_one(&mut requeuer, &mut queue, letter).await?);
        }
    }
    requeuer.close().await;
    queue.give_back().await?;
    let processed = results.iter().filter(|result| **result == Requeued::Processed).count();
    print::note(&format!("processed {processed}, {} stay", results.len() - processed));
    Ok(ExitCode::from(
        results.into_iter().map(Requeued::status).max().unwrap_or(0),
    ))
}

/// Sends one again, and drops the letter if that did it.
async fn requeue_one(
    requeuer: &mut Requeuer<'_>,
    queue: &mut DeadLetterQueue,
    letter: DeadLetter,
) -> anyhow::Result<Requeued> {
    let requeued = requeuer.requeue(&letter).await?;
    if requeued == Requeued::Processed {
        queue.drop_letter(letter).await?;
    }
    Ok(requeued)
}

/// Takes letters until that one comes.
async fn find(queue: &mut DeadLetterQueue, which: &Which) -> anyhow::Result<DeadLetter> {
    while let Some(letter) = queue.take().await? {
        if which.is(&letter) {
            return Ok(letter);
        }
    }
    match which {
        Which::Number(number) if queue.count() > 0 => bail!("there is no letter {number}: there are {}", queue.count()),
        Which::Name(name) if queue.count() > 0 => Err(anyhow!(
            "there is no letter {name}; `countersign inspect dead list` shows those that there are"
        )),
        _ => bail!("there are no dead letters"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_called_by_its_name_or_its_number() {
        assert_eq!("12".parse(), Ok(Which::Number(12)));
        assert_eq!("3F9a01c2".parse(), Ok(Which::Name("3f9a01c2".to_owned())));
        assert_eq!("12345678".parse(), Ok(Which::Name("12345678".to_owned())));
        for wrong in ["", "0", "-1", "all", "3f9a01c", "3f9a01c2a"] {
            assert!(wrong.parse::<Which>().is_err(), "{wrong}");
        }
    }
}
