//! Latency against offered load: an open loop at one rate after the other.
//!
//! What cannot be sent in time counts from when it was due, so that a stall is felt by all that it holds up.

use std::fmt;

use serde::Serialize;

use super::Target;
use super::fleet::{Auth, Losses};
use super::measure::{Figures, round};
use super::options::BenchArgs;

/// In parts of what was measured as the most, if no rates are given.
const SHARES: [f64; 7] = [0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 1.0];

/// One rate.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    /// Messages that were due in a second.
    pub(crate) offered: u32,
    /// Answers that came in a second.
    rate: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    p999_us: u64,
    lost: u64,
    #[serde(skip)]
    is_clean: bool,
}

/// All of them.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Curve(Vec<Point>);

impl Curve {
    /// Each of `rates` in turn; without any, shares of `most`.
    ///
    /// # Errors
    /// If there is neither, or a connection cannot be opened.
    pub(super) async fn measure(
        args: &BenchArgs,
        target: &Target,
        rates: &[u32],
        most: Option<f64>,
    ) -> anyhow::Result<Self> {
        let mut points = Vec::new();
        for offered in steps(rates, most)? {
            let mut plan = args.plan(Auth::PerMessage);
            plan.rate = Some(f64::from(offered));
            let (figures, losses) = target.slice(args.slice(), &plan).await?;
            points.push(Point::new(offered, &figures, losses));
        }
        Ok(Self(points))
    }

    pub(super) fn points(&self) -> &[Point] {
        &self.0
    }

    /// More than there can be is offered on purpose, and what is refused or lost then is what the curve shows; below the
    /// highest rate nothing may be.
    pub(super) fn is_clean(&self) -> bool {
        let below = self.0.split_last().map_or(&[][..], |(_, below)| below);
        below.iter().all(|point| point.is_clean)
    }
}

fn steps(rates: &[u32], most: Option<f64>) -> anyhow::Result<Vec<u32>> {
    match (rates, most) {
        ([], Some(most)) => Ok(SHARES.iter().map(|share| (most * share).max(1.0) as u32).collect()),
        ([], None) => anyhow::bail!("--offered without rates needs --seconds, to find out how many there can be"),
        (rates, _) => Ok(rates.to_vec()),
    }
}

impl Point {
    fn new(offered: u32, figures: &Figures, losses: Losses) -> Self {
        Self {
            offered,
            rate: round(figures.rate()),
            p50_us: figures.histogram.value_at_quantile(0.5),
            p99_us: figures.histogram.value_at_quantile(0.99),
            p999_us: figures.histogram.value_at_quantile(0.999),
            lost: losses.lost,
            is_clean: losses == Losses::default() && !figures.histogram.is_empty(),
        }
    }

    #[cfg(test)]
    pub(super) fn at(offered: u32, p50_us: u64, p99_us: u64) -> Self {
        Self {
            offered,
            rate: f64::from(offered),
            p50_us,
            p99_us,
            p999_us: p99_us,
            lost: 0,
            is_clean: true,
        }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>12} {:>12} {:>10} {:>10} {:>10} {:>6}",
            "offered/s", "answered/s", "p50 ms", "p99 ms", "p99.9 ms", "lost"
        )?;
        for point in &self.0 {
            let ms = |us: u64| us as f64 / 1_000.0;
            writeln!(
                f,
                "{:>12} {:>12.0} {:>10.2} {:>10.2} {:>10.2} {:>6}",
                point.offered,
                point.rate,
                ms(point.p50_us),
                ms(point.p99_us),
                ms(point.p999_us),
                point.lost
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_rates_it_is_shares_of_what_there_can_be() {
        assert_eq!(steps(&[7, 9], Some(1_000.0)).unwrap(), [7, 9]);
        let shares = steps(&[], Some(1_000.0)).unwrap();
        assert_eq!((shares[0], shares[shares.len() - 1]), (100, 1_000));
        assert!(steps(&[], None).is_err());
    }

    #[test]
    fn only_at_the_highest_rate_something_may_be_lost() {
        let lost = Point {
            is_clean: false,
            ..Point::at(2, 1, 1)
        };
        assert!(Curve(vec![Point::at(1, 1, 1), lost.clone()]).is_clean());
        assert!(!Curve(vec![lost, Point::at(1, 1, 1)]).is_clean());
    }
}
