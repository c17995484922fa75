//! What terminator and worker must agree on: ids, the envelope as it crosses
//! the broker, the words of the client protocol, the bus, configuration, and
//! the life of a process. It knows no socket, no token and no store.

pub mod admin;
pub mod announcement;
pub mod audit;
pub mod backoff;
pub mod bus;
pub mod chance;
pub mod clock;
pub mod config;
#[cfg(feature = "simulation")]
pub mod dice;
pub mod envelope;
pub mod grant;
pub mod id;
pub mod inert;
pub mod life;
pub mod protocol;
pub mod refusals;
pub mod repetition;
pub mod request_id;
pub mod revocation;
pub mod tag;
pub mod telemetry;
pub mod topic;
pub mod trace;
