//! Growth: what a message costs when it comes from more and more connections.
//!
//! The rate is the same at each step, so that what grows is the number of connections and nothing else: as many messages
//! gather for one batch as before.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::Target;
use super::fleet::{Auth, Losses, Plan};
use super::measure::{Figures, Slice, round};
use super::options::BenchArgs;
use super::processes::check_files;
use super::table::{cpu_columns, cpu_us_of_all, ratio};

/// A rate that the smallest machine bears, and at which something gathers.
const RATE: u32 = 5_000;

/// One number of connections.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    connections: usize,
    rate: f64,
    p50_us: u64,
    p99_us: u64,
    lost: u64,
    cpu_us: BTreeMap<String, Option<f64>>,
    /// CPU time of all processes but the load, against that of the first step.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_ratio: Option<f64>,
    #[serde(skip)]
    is_clean: bool,
}

/// All of them.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Growth(Vec<Step>);

impl Growth {
    /// Each of `counts` in turn.
    ///
    /// # Errors
    /// If so many connections cannot be opened.
    pub(super) async fn measure(args: &BenchArgs, target: &Target, counts: &[usize]) -> anyhow::Result<Self> {
        let mut growth = Self(Vec::new());
        for count in counts {
            check_files(*count)?;
            let (slice, plan) = step(args, *count);
            let measured = target.slice(slice, &plan).await;
            let (figures, losses) = measured.with_context(|| format!("at {count} connections"))?;
            growth.add(*count, &figures, losses);
        }
        Ok(growth)
    }

    fn add(&mut self, connections: usize, figures: &Figures, losses: Losses) {
        let mut step = Step {
            connections,
            rate: round(figures.rate()),
            p50_us: figures.histogram.value_at_quantile(0.5),
            p99_us: figures.histogram.value_at_quantile(0.99),
            lost: losses.lost,
            cpu_us: figures.cpu_us_per_message(),
            cpu_ratio: None,
            is_clean: losses == Losses::default() && !figures.histogram.is_empty(),
        };
        let first = cpu_us_of_all(&self.0.first().unwrap_or(&step).cpu_us);
        step.cpu_ratio = cpu_us_of_all(&step.cpu_us)
            .zip(first)
            .map(|(here, first)| ratio(here, first));
        self.0.push(step);
    }

    pub(super) fn is_clean(&self) -> bool {
        self.0.iter().all(|step| step.is_clean)
    }
}

/// How long so many connections are measured, and what they do.
fn step(args: &BenchArgs, connections: usize) -> (Slice, Plan) {
    let rate = args.rate().unwrap_or(RATE);
    // Until each has sent its first message, by which it gets its grant.
    let round = Duration::from_secs_f64(connections as f64 / f64::from(rate));
    let plan = args.plan(Auth::PerMessage);
    let plan = Plan {
        connections,
        rate: Some(f64::from(rate)),
        token_lifetime: plan.token_lifetime + round,
        ..plan
    };
    let slice = args.slice();
    let slice = Slice {
        warm_up: slice.warm_up + round,
        ..slice
    };
    (slice, plan)
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>12} {:>12} {:>10} {:>10} {:>8} {:>6}  CPU µs per message",
            "connections", "messages/s", "p50 ms", "p99 ms", "CPU", "lost"
        )?;
        for step in &self.0 {
            let (p50_ms, p99_ms) = (step.p50_us as f64 / 1_000.0, step.p99_us as f64 / 1_000.0);
            let ratio = step.cpu_ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}x"));
            writeln!(
                f,
                "{:>12} {:>12.0} {p50_ms:>10.2} {p99_ms:>10.2} {ratio:>8} {:>6}  {}",
                step.connections,
                step.rate,
                step.lost,
                cpu_columns(&step.cpu_us)
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::table::LOAD;
    use super::*;

    #[derive(Parser)]
    struct Arguments {
        #[command(flatten)]
        bench: BenchArgs,
    }

    #[test]
    fn tokens_outlive_the_round_in_which_each_connection_sends_its_first_message() {
        let arguments = Arguments::parse_from(["bench", "--stack", "--rate", "10", "--seconds", "5"]);
        let (slice, plan) = step(&arguments.bench, 20_000);
        assert!(slice.warm_up >= Duration::from_secs(2_000));
        assert!(plan.token_lifetime > slice.warm_up + slice.measure);
        assert_eq!((plan.connections, plan.rate), (20_000, Some(10.0)));
    }

    fn figures(broker_us: u64) -> Figures {
        let mut figures = Figures::new().unwrap();
        figures.histogram.record_n(1_000, 100).unwrap();
        figures.measured = Duration::from_secs(1);
        figures.cpu_us = BTreeMap::from([
            ("broker".to_owned(), Some(broker_us)),
            (LOAD.to_owned(), Some(1_000_000)),
        ]);
        figures
    }

    #[test]
    fn each_step_is_set_against_the_first_without_what_the_load_costs() {
        let mut growth = Growth(Vec::new());
        growth.add(50, &figures(1_000), Losses::default());
        growth.add(500, &figures(1_300), Losses::default());
        let ratios: Vec<_> = growth.0.iter().map(|step| step.cpu_ratio).collect();
        assert_eq!(ratios, [Some(1.0), Some(1.3)]);
        assert!(growth.is_clean() && growth.to_string().contains("1.30x"));
        let lost = Losses {
            lost: 1,
            ..Losses::default()
        };
        growth.add(5_000, &figures(1_000), lost);
        assert!(!growth.is_clean());
    }
}
