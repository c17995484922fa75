//! What became of the messages.

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Counts, from the first message to the last answer.
#[derive(Debug)]
pub(super) struct Tally {
    began: Instant,
    took: Duration,
    pub(super) sent: u64,
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    /// The broker did not take them.
    pub(super) failed: u64,
}

impl Tally {
    pub(super) fn begin() -> Self {
        Self {
            began: Instant::now(),
            took: Duration::ZERO,
            sent: 0,
            answered: 0,
            refused: 0,
            unanswered: 0,
            failed: 0,
        }
    }

    pub(super) fn end(&mut self) {
        self.took = self.began.elapsed();
    }

    /// 0 all were answered without error, 1 some were refused, 2 some were not answered or not sent.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status())
    }

    /// Whether messages were sent and none was answered.
    pub(super) fn is_in_vain(&self) -> bool {
        self.sent > 0 && self.answered + self.refused == 0
    }

    fn status(&self) -> u8 {
        match (self.unanswered + self.failed, self.refused) {
            (0, 0) => 0,
            (0, _) => 1,
            _ => 2,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        let rate = if seconds > 0.0 {
            (self.answered + self.refused) as f64 / seconds
        } else {
            0.0
        };
        write!(
            f,
            "sent {}, answered {}, refused {}, unanswered {}",
            self.sent, self.answered, self.refused, self.unanswered
        )?;
        if self.failed > 0 {
            write!(f, ", not taken by the broker {}", self.failed)?;
        }
        write!(f, "; {rate:.0} answers/s in {seconds:.2} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_the_worst() {
        let mut tally = Tally::begin();
        tally.answered = 3;
        assert_eq!(tally.status(), 0);
        tally.refused = 1;
        assert_eq!(tally.status(), 1);
        tally.unanswered = 1;
        assert_eq!(tally.status(), 2);
        tally.unanswered = 0;
        tally.failed = 1;
        assert_eq!(tally.status(), 2);
    }
}
