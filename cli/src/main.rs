//! `countersign`: the tool for people.
//!
//! Each subcommand is a module with its arguments and a `run` that returns the
//! exit status. Those that wait for the network get a single-threaded runtime:
//! the load generator shares its machine with what it measures.

mod bench;
mod credentials;
mod dev;
mod files;
mod inject;
pub(crate) mod inspect;
pub(crate) mod manual;
mod push;
mod queues;
mod ready;
mod revoke;
mod send;
pub(crate) mod support;
mod token;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::support::settings_file;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Something kept the tool from doing its work; 1 means that it did, and the answer was no.
const STATUS_FAILED: u8 = 2;

/// Countersign: WebSocket messages, each with its token, through RabbitMQ to workers and back.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120, override_usage = "countersign [COMMAND]")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything in this process, with a page to watch it (the default).
    #[command(after_help = dev::EXAMPLES)]
    Dev(dev::DevArgs),
    /// Mint, inspect and verify tokens.
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Inject messages into the queue, and wait for their replies.
    #[command(after_help = inject::EXAMPLES)]
    Inject(inject::InjectArgs),
    /// Push to an identity or a connection, and print the outcome.
    #[command(after_help = push::EXAMPLES)]
    Push(push::PushArgs),
    /// Revoke tokens before they expire, and wait until that is in force.
    #[command(after_help = revoke::EXAMPLES)]
    Revoke(revoke::RevokeArgs),
    /// Look at connections, at what is held, and at dead letters.
    #[command(subcommand)]
    Inspect(inspect::InspectCommand),
    /// Check whether the queues fit this version, and move messages from those that do not.
    #[command(subcommand)]
    Queues(queues::QueuesCommand),
    /// Explain why a message was held, refused or released, or a connection closed.
    #[command(after_help = crate::inspect::explain::EXAMPLES)]
    Explain(crate::inspect::explain::ExplainArgs),
    /// Send messages over a WebSocket, and print what comes back.
    #[command(after_help = send::EXAMPLES)]
    Send(send::SendArgs),
    /// Measure throughput and latency, and check that nothing is lost.
    #[command(after_help = bench::EXAMPLES)]
    Bench(Box<bench::BenchArgs>),
    /// Ask a program whether it is ready, as a health check does.
    #[command(after_help = ready::EXAMPLES)]
    Ready(ready::ReadyArgs),
    /// Show which keys, passwords and certificates programs have in force, and never their values.
    #[command(after_help = credentials::EXAMPLES)]
    Credentials(credentials::CredentialsArgs),
    /// Print shell completions for this tool, or for a program.
    #[command(after_help = crate::manual::completions::EXAMPLES)]
    Completions(crate::manual::completions::CompletionsArgs),
    /// Write the manual pages of this tool and of the programs into a folder.
    #[command(after_help = manual::EXAMPLES)]
    Man(manual::ManArgs),
    /// A process of `bench`.
    #[command(hide = true)]
    RawEcho(bench::RawEchoArgs),
    /// The program `terminator`, with its own settings.
    #[command(hide = true, disable_help_flag = true)]
    Terminator(ProgramArgs),
    /// The program `worker`, with its own settings.
    #[command(hide = true, disable_help_flag = true)]
    Worker(ProgramArgs),
}

/// What is the program's own business.
#[derive(Debug, clap::Args)]
struct ProgramArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    match called_as(&called) {
        Some(Called::Terminator) => return terminator::program::run(std::env::args_os().skip(1)),
        Some(Called::Worker) => return worker::app::program::run(std::env::args_os().skip(1)),
        None => {}
    }
    let args = with_default(std::env::args_os());
    let parsed = settings_file::parse::<Cli>(args).unwrap_or_else(|error| error.exit());
    let command = match parsed.command {
        // These begin as their own programs do, log and all.
        Command::Terminator(ProgramArgs { args }) => return terminator::program::run(args),
        Command::Worker(ProgramArgs { args }) => return worker::app::program::run(args),
        command => command,
    };
    // A server in this process has a log of its own.
    if !matches!(command, Command::Dev(_)) {
        init_logs();
    }
    // Several crates bring TLS providers; the first to connect must find exactly one.
    let _first_of_this_process = shared::service::lifecycle::install_crypto_provider();
    let outcome = match command {
        Command::Dev(args) => dev::run(&args),
        Command::Token(command) => block_on(token::run(command)),
        Command::Inject(args) => block_on(inject::run(args)),
        Command::Push(args) => block_on(push::run(args)),
        Command::Revoke(args) => block_on(revoke::run(args)),
        Command::Inspect(command) => block_on(inspect::run(command)),
        Command::Queues(command) => block_on(queues::run(command)),
        Command::Explain(args) => block_on(crate::inspect::explain::run(args)),
        Command::Send(args) => block_on(send::run(args)),
        Command::Bench(args) => block_on(bench::run(*args)),
        Command::Ready(args) => ready::run(&args),
        Command::Credentials(args) => credentials::run(&args),
        Command::Completions(args) => Ok(crate::manual::completions::run(&args)),
        Command::Man(args) => manual::run(&args),
        Command::RawEcho(args) => block_on(bench::raw_echo(args)),
        Command::Terminator(_) | Command::Worker(_) => Ok(ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        crate::support::print::note(&format!("countersign: {error:#}"));
        ExitCode::from(STATUS_FAILED)
    })
}

/// A program other than the tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Called {
    Terminator,
    Worker,
}

/// Which of them is called by that name. What is shipped is one file, linked once, with a name for each program: they share nearly
/// all that is in it.
fn called_as(name: &OsStr) -> Option<Called> {
    match Path::new(name).file_stem()?.to_str()? {
        "terminator" => Some(Called::Terminator),
        "worker" => Some(Called::Worker),
        _ => None,
    }
}

/// Anyone who asks for nothing gets `dev`.
fn with_default(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args: Vec<_> = args.collect();
    if args.len() <= 1 {
        args.push("dev".into());
    }
    args
}

fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(work)
}

/// The tool says itself what goes wrong; `RUST_LOG` shows what the libraries have to say. lapin's own texts hold
/// whole messages, tokens included, and are never shown.
fn init_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    let filter = ["lapin=off", "tungstenite=off", "tokio_tungstenite=off"]
        .into_iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_program_is_meant() {
        let called = |name: &str| called_as(OsStr::new(name));
        assert_eq!(called("/usr/local/bin/terminator"), Some(Called::Terminator));
        assert_eq!(called("worker"), Some(Called::Worker));
        for tool in ["countersign", "./countersign", "/opt/worker/countersign", ""] {
            assert_eq!(called(tool), None, "{tool}");
        }
    }
}
