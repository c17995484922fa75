//! One socket: its handshake, its frames, the order of its messages and whose the replies are.

pub(crate) mod alive;
pub(crate) mod answers_home;
pub(crate) mod cancelling;
pub(crate) mod clocks;
pub(crate) mod deadlines;
pub(crate) mod edge;
pub(crate) mod frames;
pub(crate) mod handshake;
pub(crate) mod in_order;
pub(crate) mod limits;
pub(crate) mod message;
pub(crate) mod order;
pub(crate) mod proxies;
pub(crate) mod resume;
pub(crate) mod tls;
