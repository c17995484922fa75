//! What terminator and worker must agree on.

pub mod clock;
