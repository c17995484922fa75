//! How many AMQP messages a consumer is given ahead, when each may be many: pure.
//!
//! What is delivered to one worker is lost to all others until it is handled, and the broker counts AMQP messages. So
//! the prefetch that is asked of it is what is meant in messages, divided by how many there are in each of late. Where they are
//! large, it is less: what is meant has a bound in bytes, too.

/// Before anything is known it is this part of what is meant, since each may be many; but not less than that number.
const CAUTION: u16 = 8;
const LEAST: u16 = 8;
/// How many bytes a consumer is given ahead, as far as can be told from what came of late.
const MOST_BYTES: f64 = 64.0 * 1_024.0 * 1_024.0;
/// A change by less is not worth the trouble.
const WORTH: f64 = 1.5;
/// How much what came since the last look counts against all before it.
const WEIGHT: f64 = 0.3;

/// The pace of one consumer.
pub(super) struct Pace {
    /// How many messages it may have at the most.
    most: u16,
    /// The prefetch in force, in AMQP messages.
    current: u16,
    /// How many AMQP messages are not settled.
    unsettled: usize,
    /// Whether it was given all that it may have since the last look.
    was_full: bool,
    /// AMQP messages since the last look, and how many messages and bytes were in them.
    carriers: usize,
    carried: usize,
    bytes: usize,
    /// How many messages are in one of AMQP's, of late; nothing before the first.
    mean: Option<f64>,
    /// How many bytes are in one of AMQP's, of late.
    mean_bytes: f64,
}

impl Pace {
    pub(super) fn new(most: u16) -> Self {
        Self {
            most,
            current: (most / CAUTION).max(LEAST).min(most),
            unsettled: 0,
            was_full: false,
            carriers: 0,
            carried: 0,
            bytes: 0,
            mean: None,
            mean_bytes: 0.0,
        }
    }

    /// The prefetch in force.
    pub(super) const fn prefetch(&self) -> u16 {
        self.current
    }

    /// An AMQP message with so many messages and bytes came.
    pub(super) fn delivered(&mut self, messages: usize, bytes: usize) {
        self.unsettled += 1;
        self.was_full |= self.unsettled >= usize::from(self.current);
        self.carriers += 1;
        self.carried += messages;
        self.bytes += bytes;
    }

    /// So many AMQP messages are settled.
    pub(super) fn settled(&mut self, carriers: usize) {
        self.unsettled = self.unsettled.saturating_sub(carriers);
    }

    /// The prefetch from now on, if it is another.
    pub(super) fn look(&mut self) -> Option<u16> {
        if self.carriers > 0 {
            let mean = self.carried as f64 / self.carriers as f64;
            self.mean = Some(self.mean.map_or(mean, |before| before + WEIGHT * (mean - before)));
            let bytes = self.bytes as f64 / self.carriers as f64;
            // Large ones count at once.
            self.mean_bytes = bytes.max(self.mean_bytes + WEIGHT * (bytes - self.mean_bytes));
            (self.carriers, self.carried, self.bytes) = (0, 0, 0);
        }
        let mean = self.mean.unwrap_or(1.0).max(1.0);
        let in_messages = (f64::from(self.most) / mean).ceil();
        let wanted = in_messages.min(MOST_BYTES / self.mean_bytes.max(1.0)).max(1.0).floor();
        let was_full = std::mem::replace(&mut self.was_full, self.unsettled >= usize::from(self.current));
        let current = f64::from(self.current);
        let changes = if wanted > current {
            was_full && (wanted >= current * WORTH || wanted >= f64::from(self.most))
        } else {
            wanted * WORTH <= current
        };
        changes.then(|| {
            // It is at most `most`, which is 16 bits wide.
            self.current = wanted as u16;
            self.current
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Before a queue that is never empty, whose AMQP messages are of `messages` each, and nothing is ever settled.
    fn given(most: u16, messages: usize) -> usize {
        let mut pace = Pace::new(most);
        for _ in 0..100 {
            while pace.unsettled < usize::from(pace.prefetch()) {
                pace.delivered(messages, 1_000);
            }
            pace.look();
        }
        pace.unsettled * messages
    }

    #[test]
    fn what_is_meant_is_what_is_in_them() {
        for most in [1, 2, 8, 64, 512] {
            assert_eq!(given(most, 1), usize::from(most));
            for messages in [2, 8, 64] {
                let given = given(most, messages);
                // A batch is given whole, and a change must be worth the trouble.
                let least = (f64::from(most) / WORTH) as usize;
                let at_first = usize::from(Pace::new(most).prefetch()) * messages;
                let range = least..=usize::from(most).max(at_first) + messages;
                assert!(range.contains(&given), "{most}, {messages}: {given}");
            }
        }
    }

    #[test]
    fn large_ones_are_given_as_many_as_have_so_many_bytes() {
        let mut pace = Pace::new(512);
        for _ in 0..3 {
            pace.delivered(1, 16 * 1_024 * 1_024);
            pace.look();
        }
        assert_eq!(pace.prefetch(), 4);
        for _ in 0..100 {
            pace.settled(pace.unsettled);
            while pace.unsettled < usize::from(pace.prefetch()) {
                pace.delivered(1, 128 * 1_024);
            }
            pace.look();
        }
        assert!(pace.prefetch() >= 512 / 2, "{}", pace.prefetch());
        // Larger than all of it.
        pace.delivered(1, 1_024 * 1_024 * 1_024);
        assert_eq!(pace.look(), Some(1));
    }

    #[test]
    fn what_comes_alone_again_is_given_as_many_again() {
        let mut pace = Pace::new(512);
        for _ in 0..20 {
            pace.delivered(64, 64_000);
            pace.settled(1);
            pace.look();
        }
        assert_eq!(pace.prefetch(), 8);
        for _ in 0..40 {
            while pace.unsettled < usize::from(pace.prefetch()) {
                pace.delivered(1, 1_000);
            }
            pace.look();
            pace.settled(pace.unsettled);
        }
        assert!(f64::from(pace.prefetch()) >= 512.0 / WORTH, "{}", pace.prefetch());
    }

    #[test]
    fn an_idle_consumer_changes_nothing() {
        let mut pace = Pace::new(512);
        assert!((0..100).all(|_| pace.look().is_none()));
    }
}
