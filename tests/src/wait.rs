//! The one place that waits by polling.
//!
//! Claims await conditions: they are as fast as the machine lets them be, and say what never came.

use std::{
    fmt::Debug,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep, timeout_at};

/// Between two looks: short beside any limit, long beside the cost of a look.
const PAUSE: Duration = Duration::from_millis(10);

/// Durations as one says them: `2.s()`, `250.ms()`.
pub trait Span {
    /// So many seconds.
    fn s(self) -> Duration;
    /// So many milliseconds.
    fn ms(self) -> Duration;
}

impl Span for u64 {
    fn s(self) -> Duration {
        Duration::from_secs(self)
    }

    fn ms(self) -> Duration {
        Duration::from_millis(self)
    }
}

/// What a condition may answer: `true`, `Some`, `Ok` mean that it holds; anything else is shown if it never does.
pub trait Look {
    /// What is known once the condition holds.
    type Value;

    /// The value, or how it stands.
    ///
    /// # Errors
    /// What to show a person, while the condition does not hold.
    fn seen(self) -> Result<Self::Value, String>;
}

impl Look for bool {
    type Value = ();

    fn seen(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "it does not hold".into())
    }
}

impl<T> Look for Option<T> {
    type Value = T;

    fn seen(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".into())
    }
}

impl<T, E: Debug> Look for Result<T, E> {
    type Value = T;

    fn seen(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:?}"))
    }
}

/// Looks at `condition` until it holds, and returns what it then answers. One look may itself take until the limit. Time
/// in which the machine stood still, so that not even our own pause ended, is given back.
///
/// # Panics
/// If it does not hold within `limit`: with `what` and what was seen last.
pub async fn eventually<L: Look>(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> L) -> L::Value {
    let mut deadline = Instant::now() + limit;
    let mut last = "never answered".to_owned();
    while let Ok(look) = timeout_at(deadline, condition()).await {
        match look.seen() {
            Ok(value) => return value,
            Err(seen) => last = seen,
        }
        if Instant::now() + PAUSE > deadline {
            break;
        }
        let pause = Instant::now();
        sleep(PAUSE).await;
        deadline += pause.elapsed().saturating_sub(2 * PAUSE);
    }
    panic!("not within {limit:?}: {what}; seen last: {last}");
}

/// Waits for a moment that was agreed on, such as an expiry.
pub async fn until(moment: SystemTime) {
    // The clock on the wall may be set meanwhile, so it is what is looked at.
    while let Ok(left) = moment.duration_since(SystemTime::now()) {
        sleep(left.clamp(Duration::from_millis(1), PAUSE)).await;
    }
}
