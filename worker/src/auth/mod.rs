//! Who a connection is and what it may do: pure rules, and what is known of each connection.

pub(crate) mod agreement;
pub mod checking;
pub(crate) mod decision;
pub mod identity;
pub(crate) mod recorded;
pub mod rights;
pub(crate) mod snapshot;
pub(crate) mod successors;
