//! `countersign revoke`: takes tokens back before their time, and waits until that is in force.
//!
//! A revocation is confirmed when it is recorded and every terminator and worker
//! has it on its way; until then it may be said again, as often as one likes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use shared::bus::topology::keys;
use shared::bus::{Message, Properties};
use shared::service::clock::{Clock as _, SystemClock, Timestamp};
use shared::wire::envelope::JSON;
use shared::wire::id::ConnectionId;

use crate::support::broker::BrokerArgs;
use crate::support::rpc_client::{NoReply, One, Pace, RpcClient};
use crate::support::{human, print};

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign revoke --subject alice                     log alice out everywhere; tokens issued from now on are valid
  countersign revoke --subject alice --grace 30s         ask her clients for a fresh token first
  countersign revoke --jti 3f1c --issuer https://id.example
  countersign revoke --sid 08a5019c --issuer https://id.example     one login, and all its tokens
  countersign revoke --connection 0f3c9a2b7d51e604.1f    `countersign inspect identity` names connections
  countersign revoke --subject alice --json | jq .connections      how many it has reached (of a subject, or a connection)
  countersign revoke --everyone --issued-before 2026-11-23T22:00:00Z

Exit status: 0 it is in force, 1 it was refused, 2 it was not confirmed.";

/// One request is asked.
const IN_FLIGHT: u16 = 1;

/// What is revoked, and from when.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The issuer of the subject or the token; needed if workers accept several issuers.
    #[arg(long, conflicts_with_all = ["connection", "everyone"])]
    issuer: Option<String>,
    /// Tokens issued from this moment on stay valid: seconds since 1970, or a time such as 2026-11-23T22:01:34Z
    /// (default: now).
    #[arg(long, value_name = "MOMENT", value_parser = human::parse_moment)]
    issued_before: Option<Timestamp>,
    /// How long clients may go on, and are asked for a fresh token meanwhile (default: they are closed at once).
    #[arg(long, value_name = "DURATION", value_parser = grace)]
    grace: Option<String>,
    #[command(flatten)]
    broker: BrokerArgs,
    /// How long to wait for the confirmation.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = human::parse_duration)]
    timeout: Duration,
    /// Print the confirmation, or the refusal, as JSON.
    #[arg(long)]
    json: bool,
}

/// What is revoked.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// All tokens of this subject.
    #[arg(long)]
    subject: Option<String>,
    /// The token with this claim `jti`.
    #[arg(long)]
    jti: Option<String>,
    /// All tokens of the session with this claim `sid`.
    #[arg(long)]
    sid: Option<String>,
    /// The authentication of this connection; its token stays valid elsewhere.
    #[arg(long, value_name = "ID", value_parser = human::parse_connection)]
    connection: Option<ConnectionId>,
    /// All tokens of all identities.
    #[arg(long)]
    everyone: bool,
}

/// A revocation as it crosses the broker.
#[derive(Serialize)]
struct Revocation<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<ConnectionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_before: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace: Option<&'a str>,
}

/// What a worker says to it.
#[derive(Deserialize)]
struct Confirmation {
    outcome: String,
    /// How many it has reached; none if that cannot be told.
    #[serde(default)]
    connections: Option<u64>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
    message: String,
}

/// Runs it.
///
/// # Errors
/// If no one confirmed it.
pub(crate) async fn run(args: RevokeArgs) -> anyhow::Result<ExitCode> {
    let pace = Pace {
        in_flight: IN_FLIGHT,
        timeout: args.timeout,
    };
    let mut line = RpcClient::open(&args.broker, pace, true).await?;
    let mut request = One::new(args.message(SystemClock.now()));
    let asked = line.ask(keys::REVOKE, &mut request).await;
    line.close().await;
    asked?;
    match request.reply {
        Some(Ok(answer)) => args.tell(&answer.body),
        Some(Err(NoReply::NotTaken(error))) => bail!("the broker has not taken it: {error}"),
        Some(Err(NoReply::Unanswered | NoReply::Taken)) | None => bail!(
            "no confirmation within {}: does a worker run in the namespace {} of this broker? The broker has the \
             revocation, and it comes into force as soon as a worker takes it; to be sure, say it again",
            human::duration(args.timeout),
            args.broker.namespace
        ),
    }
}

impl RevokeArgs {
    fn message(&self, now: Timestamp) -> Message {
        let TargetArgs {
            subject,
            jti,
            sid,
            connection,
            everyone,
        } = &self.target;
        // A revocation without a target means everyone, and must at least say until when.
        let issued_before = self.issued_before.or_else(|| everyone.then_some(now));
        let revocation = Revocation {
            subject: subject.as_deref(),
            jti: jti.as_deref(),
            sid: sid.as_deref(),
            connection: *connection,
            issuer: self.issuer.as_deref(),
            issued_before: issued_before.map(rounded_up),
            grace: self.grace.as_deref(),
        };
        Message {
            // Text and numbers cannot fail to be written.
            body: serde_json::to_vec(&revocation).unwrap_or_default().into(),
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                ..Properties::default()
            },
        }
    }

    fn tell(&self, body: &[u8]) -> anyhow::Result<ExitCode> {
        let text = String::from_utf8_lossy(body);
        let confirmation: Confirmation = serde_json::from_slice(body)
            .map_err(|_| anyhow!("the worker said what this version does not know: {text}"))?;
        let revoked = confirmation.outcome == "revoked";
        match confirmation.error {
            _ if self.json => print::line(&text),
            None if revoked => print::line(&in_force(confirmation.connections)),
            Some(Refusal { code, message }) => print::line(&format!("refused: {code}: {message}")),
            None => print::line(&confirmation.outcome),
        }
        Ok(ExitCode::from(u8::from(!revoked)))
    }
}

fn in_force(connections: Option<u64>) -> String {
    match connections {
        None => "revoked".to_owned(),
        Some(1) => "revoked; it has reached 1 connection".to_owned(),
        Some(count) => format!("revoked; it has reached {count} connections"),
    }
}

/// Tokens tell when they were issued in whole seconds: what was issued in the second of the moment is meant, too.
fn rounded_up(moment: Timestamp) -> u64 {
    moment.as_millis().div_ceil(1_000)
}

/// The text goes out as it stands, once it is known to be a duration.
fn grace(text: &str) -> Result<String, String> {
    human::parse_duration(text).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        revoke: RevokeArgs,
    }

    fn body(flags: &[&str]) -> Result<Value, clap::Error> {
        let line = std::iter::once("revoke").chain(flags.iter().copied());
        let message = CommandLine::try_parse_from(line)?
            .revoke
            .message(Timestamp::from_millis(1_000_001));
        Ok(serde_json::from_slice(&message.body).unwrap())
    }

    #[test]
    fn what_was_not_said_is_left_to_the_worker() {
        assert_eq!(body(&["--subject", "alice"]).unwrap(), json!({"subject": "alice"}));
        let flags = ["--jti", "3f", "--issuer", "i", "--grace", "30s", "--issued-before", "7"];
        let expected = json!({"jti": "3f", "issuer": "i", "grace": "30s", "issued_before": 7});
        assert_eq!(body(&flags).unwrap(), expected);
        let connection = "0123456789abcdef.1f";
        assert_eq!(
            body(&["--connection", connection]).unwrap(),
            json!({"connection": connection})
        );
    }

    #[test]
    fn everyone_is_meant_only_if_that_was_said() {
        assert!(body(&["--issued-before", "7"]).is_err());
        assert!(body(&["--everyone", "--subject", "alice"]).is_err());
        assert_eq!(body(&["--everyone"]).unwrap(), json!({"issued_before": 1_001}));
        assert_eq!(
            body(&["--everyone", "--issued-before", "7"]).unwrap(),
            json!({"issued_before": 7})
        );
    }

    #[test]
    fn what_is_no_duration_or_moment_is_refused() {
        assert!(body(&["--subject", "a", "--grace", "soon"]).is_err());
        assert!(body(&["--subject", "a", "--issued-before", "yesterday"]).is_err());
        assert!(body(&["--connection", "0123456789abcdef.1f", "--issuer", "i"]).is_err());
    }
}
