//! Chance that can be had again: the same seed throws the same numbers, on every machine and in every version.
//!
//! SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
//! Generators", OOPSLA 2014), written out here so that a seed that once found a
//! fault finds it after every update of a library, too. No secret is made of it.

use std::time::Duration;

use shared::service::chance;

/// From now on what the programs draw on this thread, names and secrets included, follows from `seed`.
pub fn decide_everything(seed: u64) {
    let mut rng = Rng::new(seed);
    chance::draw_from(move || (u128::from(rng.number()) << 64) | u128::from(rng.number()));
}

/// A source of numbers that only look random.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The source of that seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another source, so that how often the one is asked changes nothing for the other.
    #[must_use]
    pub fn fork(&mut self) -> Self {
        Self(self.number())
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        let span = most.saturating_sub(least).saturating_add(1);
        // The bias is below 2^-40 for every span that is used here.
        least + self.number() % span
    }

    /// Whether something happens that does so `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    /// A time of whole milliseconds up to `most`: the paused clock knows nothing finer.
    pub fn time(&mut self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.between(0, most))
    }

    /// One of `choices`; none if there is none.
    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let last = u64::try_from(choices.len().checked_sub(1)?).ok()?;
        choices.get(usize::try_from(self.between(0, last)).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same_numbers() {
        let (mut one, mut other) = (Rng::new(7), Rng::new(7));
        let thrown: Vec<_> = (0..100).map(|_| one.number()).collect();
        assert!(thrown.iter().all(|number| *number == other.number()));
        // The reference implementation's first number for seed 0.
        assert_eq!(Rng::new(0).number(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn what_the_programs_draw_follows_from_the_seed() {
        let drawn = |seed| {
            decide_everything(seed);
            [chance::bits(), chance::bits()]
        };
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
    }

    #[test]
    fn every_number_of_a_range_comes_up_and_no_other() {
        let mut rng = Rng::new(1);
        let thrown: std::collections::BTreeSet<_> = (0..1_000).map(|_| rng.between(1, 6)).collect();
        assert_eq!(thrown, (1..=6).collect());
    }

    #[test]
    fn what_one_source_is_asked_changes_nothing_for_its_fork() {
        let mut one = Rng::new(3);
        let mut fork = one.clone().fork();
        let mut same = one.fork();
        one.number();
        assert_eq!(fork.number(), same.number());
    }
}
