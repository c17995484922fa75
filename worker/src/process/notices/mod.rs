//! What terminators tell on their own account.

pub(crate) mod announcing;
pub(crate) mod cancelling;
pub(crate) mod clocks;
