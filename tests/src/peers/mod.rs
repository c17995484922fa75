//! Who speaks to the programs: clients of the socket, and of the queue.

pub mod amqp;
pub mod audience;
pub mod client;
pub mod load;
pub mod producer;
pub mod queue;
pub mod raw;
/// The tool for people, as a shell runs it.
pub mod tool;
