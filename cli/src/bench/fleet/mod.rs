//! The clients that make the load: so many connections, each with a subject and a token of its own.

mod client;
mod login;
mod window;

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use shared::service::chance;
use shared::service::clock::{Clock as _, SystemClock};

use self::client::{Client, Pace};
pub(super) use self::login::authenticate;
use super::measure::{Latencies, Phases};
use crate::support::print;
use crate::support::ws::{self, WsUrl};
use crate::token::Signer;

/// How many connections are being opened at a time: less than a listening socket's backlog.
pub(super) const OPENING: usize = 64;

/// How the connections authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Auth {
    /// A token with each message.
    PerMessage,
    /// One `auth.authenticate` for each connection, before anything is measured.
    Explicit,
}

/// What the connections do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) auth: Auth,
    pub(crate) connections: usize,
    /// Of each connection.
    pub(crate) in_flight: usize,
    /// Of a message, in bytes.
    pub(crate) size: usize,
    /// Messages per second, all connections together; nothing: as fast as answers come.
    pub(crate) rate: Option<f64>,
    pub(crate) token_lifetime: Duration,
}

/// What did not go as it should.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Messages without an answer.
    pub(crate) lost: u64,
    /// Answers to what was answered already, or never asked.
    pub(crate) duplicated: u64,
    /// Answers that were errors.
    pub(crate) refused: u64,
    /// Connections that did not last.
    pub(crate) closed: u64,
}

impl Losses {
    /// Adds another slice's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.refused += other.refused;
        self.closed += other.closed;
    }
}

/// Open connections.
pub(crate) struct Fleet(Vec<Client>);

impl Fleet {
    /// Opens them all.
    ///
    /// # Errors
    /// If one of them cannot be opened, or is refused.
    pub(crate) async fn open(url: &WsUrl, signer: &Signer, plan: &Plan) -> anyhow::Result<Self> {
        // What is still on its way to another fleet's is not for this one.
        let fleet = chance::number();
        let clients = stream::iter(0..plan.connections).map(|number| async move {
            let subject = format!("b{fleet:016x}-{number}");
            let token = signer.token(&subject, SystemClock.now(), plan.token_lifetime, &[])?;
            let mut socket = ws::connect(url, None).await?;
            let of_messages = match plan.auth {
                Auth::PerMessage => Some(token.as_str()),
                Auth::Explicit => {
                    authenticate(&mut socket, &token).await?;
                    None
                }
            };
            anyhow::Ok(Client::new(socket, of_messages, plan, Pace::new(plan, number)))
        });
        Ok(Self(clients.buffer_unordered(OPENING).try_collect().await?))
    }

    /// Lets them all send until the phase says drain, and waits for the last answers.
    pub(crate) async fn load(self, phases: Phases, latencies: Rc<Latencies>) -> anyhow::Result<Losses> {
        let runs = self
            .0
            .into_iter()
            .map(|client| client.run(phases.clone(), latencies.clone()));
        let mut losses = Losses::default();
        let mut reason = None;
        for (lost, why) in join_all(runs).await {
            losses.add(&lost);
            reason = reason.or(why);
        }
        if let Some(reason) = reason {
            print::note(&format!(
                "{} connections did not last; the first: {reason}",
                losses.closed
            ));
        }
        Ok(losses)
    }
}
