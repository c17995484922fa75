//! Many seeds, on as many threads as there are cores, and one of them with all that is to be told of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::thread;

use shared::service::config::{LogConfig, LogFilter, LogFormat, Value as _};
use shared::service::telemetry;
use tokio::runtime::Builder;

use crate::oracle::judge;
use crate::order::{self, model};
use crate::scenario::{Scenario, Settings};
use crate::trace::{Event, Line, digest};
use crate::world::{self, Remains};

/// How many failures are told in full: the first ones are the ones that are looked at.
const MOST_TOLD: usize = 3;

/// One simulation, over.
pub(crate) struct Run {
    settings: Settings,
    seed: u64,
    pub(crate) trace: Vec<(u64, Event)>,
    /// Which promises were broken, and how.
    pub(crate) wrong: Vec<String>,
}

impl Run {
    /// The simulation of that seed.
    pub(crate) fn of(seed: u64) -> Self {
        let (mut run, remains) = Self::run(Scenario::of(seed));
        run.wrong = judge(&run.settings, &run.trace, &remains);
        run
    }

    /// The history of that seed.
    pub(crate) fn of_history(seed: u64) -> Self {
        let (mut run, remains) = Self::run(order::history(seed));
        run.wrong = model::judge(&run.settings, &run.trace);
        run.wrong.extend(judge(&run.settings, &run.trace, &remains));
        run
    }

    #[expect(clippy::self_named_constructors, reason = "it is what one does with a scenario")]
    fn run(scenario: Scenario) -> (Self, Remains) {
        let (settings, seed) = (scenario.settings.clone(), scenario.seed);
        let mut runtime = Builder::new_current_thread();
        // Whom tokio itself favours among those that are ready is drawn, too.
        #[cfg(tokio_unstable)]
        runtime.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
        let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
        log();
        testkit::rng::decide_everything(seed);
        let (trace, remains) = runtime.block_on(world::run(scenario));
        let run = Self {
            settings,
            seed,
            trace,
            wrong: Vec::new(),
        };
        (run, remains)
    }

    pub(crate) fn digest(&self) -> u64 {
        digest(&self.trace)
    }

    /// What went wrong, and if one seed was asked for, all that could be seen.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("SIM_SEED={}: {}\n", self.seed, self.wrong.join("\n    "));
        if chosen().is_some() {
            text.push_str(&format!("{:#?}\n", self.settings));
            for event in &self.trace {
                text.push_str(&format!("{}\n", Line(event)));
            }
        }
        text
    }

    /// Where two runs of a seed part.
    pub(crate) fn difference(&self, other: &Self) -> String {
        let lines = |run: &Self| -> Vec<_> { run.trace.iter().map(|event| Line(event).to_string()).collect() };
        let (ours, theirs) = (lines(self), lines(other));
        let parting = ours.iter().zip(&theirs).take_while(|(one, other)| one == other).count();
        let at = |lines: &[String]| lines.get(parting).cloned().unwrap_or_default();
        format!(
            "SIM_SEED={}: the runs part at event {parting}:\n    {}\n    {}",
            self.seed,
            at(&ours),
            at(&theirs)
        )
    }
}

/// What `look` says of each seed, on every core. It stops after a few failures.
pub(crate) fn seeds(usual: u64, look: impl Fn(u64) -> Option<String> + Sync) -> Vec<String> {
    if let Some(seed) = chosen() {
        return look(seed).into_iter().collect();
    }
    let (next, found) = (AtomicU64::new(first()), Mutex::new(Vec::new()));
    let end = first() + number("SIM_SEEDS").unwrap_or(usual);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || found.lock().expect("no holder panics").len() >= MOST_TOLD {
                        return;
                    }
                    let failure = catch_unwind(AssertUnwindSafe(|| look(seed)));
                    let failure = failure.unwrap_or_else(|_| Some(format!("SIM_SEED={seed}: it panics")));
                    if let Some(failure) = failure {
                        found.lock().expect("no holder panics").push(failure);
                    }
                }
            });
        }
    });
    found.into_inner().expect("no holder panics")
}

/// With `SIM_LOG`, shows what terminators and workers log, too; each line has the time of the machine.
fn log() {
    static ONCE: Once = Once::new();
    if let Ok(filter) = std::env::var("SIM_LOG") {
        ONCE.call_once(|| {
            let logging = LogConfig {
                log_filter: LogFilter::parse(&filter).expect("a filter"),
                log_format: LogFormat::Text,
            };
            telemetry::init(&logging).expect("nobody logs yet");
        });
    }
}

/// Whether a seed is to be told of though nothing is wrong.
pub(crate) fn told() -> bool {
    number("SIM_TELL").is_some()
}

/// Whether there is one seed alone.
pub(crate) fn one_seed() -> bool {
    chosen().is_some()
}

/// The one seed that is asked for.
fn chosen() -> Option<u64> {
    number("SIM_SEED")
}

fn first() -> u64 {
    number("SIM_FIRST").unwrap_or(0)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is not a number: {text}")),
    )
}
