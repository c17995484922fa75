//! When something is due: one timer for all connections.

pub(crate) mod expiries;
pub(crate) mod now;
pub(crate) mod own_clock;
pub(crate) mod turning;
pub(crate) mod wheel;
pub(crate) mod workers_clock;
