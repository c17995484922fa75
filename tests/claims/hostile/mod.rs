//! What comes from outside stops no one else.

pub(crate) mod crowds;
pub(crate) mod fuzzed_injection;
pub(crate) mod garbage;
pub(crate) mod identity_limits;
pub(crate) mod injection;
pub(crate) mod mutated;
pub(crate) mod permissions;
pub(crate) mod poison;
pub(crate) mod proxy_headers;
pub(crate) mod refusals;
pub(crate) mod sealing;
pub(crate) mod secrecy;
pub(crate) mod sockets;
