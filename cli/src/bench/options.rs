//! What to measure.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};

use super::fleet::{Auth, Plan};
use super::measure::Slice;
use super::raw::Echo;
use crate::support::human;
use crate::support::ws::WsUrl;
use crate::token::SignerArgs;

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign bench --stack --raw                        a private terminator and worker, and the bare echo beside them
  countersign bench --url ws://127.0.0.1:8080 --connections 200 --seconds 30
  countersign bench --stack --rate 5000                  open loop: latency from when each message was due
  countersign bench --stack --idle 10000                 memory per idle connection
  countersign bench --stack --burst 10000 --seconds 0    ten thousand connections that all send at the same moment
  countersign bench --stack --auth both                  a token with each message against one for each connection
  countersign bench --raw --json raw.json                the bare echo alone
  countersign bench --stack --offered --plot curve.svg   latency against offered load, as a table and as a picture
  countersign bench --stack --growth --seconds 5         what a message costs with 50, 500, 5,000 and 20,000 connections
  countersign bench --stack --pushes                     pushes to all connections of one identity, to one each, and to many by one message
  countersign bench --compare                            end to end, the bare echo, and one that packs as we do, in one table

Exit status: 0 nothing was lost, duplicated or refused, 1 something was, 2 it could not be measured.";

/// Without a yardstick beside it, one long slice; with one, turns.
const INTERLEAVED_SLICES: u32 = 2;

/// 100,000 = a million at 10 per connection; what is in flight is held in memory.
const MAX_IN_FLIGHT: usize = 100_000;

/// lapin's prefetch is 16 bits wide.
const MAX_RAW_IN_FLIGHT: usize = 40_000;

/// Broker, load, terminator and worker.
const SHARERS: usize = 4;

/// From a few connections to as many as one program may hold on most machines.
const GROWTH: [usize; 4] = [50, 500, 5_000, 20_000];

/// How the load authenticates, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AuthArg {
    /// A token with each message.
    PerMessage,
    /// One auth.authenticate for each connection, and no token on messages.
    Explicit,
    /// The one and the other, by turns.
    Both,
}

/// What to measure, and on what.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Start a terminator and workers of its own, in a namespace of their own that is deleted afterwards.
    #[arg(long, conflicts_with = "url")]
    stack: bool,
    /// Measure the terminator that runs here; it must accept the tokens of --key (default: the development key).
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<WsUrl>,
    /// Measure the bare two-hop AMQP echo on the same broker too, by turns.
    #[arg(long)]
    raw: bool,
    /// Measure the same echo with many messages in one AMQP message, as terminators and workers pack them, too.
    #[arg(long)]
    raw_batch: bool,
    /// The same as --stack --raw --raw-batch.
    #[arg(long, conflicts_with = "url")]
    compare: bool,
    /// Measure the terminator's memory for so many idle, authenticated connections.
    #[arg(long, value_name = "N")]
    pub(crate) idle: Option<NonZeroUsize>,
    /// Have so many connections each send one message at the same moment, as clients do after a deploy.
    #[arg(long, value_name = "N")]
    pub(crate) burst: Option<NonZeroUsize>,
    /// Measure what a message costs with so many connections, one number after the other, at the same --rate (default: 5000).
    #[arg(long, value_name = "COUNTS", num_args = 0.., value_delimiter = ',')]
    growth: Option<Vec<NonZeroUsize>>,
    /// Measure latency at these rates of messages per second, one after the other, whether answers come or not; without
    /// rates, at 10 to 100 % of what there can be, which is measured first.
    #[arg(long, value_name = "RATES", num_args = 0.., value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) offered: Option<Vec<u32>>,
    /// Draw what --offered has measured into this file, as SVG.
    #[arg(long, value_name = "FILE", requires = "offered")]
    pub(crate) plot: Option<PathBuf>,
    /// Measure pushes to one identity with all --connections, and to as many identities with one each: in a message for each,
    /// and in messages that name them all.
    #[arg(long)]
    pub(crate) pushes: bool,
    /// How the load authenticates. Messages are equally long either way, so that the difference is the token's price.
    #[arg(long, value_enum, default_value_t = AuthArg::PerMessage)]
    auth: AuthArg,
    /// How many connections.
    #[arg(long, value_name = "N", default_value = "50")]
    connections: NonZeroUsize,
    /// How many messages of each connection are on their way at a time.
    #[arg(long, value_name = "M", default_value = "16")]
    in_flight: NonZeroUsize,
    /// How many messages to send per second, all connections together, whether answers come or not (default: each
    /// answer lets the next message go). The timer is exact to 1 ms.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// How long to measure, for each measurement; 0 for --idle and --burst only.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    seconds: u64,
    /// How long to warm up before each measurement.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = human::parse_duration)]
    warm_up: Duration,
    /// The size of a message in bytes, token included; with the development key's tokens about 272 is the minimum, and
    /// a smaller value has no effect.
    #[arg(long, value_name = "BYTES", default_value_t = 272, value_parser = size)]
    pub(crate) size: usize,
    /// How many workers --stack starts.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) workers: u16,
    /// How many worker threads each program that --stack starts has (default: one for every four processors, at least
    /// one, because broker, load, terminator and worker share them; each program of the echo has one).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_024))]
    threads: Option<u16>,
    /// The broker.
    #[arg(
        long,
        value_name = "URL",
        env = "COUNTERSIGN_AMQP_URL",
        hide_env_values = true,
        default_value = "amqp://127.0.0.1:5672/%2f"
    )]
    amqp_url: String,
    /// The store of --stack.
    #[arg(
        long,
        value_name = "URL",
        env = "COUNTERSIGN_STORE_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379"
    )]
    pub(crate) store_url: String,
    /// Write the result to this file as JSON, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) signer: SignerArgs,
}

impl BenchArgs {
    /// Refuses what contradicts itself.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let (target, echoes) = (self.stack() || self.url.is_some(), !self.echoes().is_empty());
        if !target && !echoes {
            bail!("say what to measure: --compare, --stack, --url URL, --raw or --raw-batch");
        }
        let crowd = self.idle.is_some() || self.burst.is_some();
        if !target && crowd {
            bail!("--idle and --burst need a terminator: --stack or --url URL");
        }
        let further = self.growth.is_some() || self.offered.is_some() || self.pushes;
        if !target && further {
            bail!("--growth, --offered and --pushes need a terminator: --stack or --url URL");
        }
        if self.pushes && !self.stack() {
            bail!("--pushes needs --stack: it pushes to that namespace");
        }
        if self.seconds == 0 && (echoes || further || !crowd) {
            bail!("--seconds 0 is for --idle and --burst alone");
        }
        let total = self.connections.get().checked_mul(self.in_flight.get());
        let limit = if echoes { MAX_RAW_IN_FLIGHT } else { MAX_IN_FLIGHT };
        if total.is_none_or(|total| total > limit) {
            bail!("--connections times --in-flight is more than {limit}");
        }
        Ok(())
    }

    /// How many worker threads each program of --stack has.
    pub(crate) fn threads(&self) -> usize {
        let processors = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads
            .map_or_else(|| (processors() / SHARERS).max(1), usize::from)
    }

    /// The broker: the first, if there are several.
    pub(crate) fn amqp_url(&self) -> &str {
        self.amqp_url.split(',').next().unwrap_or(&self.amqp_url).trim()
    }

    /// With how many connections to measure what a message costs, if that is asked for.
    pub(crate) fn growth(&self) -> Option<Vec<usize>> {
        let asked = self.growth.as_ref()?;
        Some(match asked.as_slice() {
            [] => GROWTH.to_vec(),
            counts => counts.iter().map(|count| count.get()).collect(),
        })
    }

    /// How many connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// How many messages are sent per second, if answers are not waited for.
    pub(crate) fn rate(&self) -> Option<u32> {
        self.rate
    }

    /// Whether anything but idle connections is asked for.
    pub(crate) fn measures_load(&self) -> bool {
        self.seconds > 0
    }

    /// Whether to start terminator and workers.
    pub(crate) fn stack(&self) -> bool {
        self.stack || self.compare
    }

    /// Which bare echoes to measure.
    pub(crate) fn echoes(&self) -> Vec<Echo> {
        let asked = [(self.raw, Echo::Single), (self.raw_batch, Echo::Packed)];
        let asked = asked.into_iter().filter(|(asked, _)| *asked || self.compare);
        asked.map(|(_, echo)| echo).collect()
    }

    /// How many messages are on their way, all connections together.
    pub(crate) fn total_in_flight(&self) -> usize {
        self.connections.get() * self.in_flight.get()
    }

    /// How the load authenticates, one way after the other; none if there is no load.
    pub(crate) fn auths(&self) -> &'static [Auth] {
        if !self.measures_load() || !(self.stack() || self.url.is_some()) {
            return &[];
        }
        match self.auth {
            AuthArg::PerMessage => &[Auth::PerMessage],
            AuthArg::Explicit => &[Auth::Explicit],
            AuthArg::Both => &[Auth::PerMessage, Auth::Explicit],
        }
    }

    /// How many slices of each kind there are.
    pub(crate) fn slices(&self) -> u32 {
        if self.seconds == 0 {
            0
        } else if self.echoes().len() + self.auths().len() > 1 {
            INTERLEAVED_SLICES
        } else {
            1
        }
    }

    /// How long each is.
    pub(crate) fn slice(&self) -> Slice {
        Slice {
            warm_up: self.warm_up,
            measure: Duration::from_secs(self.seconds) / self.slices().max(1),
        }
    }

    /// What the connections do.
    pub(crate) fn plan(&self, auth: Auth) -> Plan {
        Plan {
            auth,
            connections: self.connections.get(),
            in_flight: self.in_flight.get(),
            size: self.size,
            rate: self.rate.map(f64::from),
            // Longer than any slice with its warm-up and its drain.
            token_lifetime: self.warm_up + Duration::from_secs(self.seconds + 300),
        }
    }
}

fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ 1..=1_048_576) => Ok(bytes),
        _ => Err("want 1 to 1048576".to_owned()),
    }
}
