//! What the store knows of connections.

use std::time::Duration;

use serde::Serialize;
use shared::service::clock::Timestamp;
use shared::wire::id::ConnectionId;
use tracing::debug;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::auth::identity::{self, Issuer, Unnamed};
use crate::store::{Decision, RecordedState, Store, StoreError};

/// The most held pushes that are counted.
const MOST_COUNTED: u64 = 1_000;

/// The connections of an identity.
#[derive(Serialize, ToSchema)]
pub(super) struct Connections {
    /// The subject, as in the claim `sub`.
    subject: String,
    /// The issuer, as in the claim `iss`.
    issuer: String,
    /// Those that live longest first. One that has expired is told of for a while; one of a terminator that died, for 30
    /// seconds at most.
    connections: Vec<Connection>,
    /// How many pushes are held for it; 1,000 may be more.
    held: u64,
}

/// A connection.
#[derive(Serialize, ToSchema)]
struct Connection {
    /// Its id.
    connection: String,
    /// `live`, or `expired`: a push waits until it has a fresh token.
    state: &'static str,
    /// Until when it is authenticated, in seconds since 1970, `jwt-leeway` included.
    until: u64,
}

/// What was decided about a connection.
#[derive(Serialize, ToSchema)]
pub(super) struct Explanation {
    /// Its id.
    connection: String,
    /// `live`, `expired`, `forgotten` (logged out), `closed`, or `unknown`.
    state: &'static str,
    /// The last 64 of an hour, oldest first. What was simply handled is not among them.
    decisions: Vec<Decided>,
}

/// A decision.
#[derive(Serialize, ToSchema)]
struct Decided {
    /// When, in milliseconds since 1970.
    at_ms: u64,
    /// The sequence number of the message that it is about, if it is about one.
    sequence: Option<u64>,
    /// The client's own `id` of that message.
    id: Option<String>,
    /// What was decided: `held`, `refused`, `closed`, ….
    what: String,
    /// The reason, as the decision says it.
    why: String,
}

/// Tells of the connections of a subject.
///
/// # Errors
/// If there can be none of that name, or the store does not answer.
pub(super) async fn connections(
    store: &dyn Store,
    issuers: &[Issuer],
    (subject, issuer): (&str, Option<&str>),
    now: Timestamp,
) -> Result<Connections, Problem> {
    let issuer = identity::issuer_of(issuer, issuers).map_err(|unnamed| {
        Problem::bad(match unnamed {
            Unnamed::Several => "there are several issuers: name the subject's by `?issuer=`",
            Unnamed::Unknown => "the issuer is not one of the accepted issuers",
        })
    })?;
    if !identity::is_subject(subject) {
        return Err(Problem::bad(
            "the subject is longer than 255 bytes, or has control characters",
        ));
    }
    let tag = identity::tag_of(&issuer, subject);
    let mut all = store.connections(tag).await.map_err(away)?;
    all.sort_by_key(|entry| (std::cmp::Reverse(entry.until), entry.connection));
    let held = store.held_writes(tag.into(), MOST_COUNTED).await.map_err(away)?;
    Ok(Connections {
        subject: subject.to_owned(),
        issuer: issuer.as_str().to_owned(),
        connections: all
            .iter()
            .map(|entry| Connection {
                connection: entry.connection.to_string(),
                state: if now < entry.until { "live" } else { "expired" },
                until: entry.until.as_secs(),
            })
            .collect(),
        held: held.len() as u64,
    })
}

/// Tells what was decided about a connection.
///
/// # Errors
/// If the id is none, or the store does not answer.
pub(super) async fn explain(
    store: &dyn Store,
    id: &str,
    (now, leeway): (Timestamp, Duration),
) -> Result<Explanation, Problem> {
    let connection: ConnectionId = id
        .parse()
        .map_err(|_| Problem::bad("this is not the id of a connection"))?;
    let recorded = store.authentication(connection).await.map_err(away)?;
    let decisions = store.decisions(connection).await.map_err(away)?;
    Ok(Explanation {
        connection: connection.to_string(),
        state: RecordedState::of(recorded, now, leeway).as_str(),
        decisions: decisions.into_iter().map(Decided::from).collect(),
    })
}

impl From<Decision> for Decided {
    fn from(decision: Decision) -> Self {
        let Decision {
            at,
            sequence,
            id,
            what,
            why,
        } = decision;
        Self {
            at_ms: at.as_millis(),
            sequence: sequence.map(|sequence| sequence.get()),
            id,
            what,
            why,
        }
    }
}

fn away(reason: StoreError) -> Problem {
    // What it says may name hosts.
    debug!(%reason, "the store cannot be asked for a backend");
    Problem::unavailable("the store does not answer")
}
