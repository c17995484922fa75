//! Messages of one connection that came together, in their order.

pub(crate) mod in_order;
pub(crate) mod turn;
