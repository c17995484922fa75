//! What an operator is told of refusals: one line for each kind and minute, with how many there were and why the last was.
//!
//! Anyone who is refused chooses how often that is, so a line for each would bury the log, and none at all leaves an operator
//! without a reason. The first of a kind is told at once; what follows within a minute is counted, and told when it is over.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::warn;

use super::repetition::Repetitions;

/// How exactly a minute is kept.
const LOOK: Duration = Duration::from_secs(5);

/// Counts refusals by kind.
#[derive(Debug, Default)]
pub struct Refusals(Repetitions<Refused>);

/// What is to be told of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// A word for it.
    pub code: &'static str,
    /// How many since it was told last.
    pub count: u64,
    /// Whose the last was: a connection, an address.
    pub whose: String,
    /// Why, of the last.
    pub reason: String,
}

impl Refusals {
    /// One more. What it returns is to be told now.
    ///
    /// Reasons that differ in their numbers alone are of one kind.
    pub fn count(&self, code: &'static str, whose: &dyn Display, reason: &str, now: Instant) -> Option<Refused> {
        let refused = Refused {
            code,
            count: 1,
            whose: whose.to_string(),
            reason: reason.to_owned(),
        };
        let untold = self.0.admit_as([&name_of(code, reason), code], refused.clone(), now)?;
        let count = untold.saturating_add(1);
        Some(Refused { count, ..refused })
    }

    /// What was counted and has not been told for a minute. Kinds of which there was nothing are forgotten.
    pub fn due(&self, now: Instant) -> Vec<Refused> {
        let due = self.0.due(now).into_iter();
        due.map(|(last, count)| Refused { count, ..last }).collect()
    }

    /// Logs one more, if it is to be told now.
    pub fn tell(&self, code: &'static str, whose: &dyn Display, reason: &str) {
        if let Some(refused) = self.count(code, whose, reason, Instant::now()) {
            refused.log();
        }
    }

    /// Logs what is due, for ever.
    pub async fn keep_telling(self: Arc<Self>) {
        loop {
            sleep(LOOK).await;
            self.due(Instant::now()).iter().for_each(Refused::log);
        }
    }
}

impl Refused {
    fn log(&self) {
        let Self {
            code,
            count,
            whose,
            reason,
        } = self;
        warn!(
            refused = code,
            count,
            connection = whose,
            reason,
            "refused; one line for each kind and minute"
        );
    }
}

fn name_of(code: &str, reason: &str) -> String {
    let without_numbers = reason
        .chars()
        .filter(|letter| !letter.is_ascii_digit() && *letter != ',');
    [code, ": "]
        .into_iter()
        .flat_map(str::chars)
        .chain(without_numbers)
        .collect()
}

/// A number as people read it: `11,312`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::repetition::PERIOD;

    fn told(refused: &Refused) -> (&'static str, u64, &str, &str) {
        (refused.code, refused.count, &refused.whose, &refused.reason)
    }

    #[test]
    fn the_first_of_a_kind_is_told_at_once_and_the_rest_of_a_minute_together() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let count = |whose: u64, reason: &str, after_s| {
            refusals.count("token_invalid", &whose, reason, start + Duration::from_secs(after_s))
        };
        let first = count(1, "too large: 9 of 8 bytes", 0).unwrap();
        assert_eq!(told(&first), ("token_invalid", 1, "1", "too large: 9 of 8 bytes"));
        assert!(
            count(2, "too large: 11,312 of 8 bytes", 1).is_none(),
            "numbers make no kind"
        );
        assert!(count(3, "too large: 10 of 8 bytes", 59).is_none());
        assert!(count(4, "no audience", 59).is_some(), "another kind");
        assert!(refusals.due(start + Duration::from_secs(59)).is_empty());
        let due = refusals.due(start + PERIOD);
        assert_eq!(
            due.iter().map(told).collect::<Vec<_>>(),
            [("token_invalid", 2, "3", "too large: 10 of 8 bytes")]
        );
        assert!(count(5, "too large: 10 of 8 bytes", 61).is_none(), "it was just told");
        assert_eq!(refusals.due(start + PERIOD * 2).len(), 1);
        assert_eq!(refusals.due(start + PERIOD * 4).len(), 0);
        assert_eq!(refusals.0.len(), 0, "it is forgotten");
        assert!(count(6, "too large: 10 of 8 bytes", 241).is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded_whatever_reasons_there_are() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        for first in 'a'..='z' {
            for second in 'a'..='z' {
                let _any = refusals.count("code", &"x", &format!("{first}{second}"), now);
            }
        }
        assert!(refusals.0.len() < 26 * 26 / 2);
    }

    #[test]
    fn a_number_is_grouped_by_thousands() {
        let all = [0, 999, 1_000, 11_312, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "11,312", "1,234,567"]);
    }
}
