//! A terminator whose clock is wrong by as many seconds as `TESTS_CLOCK_AHEAD_S` says.

use std::{process::ExitCode, sync::Arc, time::Duration};

use shared::service::clock::{Clock, SystemClock, Timestamp};

struct Skewed(i64);

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        let (now, by) = (SystemClock.now(), Duration::from_secs(self.0.unsigned_abs()));
        if self.0 < 0 {
            now.saturating_sub(by)
        } else {
            now.saturating_add(by)
        }
    }
}

fn main() -> ExitCode {
    let ahead = std::env::var("TESTS_CLOCK_AHEAD_S")
        .ok()
        .and_then(|text| text.parse().ok());
    terminator::program::run_by(std::env::args_os().skip(1), Arc::new(Skewed(ahead.unwrap_or_default())))
}
