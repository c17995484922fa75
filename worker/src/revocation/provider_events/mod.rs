//! What identity providers say by HTTP: that someone has logged out, or is to be.
//!
//! A provider that ends a session does not end a socket. So a worker may listen for what the standards have providers say
//! (`kind`), and makes revocations of it. Nothing is believed but what an issuer of ours has signed, lately, for us, and
//! once; and an issuer speaks of its own subjects alone.
//!
//! - `door`, `request`, `outcome`: HTTP, within bounds.
//! - `taking`: one event, from its text to the store.
//! - `event`, `subject`, `fault`: whether it counts, and whom it means.

mod door;
mod event;
mod fault;
mod kind;
mod outcome;
mod request;
mod subject;
mod taking;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::service::clock::Clock;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::info;

use super::provider_events::event::EventRules;
use super::provider_events::taking::Taking;
use crate::config::WorkerConfig;
use crate::revocation::RevocationRules;
use crate::revocation::revoker::Revoker;
use crate::token::Verifier;
use crate::web::server::{Ends, ListenError, Server};

/// How long what was begun may take when the worker ends.
const CLOSING_TIME: Duration = Duration::from_secs(2);

/// The open port, before there is anyone who takes what comes.
pub(crate) struct Opened(Server);

/// Takes events until it is dropped.
pub(crate) struct ProviderEvents {
    closing: CancellationToken,
    tasks: TaskTracker,
    _kill: DropGuard,
}

impl Opened {
    /// Opens it, if the settings have one. An address that is taken is known before anything is consumed.
    pub(crate) async fn open(listen: Option<SocketAddr>) -> Result<Option<Self>, ListenError> {
        match listen {
            Some(addr) => Ok(Some(Self(Server::bind("provider-events-listen", addr).await?))),
            None => Ok(None),
        }
    }

    /// Takes what comes, from now on.
    pub(crate) fn take(
        self,
        config: &WorkerConfig,
        verifier: Arc<Verifier>,
        clock: Arc<dyn Clock>,
        (revoker, known): (Arc<Revoker>, RevocationRules),
    ) -> ProviderEvents {
        let (ends, tasks) = (Ends::default(), TaskTracker::new());
        let rules = EventRules::new(config, known);
        let taking = Taking::new(verifier, clock, rules, revoker, tasks.clone(), ends.kill.clone());
        info!(addr = %self.0.addr, "listening for events of identity providers");
        let telling = taking.refusals().keep_telling();
        tokio::spawn(ends.kill.clone().run_until_cancelled_owned(telling));
        let answer = move |request, from| door::answer(request, from, taking.clone());
        let serving = self.0.serve(door::BOUNDS, answer, tasks.clone(), ends.clone());
        tokio::spawn(ends.kill.clone().run_until_cancelled_owned(serving));
        ProviderEvents {
            closing: ends.closing,
            tasks,
            _kill: ends.kill.drop_guard(),
        }
    }
}

impl ProviderEvents {
    /// Lets nothing more in.
    pub(crate) fn shutdown(&self) {
        self.closing.cancel();
    }

    /// Waits, after that, for what was begun.
    pub(crate) async fn join(self) {
        self.closing.cancelled().await;
        self.tasks.close();
        // What takes longer has a broker that is away, and is in the store.
        let _ = timeout(CLOSING_TIME, self.tasks.wait()).await;
    }
}
