//! What terminator and worker must agree on, byte by byte: ids, the envelope, the protocol's words.

pub mod connection_event;
pub mod envelope;
pub mod event_messages;
pub mod grant;
pub mod id;
pub mod inert;
pub mod object;
pub mod principal;
pub mod proof;
pub mod protocol;
pub mod request_id;
pub mod revocation;
pub mod seal;
pub mod tag;
pub mod topic;
