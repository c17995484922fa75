//! Which connections terminators have open.
//!
//! Those of one terminator share a slot; the index of the terminators has another. As with what is overdue, both sides write
//! first and look second: the index may name a terminator in vain, and never lacks one for longer than until it tells something.

use shared::service::clock::Timestamp;
use shared::wire::id::TerminatorId;

use super::super::{RedisStore, millis, unreadable};
use crate::store::{Call, LONGEST_KEPT, OpenChanges, OpenStore, StoreError};

/// The index.
const TERMINATORS: &str = "{terminators}";

impl OpenStore for RedisStore {
    fn enter_open<'a>(&'a self, terminator: TerminatorId, changes: &'a OpenChanges) -> Call<'a, ()> {
        Box::pin(async move {
            if changes.values().any(Option::is_some) {
                self.expect_terminator(terminator).await?;
            }
            if self.change_open(terminator, changes).await? > 0 {
                return Ok(());
            }
            let mut command = redis::cmd("ZREM");
            command.arg(self.of_all(TERMINATORS)).arg(terminator.to_string());
            self.ask(async |mut wire| command.exec_async(&mut wire).await).await?;
            // Someone may have entered something meanwhile.
            if self.change_open(terminator, &OpenChanges::new()).await? > 0 {
                self.expect_terminator(terminator).await?;
            }
            Ok(())
        })
    }

    fn open_connections(&self, terminator: TerminatorId, most: u64) -> Call<'_, Vec<(u64, String)>> {
        Box::pin(async move {
            let (mut cursor, mut found) = (0_u64, Vec::new());
            loop {
                let mut command = redis::cmd("HSCAN");
                command
                    .arg(self.of_terminator(terminator, "open"))
                    .arg(cursor)
                    .arg("COUNT")
                    .arg(most);
                let (next, some): (u64, Vec<(String, String)>) =
                    self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
                for (number, event) in some {
                    found.push((number.parse().map_err(unreadable)?, event));
                }
                // A page may be empty although others are not.
                if !found.is_empty() || next == 0 {
                    return Ok(found);
                }
                cursor = next;
            }
        })
    }

    fn terminators_due(&self, before: Timestamp) -> Call<'_, Vec<TerminatorId>> {
        Box::pin(async move {
            let mut invocation = self.scripts.terminators_due.key(self.of_all(TERMINATORS));
            invocation.arg(before.as_millis()).arg(self.clock.now().as_millis());
            let due: Vec<String> = self
                .ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await?;
            due.iter().map(|name| name.parse().map_err(unreadable)).collect()
        })
    }
}

impl RedisStore {
    fn of_terminator(&self, terminator: TerminatorId, what: &str) -> String {
        self.of_all(&format!("{{t:{terminator}}}:{what}"))
    }

    async fn expect_terminator(&self, terminator: TerminatorId) -> Result<(), StoreError> {
        let mut invocation = self.scripts.expect_terminator.key(self.of_all(TERMINATORS));
        invocation
            .arg(terminator.to_string())
            .arg(self.clock.now().as_millis())
            .arg(millis(LONGEST_KEPT));
        self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }

    /// Tells how many are open then.
    async fn change_open(&self, terminator: TerminatorId, changes: &OpenChanges) -> Result<u64, StoreError> {
        let mut invocation = self.scripts.enter_open.key(self.of_terminator(terminator, "open"));
        invocation.arg(millis(LONGEST_KEPT));
        for (number, event) in changes {
            // No event is empty.
            invocation.arg(*number).arg(event.as_deref().unwrap_or_default());
        }
        self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }
}
