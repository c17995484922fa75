//! How long to wait before trying again: twice as long each time, up to a limit,
//! and never as long as one's neighbour, so that a fleet does not come back all at once.

use std::time::Duration;

/// Waits that grow.
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits of about `least` at first, and of at most `most`.
    pub const fn new(least: Duration, most: Duration) -> Self {
        Self {
            least,
            most,
            next: least,
        }
    }

    /// The next wait, given a number drawn from 0.0 to 1.0: between half and all of the present limit.
    pub fn next_wait(&mut self, draw: f64) -> Duration {
        let limit = self.next;
        self.next = (self.next * 2).min(self.most);
        limit.mul_f64(0.5 + 0.5 * draw.clamp(0.0, 1.0))
    }

    /// It worked: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.next = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_limit_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let waits: Vec<_> = (0..4).map(|_| backoff.next_wait(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 350, 350]);
        backoff.reset();
        assert_eq!(backoff.next_wait(0.0).as_millis(), 50);
    }
}
