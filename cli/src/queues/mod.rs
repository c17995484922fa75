//! `countersign queues`: whether the queues on the broker are as this version declares them, and moving messages to new ones.
//!
//! A queue's arguments cannot be changed: a version that declares other arguments needs
//! another queue under the same name. So the messages leave for a temporary queue, the
//! queue is deleted when it is empty and unused, declared anew, and the messages come
//! back. What to do next is found out from the broker each time (`plan`), so a move that
//! was killed is continued by the next.

mod broker;
mod passage;
mod plan;

use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use shared::bus::topology::{Names, Queue};

use self::broker::Broker;
pub(crate) use self::plan::LOCK;
use self::plan::{Presence, Seen, Step};
use crate::support::broker::BrokerArgs;
use crate::support::print;

/// The name that the management page shows.
const CONNECTION_NAME: &str = "countersign queues";

/// More steps than any queue needs. One that needs more is changed by others at the same time.
const MOST_STEPS: usize = 8;

const CHECK_EXAMPLES: &str = "\
Examples:
  countersign queues check
  countersign queues check --max-deliveries 8        as workers with that setting declare them

Exit status: 0 all queues that there are fit this version, 1 some must be moved, 2 the broker could not be asked.";

const MOVE_EXAMPLES: &str = "\
Examples:
  countersign queues move
  countersign queues move --queue retry --queue injected.retry --max-deliveries 8

Stop all workers first; terminators may stay: what is published meanwhile waits. A move that was interrupted, even killed, is
continued by the next. No message is lost. One that is published in the moment of a change may come twice, and one that was
under way when a move was killed, too. A user that may do this is in docs/permissions.md.

Exit status: 0 all queues fit this version, 2 something is in the way, and the sentence says what.";

/// What to do with queues.
#[derive(Debug, Subcommand)]
pub(crate) enum QueuesCommand {
    /// Tell which queues have other arguments than this version declares.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(QueuesArgs),
    /// Move the messages of such queues to new ones of the same name.
    #[command(after_help = MOVE_EXAMPLES)]
    Move(QueuesArgs),
}

/// The arguments of `queues check` and `queues move`.
#[derive(Debug, Args)]
pub(crate) struct QueuesArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Only this queue, by its name without the namespace, as `retry`. Several times: these.
    #[arg(long, value_name = "QUEUE")]
    queue: Vec<String>,
    /// `max-deliveries` as the workers have it: the queues of retries are declared with it.
    #[arg(long, value_name = "N", env = "COUNTERSIGN_MAX_DELIVERIES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    max_deliveries: u32,
}

impl QueuesArgs {
    /// The queues that are meant.
    ///
    /// # Errors
    /// Which name is none.
    fn queues(&self) -> anyhow::Result<Vec<Queue>> {
        let namespace = &self.broker.namespace;
        let all = plan::queues(&Names::new(namespace), self.max_deliveries);
        if self.queue.is_empty() {
            return Ok(all);
        }
        let named = self.queue.iter().map(|name| {
            let full = format!("{namespace}.{name}");
            let found = all.iter().find(|queue| queue.name == full).cloned();
            found.ok_or_else(|| anyhow!("--queue {name}: no version declares {full} to last"))
        });
        named.collect()
    }
}

/// Runs one of them.
///
/// # Errors
/// What is in the way.
pub(crate) async fn run(command: QueuesCommand) -> anyhow::Result<ExitCode> {
    let (QueuesCommand::Check(args) | QueuesCommand::Move(args)) = &command;
    let queues = args.queues()?;
    let broker = Broker::connect(args.broker.access()?, CONNECTION_NAME).await?;
    let namespace = &args.broker.namespace;
    let outcome = match command {
        QueuesCommand::Check(_) => check(&broker, namespace, &queues).await,
        QueuesCommand::Move(_) => move_all(&broker, namespace, &queues).await,
    };
    broker.close().await;
    outcome
}

async fn see(broker: &Broker, namespace: &str, queue: &Queue) -> anyhow::Result<Seen> {
    let temporary = plan::temporary(namespace, queue);
    Ok(Seen {
        queue: broker.presence(queue).await?,
        temporary: broker.counts(&temporary.name).await?.is_some(),
    })
}

async fn check(broker: &Broker, namespace: &str, queues: &[Queue]) -> anyhow::Result<ExitCode> {
    let mut fit = true;
    for queue in queues {
        let seen = see(broker, namespace, queue).await?;
        let waiting = broker.counts(&queue.name).await?.map_or(0, |counts| counts.messages);
        match (&seen.queue, seen.temporary) {
            (Presence::Differs(why), _) => print::line(&format!("{}: {waiting} messages; {why}", queue.name)),
            (_, true) => print::line(&format!("{}: a move was interrupted", queue.name)),
            (Presence::Absent | Presence::Fits, false) => continue,
        }
        fit = false;
    }
    if fit {
        print::note("all queues fit this version");
        return Ok(ExitCode::SUCCESS);
    }
    print::note("`countersign queues move` moves them, when no worker runs");
    Ok(ExitCode::from(1))
}

async fn move_all(broker: &Broker, namespace: &str, queues: &[Queue]) -> anyhow::Result<ExitCode> {
    broker.lock(&format!("{namespace}.{}", LOCK)).await?;
    for queue in queues {
        let moved = move_one(broker, namespace, queue).await?;
        if let Some(moved) = moved {
            print::line(&format!("{}: declared anew, {moved} messages moved", queue.name));
        }
    }
    print::note("all queues fit this version");
    Ok(ExitCode::SUCCESS)
}

/// Moves what must be moved of one queue. Tells how many messages came back; none if there was nothing to do.
async fn move_one(broker: &Broker, namespace: &str, queue: &Queue) -> anyhow::Result<Option<u64>> {
    let temporary = plan::temporary(namespace, queue);
    let mut moved = None;
    for _ in 0..MOST_STEPS {
        match see(broker, namespace, queue).await?.next_step() {
            Step::Nothing => return Ok(moved),
            Step::MakeTemporary => {
                let waiting = broker.unused(&queue.name).await?;
                plan::fits(queue, waiting)?;
                broker.declare(&temporary).await?;
            }
            Step::MoveOut => {
                broker.unused(&queue.name).await?;
                // The new bindings are there before the former go: what is published meanwhile comes twice rather than never.
                broker.bind(&temporary).await?;
                broker.unbind(&queue.name, &queue.bindings).await?;
                broker.unbind(&queue.name, &queue.former_bindings).await?;
                passage::move_all(broker, &queue.name, &temporary.name).await?;
                broker.delete_empty(&queue.name).await?;
            }
            Step::DeclareAnew => broker.declare(queue).await?,
            Step::MoveBack => {
                let waiting = [&queue.name, &temporary.name];
                let mut sum = 0;
                for name in waiting {
                    sum += broker.counts(name).await?.map_or(0, |counts| counts.messages);
                }
                plan::fits(queue, sum)?;
                broker.bind(queue).await?;
                broker.unbind(&temporary.name, &temporary.bindings).await?;
                let back = passage::move_all(broker, &temporary.name, &queue.name).await?;
                broker.delete_empty(&temporary.name).await?;
                *moved.get_or_insert(0) += back;
            }
        }
    }
    bail!("{} is changed by others at the same time: stop all workers", queue.name)
}
