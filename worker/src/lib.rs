//! Authenticates every message, handles it, answers.
//!
//! A worker trusts nothing that a message says about its sender but the token
//! it carries, and, through a terminator, what a worker has proved by an earlier one. The rooms, in the order in which a message passes them:
//!
//! - [`config`]: what a worker is told.
//! - `running`, `outward`, `intake`: the queues that a worker consumes, and how it ends.
//! - `pipeline`: one message, from its delivery to its acknowledgement.
//! - `origin`: whether a terminator sent it, or anybody.
//! - `message`: what a client may write.
//! - [`token`]: from the text of a JWT to a verdict, and the only place where an
//!   [`identity`] comes into being.
//! - `standing`: how its connection stood, and what a connection is granted.
//! - `decision`: what becomes of it, pure.
//! - [`store`], `recorded`: what is known of its connection, written on change.
//! - [`handler`]: what the application does with it.
//! - `idempotency`: what was done with it, if it came before.
//! - `answer`: what goes back.
//! - `outbound`: pushes, and what is held until a connection can be written to.
//! - `revoke`, `revoked`: what is taken back before its time.
//! - `retry`, `dead_letter`, `redact`: what becomes of a message that fails.
//! - `metrics`: what is counted; [`noted`]: what was decided lately; [`trace`]: what is followed on its way.
//! - `start`, `outside`: what a worker that is a process of its own has besides.
//! - `web`: HTTP clients that go where the configuration says.

pub mod config;
pub mod identity;
pub mod token;

mod message;

mod decision;
mod standing;

pub mod store;

mod recorded;

mod heirs;
mod outbound;
mod revoke;
mod revoked;

mod agreement;
pub mod rights;

pub mod handler;

mod idempotency;

mod answer;
mod origin;

mod breaker;
mod deadline;
mod given_up;
mod pipeline;
mod places;

mod dead_letter;
mod hex;
mod redact;
mod retry;

pub mod checking;
pub mod program;
mod running;

mod intake;
mod losses;
mod metrics;
pub mod noted;
mod outside;
mod outward;
mod start;
pub mod trace;
mod web;

use std::net::SocketAddr;
use std::sync::Arc;

use shared::chance;
use shared::clock::SystemClock;
use shared::config::Config;
use shared::life;
use shared::trace::Tracer;
use tracing::warn;

use self::config::WorkerConfig;
use self::handler::builtin::Application;
pub use self::handler::{Answers, Echo, ErrorCode, Handler, HandlerError, Request};
use self::noted::Noted;
use self::outside::{Door, Outside};
pub use self::pipeline::JOURNEY;
use self::running::Running;
pub use self::running::{Limits, Parts};
pub use self::start::StartError;

/// A running worker. Dropped, it gives back at once what it has not finished.
pub struct Worker {
    running: Running,
    tracer: Tracer,
    /// Nothing if it lives within another program.
    outside: Option<Outside>,
}

impl Worker {
    /// Starts a worker that is a process of its own. It waits neither for the broker nor for the store, and for
    /// key servers only as long as one request may take: `/readyz` tells when they are there.
    ///
    /// It must be called within a tokio runtime.
    ///
    /// # Errors
    /// What an operator has to mend; see [`StartError`].
    pub async fn start(config: WorkerConfig, handler: impl Handler) -> Result<Self, StartError> {
        Self::start_as(config, Application::own(handler)).await
    }

    /// The same with the handler that the settings name.
    ///
    /// # Errors
    /// What an operator has to mend; see [`StartError`].
    pub async fn start_configured(config: WorkerConfig) -> Result<Self, StartError> {
        let application = Application::configured(&config.handler, &config.limits())?;
        Self::start_as(config, application).await
    }

    async fn start_as(config: WorkerConfig, application: Application) -> Result<Self, StartError> {
        life::install_crypto_provider()?;
        let clock = Arc::new(SystemClock);
        let (verifier, contents) = start::verifier(&config)?;
        let issuers = config.issuers();
        let store = start::store(&config, clock.clone())?;
        let door = Door::open(config.admin_listen, config.console).await?;
        let keeper = start::keeper(&config, contents, &verifier).await?;
        let instance = format!("{:016x}", chance::number());
        let tracer = Tracer::start(&config.tracing, &WorkerConfig::PROGRAM, &instance)?;
        config.doubts().iter().for_each(|doubt| warn!("{doubt}"));
        let namespace = config.broker.namespace.as_str().to_owned();
        let bus = Arc::new(start::bus(&config, &application));
        let parts = Parts {
            bus: bus.clone(),
            store: store.clone(),
            verifier,
            issuers,
            clock,
            limits: config.limits(),
        };
        let running = Running::start(parts, application, tracer.clone());
        let outside = door.watch(bus, &namespace, store, keeper, &running.noted);
        Ok(Self {
            running,
            tracer,
            outside: Some(outside),
        })
    }

    /// Starts a worker within another program, on a bus and a store that others may share.
    ///
    /// It must be called within a tokio runtime. It has no admin server, traces nothing, and does not close the bus.
    pub fn start_with(parts: Parts, handler: impl Handler) -> Self {
        Self {
            running: Running::start(parts, Application::own(handler), Tracer::OFF),
            tracer: Tracer::OFF,
            outside: None,
        }
    }

    /// Where `/livez`, `/readyz` and `/metrics` are, if anywhere.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.outside.as_ref().and_then(Outside::admin_addr)
    }

    /// What it has decided lately.
    pub fn noted(&self) -> Noted {
        self.running.noted.clone()
    }

    /// Stops consuming. What was taken is finished, or given back when the drain-timeout is over.
    pub fn shutdown(&self) {
        if let Some(outside) = &self.outside {
            outside.draining();
        }
        self.running.shutdown();
    }

    /// Waits for the end of it all, which without [`shutdown`](Self::shutdown) is never.
    pub async fn join(self) {
        self.running.join().await;
        drop(self.running);
        self.tracer.end().await;
        if let Some(outside) = self.outside {
            outside.close().await;
        }
    }
}

#[cfg(test)]
mod tests;
