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

/// What the load does at the moment.
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
    /// Nothing before the window.
    gaps: Cell<Option<Gaps>>,
}

/// How long no answer came, from the beginning of a window to its end.
#[derive(Clone, Copy, Debug)]
struct Gaps {
    last: Instant,
    longest: Duration,
}

impl Gaps {
    const fn since(began: Instant) -> Self {
        Self {
            last: began,
            longest: Duration::ZERO,
        }
    }

    fn heard(self, now: Instant) -> Self {
        let gap = now.saturating_duration_since(self.last);
        Self {
            last: now,
            longest: self.longest.max(gap),
        }
    }
}

impl Latencies {
    /// An answer has come, so long after its message should have been sent.
    pub(crate) fn answered(&self, latency: Duration) {
        if self.phase.get() == Phase::Measure {
            let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            self.histogram.borrow_mut().saturating_record(us.clamp(1, HIGHEST_US));
            let now = Instant::now();
            self.gaps.set(self.gaps.get().map(|gaps| gaps.heard(now)));
        }
    }
}

/// What one or more windows have shown.
pub(crate) struct Figures {
    pub(crate) histogram: Histogram<u64>,
    pub(crate) measured: Duration,
    /// Nothing where it is not known: a process that cannot be seen from here, or that is another than before.
    pub(crate) cpu_us: BTreeMap<String, Option<u64>>,
    /// The longest time without an answer.
    pub(crate) longest_gap: Duration,
}

impl Figures {
    /// Nothing measured yet.
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            histogram: Histogram::new_with_bounds(1, HIGHEST_US, DIGITS)?,
            measured: Duration::ZERO,
            cpu_us: BTreeMap::new(),
            longest_gap: Duration::ZERO,
        })
    }

    /// Adds another window.
    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        self.histogram.add(&other.histogram)?;
        self.measured += other.measured;
        for (name, us) in &other.cpu_us {
            let sum = self.cpu_us.entry(name.clone()).or_insert(Some(0));
            *sum = sum.zip(*us).map(|(one, other)| one + other);
        }
        self.longest_gap = self.longest_gap.max(other.longest_gap);
        Ok(())
    }

    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.histogram.len() as f64 / self.measured.as_secs_f64().max(f64::EPSILON)
    }

    /// CPU time of each process per answer, in microseconds.
    pub(crate) fn cpu_us_per_message(&self) -> BTreeMap<String, Option<f64>> {
        let messages = self.histogram.len().max(1) as f64;
        self.cpu_us
            .iter()
            .map(|(name, us)| (name.clone(), us.map(|us| round(us as f64 / messages))))
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
        gaps: Cell::new(None),
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
        let before = cpu_of(processes);
        let began = Instant::now();
        latencies.gaps.set(Some(Gaps::since(began)));
        turn(Phase::Measure);
        tokio::time::sleep(slice.measure).await;
        turn(Phase::Drain);
        figures.measured = began.elapsed();
        let gaps = latencies.gaps.get().map(|gaps| gaps.heard(Instant::now()));
        figures.longest_gap = gaps.map_or(Duration::ZERO, |gaps| gaps.longest);
        for (name, after) in cpu_of(processes) {
            let before = before.get(&name).copied().flatten();
            figures.cpu_us.insert(name, used(before, after));
        }
        Ok(())
    };
    let ((), outcome) = tokio::try_join!(lead, load(phases, latencies.clone()))?;
    figures.histogram = latencies.histogram.borrow().clone();
    Ok((figures, outcome))
}

/// Processes of the same name are added up. One that has ended is no reason to stop: faults are a finest hour.
fn cpu_of(processes: &[Process]) -> BTreeMap<String, Option<u64>> {
    let mut used: BTreeMap<String, Option<u64>> = BTreeMap::new();
    for process in processes {
        let of_this = process.pid.and_then(|pid| cpu::used_us(pid).ok());
        let sum = used.entry(process.name.clone()).or_insert(Some(0));
        *sum = sum.zip(of_this).map(|(one, other)| one + other);
    }
    used
}

/// What was used in between. Who used nothing is not who did the work, but who passes it on, as the proxy of a container's port does.
fn used(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    let (before, after) = before.zip(after)?;
    after.checked_sub(before).filter(|used| *used > 0)
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

    #[test]
    fn the_longest_time_without_an_answer_counts_from_the_beginning_to_the_end() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let gaps = [at(10), at(11), at(300), at(310)];
        let longest = gaps.into_iter().fold(Gaps::since(began), Gaps::heard).longest;
        assert_eq!(longest, Duration::from_millis(289));
        assert_eq!(Gaps::since(began).heard(at(700)).longest, Duration::from_millis(700));
    }

    #[test]
    fn what_is_not_known_is_unknown_and_stays_so() {
        assert_eq!(used(Some(10), Some(30)), Some(20));
        for (before, after) in [
            (None, Some(5)),
            (Some(5), None),
            (Some(5), Some(5)),
            (Some(50), Some(5)),
        ] {
            assert_eq!(used(before, after), None, "{before:?} {after:?}");
        }
        let process = |pid| Process {
            name: "broker".to_owned(),
            pid,
        };
        // One that has ended, one that cannot be seen.
        for gone in [Some(u32::MAX), None] {
            assert_eq!(cpu_of(&[process(gone)])["broker"], None);
            assert_eq!(
                cpu_of(&[process(gone), process(Some(std::process::id()))])["broker"],
                None
            );
        }
        let mut figures = Figures::new().unwrap();
        for us in [Some(5), None, Some(5)] {
            let mut other = Figures::new().unwrap();
            other.cpu_us.insert("broker".to_owned(), us);
            figures.add(&other).unwrap();
        }
        assert_eq!(figures.cpu_us["broker"], None);
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
