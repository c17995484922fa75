//! The result, as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::fleet::{Auth, Losses};
use super::growth::Growth;
use super::measure::{Figures, round};
use super::offered::Curve;
use super::pushes::Pushes;
use super::raw::Echo;
use super::table::{cpu_columns, cpu_us_of_all, ratio};

/// What was asked for.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) end_to_end: Option<EndToEnd>,
    /// The same with a single token for each connection, if both were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) explicit: Option<EndToEnd>,
    /// What a message costs in CPU time with a token of its own, against one without: all processes but the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_cpu_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) raw: Option<Raw>,
    /// The same with many messages in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) raw_batch: Option<Raw>,
    /// `end_to_end.rate / raw_batch.rate`
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_batch: Option<f64>,
    /// `end_to_end.rate / raw.rate`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle: Option<Idle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) burst: Option<Burst>,
    /// From few connections to many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) growth: Option<Growth>,
    /// Latency at one rate after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offered: Option<Curve>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pushes: Option<Pushes>,
}

/// From a client's socket to a worker and back.
#[derive(Debug, Serialize)]
pub(crate) struct EndToEnd {
    /// Where it is told apart: a token with each message is the rule.
    #[serde(skip_serializing_if = "is_per_message")]
    auth: Auth,
    rate: f64,
    p50_us: u64,
    p99_us: u64,
    lost: u64,
    duplicated: u64,
    /// The longest time without an answer.
    longest_gap_us: u64,
    cpu_us: BTreeMap<String, Option<f64>>,
    /// Answers that were errors; they count neither as lost nor for the rate.
    #[serde(skip)]
    refused: u64,
    #[serde(skip)]
    closed: u64,
}

/// The bare echo.
#[derive(Debug, Serialize)]
pub(crate) struct Raw {
    rate: f64,
    p50_us: u64,
    p99_us: u64,
    cpu_us: BTreeMap<String, Option<f64>>,
}

/// Idle connections.
#[derive(Debug, Serialize)]
pub(crate) struct Idle {
    connections: usize,
    bytes_per_connection: u64,
    #[serde(skip)]
    bytes: u64,
}

/// Connections that all send at the same moment.
#[derive(Debug, Serialize)]
pub(crate) struct Burst {
    connections: usize,
    answered: u64,
    refused: u64,
    lost: u64,
    p50_us: u64,
    max_us: u64,
}

impl Burst {
    /// Of so many connections, those in the histogram were answered.
    pub(crate) fn new(connections: usize, answered: &Histogram<u64>, refused: u64, lost: u64) -> Self {
        Self {
            connections,
            answered: answered.len(),
            refused,
            lost,
            p50_us: answered.value_at_quantile(0.5),
            max_us: answered.max(),
        }
    }

    fn is_clean(&self) -> bool {
        self.refused + self.lost == 0
    }
}

impl EndToEnd {
    pub(crate) fn new(auth: Auth, figures: &Figures, losses: Losses) -> Self {
        Self {
            auth,
            rate: round(figures.rate()),
            p50_us: figures.histogram.value_at_quantile(0.5),
            p99_us: figures.histogram.value_at_quantile(0.99),
            lost: losses.lost,
            duplicated: losses.duplicated,
            longest_gap_us: u64::try_from(figures.longest_gap.as_micros()).unwrap_or(u64::MAX),
            cpu_us: figures.cpu_us_per_message(),
            refused: losses.refused,
            closed: losses.closed,
        }
    }

    /// Answers in a second.
    pub(crate) const fn rate(&self) -> f64 {
        self.rate
    }

    fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.refused + self.closed == 0 && self.rate > 0.0
    }
}

impl Auth {
    /// What it is called in the table.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::PerMessage => "end to end",
            Self::Explicit => "explicit",
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_per_message(auth: &Auth) -> bool {
    matches!(auth, Auth::PerMessage)
}

impl Raw {
    pub(crate) fn new(figures: &Figures) -> Self {
        Self {
            rate: round(figures.rate()),
            p50_us: figures.histogram.value_at_quantile(0.5),
            p99_us: figures.histogram.value_at_quantile(0.99),
            cpu_us: figures.cpu_us_per_message(),
        }
    }
}

impl Idle {
    /// So many connections took so many bytes together.
    pub(crate) fn new(connections: usize, bytes: u64) -> Self {
        Self {
            connections,
            bytes_per_connection: bytes / connections.max(1) as u64,
            bytes,
        }
    }
}

impl Report {
    /// Sets the one against the other.
    pub(crate) fn compare(&mut self) {
        if let (Some(end_to_end), Some(raw)) = (&self.end_to_end, &self.raw) {
            self.ratio = Some(ratio(end_to_end.rate, raw.rate));
        }
        if let (Some(end_to_end), Some(raw)) = (&self.end_to_end, &self.raw_batch) {
            self.ratio_batch = Some(ratio(end_to_end.rate, raw.rate));
        }
        if let (Some(per_message), Some(explicit)) = (&self.end_to_end, &self.explicit) {
            let both = cpu_us_of_all(&per_message.cpu_us).zip(cpu_us_of_all(&explicit.cpu_us));
            self.auth_cpu_ratio = both.map(|(one, other)| ratio(one, other));
        }
    }

    /// 0 nothing was lost, duplicated or refused, 1 something was.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(!self.is_clean()))
    }

    fn is_clean(&self) -> bool {
        let loads = self.end_to_end.iter().chain(&self.explicit).all(EndToEnd::is_clean);
        loads
            && self.burst.as_ref().is_none_or(Burst::is_clean)
            && self.growth.as_ref().is_none_or(Growth::is_clean)
            && self.offered.as_ref().is_none_or(Curve::is_clean)
            && self.pushes.as_ref().is_none_or(Pushes::is_clean)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.end_to_end.is_some() || self.raw.is_some() || self.raw_batch.is_some() {
            writeln!(
                f,
                "{:<12} {:>12} {:>10} {:>10}  CPU µs per message",
                "", "messages/s", "p50 ms", "p99 ms"
            )?;
        }
        for e in self.end_to_end.iter().chain(&self.explicit) {
            row(f, e.auth.title(), e.rate, e.p50_us, e.p99_us, &e.cpu_us)?;
        }
        for (title, raw) in [(Echo::Single, &self.raw), (Echo::Packed, &self.raw_batch)] {
            let Some(raw) = raw else { continue };
            row(f, title.title(), raw.rate, raw.p50_us, raw.p99_us, &raw.cpu_us)?;
        }
        if let Some(ratio) = self.ratio {
            writeln!(f, "end to end against bare AMQP: {ratio:.3} of its rate")?;
        }
        if let Some(ratio) = self.ratio_batch {
            writeln!(f, "end to end against the bare echo that packs: {ratio:.3} of its rate")?;
        }
        if let Some(ratio) = self.auth_cpu_ratio {
            writeln!(
                f,
                "CPU of a message with its own token, against one without: {ratio:.3}"
            )?;
        }
        for e in self.end_to_end.iter().chain(&self.explicit) {
            if self.explicit.is_some() {
                write!(f, "{}: ", e.auth.title())?;
            }
            let gap_ms = e.longest_gap_us as f64 / 1_000.0;
            write!(
                f,
                "lost {}, duplicated {}, longest gap {gap_ms:.0} ms",
                e.lost, e.duplicated
            )?;
            if e.refused + e.closed > 0 {
                write!(f, ", refused {}, connections closed early {}", e.refused, e.closed)?;
            }
            writeln!(f)?;
        }
        if let Some(burst) = &self.burst {
            let (p50_ms, max_ms) = (burst.p50_us as f64 / 1_000.0, burst.max_us as f64 / 1_000.0);
            writeln!(
                f,
                "{} connections at once: {} answered, half of them within {p50_ms:.0} ms, the last after {max_ms:.0} ms; refused {}, lost {}",
                burst.connections, burst.answered, burst.refused, burst.lost
            )?;
        }
        if let Some(idle) = &self.idle {
            let mib = idle.bytes as f64 / (1_024.0 * 1_024.0);
            let (count, each) = (idle.connections, idle.bytes_per_connection);
            writeln!(f, "{count} idle connections: {mib:.1} MiB, {each} bytes each")?;
        }
        if let Some(growth) = &self.growth {
            growth.fmt(f)?;
        }
        if let Some(offered) = &self.offered {
            offered.fmt(f)?;
        }
        if let Some(pushes) = &self.pushes {
            pushes.fmt(f)?;
        }
        Ok(())
    }
}

fn row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    rate: f64,
    p50_us: u64,
    p99_us: u64,
    cpu_us: &BTreeMap<String, Option<f64>>,
) -> fmt::Result {
    let (p50_ms, p99_ms) = (p50_us as f64 / 1_000.0, p99_us as f64 / 1_000.0);
    let cpu = cpu_columns(cpu_us);
    writeln!(f, "{name:<12} {rate:>12.0} {p50_ms:>10.2} {p99_ms:>10.2}  {cpu}")
}

#[cfg(test)]
mod tests {
    use super::super::table::LOAD;
    use super::*;
    use std::time::Duration;

    fn figures(messages: u64, latency_us: u64) -> Figures {
        let mut figures = Figures::new().unwrap();
        figures.histogram.record_n(latency_us, messages).unwrap();
        figures.measured = Duration::from_secs(2);
        figures.cpu_us.insert("broker".to_owned(), Some(messages * 50));
        figures.longest_gap = Duration::from_millis(3);
        figures
    }

    fn report(losses: Losses) -> Report {
        let mut report = Report {
            end_to_end: Some(EndToEnd::new(Auth::PerMessage, &figures(1_000, 4_000), losses)),
            raw: Some(Raw::new(&figures(2_000, 1_000))),
            ..Report::default()
        };
        report.compare();
        report
    }

    #[test]
    fn the_json_has_the_members_that_are_promised_and_no_others() {
        let mut report = report(Losses::default());
        report.idle = Some(Idle::new(10, 1_000));
        let expected = serde_json::json!({
            "end_to_end": {"rate": 500.0, "p50_us": 4_001, "p99_us": 4_001, "lost": 0, "duplicated": 0,
                           "longest_gap_us": 3_000,
                           "cpu_us": {"broker": 50.0}},
            "raw": {"rate": 1_000.0, "p50_us": 1_000, "p99_us": 1_000, "cpu_us": {"broker": 50.0}},
            "ratio": 0.5,
            "idle": {"connections": 10, "bytes_per_connection": 100}
        });
        assert_eq!(serde_json::to_value(&report).unwrap(), expected);
    }

    #[test]
    fn how_the_load_authenticated_stands_in_the_json_where_it_is_not_the_rule() {
        let mut report = report(Losses::default());
        let mut explicit = figures(1_000, 4_000);
        explicit.cpu_us = BTreeMap::from([("broker".to_owned(), Some(40_000)), (LOAD.to_owned(), Some(1_000_000))]);
        report.explicit = Some(EndToEnd::new(Auth::Explicit, &explicit, Losses::default()));
        report.compare();
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["explicit"]["auth"], "explicit");
        assert!(json["end_to_end"].get("auth").is_none());
        assert_eq!(json["auth_cpu_ratio"], 1.25);
    }

    #[test]
    fn a_crowd_of_which_one_is_not_answered_shows_in_the_status() {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        histogram.record_n(1_000, 9).unwrap();
        for (refused, lost, clean) in [(0, 0, true), (1, 0, false), (0, 1, false)] {
            let report = Report {
                burst: Some(Burst::new(10, &histogram, refused, lost)),
                ..Report::default()
            };
            assert_eq!(report.is_clean(), clean);
            assert_eq!(serde_json::to_value(&report).unwrap()["burst"]["answered"], 9);
        }
    }

    #[test]
    fn an_unknown_cost_is_a_dash_and_makes_no_ratio() {
        let mut unknown = figures(1_000, 4_000);
        unknown.cpu_us.insert("workers".to_owned(), None);
        let mut report = report(Losses::default());
        report.end_to_end = Some(EndToEnd::new(Auth::PerMessage, &unknown, Losses::default()));
        report.explicit = Some(EndToEnd::new(Auth::Explicit, &figures(1_000, 4_000), Losses::default()));
        report.compare();
        let text = report.to_string();
        assert!(
            text.contains("broker 50.0, workers -") && text.contains("longest gap 3 ms"),
            "{text}"
        );
        assert!(serde_json::to_value(&report).unwrap().get("auth_cpu_ratio").is_none());
    }

    #[test]
    fn what_was_not_asked_for_is_left_out() {
        assert_eq!(serde_json::to_value(Report::default()).unwrap(), serde_json::json!({}));
    }

    #[test]
    fn anything_that_is_not_as_it_should_be_shows_in_the_status() {
        assert!(report(Losses::default()).is_clean());
        for bad in [
            Losses {
                lost: 1,
                ..Losses::default()
            },
            Losses {
                duplicated: 1,
                ..Losses::default()
            },
            Losses {
                refused: 1,
                ..Losses::default()
            },
            Losses {
                closed: 1,
                ..Losses::default()
            },
        ] {
            assert!(!report(bad).is_clean(), "{bad:?}");
        }
    }
}
