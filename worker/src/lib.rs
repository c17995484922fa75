//! The worker: it validates the token of each message, keeps each connection's authentication state in a store, runs
//! the application's handler, and replies.
//!
//! A worker trusts nothing that a message says about its sender except the token it carries, and, through a terminator, what
//! a worker has proved by an earlier one. It knows no socket and nothing of the terminator but the queue, and speaks to the
//! broker only through [`shared::bus`]. The modules, in the order in which a message passes them:
//!
//! - [`app`]: starts a worker, consumes its queues, and stops it; [`config`]: its settings.
//! - [`process`]: one message, from its delivery to its acknowledgement.
//! - `message`: what a client may write, where it came from, until when it is waited for; opens what terminators have sealed.
//! - [`token`]: from the text of a JWT to a verdict; its keys, and where they come from.
//! - [`auth`]: which [`identity`](auth::identity) a connection has and what it may do: the decision, pure.
//! - [`store`]: what is known of each connection, shared by all workers.
//! - [`handler`]: calls the application, when there is a place, and knows what was done with a message that came before.
//! - `outbound`: pushes, and what is held until a connection can be written to.
//! - `revocation`: tokens that are revoked before their time, and events of identity providers that revoke them.
//! - `dead_letter`: what happens with a message that fails, without its token.
//! - [`admin`]: metrics, recent decisions, health and the console.
//! - `web`: HTTP: clients that connect to what the configuration names, and to nothing else; the port of backends.

pub mod admin;
pub mod app;
pub mod auth;
pub mod config;
pub mod dead_letter;
pub mod handler;
pub(crate) mod message;
pub(crate) mod outbound;
pub mod process;
pub(crate) mod revocation;
pub mod store;
pub mod token;
mod web;

use std::net::SocketAddr;
use std::sync::Arc;

use shared::bus::rabbitmq::{Access, RabbitmqBus};
use shared::credentials::{Credentials, Register};
use shared::service::chance;
use shared::service::clock::SystemClock;
use shared::service::config::Config;
use shared::service::lifecycle;
use shared::service::telemetry;
use shared::service::trace::Tracer;
use tracing::warn;

use self::config::{HandlerKind, WorkerConfig};
use self::handler::builtin::Application;
pub use self::handler::{Answers, Echo, ErrorCode, Handler, HandlerError, Request};
use crate::admin::recent_decisions::RecentDecisions;
use crate::admin::services::{AdminListener, AdminServices, watched};
use crate::app::consumers::Consumers;
pub use crate::app::parts::{Limits, Parts};
pub use crate::app::start::StartError;
pub use crate::message::opening::Sealing;
use crate::message::{ClientMessage, MAX_FORWARDED_BYTES};
use crate::revocation::provider_events::{Opened, ProviderEvents};
use crate::web::api::Api;
pub use crate::web::server::ListenError;

/// A running worker. Dropped, it gives back at once what it has not finished.
pub struct Worker {
    running: Consumers,
    tracer: Tracer,
    events: Option<ProviderEvents>,
    api: Option<Api>,
    /// None if it lives within another program.
    outside: Option<AdminServices>,
}

impl Worker {
    /// Starts a worker that is a process of its own. It waits neither for the broker nor for the store, and for
    /// key servers only as long as one request may take: `/readyz` tells when they are there.
    ///
    /// It must be called within a tokio runtime.
    ///
    /// # Errors
    /// What an operator has to fix; see [`StartError`].
    pub async fn start(config: WorkerConfig, handler: impl Handler) -> Result<Self, StartError> {
        Self::start_as(config, Application::own(handler)).await
    }

    /// The same with the handler that the settings name.
    ///
    /// # Errors
    /// What an operator has to fix; see [`StartError`].
    pub async fn start_configured(config: WorkerConfig) -> Result<Self, StartError> {
        let application = Application::configured(&config.handler, &config.limits())?;
        Self::start_as(config, application).await
    }

    async fn start_as(config: WorkerConfig, application: Application) -> Result<Self, StartError> {
        lifecycle::install_crypto_provider()?;
        let clock = Arc::new(SystemClock);
        // Before anything is counted.
        telemetry::metrics()?;
        let mut credentials = Credentials::new(&Register::default());
        let (verifier, contents) = crate::app::start::verifier(&config)?;
        let issuers = config.issuers();
        let store = crate::app::start::store(&config, clock.clone(), &mut credentials)?;
        let access = Access::load(&config.broker, &mut credentials)?;
        let sealing = crate::app::start::sealing(&config, &mut credentials)?;
        let door = AdminListener::open(&config, credentials.register()).await?;
        let events = Opened::open(config.provider_events_listen).await?;
        let api = web::api::Opened::open(&config, &mut credentials).await?;
        let refresher = crate::app::start::refresher(&config, contents, &verifier, &credentials.register()).await?;
        let instance = format!("{:016x}", chance::number());
        let tracer = Tracer::start(&config.tracing, &WorkerConfig::PROGRAM, &instance)?;
        config.doubts().iter().for_each(|doubt| warn!("{doubt}"));
        let rabbitmq = crate::app::start::rabbitmq(&config, access, &application);
        let queues = watched(config.broker.namespace.as_str(), &rabbitmq.topology);
        // The broker may be away.
        let bus = Arc::new(RabbitmqBus::new(rabbitmq));
        let parts = Parts {
            bus: bus.clone(),
            store: store.clone(),
            verifier: verifier.clone(),
            issuers,
            clock: clock.clone(),
            limits: config.limits(),
            sealing,
            listener: None,
        };
        let running = Consumers::start(parts, application, tracer.clone());
        let revoking = (running.revoker.clone(), running.known.clone());
        let api = api.map(|opened| opened.serve(&config, &*bus, &verifier, &running));
        let events = events.map(|opened| opened.take(&config, verifier, clock, revoking));
        let outside = door.watch(bus, queues, store, (refresher, credentials), &running.recent_decisions);
        Ok(Self {
            running,
            tracer,
            events,
            api,
            outside: Some(outside),
        })
    }

    /// Starts a worker within another program, on a bus and a store that others may share.
    ///
    /// It must be called within a tokio runtime. It has no admin server, traces nothing, and does not close the bus.
    pub fn start_with(parts: Parts, handler: impl Handler) -> Self {
        Self {
            running: Consumers::start(parts, Application::own(handler), Tracer::OFF),
            tracer: Tracer::OFF,
            events: None,
            api: None,
            outside: None,
        }
    }

    /// The same with the handler that a setting names.
    ///
    /// # Errors
    /// If there is no TLS.
    pub fn start_configured_with(parts: Parts, handler: &HandlerKind) -> Result<Self, StartError> {
        let application = Application::configured(handler, &parts.limits)?;
        Ok(Self {
            running: Consumers::start(parts, application, Tracer::OFF),
            tracer: Tracer::OFF,
            events: None,
            api: None,
            outside: None,
        })
    }

    /// Where `/livez`, `/readyz` and `/metrics` are, if anywhere.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.outside.as_ref().and_then(AdminServices::admin_addr)
    }

    /// What it has decided lately.
    pub fn recent_decisions(&self) -> RecentDecisions {
        self.running.recent_decisions.clone()
    }

    /// Stops consuming. What was taken is finished, or given back when the drain-timeout is over.
    pub fn shutdown(&self) {
        if let Some(outside) = &self.outside {
            outside.draining();
        }
        if let Some(events) = &self.events {
            events.shutdown();
        }
        if let Some(api) = &self.api {
            api.shutdown();
        }
        self.running.shutdown();
    }

    /// Waits for the end of it all, which without [`shutdown`](Self::shutdown) is never.
    pub async fn join(self) {
        self.running.join().await;
        if let Some(events) = self.events {
            events.join().await;
        }
        if let Some(api) = self.api {
            api.join().await;
        }
        drop(self.running);
        self.tracer.end().await;
        if let Some(outside) = self.outside {
            outside.close().await;
        }
    }
}

/// What a client's message is found to be: its `id`, its `type`, and what stands in its `payload`. For anyone who tries what
/// bytes come to (`tests/fuzz`).
///
/// # Errors
/// What its client is told.
pub fn read_client_message(body: &[u8]) -> Result<(Option<String>, String, Option<&str>), String> {
    let message = ClientMessage::parse(body, MAX_FORWARDED_BYTES).map_err(|malformed| malformed.error().message)?;
    let id = message.id.map(|id| id.to_string());
    let payload = message.payload.map(|payload| payload.get());
    Ok((id, message.kind.into_owned(), payload))
}

#[cfg(test)]
mod tests;
