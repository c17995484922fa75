//! What is held of each connection.

use std::collections::HashMap;
use std::time::Duration;

use shared::wire::id::{ConnectionId, Sequence};

use super::{RedisStore, keep_ms, millis, unreadable, without_bytes};
use crate::store::{AFTERLIFE, Call, DESERTED_KEPT, DROPPED_KEPT, HeldMessage, HoldLimits, Holding, MessageStore};

/// In the same hash as the messages: how many bytes they count together.
const BYTES: &str = "bytes";

/// What the script says instead of how many are held.
const DESERTED: i64 = -2;

impl MessageStore for RedisStore {
    fn hold_message<'a>(
        &'a self,
        connection: ConnectionId,
        message: &'a HeldMessage,
        limits: &'a HoldLimits,
    ) -> Call<'a, Holding> {
        Box::pin(async move {
            let text = serde_json::to_string(message).map_err(unreadable)?;
            let now = self.clock.now();
            let mut invocation = self.scripts.hold_message.prepare_invoke();
            for what in ["held", "dropped", "auth"] {
                invocation.key(self.of_connection(connection, what));
            }
            invocation
                .arg(message.sequence.get())
                .arg(text)
                .arg(message.bytes())
                .arg(limits.messages)
                .arg(limits.bytes)
                .arg(keep_ms(now, limits.gone_at(message.since, now)));
            let (count, successor): (i64, Option<String>) = self
                .ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await?;
            let count = match count {
                DESERTED => return Ok(Holding::Deserted),
                count => count,
            };
            let Ok(count) = u64::try_from(count) else {
                return Ok(Holding::Overflow);
            };
            let successor = successor
                .map(|successor| successor.parse().map_err(unreadable))
                .transpose()?;
            Ok(Holding::Held { count, successor })
        })
    }

    fn held_messages(&self, connection: ConnectionId) -> Call<'_, Vec<HeldMessage>> {
        Box::pin(async move {
            let mut command = redis::cmd("HGETALL");
            command.arg(self.of_connection(connection, "held"));
            let fields: HashMap<String, String> =
                self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            let messages = fields.iter().filter(|(field, _)| *field != BYTES);
            let mut held = messages
                .map(|(_, text)| serde_json::from_str(without_bytes(text)?).map_err(unreadable))
                .collect::<Result<Vec<HeldMessage>, _>>()?;
            held.sort_unstable_by_key(|message| message.sequence);
            Ok(held)
        })
    }

    fn dropped_messages(&self, connection: ConnectionId) -> Call<'_, Vec<Sequence>> {
        Box::pin(async move {
            let mut command = redis::cmd("ZRANGE");
            command.arg(self.of_connection(connection, "dropped")).arg(0).arg(-1);
            let dropped: Vec<u64> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            Ok(dropped.into_iter().map(Sequence::new).collect())
        })
    }

    fn drop_messages<'a>(&'a self, connection: ConnectionId, sequences: &'a [Sequence]) -> Call<'a, u64> {
        Box::pin(async move {
            let mut invocation = self.scripts.drop_messages.prepare_invoke();
            for what in ["held", "dropped"] {
                invocation.key(self.of_connection(connection, what));
            }
            invocation.arg(millis(AFTERLIFE)).arg(DROPPED_KEPT);
            for sequence in sequences {
                invocation.arg(sequence.get());
            }
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }

    fn keep_messages(&self, connection: ConnectionId, keep: Duration) -> Call<'_, ()> {
        Box::pin(async move {
            let mut invocation = self.scripts.keep.key(self.of_connection(connection, "held"));
            invocation.arg(millis(keep));
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }

    fn discard_messages(&self, connection: ConnectionId) -> Call<'_, u64> {
        Box::pin(async move {
            let mut invocation = self.scripts.discard.prepare_invoke();
            for what in ["auth", "held", "dropped", "decisions"] {
                invocation.key(self.of_connection(connection, what));
            }
            invocation.arg(millis(DESERTED_KEPT));
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }
}
