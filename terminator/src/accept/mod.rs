//! From a TCP connection to an open WebSocket: who may connect, the handshake, TLS, and the limits before it.

pub(crate) mod addresses;
pub(crate) mod arrivals;
pub(crate) mod connection_factory;
pub(crate) mod doors;
pub(crate) mod entrance;
pub(crate) mod handshake;
pub(crate) mod listener;
pub(crate) mod open_files;
pub(crate) mod origin;
pub(crate) mod permit;
pub(crate) mod proxies;
pub(crate) mod stream;
pub(crate) mod tls;
pub(crate) mod told_limits;
pub(crate) mod upgrade;
