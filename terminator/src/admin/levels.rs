//! What of a connection is shown in gauges.

use tokio::time::Instant;

use crate::connection::index::Owner;
use crate::connection::load::Load;

/// What of a connection is shown in gauges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) in_flight: usize,
    pub(crate) held_inbound: usize,
    pub(crate) held_outbound: usize,
    /// When its grant ends, if it has one, in force or expired.
    pub(crate) grant_ends: Option<Instant>,
    /// Whose it is, if it has one.
    pub(crate) owner: Option<Owner>,
    /// What is kept in memory for it.
    pub(crate) load: Load,
}
