//! `countersign inspect`: what is there at the moment, connection by connection and letter by letter.
//!
//! It looks and changes nothing, but where it is told to: `dead requeue` and
//! `dead drop`. Why something came to be as it is, `countersign explain` tells.

mod connection;
pub(crate) mod connection_info;
mod dead;
pub(crate) mod explain;
mod identity;

use std::process::ExitCode;

use clap::Subcommand;

/// What to look at.
#[derive(Debug, Subcommand)]
pub(crate) enum InspectCommand {
    /// The connections of a subject, until when they are authenticated, and what is held for it.
    #[command(after_help = identity::EXAMPLES)]
    Identity(identity::IdentityArgs),
    /// One connection: its identity, until when it is authenticated, and what is held.
    #[command(after_help = connection::EXAMPLES)]
    Connection(connection::ConnectionArgs),
    /// Messages that could not be brought to an end: look at them, send them again, or drop them.
    #[command(subcommand)]
    Dead(dead::DeadCommand),
}

/// Runs one of them.
///
/// # Errors
/// What kept it from looking.
pub(crate) async fn run(command: InspectCommand) -> anyhow::Result<ExitCode> {
    match command {
        InspectCommand::Identity(args) => identity::run(args).await,
        InspectCommand::Connection(args) => connection::run(args).await,
        InspectCommand::Dead(command) => dead::run(command).await,
    }
}
