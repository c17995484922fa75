//! `countersign inject`: messages straight into the queue, and their answers.
//!
//! An injector is nobody special: any AMQP client may publish the same way, and
//! only the token in a message says whose it is. The answers come to a queue
//! that belongs to this run and goes with it.

mod source;
mod tally;

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use shared::bus::topology::{Names, Topology, keys};
use shared::bus::{
    Bus as _, Consumer, Delivery, Message, Patience, Properties, Publication, PublishError, Publisher, Route, Value,
};
use shared::envelope::JSON;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use self::source::{Source, SourceArgs};
use self::tally::Tally;
use crate::message::Answer;
use crate::{broker, human, print};

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign inject --payload '{\"x\":1}' --token \"$(countersign token mint alice)\"
  countersign inject --count 10000 --in-flight 500 --quiet --token \"$(countersign token mint alice)\"
  countersign inject --file messages.jsonl        one whole message a line; - is standard input

Exit status: 0 all were answered without error, 1 some were refused, 2 some were not answered or not sent.";

/// For the last acknowledgements.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// From here on a progress bar is worth its room.
const MANY: u64 = 20;

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

/// Which broker, and what on it.
#[derive(Clone, Debug, Args)]
pub(crate) struct BrokerArgs {
    /// The broker; several nodes of a cluster are separated by commas.
    #[arg(
        long,
        value_name = "URL",
        env = "COUNTERSIGN_AMQP_URL",
        hide_env_values = true,
        value_delimiter = ',',
        default_value = "amqp://127.0.0.1:5672/%2f"
    )]
    pub(crate) amqp_url: Vec<String>,
    /// The prefix of every exchange and queue.
    #[arg(long, env = "COUNTERSIGN_NAMESPACE", default_value = "countersign")]
    pub(crate) namespace: String,
}

/// Runs it.
///
/// # Errors
/// If the broker cannot be reached, or the messages cannot be read.
pub(crate) async fn run(args: InjectArgs) -> anyhow::Result<ExitCode> {
    let source = args.source.open()?;
    let names = Names::new(&args.broker.namespace);
    let queue = names.inject_queue(rand::random());
    let reply_to = queue.name.clone();
    // An injector needs no right to declare what belongs to terminators and workers.
    let bus = broker::connect(args.broker.amqp_url.clone(), Topology::default()).await?;
    let consumer = bus.consumer(queue, args.in_flight);
    let publisher = bus.publisher(Patience::Limited(args.timeout));
    // The queue must be there before anybody is asked to answer into it.
    broker::wait_until_up(&bus).await?;
    let (settle, settled) = mpsc::unbounded_channel();
    let progress = progress(source.count());
    let injection = Injection {
        route: Route::new(&names.exchange().name, keys::MESSAGE),
        reply_to,
        publisher,
        settle,
        pending: VecDeque::new(),
        first: 0,
        tally: Tally::begin(),
        progress,
        args: &args,
    };
    let tally = injection.run(source, consumer, settled).await;
    // What is not said in time is not worth waiting for.
    let _ = timeout(CLOSE_TIMEOUT, bus.close()).await;
    let tally = tally?;
    print::note(&tally.to_string());
    if tally.is_in_vain() {
        let namespace = &args.broker.namespace;
        print::note(&format!(
            "nothing was answered: does a worker run in the namespace {namespace} of this broker?"
        ));
    }
    Ok(tally.exit_code())
}

fn progress(count: Option<u64>) -> ProgressBar {
    let (bar, style) = match count {
        Some(count) if count >= MANY => (
            ProgressBar::new(count),
            "{bar:40} {pos}/{len} answered, {per_sec}, {eta}",
        ),
        Some(_) => return ProgressBar::hidden(),
        None => (ProgressBar::no_length(), "{spinner} {pos} answered, {per_sec}"),
    };
    // Without a style that parses, the bar's own will do. On what is no terminal it stays hidden.
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

/// What became of handing one message to the broker.
struct Handed {
    number: u64,
    outcome: Result<(), PublishError>,
}

enum Event {
    /// There is room, and this is the next message; or there is none any more.
    Next(Option<anyhow::Result<String>>),
    Handed(Handed),
    Answer(Box<Delivery>),
    /// The oldest that waits has waited long enough.
    TooLate,
    /// Everything is settled.
    Finished,
}

struct Injection<'a> {
    args: &'a InjectArgs,
    route: Route,
    reply_to: String,
    publisher: Publisher,
    settle: mpsc::UnboundedSender<Handed>,
    /// When each message was sent, from number `first`; nothing once it is settled.
    pending: VecDeque<Option<Instant>>,
    first: u64,
    tally: Tally,
    progress: ProgressBar,
}

impl Injection<'_> {
    async fn run(
        mut self,
        source: Source,
        mut consumer: Consumer,
        mut settled: mpsc::UnboundedReceiver<Handed>,
    ) -> anyhow::Result<Tally> {
        let mut source = Some(source);
        loop {
            match self.next_event(&mut source, &mut consumer, &mut settled).await {
                Event::Next(Some(message)) => self.send(message.context("cannot read the messages")?).await,
                Event::Next(None) => source = None,
                Event::Handed(handed) => self.handed(handed),
                Event::Answer(delivery) => self.answer(*delivery),
                Event::TooLate => self.give_up_oldest(),
                Event::Finished => break,
            }
        }
        self.progress.finish_and_clear();
        self.tally.end();
        Ok(self.tally)
    }

    async fn next_event(
        &mut self,
        source: &mut Option<Source>,
        consumer: &mut Consumer,
        settled: &mut mpsc::UnboundedReceiver<Handed>,
    ) -> Event {
        if source.is_none() && self.pending.is_empty() {
            return Event::Finished;
        }
        let room = self.pending.len() < usize::from(self.args.in_flight);
        let deadline = self
            .pending
            .front()
            .copied()
            .flatten()
            .map(|sent| sent + self.args.timeout);
        tokio::select! {
            biased;
            Some(delivery) = consumer.recv() => Event::Answer(Box::new(delivery)),
            Some(handed) = settled.recv() => Event::Handed(handed),
            () = async { match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            } } => Event::TooLate,
            message = async { match source {
                Some(source) if room => source.next().await,
                _ => std::future::pending().await,
            } } => Event::Next(message),
        }
    }

    async fn send(&mut self, message: String) {
        let number = self.first + self.pending.len() as u64;
        self.pending.push_back(Some(Instant::now()));
        self.tally.sent += 1;
        let settle = self.settle.clone();
        let publication = Publication {
            route: self.route.clone(),
            message: Message {
                body: Bytes::from(message),
                properties: Properties {
                    content_type: Some(JSON.to_owned()),
                    correlation_id: Some(number.to_string()),
                    reply_to: Some(self.reply_to.clone()),
                    ..Properties::default()
                },
            },
            receipt: Box::new(move |outcome| {
                // If nobody listens any more, the run is over.
                let _ = settle.send(Handed { number, outcome });
            }),
        };
        self.publisher.submit(publication).await;
    }

    fn handed(&mut self, handed: Handed) {
        let Err(error) = handed.outcome else { return };
        if !self.settle(handed.number) {
            return;
        }
        self.tally.failed += 1;
        if self.tally.failed == 1 {
            self.progress
                .suspend(|| print::note(&format!("a message was not taken: {error}")));
        }
    }

    fn answer(&mut self, mut delivery: Delivery) {
        let message = delivery.take_message();
        delivery.ack();
        let number = message
            .properties
            .correlation_id
            .as_deref()
            .and_then(|id| id.parse().ok());
        let more = matches!(message.properties.header("more"), Some(Value::Flag(true)));
        if !message.body.is_empty() && !self.args.quiet {
            self.progress
                .suspend(|| print::line(&String::from_utf8_lossy(&message.body)));
        }
        let refused = Answer::read(&message.body).is_some_and(|answer| answer.is_refusal());
        // An answer to what is settled already came too late, or twice after a broker loss.
        if !more && number.is_some_and(|number| self.settle(number)) {
            self.progress.inc(1);
            if refused {
                self.tally.refused += 1;
            } else {
                self.tally.answered += 1;
            }
        }
    }

    fn give_up_oldest(&mut self) {
        if self.settle(self.first) {
            self.tally.unanswered += 1;
        }
    }

    /// Takes a message off the list of those that wait. Tells whether it was there.
    fn settle(&mut self, number: u64) -> bool {
        let index = number
            .checked_sub(self.first)
            .and_then(|index| usize::try_from(index).ok());
        let waited = index
            .and_then(|index| self.pending.get_mut(index))
            .and_then(Option::take)
            .is_some();
        while let Some(None) = self.pending.front() {
            self.pending.pop_front();
            self.first += 1;
        }
        waited
    }
}
