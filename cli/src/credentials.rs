//! `countersign credentials`: which keys, passwords and certificates programs have in force.
//!
//! They are asked at their admin addresses, since a file may say one thing and a program, which has refused it, go by
//! another. What a credential is, a program tells no one.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use shared::credentials::Row;
use shared::service::clock::{Clock as _, SystemClock, Timestamp};

use crate::ready::{self, Target};
use crate::support::{human, print};

/// Shown under `--help`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign credentials http://127.0.0.1:9090 http://127.0.0.1:9091
  countersign credentials http://127.0.0.1:9091 --json | jq '.[] | select(.refused)'

Exit status: 0 all is well, 1 something is refused or has expired, 2 a program does not answer.";

/// Where it is told.
const PATH: &str = "/credentials";

/// Who is asked.
#[derive(Debug, Args)]
pub(crate) struct CredentialsArgs {
    /// The admin addresses of terminators and workers.
    #[arg(value_name = "URL", required = true, value_parser = target)]
    urls: Vec<Target>,
    /// Print JSON: an array of one object each.
    #[arg(long)]
    json: bool,
    /// How long to wait for each answer.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = human::parse_duration)]
    timeout: Duration,
}

fn target(url: &str) -> Result<Target, String> {
    let target = ready::parse_target(url)?;
    Ok(Target {
        path: PATH.to_owned(),
        ..target
    })
}

/// Asks each once.
///
/// # Errors
/// One does not answer, or in other words.
pub(crate) fn run(args: &CredentialsArgs) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    let (mut all, mut told) = (Vec::new(), Vec::new());
    for url in &args.urls {
        let asked = || format!("cannot ask http://{}{PATH}", url.authority);
        let answer = ready::ask(url, Instant::now() + args.timeout).with_context(asked)?;
        let rows = rows(&answer).with_context(asked)?;
        for row in &rows {
            let mut json = serde_json::to_value(row)?;
            json["program"] = url.authority.as_str().into();
            told.push(json);
        }
        if !args.json {
            print::line(&describe(&url.authority, &rows, now));
        }
        all.extend(rows);
    }
    if args.json {
        print::line(&serde_json::to_string_pretty(&told)?);
    }
    Ok(if all.iter().all(|row| is_well(row, now)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn rows(answer: &[u8]) -> anyhow::Result<Vec<Row>> {
    let (status, body) = ready::read(answer)?;
    if status != 200 {
        bail!("status {status}: is it older than this tool?");
    }
    serde_json::from_str(body).context("the answer cannot be read")
}

fn is_well(row: &Row, now: Timestamp) -> bool {
    row.refused.is_none() && row.until.is_none_or(|until| Timestamp::from_secs(until) > now)
}

/// A line for each, and another for what is wrong with it.
fn describe(program: &str, rows: &[Row], now: Timestamp) -> String {
    let mut text = format!(
        "{program}: {} in force",
        rows.iter().filter(|row| row.since.is_some()).count()
    );
    for row in rows {
        let kind = if row.kind.is_empty() { "nothing yet" } else { &row.kind };
        let _ = write!(text, "\n  {}  {}: {kind}", row.setting, row.source);
        if let Some(since) = row.since.map(Timestamp::from_secs) {
            let _ = write!(text, ", since {} ({})", human::utc(since), human::relative(since, now));
        }
        if let Some(until) = row.until.map(Timestamp::from_secs) {
            let _ = write!(text, ", until {} ({})", human::utc(until), human::relative(until, now));
        }
        if let Some(why) = &row.refused {
            let _ = write!(text, "\n    refused: {why}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            setting: "tls-cert".to_owned(),
            source: "/etc/tls/cert.pem".to_owned(),
            kind: "server certificate".to_owned(),
            since: Some(1_000),
            until: Some(100_000),
            refused: None,
        }
    }

    #[test]
    fn what_is_refused_or_over_is_not_well() {
        let now = Timestamp::from_secs(2_000);
        assert!(is_well(&row(), now));
        assert!(!is_well(&row(), Timestamp::from_secs(100_000)));
        let refused = Row {
            refused: Some("is empty".to_owned()),
            ..row()
        };
        assert!(!is_well(&refused, now));
        let told = describe("127.0.0.1:9090", &[row(), refused], now);
        assert!(
            told.contains("2 in force") && told.contains("\n    refused: is empty"),
            "{told}"
        );
        assert!(told.contains("since 1970-01-01"), "{told}");
    }

    #[test]
    fn an_answer_that_is_none_is_said_to_be_none() {
        for wrong in ["", "HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n{}"] {
            assert!(rows(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert_eq!(rows(b"HTTP/1.1 200 OK\r\n\r\n[]").unwrap(), Vec::new());
    }
}
