//! Who has waited too long.
//!
//! What is held in a mailbox shares a slot; the index of those in which
//! something is held has another, so the two cannot change in one step. Both sides
//! write first and look second. Anyone who holds something enters it into the index
//! afterwards, and has held nothing before that is done: if it fails, the caller
//! repeats it. Anyone who takes a mailbox out looks again afterwards whether
//! something is held by now. So the index may name too many, and never too few.

use shared::service::clock::Timestamp;

use super::{RedisStore, millis, unreadable};
use crate::store::{AFTERLIFE, Mailbox, StoreError};

/// How a moment is entered that may be there already.
#[derive(Clone, Copy)]
enum OverdueUpdate {
    /// An earlier one stays.
    Earliest,
    /// It takes the place of the one that is there, if one is.
    Corrected,
}

impl RedisStore {
    /// Makes it known that something is held in a mailbox since then, and is for so many milliseconds from now.
    pub(super) async fn expect_overdue(
        &self,
        mailbox: Mailbox,
        since: Timestamp,
        keep_ms: u64,
    ) -> Result<(), StoreError> {
        self.enter_overdue(mailbox, since, OverdueUpdate::Earliest, keep_ms)
            .await
    }

    pub(super) async fn find_overdue(&self, since: Timestamp, most: u64) -> Result<Vec<Mailbox>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command
            .arg(self.of_all("overdue"))
            .arg("-inf")
            .arg(format!("({}", since.as_millis()))
            .arg(&["BYSCORE", "LIMIT", "0"])
            .arg(most);
        let named: Vec<String> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
        let mut overdue = Vec::new();
        for mailbox in named {
            let mailbox = mailbox.parse().map_err(unreadable)?;
            let mut oldest = self.oldest_write(mailbox).await?;
            if oldest.is_none_or(|oldest| oldest >= since) {
                oldest = self.correct_overdue(mailbox, oldest).await?;
            }
            if oldest.is_some_and(|oldest| oldest < since) {
                overdue.push(mailbox);
            }
        }
        Ok(overdue)
    }

    /// Corrects the index where it names a mailbox too early or in vain. Tells since when something is held by now.
    ///
    /// A step of [`overdue`](crate::store::WriteStore::overdue), and public because others may hold something between its steps.
    ///
    /// # Errors
    ///
    /// As every call of the store.
    pub async fn correct_overdue(
        &self,
        mailbox: Mailbox,
        oldest: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, StoreError> {
        match oldest {
            Some(oldest) => {
                self.enter_overdue(mailbox, oldest, OverdueUpdate::Corrected, millis(AFTERLIFE))
                    .await?;
            }
            None => {
                let mut command = redis::cmd("ZREM");
                command.arg(self.of_all("overdue")).arg(mailbox.to_string());
                self.ask(async |mut wire| command.exec_async(&mut wire).await).await?;
            }
        }
        let by_now = self.oldest_write(mailbox).await?;
        if let Some(by_now) = by_now {
            self.expect_overdue(mailbox, by_now, millis(AFTERLIFE)).await?;
        }
        Ok(by_now)
    }

    async fn enter_overdue(
        &self,
        mailbox: Mailbox,
        since: Timestamp,
        entry: OverdueUpdate,
        keep_ms: u64,
    ) -> Result<(), StoreError> {
        let mut invocation = self.scripts.expect_overdue.key(self.of_all("overdue"));
        invocation
            .arg(since.as_millis())
            .arg(mailbox.to_string())
            .arg(match entry {
                OverdueUpdate::Earliest => "LT",
                OverdueUpdate::Corrected => "XX",
            })
            .arg(keep_ms);
        self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }

    async fn oldest_write(&self, mailbox: Mailbox) -> Result<Option<Timestamp>, StoreError> {
        let mut command = redis::cmd("ZRANGE");
        command
            .arg(self.of_mailbox(mailbox, "age"))
            .arg(&[0, 0])
            .arg("WITHSCORES");
        let oldest: Vec<(String, f64)> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
        // A score is a whole number of milliseconds, far below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let moment = |score: f64| Timestamp::from_millis(score as u64);
        Ok(oldest.first().map(|(_, score)| moment(*score)))
    }
}
