//! Shows what a token says, and believes nothing of it, unless it is told by which settings it may.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Args;
use serde_json::{Value, json};
use shared::service::clock::{Clock as _, SystemClock, Timestamp};

use super::TokenText;
use super::settings::TokenSettings;
use super::verdict::Verdict;
use crate::support::{human, print};

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign token inspect eyJhbGciOi...
  countersign token mint alice | countersign token inspect
  countersign token inspect --jwt-issuer https://login.example.com --jwt-audience chat --json eyJhbGciOi...

Exit status: 0 it is shown, 2 it is no token, or a worker with these settings could not check it.";

/// The token, and perhaps the settings of a worker.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    token: TokenText,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: TokenSettings,
}

pub(super) async fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let token = args.token.read()?;
    let now = SystemClock.now();
    let (header, claims) = parts(&token)?;
    let verdict = match args.settings.is_empty() {
        true => None,
        false => Some(Verdict::of(&token, &args.settings, now).await),
    };
    let told = match &verdict {
        _ if args.json => {
            let verdict = verdict.as_ref().map(Verdict::to_json);
            json!({"header": header, "claims": claims, "verdict": verdict}).to_string()
        }
        Some(verdict) => format!(
            "{}a worker with these settings says: {}",
            describe(&header, &claims, now),
            verdict.text()
        ),
        None => format!(
            "{}NOT VERIFIED: anyone can write this; `countersign token verify` checks it",
            describe(&header, &claims, now)
        ),
    };
    print::line(&told);
    // What was asked for was shown; that a worker could not say more is another thing.
    Ok(match verdict {
        Some(verdict @ Verdict::Unknown(_)) => ExitCode::from(verdict.status()),
        _ => ExitCode::SUCCESS,
    })
}

/// Header and claims, as they stand.
fn parts(token: &str) -> anyhow::Result<(Value, Value)> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, _signature] = parts.as_slice() else {
        bail!(
            "a signed token has three parts joined by dots, this has {}",
            parts.len()
        );
    };
    Ok((part("header", header)?, part("claims", claims)?))
}

/// The same, and their times for people.
fn describe(header: &Value, claims: &Value, now: Timestamp) -> String {
    let mut text = format!("header  {header:#}\nclaims  {claims:#}\n");
    for (claim, meaning) in [("iat", "issued"), ("nbf", "good from"), ("exp", "expires")] {
        if let Some(value) = claims.get(claim) {
            text.push_str(&format!("{claim}     {}\n", time(value, meaning, now)));
        }
    }
    text
}

fn part(name: &str, text: &str) -> anyhow::Result<Value> {
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .with_context(|| format!("the {name} is not base64url"))?;
    serde_json::from_slice(&bytes).with_context(|| format!("the {name} is not JSON"))
}

/// A NumericDate (RFC 7519 §2). One in milliseconds, a common mistake, shows as a far year.
fn time(value: &Value, meaning: &str, now: Timestamp) -> String {
    let seconds = value
        .as_u64()
        .or_else(|| value.as_f64().filter(|s| *s >= 0.0).map(|s| s as u64));
    match seconds {
        // 253,402,300,799 s is the end of the year 9999.
        Some(seconds) if seconds <= 253_402_300_799 => {
            let moment = Timestamp::from_secs(seconds);
            let tense = if claimed_past(meaning, moment, now) {
                "expired"
            } else {
                meaning
            };
            format!("{tense} {} ({})", human::relative(moment, now), human::utc(moment))
        }
        Some(_) => format!("{meaning} after the year 9999: are these milliseconds? RFC 7519 wants seconds"),
        None => format!("{value} is not a time: RFC 7519 wants a number of seconds"),
    }
}

fn claimed_past(meaning: &str, moment: Timestamp, now: Timestamp) -> bool {
    meaning == "expires" && moment <= now
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!(
            "{}.{}.AA",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#),
            URL_SAFE_NO_PAD.encode(claims)
        )
    }

    fn describe_at_1000(claims: &str) -> String {
        let (header, claims) = parts(&token(claims)).unwrap();
        describe(&header, &claims, Timestamp::from_secs(1_000))
    }

    #[test]
    fn times_are_told_for_people() {
        let text = describe_at_1000(r#"{"iat":940,"exp":1300}"#);
        assert!(text.contains("issued 1 min ago (1970-01-01 00:15:40 UTC)"), "{text}");
        assert!(text.contains("expires in 5 min (1970-01-01 00:21:40 UTC)"), "{text}");
        assert!(describe_at_1000(r#"{"exp":400}"#).contains("expired 10 min ago"));
    }

    #[test]
    fn milliseconds_are_guessed() {
        assert!(describe_at_1000(r#"{"exp":1795470905000}"#).contains("milliseconds"));
    }

    #[test]
    fn what_is_no_token_is_an_error() {
        assert!(parts("a.b").is_err());
        assert!(parts("!.e30.AA").is_err());
    }
}
