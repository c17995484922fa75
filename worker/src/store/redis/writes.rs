//! What is held for each identity.
//!
//! The writes of an identity share a slot. The index of those that are overdue has
//! a slot of its own: it is written first, so that nothing is held that it does not
//! know; what it names in vain costs one look.

use serde::{Deserialize, Serialize};
use shared::clock::Timestamp;
use shared::envelope::errand::Producer;
use shared::tag::IdentityTag;

use super::{RedisStore, keep_ms, unreadable};
use crate::store::{HOLD_GRACE, HeldWrite, HoldLimits, Holding, StoreError};

#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    correlation_id: Option<String>,
    since: Timestamp,
}

impl RedisStore {
    pub(super) async fn append_write(
        &self,
        identity: IdentityTag,
        write: &HeldWrite,
        limits: &HoldLimits,
    ) -> Result<Holding, StoreError> {
        self.expect_overdue(identity, write.since).await?;
        let text = serde_json::to_string(&Stored::from(write)).map_err(unreadable)?;
        let now = self.clock.now();
        let gone_at = write
            .since
            .max(now)
            .saturating_add(limits.ttl)
            .saturating_add(HOLD_GRACE);
        let mut invocation = self.scripts.hold_write.prepare_invoke();
        invocation
            .key(self.of_identity(identity, "writes"))
            .key(self.of_identity(identity, "order"))
            .arg(&write.key)
            .arg(text)
            .arg(write.bytes())
            .arg(limits.messages)
            .arg(limits.bytes)
            .arg(keep_ms(now, gone_at));
        let count: u64 = self
            .ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await?;
        if count == 0 {
            return Ok(Holding::Overflow);
        }
        Ok(Holding::Held { count, heir: None })
    }

    pub(super) async fn read_writes(&self, identity: IdentityTag, most: u64) -> Result<Vec<HeldWrite>, StoreError> {
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("ZRANGE");
        command.arg(self.of_identity(identity, "order")).arg(0).arg(most - 1);
        let keys: Vec<String> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut command = redis::cmd("HMGET");
        command.arg(self.of_identity(identity, "writes"));
        for key in &keys {
            command.arg(field(key));
        }
        let texts: Vec<Option<String>> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
        // One that was dropped between the two is none any more.
        let present = texts.iter().flatten();
        present
            .map(|text| {
                let stored: Stored = serde_json::from_str(text).map_err(unreadable)?;
                Ok(stored.into())
            })
            .collect()
    }

    pub(super) async fn remove_writes(&self, identity: IdentityTag, keys: &[String]) -> Result<u64, StoreError> {
        let mut invocation = self.scripts.drop_writes.prepare_invoke();
        invocation
            .key(self.of_identity(identity, "writes"))
            .key(self.of_identity(identity, "order"));
        for key in keys {
            invocation.arg(key);
        }
        self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }

    /// Takes identities out of the index, and puts those back of which something is still held.
    pub(super) async fn find_overdue(&self, since: Timestamp, most: u64) -> Result<Vec<IdentityTag>, StoreError> {
        let mut invocation = self.scripts.take_overdue.key(self.of_all("overdue"));
        invocation.arg(since.as_millis()).arg(most);
        let named: Vec<String> = self
            .ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await?;
        let mut overdue = Vec::new();
        for identity in named {
            let identity = identity.parse().map_err(unreadable)?;
            let Some(oldest) = self.read_writes(identity, 1).await?.pop() else {
                continue;
            };
            self.expect_overdue(identity, oldest.since).await?;
            if oldest.since < since {
                overdue.push(identity);
            }
        }
        Ok(overdue)
    }

    async fn expect_overdue(&self, identity: IdentityTag, since: Timestamp) -> Result<(), StoreError> {
        let mut command = redis::cmd("ZADD");
        // An earlier moment stays.
        command
            .arg(self.of_all("overdue"))
            .arg("NX")
            .arg(since.as_millis())
            .arg(identity.to_string());
        self.ask(async |mut wire| command.exec_async(&mut wire).await).await
    }
}

/// The field of a write: none of them can be taken for the hash's own.
fn field(key: &str) -> String {
    format!("w:{key}")
}

impl From<&HeldWrite> for Stored {
    fn from(write: &HeldWrite) -> Self {
        let producer = write.producer.as_ref();
        Self {
            key: write.key.clone(),
            body: write.body.clone(),
            reply_to: producer.map(|producer| producer.reply_to.clone()),
            correlation_id: producer.and_then(|producer| producer.correlation_id.clone()),
            since: write.since,
        }
    }
}

impl From<Stored> for HeldWrite {
    fn from(stored: Stored) -> Self {
        let Stored {
            key,
            body,
            reply_to,
            correlation_id,
            since,
        } = stored;
        Self {
            key,
            body,
            producer: reply_to.map(|reply_to| Producer {
                reply_to,
                correlation_id,
            }),
            since,
        }
    }
}
