//! Checks a token with the worker's own verifier, under the worker's own settings.

use std::process::ExitCode;

use clap::Args;
use shared::service::clock::{Clock as _, SystemClock};

use super::TokenText;
use super::settings::TokenSettings;
use super::verdict::Verdict;
use crate::support::print;

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign token mint alice | countersign token verify
  countersign token verify --jwt-issuer https://login.example.com --jwt-audience chat eyJhbGciOi...
  countersign token verify --jwt-keys jwks.json --jwt-issuer https://id.example --jwt-audience chat eyJhbGciOi...
  countersign token verify --config /etc/countersign.toml --json < token

Exit status: 0 valid, 1 not valid, 2 it could not be checked.";

/// The token, and a worker's settings.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    token: TokenText,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: TokenSettings,
}

pub(super) async fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let token = args.token.read()?;
    let verdict = Verdict::of(&token, &args.settings, SystemClock.now()).await;
    match &verdict {
        _ if args.json => print::line(&verdict.to_json().to_string()),
        Verdict::Unknown(_) => print::note(&verdict.text()),
        _ => print::line(&verdict.text()),
    }
    Ok(ExitCode::from(verdict.status()))
}
