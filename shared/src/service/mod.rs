//! What every program of the fleet needs to run: configuration, lifecycle, logs, metrics, traces, the admin server.

pub mod admin;
pub mod announcement;
pub mod audit;
pub mod backoff;
pub mod chance;
pub mod clock;
pub mod config;
pub mod exit_status;
pub mod lifecycle;
pub mod refusals;
pub mod reload;
pub mod repetition;
pub mod telemetry;
pub mod trace;
