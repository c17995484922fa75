//! Checks a token with the worker's own verifier, under the worker's own settings.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use shared::service::clock::{Clock as _, SystemClock, Timestamp};
use worker::auth::checking::{Checked, Checker};

use super::TokenText;
use super::settings::TokenSettings;
use crate::support::{human, print};

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign token mint alice | countersign token verify
  countersign token verify --jwt-issuer https://login.example.com --jwt-audience chat eyJhbGciOi...
  countersign token verify --jwt-keys jwks.json --jwt-issuer https://id.example --jwt-audience chat eyJhbGciOi...
  countersign token verify --config /etc/countersign.toml --json < token

Exit status: 0 valid, 1 not valid, 2 it could not be checked.";

/// It could not be checked.
const STATUS_UNKNOWN: u8 = 2;

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
    let (answer, status) = match args.settings.checker().await {
        Ok(checker) => {
            tell_passed_over(&checker);
            let now = SystemClock.now();
            let checked = checker.check(&token, now);
            let status = status(&checked);
            (answer(&checked, now), status)
        }
        Err(error) => (unknown(&format!("{error:#}")), STATUS_UNKNOWN),
    };
    match (args.json, status) {
        (true, _) => print::line(&answer.to_string()),
        (false, STATUS_UNKNOWN) => print::note(&text(&answer)),
        (false, _) => print::line(&text(&answer)),
    }
    Ok(ExitCode::from(status))
}

/// Says which keys are not used, and why.
pub(super) fn tell_passed_over(checker: &Checker) {
    for key in checker.passed_over() {
        print::note(&format!("passed over: {key}"));
    }
}

fn status(checked: &Checked) -> u8 {
    match checked {
        Checked::Valid(_) => 0,
        Checked::Invalid(_) => 1,
        Checked::Unknown(_) => STATUS_UNKNOWN,
    }
}

/// For programs.
pub(super) fn answer(checked: &Checked, now: Timestamp) -> Value {
    match checked {
        Checked::Valid(verified) => json!({
            "valid": true,
            "issuer": verified.identity.issuer.as_str(),
            "subject": verified.identity.subject.as_str(),
            "expires_in": verified.expires_at.saturating_since(now).as_secs(),
            "claims": verified.claims,
        }),
        Checked::Invalid(rejection) => json!({"valid": false, "reason": rejection.to_string()}),
        Checked::Unknown(cause) => unknown(cause),
    }
}

fn unknown(cause: &str) -> Value {
    json!({"valid": null, "reason": format!("cannot be checked: {cause}")})
}

/// The same for people.
pub(super) fn text(answer: &Value) -> String {
    let member = |name: &str| answer[name].as_str().unwrap_or_default();
    match &answer["valid"] {
        Value::Bool(true) => {
            let expiry = answer["expires_in"].as_u64().unwrap_or_default();
            let now = Timestamp::from_secs(0);
            let expiry = human::relative(Timestamp::from_secs(expiry), now);
            format!("valid: {} of {}, expires {expiry}", member("subject"), member("issuer"))
        }
        Value::Bool(false) => format!("not valid: {}", member("reason")),
        _ => member("reason").to_owned(),
    }
}
