//! `countersign inject`: messages straight into the queue, and their answers.
//!
//! An injector is no one special: any AMQP client may publish the same way, and
//! only the token in a message says whose it is.

mod source;
mod tally;

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::ProgressBar;
use shared::bus::topology::keys;
use shared::bus::{Message, Properties, Value};
use shared::wire::envelope::JSON;

use self::source::{Source, SourceArgs};
use self::tally::Tally;
use crate::support::broker::BrokerArgs;
use crate::support::message::Answer;
use crate::support::rpc_client::{self, NoReply, Pace, Request, Requests, RpcClient};
use crate::support::{human, print};

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign inject --payload '{\"x\":1}' --token \"$(countersign token mint alice)\"
  countersign inject --count 10000 --in-flight 500 --quiet --token \"$(countersign token mint alice)\"
  countersign inject --file messages.jsonl        one whole message a line; - is standard input

Exit status: 0 all were answered without error, 1 some were refused, 2 some were not answered or not sent.";

/// Which messages, where to, and how.
#[derive(Debug, Args)]
pub(crate) struct InjectArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    #[command(flatten)]
    source: SourceArgs,
    /// How many messages may wait for their answers at a time.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    in_flight: u16,
    /// How long to wait for each answer.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = human::parse_duration)]
    timeout: Duration,
    /// Do not print the answers.
    #[arg(long, short)]
    quiet: bool,
}

/// Runs it.
///
/// # Errors
/// If the broker cannot be reached, or the messages cannot be read.
pub(crate) async fn run(args: InjectArgs) -> anyhow::Result<ExitCode> {
    let source = args.source.open()?;
    let pace = Pace {
        in_flight: args.in_flight,
        timeout: args.timeout,
    };
    let mut line = RpcClient::open(&args.broker, pace, true).await?;
    let mut injection = Injection {
        progress: rpc_client::progress(source.count(), "answered"),
        source,
        tally: Tally::begin(),
        quiet: args.quiet,
    };
    let asked = line.ask(keys::MESSAGE, &mut injection).await;
    line.close().await;
    injection.progress.finish_and_clear();
    injection.tally.end();
    asked?;
    let tally = injection.tally;
    print::note(&tally.to_string());
    if tally.is_in_vain() {
        let namespace = &args.broker.namespace;
        print::note(&format!(
            "nothing was answered: does a worker run in the namespace {namespace} of this broker?"
        ));
    }
    Ok(tally.exit_code())
}

/// The messages, and what has become of them.
struct Injection {
    source: Source,
    tally: Tally,
    progress: ProgressBar,
    quiet: bool,
}

impl Requests for Injection {
    async fn next(&mut self) -> Option<anyhow::Result<Message>> {
        let text = self.source.next().await?;
        Some(text.map(|text| {
            self.tally.sent += 1;
            Message {
                body: Bytes::from(text),
                properties: Properties {
                    content_type: Some(JSON.to_owned()),
                    ..Properties::default()
                },
            }
        }))
    }

    fn answered(&mut self, request: Option<Request>, answer: &Message) -> bool {
        let more = matches!(answer.properties.header("more"), Some(Value::Flag(true)));
        if !answer.body.is_empty() && !self.quiet {
            self.progress
                .suspend(|| print::line(&String::from_utf8_lossy(&answer.body)));
        }
        // An answer to what is settled already came too late, or twice after a broker loss.
        if !more && request.is_some_and(|request| request.waits) {
            self.progress.inc(1);
            if Answer::read(&answer.body).is_some_and(|answer| answer.is_refusal()) {
                self.tally.refused += 1;
            } else {
                self.tally.answered += 1;
            }
        }
        !more
    }

    fn settled(&mut self, _: u64, why: NoReply) {
        match why {
            NoReply::Unanswered | NoReply::Taken => self.tally.unanswered += 1,
            NoReply::NotTaken(error) => {
                self.tally.failed += 1;
                if self.tally.failed == 1 {
                    self.progress
                        .suspend(|| print::note(&format!("a message was not taken: {error}")));
                }
            }
        }
    }
}
