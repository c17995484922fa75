//! `countersign send`: a WebSocket client for the shell.

mod close_meaning;
mod conversation;
mod notice;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use self::conversation::Conversation;
use crate::support::message::MessageArgs;
use crate::support::ws::WsUrl;
use crate::support::{human, lines, ws};

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign send --payload '{\"x\":1}' --token \"$(countersign token mint alice)\"
  countersign send --authenticate --payload '{\"x\":1}' --token \"$(countersign token mint alice)\"
      the token once, in auth.authenticate, and the message without one
  countersign send --interactive --token \"$(countersign token mint alice)\"
      it authenticates at once, so that pushes show as they come; each line is a payload, or, if it is an object with a
      \"type\", a whole message

What the server sends is printed as it is, one message a line; what it means is told on standard error.

Exit status: 0 all were answered without error, 1 some were refused, 2 some were not answered.";

/// Where to, and what.
#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// The terminator.
    #[arg(
        long,
        value_name = "URL",
        env = "COUNTERSIGN_URL",
        default_value = "ws://127.0.0.1:8080"
    )]
    url: WsUrl,
    #[command(flatten)]
    message: MessageArgs,
    /// Send the token once, in an auth.authenticate before all else, and no token on messages.
    #[arg(long, requires = "token")]
    authenticate: bool,
    /// Send the lines of standard input, and print whatever comes until they end.
    #[arg(long, short, conflicts_with_all = ["payload", "id"])]
    interactive: bool,
    /// How long to wait for an answer, and with --interactive for the last ones.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = human::parse_duration)]
    timeout: Duration,
}

/// Runs it.
///
/// # Errors
/// If there is no connection.
pub(crate) async fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    let socket = ws::connect(&args.url, None).await?;
    let mut template = args.message;
    // Who is to get pushes is known from the beginning, not from the first line.
    let first = match (args.authenticate, args.interactive) {
        (true, _) => template.token.take(),
        (false, true) => template.token.clone(),
        (false, false) => None,
    };
    let mut conversation = Conversation::new(socket, template, args.timeout);
    if let Some(token) = first {
        conversation.authenticate(&token).await?;
    }
    if args.interactive {
        conversation.interactive(lines::read(Path::new("-"))?).await?;
    } else {
        conversation.one().await?;
    }
    Ok(conversation.exit_code())
}
