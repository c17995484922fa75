//! Where names, secrets and chance come from, so that a simulation can have the same ones again.

/// As many bits as a secret needs.
pub fn bits() -> u128 {
    #[cfg(feature = "simulation")]
    if let Some(bits) = SOURCE.with_borrow_mut(|source| source.as_mut().map(|draw| draw())) {
        return bits;
    }
    rand::random()
}

#[cfg(feature = "simulation")]
thread_local! {
    static SOURCE: std::cell::RefCell<Option<Box<dyn FnMut() -> u128>>> = const { std::cell::RefCell::new(None) };
}

/// From now on everything on this thread is drawn from `source`. No program that is shipped has this.
#[cfg(feature = "simulation")]
pub fn draw_from(source: impl FnMut() -> u128 + 'static) {
    SOURCE.set(Some(Box::new(source)));
}

/// A number of which no one has another one soon.
#[expect(clippy::cast_possible_truncation, reason = "one half is as good as the other")]
pub fn number() -> u64 {
    bits() as u64
}

/// A share of the whole, from 0 to 1.
pub fn share() -> f64 {
    // 2^32 steps are as fine as anyone needs.
    f64::from((bits() >> 96) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_the_whole() {
        for _ in 0..1_000 {
            assert!((0.0..=1.0).contains(&share()));
        }
    }
}
