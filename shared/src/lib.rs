//! What terminator and worker must agree on: ids, the envelope as it crosses
//! the broker, the words of the client protocol, the bus, configuration, and
//! the life of a process. It knows no socket, no token and no store.

pub mod bus;
pub mod credentials;
pub mod service;
pub mod wire;
