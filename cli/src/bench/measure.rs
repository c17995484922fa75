//! What is measured in a window of time: answers, how long they took, and the CPU time they cost.
//!
//! Load is generated in slices: warm up, measure, drain. Only what is answered
//! in the window counts for rate and latency; whatever was sent counts for loss.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::watch;

use super::cpu::{self, Process};

/// 1 µs to 60 s, to 3 digits: about 200 KiB.
const HIGHEST_US: u64 = 60_000_000;
const DIGITS: u8 = 3;

/// What the load does just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It runs, and nothing is counted.
    WarmUp,
    /// It runs, and all is counted.
    Measure,
    /// Nothing new is sent; what was is awaited.
    Drain,
}

/// The phase, for those who wait for it and those who only look.
#[derive(Clone)]
pub(crate) struct Phases {
    pub(crate) changes: watch::Receiver<Phase>,
    now: Rc<Cell<Phase>>,
}

impl Phases {
    /// The present phase.
    pub(crate) fn now(&self) -> Phase {
        self.now.get()
    }
}

/// The latencies in a window. Shared by the tasks of one thread.
pub(crate) struct Latencies {
    pub(crate) histogram: RefCell<Histogram<u64>>,
    phase: Rc<Cell<Phase>>,
}

impl Latencies {
    /// An answer has come, so long after its message should have been sent.
    pub(crate) fn answered(&self, latency: Duration) {
        if self.phase.get() == Phase::Measure {
            let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            self.histogram.borrow_mut().saturating_record(us.clamp(1, HIGHEST_US));
        }
    }
}

/// What one or more windows have shown.
pub(crate) struct Figures {
    pub(crate) histogram: Histogram<u64>,
    pub(crate) measured: Duration,
    pub(crate) cpu_us: BTreeMap<String, u64>,
}

impl Figures {
    /// Nothing measured yet.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            histogram: Histogram::new_with_bounds(1, HIGHEST_US, DIGITS)?,
            measured: Duration::ZERO,
            cpu_us: BTreeMap::new(),
        })
    }

    /// Adds another window.
    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.histogram.add(&other.histogram)?;
        self.measured += other.measured;
        for (name, us) in &other.cpu_us {
            *self.cpu_us.entry(name.clone()).or_default() += us;
        }
        Ok(())
    }

    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.histogram.len() as f64 / self.measured.as_secs_f64().max(f64::EPSILON)
    }

    /// CPU time of each process per answer, in microseconds.
    pub(crate) fn cpu_us_per_message(&self) -> BTreeMap<String, f64> {
        let messages = self.histogram.len().max(1) as f64;
        self.cpu_us
            .iter()
            .map(|(name, us)| (name.clone(), round(*us as f64 / messages)))
            .collect()
    }
}

/// To a tenth: the ticks of the kernel say no more.
pub(crate) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// How long a slice warms up and measures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slice {
    pub(crate) warm_up: Duration,
    pub(crate) measure: Duration,
}

/// Leads the load through one slice: `load` gets the phases, and ends after it has drained.
pub(crate) async fn slice<T>(
    slice: Slice,
    processes: &[Process],
    load: impl AsyncFnOnce(Phases, Rc<Latencies>) -> anyhow::Result<T>,
) -> anyhow::Result<(Figures, T)> {
    let phase = Rc::new(Cell::new(Phase::WarmUp));
    let (change, changes) = watch::channel(Phase::WarmUp);
    let mut figures = Figures::new()?;
    let latencies = Rc::new(Latencies {
        histogram: RefCell::new(figures.histogram.clone()),
        phase: phase.clone(),
    });
    let phases = Phases {
        changes,
        now: phase.clone(),
    };
    let turn = |to: Phase| {
        phase.set(to);
        change.send_replace(to);
    };
    let lead = async {
        tokio::time::sleep(slice.warm_up).await;
        let before = cpu_of(processes)?;
        let began = Instant::now();
        turn(Phase::Measure);
        tokio::time::sleep(slice.measure).await;
        turn(Phase::Drain);
        figures.measured = began.elapsed();
        for (name, us) in cpu_of(processes)? {
            let used = us.saturating_sub(before.get(&name).copied().unwrap_or(0));
            figures.cpu_us.insert(name, used);
        }
        Ok(())
    };
    let ((), outcome) = tokio::try_join!(lead, load(phases, latencies.clone()))?;
    figures.histogram = latencies.histogram.borrow().clone();
    Ok((figures, outcome))
}

/// Processes of the same name are added up.
fn cpu_of(processes: &[Process]) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut used = BTreeMap::new();
    for process in processes {
        *used.entry(process.name.clone()).or_default() += cpu::used_us(process.pid)?;
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: Slice = Slice {
        warm_up: Duration::from_millis(10),
        measure: Duration::from_millis(30),
    };

    #[tokio::test(start_paused = true)]
    async fn only_what_is_answered_in_the_window_counts() {
        let load = async |mut phases: Phases, latencies: Rc<Latencies>| {
            latencies.answered(Duration::from_millis(1));
            for phase in [Phase::Measure, Phase::Drain] {
                phases.changes.wait_for(|now| *now == phase).await?;
                latencies.answered(Duration::from_millis(2));
            }
            Ok(phases.now())
        };
        let (figures, last) = slice(SLICE, &[], load).await.unwrap();
        assert_eq!((figures.histogram.len(), last), (1, Phase::Drain));
        assert!(figures.histogram.max() >= 2_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_fails_ends_the_slice() {
        let outcome = slice(SLICE, &[], async |_, _| {
            anyhow::Result::<()>::Err(anyhow::anyhow!("broke"))
        })
        .await;
        assert!(outcome.is_err());
    }
}
