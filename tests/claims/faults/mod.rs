//! Broker, store and processes that fail.

pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod drain;
pub(crate) mod kills;
pub(crate) mod losses;
pub(crate) mod operator_policy;
pub(crate) mod store;
pub(crate) mod upgrade;
pub(crate) mod vanished;
