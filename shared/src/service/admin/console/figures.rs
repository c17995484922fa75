//! What `/metrics` says, as the page wants it: each sample by its name, and only those that changed.

use std::collections::BTreeMap;

use serde::Serialize;

/// With what the name of every metric of ours begins.
const OURS: &str = "countersign_";
/// More samples than both programs together have; what comes beyond is not shown.
const MOST: usize = 2_000;

/// The samples of one moment, by name and labels as Prometheus writes them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Reads Prometheus's text (version 0.0.4), which here has no timestamps.
    pub(super) fn of(text: &str) -> Self {
        let samples = text.lines().filter(|line| line.starts_with(OURS));
        let samples = samples.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            let value: f64 = value.parse().ok()?;
            // JSON has no other numbers.
            value.is_finite().then(|| (name.to_owned(), value))
        });
        Self(samples.take(MOST).collect())
    }

    /// Those that are different from what they were before.
    pub(super) fn since(&self, before: &Self) -> Self {
        let changed = self.0.iter().filter(|(name, value)| before.0.get(*name) != Some(value));
        Self(changed.map(|(name, value)| (name.clone(), *value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE countersign_worker_token_verifications_total counter
countersign_worker_token_verifications_total{kind=\"valid\"} 12
countersign_worker_handler_duration_seconds_bucket{le=\"+Inf\"} 3

countersign_of_no_number NaN
process_of_somebody_else 7
";

    #[test]
    fn samples_keep_their_labels_and_others_are_left_out() {
        let figures = serde_json::to_value(Figures::of(TEXT)).unwrap();
        let expected = serde_json::json!({
            "countersign_worker_token_verifications_total{kind=\"valid\"}": 12.0,
            "countersign_worker_handler_duration_seconds_bucket{le=\"+Inf\"}": 3.0,
        });
        assert_eq!(figures, expected);
    }

    #[test]
    fn only_what_changed_is_told_again() {
        let before = Figures::of(TEXT);
        let after = Figures::of(&TEXT.replace(" 12", " 13"));
        assert_eq!(before.since(&Figures::default()), before);
        assert_eq!(before.since(&before), Figures::default());
        let changed = after.since(&before).0;
        assert_eq!(changed.into_values().collect::<Vec<_>>(), [13.0]);
    }
}
