//! What terminator and worker must agree on.

pub mod admin;
pub mod clock;
pub mod config;
pub mod life;
pub mod telemetry;
