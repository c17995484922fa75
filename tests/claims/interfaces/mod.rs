//! The interfaces between the parts: bus, store, queues, traces.

pub(crate) mod batches;
pub(crate) mod bus;
pub(crate) mod connection_events;
pub(crate) mod dev;
pub(crate) mod http_api;
pub(crate) mod message_shards;
pub(crate) mod queues_moved;
pub(crate) mod rfc6455;
pub(crate) mod store;
pub(crate) mod topology;
pub(crate) mod traces;
pub(crate) mod vocabulary;
