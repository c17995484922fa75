//! What operators see of a worker: metrics, recent decisions, health and the console.

pub mod event;
pub(crate) mod metrics;
pub mod observer;
pub mod recent_decisions;
pub(crate) mod services;
