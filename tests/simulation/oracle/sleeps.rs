//! When the machines slept: time went on, and no one could do anything.

/// All of it, each time from when until when, in order.
#[derive(Default)]
pub(crate) struct Sleeps(Vec<(u64, u64)>);

impl Sleeps {
    /// They wake now, after so many milliseconds.
    pub(crate) fn add(&mut self, woken: u64, ms: u64) {
        self.0.push((woken.saturating_sub(ms), woken));
    }

    /// How long they were awake before that moment.
    pub(crate) fn awake(&self, at: u64) -> u64 {
        let slept: u64 = self.0.iter().map(|(from, to)| at.min(*to).saturating_sub(*from)).sum();
        at.saturating_sub(slept)
    }

    /// The moment at which they have been awake for so long since `at`.
    pub(crate) fn after(&self, at: u64, ms: u64) -> u64 {
        let asleep = self.0.iter().find(|(from, to)| (*from..*to).contains(&at));
        let mut moment = asleep.map_or(at, |(_, to)| *to) + ms;
        for (from, to) in self.0.iter().filter(|(from, _)| *from >= at) {
            if *from < moment {
                moment += to - from;
            }
        }
        moment
    }

    /// When that was read which a client notes at that moment: what was in a socket already while they slept is noted when
    /// they wake.
    pub(crate) fn read_at(&self, at: u64) -> u64 {
        let woken = self.0.iter().find(|(_, to)| *to == at);
        woken.map_or(at, |(from, _)| *from)
    }
}
