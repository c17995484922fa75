//! How many connections a revocation has reached: what its producer wants to know first.
//!
//! The store knows connections by identity and by name, not by `jti` or `sid`; of those, nothing is said.

use std::collections::HashMap;

use futures_util::future::join_all;
use shared::service::clock::Timestamp;
use shared::wire::revocation::{Revocation, Subject, Target};

use crate::outbound::Outbound;
use crate::store::{Authentication, Registered, StoreError};

/// How many live connections each of these means, where that can be told. It is no reason to wait for a store that is away.
pub(crate) async fn reached(outbound: &Outbound, all: &[Revocation]) -> HashMap<Target, usize> {
    let counts = all
        .iter()
        .map(async |one| Some((one.target, count(outbound, one).await.ok()??)));
    join_all(counts).await.into_iter().flatten().collect()
}

async fn count(outbound: &Outbound, revocation: &Revocation) -> Result<Option<usize>, StoreError> {
    let (store, now) = (&outbound.store, outbound.clock.now());
    match revocation.target {
        Target::Identity(identity) => {
            let entries = store.connections(identity).await?;
            let subject = |entry: &Registered| Subject {
                identity,
                token_id: entry.token_id,
                session: entry.session,
                issued_at: entry.issued_at,
                proven: None,
                connection: Some(entry.connection),
            };
            let is_meant = |entry: &&Registered| now < entry.until && revocation.means(&subject(entry));
            Ok(Some(entries.iter().filter(is_meant).count()))
        }
        Target::Connection(connection) => {
            let known = store.authentication(connection).await?;
            Ok(Some(usize::from(known.is_some_and(|known| is_live(&known, now)))))
        }
        Target::Token(_) | Target::Session(_) | Target::OutsideSessions(_) | Target::Key(_) | Target::Everyone => {
            Ok(None)
        }
    }
}

fn is_live(authentication: &Authentication, now: Timestamp) -> bool {
    matches!(authentication, Authentication::Live { until, .. } if now < *until)
}
