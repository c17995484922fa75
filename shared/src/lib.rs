//! What terminator and worker must agree on. It knows no socket, no token and no store, and neither of the programs.
//!
//! - [`wire`]: ids, the envelope as it crosses the broker, the words of the client protocol, sealing.
//! - [`bus`]: publishing and consuming, on RabbitMQ or in memory.
//! - [`credentials`]: passwords, keys and certificates in files, and their replacement.
//! - [`service`]: configuration, lifecycle, logs, metrics, traces.

pub mod bus;
pub mod credentials;
pub mod service;
pub mod wire;
