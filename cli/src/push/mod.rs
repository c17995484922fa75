//! `countersign push`: something for an identity or a connection, and what becomes of it.
//!
//! A producer is no one special: any AMQP client may publish the same way. A
//! push waits, if it must, longer than anyone sits at a shell; so the outcome
//! that is waited for is the first: delivered, or held for the identity's next
//! connection.

mod outcome;
mod source;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use shared::bus::topology::keys;
use shared::bus::{Message, Properties, Value};
use shared::wire::envelope::JSON;
use shared::wire::id::ConnectionId;
use shared::wire::protocol::MAX_ID_BYTES;

use self::outcome::{Tally, Told};
use self::source::{Ids, Payloads, SourceArgs};
use crate::support::broker::BrokerArgs;
use crate::support::rpc_client::{self, NoReply, Pace, Request, Requests, RpcClient};
use crate::support::{human, print};

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign push --subject alice --payload '{\"text\":\"your parcel is there\"}'
  countersign push --subject alice --issuer https://id.example --id order-7 --payload '{\"order\":7}'
  countersign push --subject alice --subject bob --payload '\"both\"'         the same to each of them
  jq -c '.[]' news.json | countersign push --subject alice --file -        one payload a line
  countersign push --connection 0f3c9a2b7d51e604.1f --payload '\"hello\"'    `inspect identity` names connections

What cannot be delivered now is held until the identity comes back with a valid token, at most for the workers' hold-ttl.
The same --id twice is written once to a connection.

Exit status: 0 all were delivered, 1 some were refused or had no recipient, 2 some were not taken or have no
outcome, 3 some are held and the others were delivered. With --no-wait: 0 the broker has them, 2 it has not.";

/// What for whom, and how.
#[derive(Debug, Args)]
pub(crate) struct PushArgs {
    #[command(flatten)]
    recipient: RecipientArgs,
    /// The issuer of the subject; needed if workers accept several issuers.
    #[arg(long, requires = "subject", conflicts_with = "connection")]
    issuer: Option<String>,
    #[command(flatten)]
    source: SourceArgs,
    /// The push's id, by which clients know it if it comes twice: at most 128 bytes. Several pushes get a number each:
    /// ID-1, ID-2, … (default: a random one)
    #[arg(long, value_parser = id)]
    id: Option<String>,
    #[command(flatten)]
    broker: BrokerArgs,
    /// How many pushes may wait for their outcome at a time.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    in_flight: u16,
    /// How long to wait for each outcome.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = human::parse_duration)]
    timeout: Duration,
    /// Do not wait for outcomes, only for the broker's confirms.
    #[arg(long)]
    no_wait: bool,
    /// Print each outcome as JSON, one a line.
    #[arg(long, conflicts_with_all = ["quiet", "no_wait"])]
    json: bool,
    /// Do not print the outcomes.
    #[arg(long, short)]
    quiet: bool,
}

/// For whom.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
struct RecipientArgs {
    /// To all connections of this subject, or the next one. Several times: to each of them.
    #[arg(long)]
    subject: Vec<String>,
    /// To this connection and no other, while it is open.
    #[arg(long, value_name = "ID", value_parser = human::parse_connection)]
    connection: Option<ConnectionId>,
}

/// Runs it.
///
/// # Errors
/// If the broker cannot be reached, or the payloads cannot be read.
pub(crate) async fn run(args: PushArgs) -> anyhow::Result<ExitCode> {
    let payloads = args.source.open()?;
    let pace = Pace {
        in_flight: args.in_flight,
        timeout: args.timeout,
    };
    let mut line = RpcClient::open(&args.broker, pace, !args.no_wait).await?;
    let mut pushing = Pushing {
        headers: args.headers(),
        ids: Ids::new(args.id.as_deref(), payloads.count()),
        progress: rpc_client::progress(payloads.count(), "settled"),
        payloads,
        sent: 0,
        tally: Tally::default(),
        shown: match (args.quiet, args.json) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Json,
            (false, false) => Shown::Text,
        },
    };
    let asked = line.ask(keys::PUSH, &mut pushing).await;
    line.close().await;
    pushing.progress.finish_and_clear();
    asked?;
    let tally = pushing.tally;
    print::note(&tally.to_string());
    if tally.is_in_vain() {
        let namespace = &args.broker.namespace;
        print::note(&format!(
            "no outcome was reported: does a worker run in the namespace {namespace} of this broker? \
             The broker has them, and a worker that starts will deliver or hold them"
        ));
    }
    Ok(tally.exit_code())
}

impl PushArgs {
    fn headers(&self) -> Vec<(String, Value)> {
        let RecipientArgs { subject, connection } = &self.recipient;
        let connection = connection.map(|connection| connection.to_string());
        let many = (subject.len() > 1).then(|| serde_json::json!(subject).to_string());
        let one = subject.first().filter(|_| many.is_none()).cloned();
        [
            ("subject", one),
            ("subjects", many),
            ("issuer", self.issuer.clone()),
            ("connection", connection),
        ]
        .into_iter()
        .filter_map(|(name, text)| Some((name.to_owned(), Value::Text(text?))))
        .collect()
    }
}

/// What is printed of each outcome.
#[derive(Clone, Copy)]
enum Shown {
    Nothing,
    Text,
    Json,
}

/// The pushes, and what has become of them.
struct Pushing {
    headers: Vec<(String, Value)>,
    ids: Ids,
    payloads: Payloads,
    progress: ProgressBar,
    sent: u64,
    tally: Tally,
    shown: Shown,
}

impl Requests for Pushing {
    async fn next(&mut self) -> Option<anyhow::Result<Message>> {
        let payload = self.payloads.next().await?;
        let id = self.ids.of(self.sent);
        self.sent += 1;
        Some(payload.map(|payload| Message {
            body: payload.into(),
            properties: Properties {
                content_type: Some(JSON.to_owned()),
                message_id: Some(id),
                headers: self.headers.clone(),
                ..Properties::default()
            },
        }))
    }

    fn answered(&mut self, request: Option<Request>, answer: &Message) -> bool {
        // What belongs to no push of this run cannot be told of.
        let Some(request) = request else { return false };
        let told = Told::read(&answer.body);
        let id = self.ids.of(request.number);
        self.progress.suspend(|| {
            for one in &told {
                match self.shown {
                    Shown::Nothing => {}
                    Shown::Text => print::line(&one.to_text(&id)),
                    Shown::Json => print::line(&one.to_json(&id)),
                }
            }
        });
        // The outcome of one that was held may change later, while others are on their way.
        if request.waits {
            self.progress.inc(1);
            told.iter().for_each(|one| self.tally.count(&one.outcome));
        }
        true
    }

    fn settled(&mut self, number: u64, why: NoReply) {
        self.progress.inc(1);
        let id = self.ids.of(number);
        let what = match why {
            NoReply::Taken => {
                self.tally.taken += 1;
                return;
            }
            NoReply::NotTaken(error) => {
                self.tally.failed += 1;
                format!("not taken: {error}")
            }
            NoReply::Unanswered => {
                self.tally.unanswered += 1;
                "no outcome in time".to_owned()
            }
        };
        if !matches!(self.shown, Shown::Nothing) {
            self.progress.suspend(|| print::note(&format!("{id}  {what}")));
        }
    }
}

fn id(text: &str) -> Result<String, String> {
    match text.len() {
        1..=MAX_ID_BYTES => Ok(text.to_owned()),
        _ => Err(format!("want 1 to {MAX_ID_BYTES} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        push: PushArgs,
    }

    fn parsed(flags: &[&str]) -> Result<PushArgs, clap::Error> {
        let line = std::iter::once("push").chain(flags.iter().copied());
        CommandLine::try_parse_from(line).map(|line| line.push)
    }

    #[test]
    fn a_push_is_for_a_subject_or_for_a_connection() {
        let payload = ["--payload", "1"];
        let with = |flags: &[&str]| parsed(&[&payload[..], flags].concat());
        let names = |args: PushArgs| args.headers().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(with(&["--subject", "alice"]).unwrap()), ["subject"]);
        let many = with(&["--subject", "a", "--subject", "b"]).unwrap().headers();
        assert_eq!(many, [("subjects".to_owned(), Value::Text(r#"["a","b"]"#.to_owned()))]);
        assert_eq!(
            names(with(&["--subject", "a", "--issuer", "i"]).unwrap()),
            ["subject", "issuer"]
        );
        assert_eq!(
            names(with(&["--connection", "0123456789abcdef.1f"]).unwrap()),
            ["connection"]
        );
        for wrong in [
            &[][..],
            &["--issuer", "i"],
            &["--connection", "nonsense"],
            &["--subject", "a", "--connection", "0123456789abcdef.1f"],
            &["--issuer", "i", "--connection", "0123456789abcdef.1f"],
        ] {
            assert!(with(wrong).is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn what_is_published_is_the_payload_under_the_pushs_id() {
        let args = parsed(&[
            "--subject",
            "alice",
            "--payload",
            r#"{"x": 1}"#,
            "--id",
            "p",
            "--count",
            "2",
        ])
        .unwrap();
        let payloads = args.source.open().unwrap();
        let mut pushing = Pushing {
            headers: args.headers(),
            ids: Ids::new(args.id.as_deref(), payloads.count()),
            progress: ProgressBar::hidden(),
            payloads,
            sent: 0,
            tally: Tally::default(),
            shown: Shown::Nothing,
        };
        for id in ["p-1", "p-2"] {
            let message = pushing.next().await.unwrap().unwrap();
            assert_eq!(message.body, r#"{"x":1}"#);
            assert_eq!(message.properties.message_id.as_deref(), Some(id));
            assert_eq!(
                message.properties.header("subject"),
                Some(&Value::Text("alice".to_owned()))
            );
        }
        assert!(pushing.next().await.is_none());
    }
}
