//! Which connections an identity has.

mod open;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use shared::service::clock::Timestamp;
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::tag::{IdentityTag, SessionTag, TokenIdTag};

use super::{RedisStore, keep_ms, millis, unreadable};
use crate::store::{
    AFTERLIFE, Call, ConnectionStore, DROPPED_KEPT, MOST_CONNECTIONS, MOST_DEPARTED, Registered, StoreError,
};

#[derive(Serialize, Deserialize)]
struct Stored {
    until: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    issued_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    token_id: Option<TokenIdTag>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    session: Option<SessionTag>,
}

impl ConnectionStore for RedisStore {
    fn register(&self, identity: IdentityTag, entry: Registered) -> Call<'_, Option<u64>> {
        Box::pin(async move {
            let now = self.clock.now();
            let stored = Stored {
                until: entry.until,
                issued_at: entry.issued_at,
                token_id: entry.token_id,
                session: entry.session,
            };
            let text = serde_json::to_string(&stored).map_err(unreadable)?;
            let gone_at = entry.gone_at(now);
            let mut invocation = self.scripts.register.prepare_invoke();
            for what in ["connections", "ends", "order", "left", "departed"] {
                invocation.key(self.of_identity(identity, what));
            }
            invocation
                .arg(entry.connection.to_string())
                .arg(text)
                .arg(gone_at.as_millis())
                .arg(now.as_millis())
                .arg(keep_ms(now, gone_at))
                .arg(MOST_CONNECTIONS)
                .arg(entry.by.get());
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }

    fn unregister(&self, identity: IdentityTag, connection: ConnectionId, by: Option<Sequence>) -> Call<'_, ()> {
        Box::pin(async move {
            let mut invocation = self.scripts.unregister.prepare_invoke();
            for what in [
                "connections",
                "ends",
                "left",
                "left:at",
                "departed",
                "places",
                "places:ends",
            ] {
                invocation.key(self.of_identity(identity, what));
            }
            invocation
                .arg(connection.to_string())
                .arg(self.clock.now().as_millis())
                .arg(millis(AFTERLIFE))
                .arg(DROPPED_KEPT)
                .arg(MOST_DEPARTED);
            if let Some(by) = by {
                invocation.arg(by.get());
            }
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }

    fn departed(&self, identity: IdentityTag, since: Timestamp) -> Call<'_, Vec<(ConnectionId, Timestamp)>> {
        Box::pin(async move {
            let mut command = redis::cmd("ZRANGE");
            command
                .arg(self.of_identity(identity, "departed"))
                .arg(since.as_millis())
                .arg("+inf")
                .arg(&["BYSCORE", "WITHSCORES"]);
            let departed: Vec<(String, f64)> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            let departed = departed.into_iter().map(|(connection, at_ms)| {
                // A moment in milliseconds is exact as a float for longer than anyone lives.
                let at = Timestamp::from_millis(at_ms as u64);
                Ok((connection.parse().map_err(unreadable)?, at))
            });
            departed.collect()
        })
    }

    fn replace_departed(&self, identity: IdentityTag, connection: ConnectionId) -> Call<'_, ()> {
        Box::pin(async move {
            let mut command = redis::cmd("ZREM");
            command
                .arg(self.of_identity(identity, "departed"))
                .arg(connection.to_string());
            self.ask(async |mut wire| command.query_async(&mut wire).await).await
        })
    }

    fn connections(&self, identity: IdentityTag) -> Call<'_, Vec<Registered>> {
        Box::pin(async move {
            let mut command = redis::cmd("HGETALL");
            command.arg(self.of_identity(identity, "connections"));
            let entries: HashMap<String, String> =
                self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            let now = self.clock.now();
            let mut found = Vec::with_capacity(entries.len());
            for (connection, text) in entries {
                let entry = read(connection.parse().map_err(unreadable)?, &text)?;
                // The script leaves some that are over for later.
                if now < entry.gone_at(now) {
                    found.push(entry);
                }
            }
            Ok(found)
        })
    }

    fn closed_lately(&self, identity: IdentityTag) -> Call<'_, Vec<ConnectionId>> {
        Box::pin(async move {
            let mut command = redis::cmd("HGETALL");
            command.arg(self.of_identity(identity, "left"));
            let left: HashMap<String, String> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            left.keys().map(|name| name.parse().map_err(unreadable)).collect()
        })
    }

    fn registered(&self, identity: IdentityTag, connection: ConnectionId) -> Call<'_, Option<Registered>> {
        Box::pin(async move {
            let mut command = redis::cmd("HGET");
            command
                .arg(self.of_identity(identity, "connections"))
                .arg(connection.to_string());
            let text: Option<String> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            let now = self.clock.now();
            let entry = text.map(|text| read(connection, &text)).transpose()?;
            Ok(entry.filter(|entry| now < entry.gone_at(now)))
        })
    }
}

/// An entry, as it is stored.
fn read(connection: ConnectionId, text: &str) -> Result<Registered, StoreError> {
    let (by, text) = text
        .split_once(':')
        .ok_or_else(|| unreadable("a connection that does not say by which message"))?;
    let stored: Stored = serde_json::from_str(text).map_err(unreadable)?;
    Ok(Registered {
        connection,
        by: Sequence::new(by.parse().map_err(unreadable)?),
        until: stored.until,
        issued_at: stored.issued_at,
        token_id: stored.token_id,
        session: stored.session,
    })
}
