//! The port of backends: pushes, revocations and a look at connections by HTTP, for who has no AMQP client.
//!
//! It does what the queue does and no more: what is pushed or revoked here is checked by the same code, and then goes where
//! what producers publish goes. So it needs no worker of its own, and may be open on some workers and not on others.
//!
//! - `route`, `problem`, `document`: what there is, what is answered where something is not done, and both for programs.
//! - `caller`, `keys`, `rate`: who asks, whether they may, and how often.
//! - `door`: one request; `pushing` reads pushes, `publishing` and `outcomes` have them published and hear what becomes of
//!   them; `looking` asks the store.

mod caller;
mod document;
mod door;
mod keys;
mod looking;
mod outcomes;
mod problem;
mod publishing;
mod pushing;
mod rate;
mod route;

use std::sync::Arc;
use std::time::Duration;

use shared::bus::Bus;
use shared::credentials::{Credential, Credentials};
use tokio::time::timeout;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;
use tracing::info;

use self::caller::Gate;
use self::door::Door;
use self::keys::Keys;
use self::publishing::Publishing;
use super::server::{Ends, Server};
use crate::StartError;
use crate::app::consumers::Consumers;
use crate::config::WorkerConfig;
use crate::token::Verifier;

/// How long what was begun may take when the worker ends.
const CLOSING_TIME: Duration = Duration::from_secs(2);

/// The open port, before anything is answered.
pub(crate) struct Opened {
    server: Server,
    keys: Option<Credential<Keys>>,
}

/// Answers until it is dropped.
pub(crate) struct Api {
    ends: Ends,
    /// The port, and its connections.
    tasks: TaskTracker,
    /// What goes on beside them, and never ends by itself.
    beside: TaskTracker,
    _kill: DropGuard,
}

impl Opened {
    /// Opens it, if the settings have one. An address that is taken, and keys that are none, are known before anything is
    /// consumed.
    pub(crate) async fn open(config: &WorkerConfig, credentials: &mut Credentials) -> Result<Option<Self>, StartError> {
        let Some(addr) = config.api_listen else {
            return Ok(None);
        };
        let keys = caller::load(config, credentials)?;
        let server = Server::bind("api-listen", addr).await?;
        Ok(Some(Self { server, keys }))
    }

    /// Answers what comes, from now on.
    pub(crate) fn serve(
        self,
        config: &WorkerConfig,
        bus: &dyn Bus,
        verifier: &Arc<Verifier>,
        consumers: &Consumers,
    ) -> Api {
        let (ends, tasks, beside) = (Ends::default(), TaskTracker::new(), TaskTracker::new());
        let revoker = &consumers.revoker;
        let outbound = &revoker.outbound;
        let (publishing, listening) = Publishing::new(bus, &outbound.names);
        let gate = Gate::new(
            config,
            self.keys,
            verifier.clone(),
            revoker.revoked.clone(),
            outbound.clock.clone(),
        );
        let door = Arc::new(Door {
            gate,
            publishing,
            store: outbound.store.clone(),
            clock: outbound.clock.clone(),
            known: consumers.known.clone(),
            leeway: verifier.rules().leeway,
            most_body: config.api_max_body_size.bytes(),
            document: document::text(),
            refusals: Arc::default(),
        });
        info!(addr = %self.server.addr, "listening for backends");
        let telling = door.refusals.clone().keep_telling();
        let answer = move |request, from| door.clone().answer(request, from);
        let serving = self.server.serve(door::BOUNDS, answer, tasks.clone(), ends.clone());
        beside.spawn(ends.kill.clone().run_until_cancelled_owned(telling));
        beside.spawn(ends.kill.clone().run_until_cancelled_owned(listening));
        tasks.spawn(ends.kill.clone().run_until_cancelled_owned(serving));
        Api {
            _kill: ends.kill.clone().drop_guard(),
            ends,
            tasks,
            beside,
        }
    }
}

impl Api {
    /// Lets nothing more in.
    pub(crate) fn shutdown(&self) {
        self.ends.closing.cancel();
    }

    /// Waits, after that, for what was begun.
    pub(crate) async fn join(self) {
        self.ends.closing.cancelled().await;
        self.tasks.close();
        self.beside.close();
        // What takes longer waits for what becomes of something that the broker has.
        let _ = timeout(CLOSING_TIME, self.tasks.wait()).await;
        self.ends.kill.cancel();
        self.tasks.wait().await;
        self.beside.wait().await;
    }
}
