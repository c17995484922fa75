//! What the simulated fleet is made of.

pub(crate) mod clock;
pub(crate) mod handler;
pub(crate) mod jumps;
pub(crate) mod losing;
pub(crate) mod outside;
pub(crate) mod store;
pub(crate) mod token;
