//! Authenticates every message by its own token, handles it, answers.
//!
//! A worker trusts nothing that a message says about its sender but the token
//! it carries. The rooms, in the order in which a message passes them:
//!
//! - [`config`]: what a worker is told.
//! - [`running`], `intake`: the queues that a worker consumes, and how it ends.
//! - [`pipeline`]: one message, from its delivery to its acknowledgement.
//! - `origin`: whether a terminator sent it, or anybody.
//! - `message`: what a client may write.
//! - [`token`]: from the text of a JWT to a verdict, and the only place where an
//!   [`identity`] comes into being.
//! - `decision`: what becomes of it, pure.
//! - [`store`], `recorded`: what is known of its connection, written on change.
//! - [`handler`]: what the application does with it.
//! - `answer`: what goes back.
//! - `retry`, `dead_letter`, `redact`: what becomes of a message that fails.
//! - `metrics`: what is counted.

pub mod config;
pub mod identity;
pub mod token;

mod message;

mod decision;

pub mod store;

mod recorded;

pub mod handler;

mod answer;
mod origin;

pub mod pipeline;

mod dead_letter;
mod redact;
mod retry;

pub mod running;

mod intake;
mod metrics;

pub use self::handler::{Answers, Echo, Handler, HandlerError, Request};
pub use self::running::{Limits, Parts};

use self::running::Running;

/// A running worker. Dropped, it gives back at once what it has not finished.
pub struct Worker {
    running: Running,
}

impl Worker {
    /// Starts a worker within this process, on a bus and a store that others may share.
    ///
    /// It must be called within a tokio runtime. It has no admin server, and does not close the bus.
    pub fn start_with(parts: Parts, handler: impl Handler) -> Self {
        Self {
            running: Running::start(parts, handler),
        }
    }

    /// Stops consuming. What was taken is finished, or given back when the drain-timeout is over.
    pub fn shutdown(&self) {
        self.running.shutdown();
    }

    /// Waits for the end of it all, which without [`shutdown`](Self::shutdown) is never.
    pub async fn join(self) {
        self.running.join().await;
    }
}

#[cfg(test)]
mod tests;
