//! What operators see of a terminator: metrics, and the console's view.

pub(crate) mod closings;
pub mod console;
pub(crate) mod levels;
pub(crate) mod metrics;
