//! Pushes, and what is held.

pub(crate) mod acknowledged;
pub(crate) mod along;
pub(crate) mod delivery;
pub(crate) mod holds;
pub(crate) mod no_gap;
pub(crate) mod outcomes;
pub(crate) mod shards;
