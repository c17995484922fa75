//! What operators see of a terminator: metrics, and the console's view.

pub(crate) mod closings;
pub mod console;
pub(crate) mod levels;
pub mod message_event;
pub(crate) mod metrics;
pub(crate) mod observe;
