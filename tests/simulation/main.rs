//! Simulations: the real terminators and workers in bad weather, under a clock that skips whatever no one waits for.
//!
//! Every operation of the bus and of the store takes a random time, so that each
//! of their awaits is a place at which the others go on, or at which a process
//! dies. What happens is drawn from a seed, and happens again from the same seed:
//!
//! ```text
//! tests/simulation/run                          thousands within a minute or two
//! SIM_SEED=4711 tests/simulation/run every      one seed, with all that could be seen
//! SIM_SEED=4711 SIM_TELL=1 …                    also if nothing is wrong
//! SIM_SEED=4711 SIM_LOG=debug …                 and with what terminators and workers log
//! SIM_SEEDS=100000 SIM_FIRST=5000 …             so many, from there
//! ```
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the functions that simulations share are test code, and fail as claims do"
)]

mod oracle;
mod order;
pub(crate) mod parts;
mod reach;
mod run;
mod scenario;
mod seat;
mod trace;
mod world;

use self::reach::Reach;
use self::run::{Run, one_seed, seeds, told};

/// How many seeds each time. `SIM_SEEDS` asks for more.
const SEEDS: u64 = if EXACT { 3_000 } else { 300 };
/// How many histories each time.
const HISTORIES: u64 = if EXACT { 10_000 } else { 300 };
/// How many seeds twice.
const TWICE: u64 = if EXACT { 300 } else { 20 };

/// Whether tokio draws from the seed, too: this is `tests/simulation/run`, and no unoptimized build.
const EXACT: bool = cfg!(tokio_unstable);

#[test]
fn every_promise_is_kept_whatever_the_weather() {
    let reach = Reach::default();
    let failed = seeds(SEEDS, |seed| {
        let run = Run::of(seed);
        reach.count(&run.trace);
        (!run.wrong.is_empty() || told()).then(|| run.report())
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    println!("{}", reach.table());
    assert!(
        one_seed() || reach.missing().is_empty(),
        "never seen: {:?}",
        reach.missing()
    );
}

#[test]
fn whatever_the_order_of_processing_the_effect_is_that_of_the_order_of_sending() {
    let failed = seeds(HISTORIES, |seed| {
        let run = Run::of_history(seed);
        (!run.wrong.is_empty()).then(|| run.report())
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_seed_does_the_same_again() {
    let differing = seeds(TWICE, |seed| {
        let (one, other) = (Run::of(seed), Run::of(seed));
        (one.digest() != other.digest()).then(|| one.difference(&other))
    });
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
