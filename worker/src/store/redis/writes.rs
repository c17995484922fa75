//! What is held in each mailbox. What has waited too long is found by an index, in `overdue`.

use serde::{Deserialize, Serialize};
use shared::service::clock::Timestamp;
use shared::wire::envelope::command::Producer;
use shared::wire::tag::IdentityTag;

use super::{RedisStore, keep_ms, millis, unreadable, without_bytes};
use crate::store::{
    CONCLUDED_KEPT, Call, HeldWrite, HoldLimits, Holding, MISSED_KEPT, MOST_CONCLUDED, Mailbox, WriteStore,
};

#[derive(Serialize, Deserialize)]
struct Stored {
    key: String,
    body: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    asker: Option<IdentityTag>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    outcome_of: Option<String>,
    #[serde(default)]
    outcome_key: u64,
    since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    until: Option<Timestamp>,
}

impl WriteStore for RedisStore {
    fn hold_write<'a>(&'a self, mailbox: Mailbox, write: &'a HeldWrite, limits: &'a HoldLimits) -> Call<'a, Holding> {
        Box::pin(async move {
            let text = serde_json::to_string(&Stored::from(write)).map_err(unreadable)?;
            let now = self.clock.now();
            let keep_ms = keep_ms(now, limits.gone_at(write.since, now));
            let mut invocation = self.scripts.hold_write.prepare_invoke();
            for key in self.keys_of_writes(mailbox) {
                invocation.key(key);
            }
            invocation
                .arg(&write.key)
                .arg(text)
                .arg(write.bytes())
                .arg(limits.messages)
                .arg(limits.bytes)
                .arg(write.since.as_millis())
                .arg(keep_ms)
                .arg(write.sender().unwrap_or_default())
                .arg(limits.of_sender)
                .arg(limits.messages_of_users())
                .arg(limits.bytes_of_users());
            let count: i64 = self
                .ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await?;
            let Ok(count) = u64::try_from(count) else {
                return Ok(Holding::Overflow);
            };
            self.expect_overdue(mailbox, write.since, keep_ms).await?;
            Ok(Holding::Held { count, successor: None })
        })
    }

    fn held_writes(&self, mailbox: Mailbox, most: u64) -> Call<'_, Vec<HeldWrite>> {
        Box::pin(async move {
            if most == 0 {
                return Ok(Vec::new());
            }
            let mut command = redis::cmd("ZRANGE");
            command.arg(self.of_mailbox(mailbox, "order")).arg(0).arg(most - 1);
            let keys: Vec<String> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            let mut command = redis::cmd("HMGET");
            command.arg(self.of_mailbox(mailbox, "writes"));
            for key in &keys {
                command.arg(field(key));
            }
            let texts: Vec<Option<String>> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            // One that was dropped between the two is none any more.
            let present = texts.iter().flatten();
            present
                .map(|text| {
                    let stored: Stored = serde_json::from_str(without_bytes(text)?).map_err(unreadable)?;
                    Ok(stored.into())
                })
                .collect()
        })
    }

    fn drop_writes<'a>(&'a self, mailbox: Mailbox, keys: &'a [String]) -> Call<'a, u64> {
        Box::pin(async move {
            let mut invocation = self.scripts.drop_writes.prepare_invoke();
            for key in self.keys_of_writes(mailbox) {
                invocation.key(key);
            }
            for key in keys {
                invocation.arg(key);
            }
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }

    fn miss(&self, mailbox: Mailbox, count: u64) -> Call<'_, ()> {
        Box::pin(async move {
            let mut invocation = self.scripts.miss.key(self.of_mailbox(mailbox, "missed"));
            invocation.arg(count).arg(millis(MISSED_KEPT));
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }

    fn take_missed(&self, mailbox: Mailbox) -> Call<'_, u64> {
        Box::pin(async move {
            let invocation = self.scripts.take_missed.key(self.of_mailbox(mailbox, "missed"));
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }

    fn conclude(&self, identity: IdentityTag, key: u64, held: bool) -> Call<'_, bool> {
        Box::pin(async move {
            let mut invocation = self.scripts.conclude.key(self.of_identity(identity, "concluded"));
            invocation
                .arg(key)
                .arg(self.clock.now().as_millis())
                .arg(MOST_CONCLUDED)
                .arg(millis(CONCLUDED_KEPT))
                .arg(u8::from(held));
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }

    fn overdue(&self, since: Timestamp, most: u64) -> Call<'_, Vec<Mailbox>> {
        Box::pin(async move { self.find_overdue(since, most).await })
    }
}

impl RedisStore {
    fn keys_of_writes(&self, mailbox: Mailbox) -> [String; 3] {
        ["writes", "order", "age"].map(|what| self.of_mailbox(mailbox, what))
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
            asker: write.asker,
            reply_to: producer.map(|producer| producer.reply_to.clone()),
            correlation_id: producer.and_then(|producer| producer.correlation_id.clone()),
            outcome_of: producer.and_then(|producer| producer.subject.clone()),
            outcome_key: producer.map_or(0, |producer| producer.key),
            since: write.since,
            until: write.until,
        }
    }
}

impl From<Stored> for HeldWrite {
    fn from(stored: Stored) -> Self {
        let Stored {
            key,
            body,
            asker,
            reply_to,
            correlation_id,
            outcome_of,
            outcome_key,
            since,
            until,
        } = stored;
        Self {
            key,
            body,
            asker,
            producer: reply_to.map(|reply_to| Producer {
                reply_to,
                correlation_id,
                subject: outcome_of,
                key: outcome_key,
            }),
            since,
            until,
        }
    }
}
