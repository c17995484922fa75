//! `countersign token`: make, read and check JWTs at the shell.

mod inspect;
pub(crate) mod mint;
mod settings;
mod signing_key;
mod verdict;
mod verify;

use std::io::{self, Read as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};

pub(crate) use self::mint::{Signer, SignerArgs};

/// 1 MiB = 1,024 * 1,024 bytes: no token is as long, so more of it is not a token.
const MAX_INPUT_BYTES: u64 = 1_024 * 1_024;

/// What to do with a token.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token, and print it.
    #[command(after_help = mint::EXAMPLES)]
    Mint(mint::MintArgs),
    /// Show the contents of a token, without verifying it.
    #[command(after_help = inspect::EXAMPLES)]
    Inspect(inspect::InspectArgs),
    /// Check a token as a worker would: exit status 0 if it is valid, 1 if not.
    #[command(after_help = verify::EXAMPLES)]
    Verify(Box<verify::VerifyArgs>),
}

/// Runs one of them.
///
/// # Errors
/// What kept it from doing its work; an invalid token is none.
pub(crate) async fn run(command: TokenCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokenCommand::Mint(args) => mint::run(&args),
        TokenCommand::Inspect(args) => inspect::run(&args).await,
        TokenCommand::Verify(args) => verify::run(&args).await,
    }
}

/// A token that is given.
#[derive(Clone, Debug, Args)]
pub(crate) struct TokenText {
    /// The token; without it, or with `-`, it is read from standard input.
    #[arg(value_name = "TOKEN")]
    token: Option<String>,
}

impl TokenText {
    /// The token, without the blanks and line ends around it, and without `Bearer`.
    fn read(&self) -> anyhow::Result<String> {
        let text = match self.token.as_deref() {
            Some(token) if token != "-" => token.to_owned(),
            _ => {
                let mut text = String::new();
                io::stdin()
                    .lock()
                    .take(MAX_INPUT_BYTES)
                    .read_to_string(&mut text)
                    .context("cannot read the token from standard input")?;
                text
            }
        };
        let text = text.trim();
        let text = text.strip_prefix("Bearer ").unwrap_or(text).trim_start();
        if text.is_empty() {
            bail!("there is no token; give it as an argument or on standard input");
        }
        Ok(text.to_owned())
    }
}
