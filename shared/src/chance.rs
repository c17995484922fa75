//! Where names and secrets are drawn, so that a simulation can draw the same ones again.

/// As many bits as a secret needs.
pub(crate) fn bits() -> u128 {
    #[cfg(feature = "simulation")]
    if let Some(bits) = crate::dice::decided() {
        return bits;
    }
    rand::random()
}
