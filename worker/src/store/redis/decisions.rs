//! Why things were decided as they were.

use shared::wire::id::ConnectionId;

use super::{RedisStore, millis, unreadable};
use crate::store::decision::DECISIONS_KEPT;
use crate::store::{Call, DECISIONS_TTL, Decision, DecisionStore};

impl DecisionStore for RedisStore {
    fn note<'a>(&'a self, connection: ConnectionId, decision: &'a Decision) -> Call<'a, ()> {
        Box::pin(async move {
            let text = serde_json::to_string(decision).map_err(unreadable)?;
            let mut invocation = self.scripts.note.key(self.of_connection(connection, "decisions"));
            invocation.arg(text).arg(DECISIONS_KEPT).arg(millis(DECISIONS_TTL));
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }

    fn decisions(&self, connection: ConnectionId) -> Call<'_, Vec<Decision>> {
        Box::pin(async move {
            let mut command = redis::cmd("LRANGE");
            command.arg(self.of_connection(connection, "decisions")).arg(0).arg(-1);
            let texts: Vec<String> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
            texts
                .iter()
                .map(|text| serde_json::from_str(text).map_err(unreadable))
                .collect()
        })
    }
}
