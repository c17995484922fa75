//! Which connections an identity has.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::id::ConnectionId;
use shared::tag::{IdentityTag, TokenIdTag};

use super::{RedisStore, keep_ms, unreadable};
use crate::store::{AFTERLIFE, MOST_CONNECTIONS, Registered, StoreError};

#[derive(Serialize, Deserialize)]
struct Stored {
    until: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    issued_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    token_id: Option<TokenIdTag>,
}

impl RedisStore {
    pub(super) async fn enter_connection(&self, identity: IdentityTag, entry: Registered) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let stored = Stored {
            until: entry.until,
            issued_at: entry.issued_at,
            token_id: entry.token_id,
        };
        let text = serde_json::to_string(&stored).map_err(unreadable)?;
        let gone_at = entry.until.max(now).saturating_add(AFTERLIFE);
        let keys = [
            self.of_identity(identity, "connections"),
            self.of_identity(identity, "order"),
        ];
        let mut invocation = self.scripts.register.prepare_invoke();
        for key in keys {
            invocation.key(key);
        }
        invocation
            .arg(entry.connection.to_string())
            .arg(text)
            .arg(keep_ms(now, gone_at))
            .arg(MOST_CONNECTIONS)
            .arg(now.as_millis().saturating_sub(millis(AFTERLIFE)));
        self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }

    pub(super) async fn remove_connection(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
    ) -> Result<(), StoreError> {
        let mut command = redis::cmd("HDEL");
        command
            .arg(self.of_identity(identity, "connections"))
            .arg(connection.to_string());
        self.ask(async |mut wire| command.exec_async(&mut wire).await).await
    }

    pub(super) async fn read_connections(&self, identity: IdentityTag) -> Result<Vec<Registered>, StoreError> {
        let mut command = redis::cmd("HGETALL");
        command.arg(self.of_identity(identity, "connections"));
        let entries: HashMap<String, String> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
        let now = self.clock.now();
        let mut found = Vec::with_capacity(entries.len());
        for (connection, text) in entries {
            let stored: Stored = serde_json::from_str(&text).map_err(unreadable)?;
            if stored.until.saturating_add(AFTERLIFE) > now {
                found.push(Registered {
                    connection: connection.parse().map_err(unreadable)?,
                    until: stored.until,
                    issued_at: stored.issued_at,
                    token_id: stored.token_id,
                });
            }
        }
        Ok(found)
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
