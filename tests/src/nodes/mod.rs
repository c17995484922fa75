//! What the tests run: brokers, stores and our own programs, each a process that is ended by its id.

pub mod cluster;
pub mod port;
pub mod process;
pub mod program;
pub mod rabbitmq;
pub mod redis;
pub mod redis_cluster;
pub mod watchdog;
