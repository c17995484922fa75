//! `countersign bench`: how fast it is, what it costs, and whether anything gets lost.
//!
//! What is measured end to end means little without a yardstick, so `--raw`
//! measures a bare echo over the same broker in the same run. The two take
//! turns in slices, so that the machine's noise hits both alike.

mod burst;
mod cpu;
mod fleet;
mod growth;
mod idle;
mod measure;
mod offered;
mod options;
mod plot;
mod processes;
mod pushes;
mod raw;
mod report;
mod stack;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use shared::service::config::redacted;
use shared::service::lifecycle::Signals;

use self::cpu::Process;
use self::fleet::{Fleet, Losses, Plan};
use self::growth::Growth;
use self::measure::{Figures, Slice};
use self::offered::Curve;
pub(crate) use self::options::{BenchArgs, EXAMPLES};
use self::processes::{Child, this_executable};
use self::pushes::Pushes;
use self::raw::{Echo, Producer, RawQueues};
pub(crate) use self::raw::{RawEchoArgs, run_echo as raw_echo};
use self::report::{EndToEnd, Report};
use self::stack::Stack;
use self::table::LOAD;
use crate::support::print;
use crate::support::ws::WsUrl;
use crate::token::Signer;

/// Runs it.
///
/// # Errors
/// What kept it from measuring. What the measurement shows is not an error: see the exit status.
pub(crate) async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    args.check()?;
    rlimit::increase_nofile_limit(u64::MAX).context("cannot raise the limit of open files")?;
    // What was started and declared must be ended and deleted, whatever happens.
    let mut asked_to_end = Signals::listen().context("cannot listen for signals")?;
    let stack = if args.stack() {
        Some(Stack::start(&args).await?)
    } else {
        None
    };
    let echoes: Vec<_> = args.echoes().into_iter().map(|echo| (echo, RawQueues::new())).collect();
    let measured = tokio::select! {
        measured = measure(&args, stack.as_ref(), &echoes) => measured,
        () = asked_to_end.next() => Err(anyhow::anyhow!("interrupted")),
    };
    for (_, raw) in echoes {
        stack::delete_namespace(args.amqp_url(), &raw.namespace, &[raw.answer.name]).await;
    }
    if let Some(stack) = stack {
        stack.end().await;
    }
    let report = measured?;
    print::line(report.to_string().trim_end());
    if let Some(path) = &args.json {
        let json = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let (Some(path), Some(curve)) = (&args.plot, &report.offered) {
        let picture = plot::svg(curve.points())?;
        std::fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report.exit_code())
}

async fn measure(args: &BenchArgs, stack: Option<&Stack>, echoes: &[(Echo, RawQueues)]) -> anyhow::Result<Report> {
    let target = match stack {
        Some(stack) => Some(Target::stack(args, stack)?),
        None => args.url.clone().map(|url| Target::running(args, url)).transpose()?,
    };
    let mut report = Report::default();
    let mut bare = Vec::new();
    for (echo, queues) in echoes {
        bare.push((RawPath::open(args, *echo, queues).await?, Figures::new()?));
    }
    let mut loads = Vec::new();
    for auth in args.auths() {
        loads.push((*auth, Figures::new()?, Losses::default()));
    }
    let progress = progress(args);
    for _ in 0..args.slices() {
        for (raw, figures) in &mut bare {
            progress.set_message(raw.echo.title());
            figures.add(&raw.slice(args).await?)?;
            progress.inc(1);
        }
        let Some(target) = &target else { continue };
        for (auth, figures, losses) in &mut loads {
            progress.set_message(auth.title());
            let (of_slice, lost) = target.slice(args.slice(), &args.plan(*auth)).await?;
            figures.add(&of_slice)?;
            losses.add(&lost);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    for (raw, figures) in &bare {
        let place = match raw.echo {
            Echo::Single => &mut report.raw,
            Echo::Packed => &mut report.raw_batch,
        };
        *place = Some(report::Raw::new(figures));
    }
    let mut loads = loads
        .iter()
        .map(|(auth, figures, losses)| EndToEnd::new(*auth, figures, *losses));
    report.end_to_end = loads.next();
    report.explicit = loads.next();
    report.compare();
    if let (Some(counts), Some(target)) = (args.growth(), &target) {
        report.growth = Some(Growth::measure(args, target, &counts).await?);
    }
    if let (Some(rates), Some(target)) = (&args.offered, &target) {
        let most = report.end_to_end.as_ref().map(EndToEnd::rate);
        report.offered = Some(Curve::measure(args, target, rates, most).await?);
    }
    if let (true, Some(target), Some(stack)) = (args.pushes, &target, stack) {
        report.pushes = Some(Pushes::measure(args, target, stack.namespace()).await?);
    }
    if let (Some(count), Some(target)) = (args.burst, &target) {
        report.burst = Some(burst::measure(&target.url, &target.signer, count.get()).await?);
    }
    if let (Some(count), Some(target)) = (args.idle, &target) {
        report.idle = Some(idle::measure(&target.url, &target.signer, count.get(), target.terminator()?).await?);
    }
    Ok(report)
}

fn progress(args: &BenchArgs) -> ProgressBar {
    let slices = u64::from(args.slices()) * (args.echoes().len() + args.auths().len()) as u64;
    let bar = ProgressBar::new(slices);
    // Without a style that parses, the bar's own will do. On what is no terminal it stays hidden.
    if let Ok(style) = ProgressStyle::with_template("{spinner} slice {pos}/{len} {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(250));
    bar
}

/// The terminator under load.
struct Target {
    url: WsUrl,
    signer: Signer,
    processes: Vec<Process>,
}

impl Target {
    fn stack(args: &BenchArgs, stack: &Stack) -> anyhow::Result<Self> {
        let mut processes = stack.processes();
        processes.push(broker(args.amqp_url()));
        processes.push(this_process(LOAD));
        Ok(Self {
            url: stack.url().clone(),
            signer: Signer::development()?,
            processes,
        })
    }

    /// Of a terminator that runs already, only what is on this machine can be watched.
    fn running(args: &BenchArgs, url: WsUrl) -> anyhow::Result<Self> {
        let mut processes = vec![this_process(LOAD)];
        processes.push(Process {
            name: TERMINATOR.to_owned(),
            pid: url.loopback().and_then(|(ip, port)| cpu::listener(ip, port)),
        });
        // They listen to no one that we know.
        processes.push(Process {
            name: "workers".to_owned(),
            pid: None,
        });
        processes.push(broker(args.amqp_url()));
        Ok(Self {
            url,
            signer: args.signer.signer()?,
            processes,
        })
    }

    /// What a new fleet measures in that time.
    async fn slice(&self, slice: Slice, plan: &Plan) -> anyhow::Result<(Figures, Losses)> {
        let fleet = Fleet::open(&self.url, &self.signer, plan).await?;
        measure::slice(slice, &self.processes, |phases, latencies| {
            fleet.load(phases, latencies)
        })
        .await
    }

    fn terminator(&self) -> anyhow::Result<u32> {
        let terminator = self.processes.iter().find(|process| process.name == TERMINATOR);
        match terminator.and_then(|process| process.pid) {
            Some(pid) => Ok(pid),
            None => bail!("--idle needs the terminator on this machine, to see its memory"),
        }
    }
}

/// What the terminator's process is called in the results.
const TERMINATOR: &str = "terminator";

/// The bare echo: its process, and this end of it.
struct RawPath {
    echo: Echo,
    producer: Producer,
    processes: Vec<Process>,
    /// Ended when it is dropped.
    _echo: Child,
}

impl RawPath {
    async fn open(args: &BenchArgs, how: Echo, queues: &RawQueues) -> anyhow::Result<Self> {
        let url = args.amqp_url();
        queues.declare(url).await?;
        let in_flight = args.total_in_flight();
        let prefetch = raw::prefetch(in_flight).to_string();
        let echo = [
            ["raw-echo", "--request", &queues.request.name],
            ["--answer", &queues.answer.name, "--prefetch"],
        ];
        let arguments = echo.iter().flatten().copied().chain([prefetch.as_str()]);
        let (child, _ready) =
            Child::start("echo", &this_executable()?, arguments, [("COUNTERSIGN_AMQP_URL", url)]).await?;
        let producer = Producer::open(url, queues, how, in_flight, args.size).await?;
        let mut processes = vec![child.process().clone(), this_process("producer")];
        processes.push(broker(url));
        Ok(Self {
            echo: how,
            producer,
            processes,
            _echo: child,
        })
    }

    async fn slice(&mut self, args: &BenchArgs) -> anyhow::Result<Figures> {
        let producer = &mut self.producer;
        let load = async |phases, latencies| producer.load(phases, latencies).await;
        let (figures, ()) = measure::slice(args.slice(), &self.processes, load).await?;
        Ok(figures)
    }
}

fn this_process(name: &str) -> Process {
    Process {
        name: name.to_owned(),
        pid: Some(std::process::id()),
    }
}

/// The broker's process, if it can be seen from here.
fn broker(amqp_url: &str) -> Process {
    Process {
        name: "broker".to_owned(),
        pid: broker_pid(amqp_url),
    }
}

fn broker_pid(amqp_url: &str) -> Option<u32> {
    let uri: lapin::uri::AMQPUri = amqp_url.parse().ok()?;
    let ip = match uri.authority.host.as_str() {
        "localhost" => std::net::Ipv4Addr::LOCALHOST.into(),
        host => host.parse().ok()?,
    };
    let pid = cpu::listener(ip, uri.authority.port)?;
    tracing::debug!(url = redacted(amqp_url), pid, "the broker is here");
    Some(pid)
}
