//! What is held leaves the hold, for a connection that asks for it.
//!
//! It is sent and confirmed, and only then forgotten: a worker that dies in between
//! sends it once more, and the terminator knows it by its key.

use bytes::Bytes;
use shared::wire::envelope::command::Write;
use shared::wire::envelope::{Command, Fetch};
use tracing::debug;

use super::metrics::GaveUp;
use super::{Arrival, Outbound, OutboundError, confirmed, write};
use crate::process::trace::JOURNEY;
use crate::store::{HeldWrite, Mailbox};

/// How many are sent at a time, before the terminator asks for more.
const MOST_AT_A_TIME: usize = 256;

impl Outbound {
    /// Sends what is held, in the order of each mailbox, and tells how many there are left.
    pub(super) async fn fetch(&self, fetch: Fetch) -> Result<(), OutboundError> {
        let Fetch { connection, identity } = fetch;
        let (mut room, mut left) = (MOST_AT_A_TIME, 0);
        for mailbox in self.owed_to(fetch).await? {
            let mut good = self.expire(mailbox).await?;
            // What was asked in another's name on the same connection waits on.
            good.retain(|write| write.asker.is_none_or(|asker| asker == identity));
            let beyond = good.split_off(good.len().min(room));
            if !self.release(fetch, &good).await? {
                // It stays where it is, for whoever asks next.
                return Ok(());
            }
            left += match mailbox {
                Mailbox::Pushes(_) => self.forget(mailbox, &good).await?,
                Mailbox::Answers(_) if good.is_empty() => beyond.len() as u64,
                Mailbox::Answers(_) => self.forget(mailbox, &good).await.map(|_| beyond.len() as u64)?,
            };
            room -= good.len();
            self.counters.released(mailbox.into(), good.len());
            for answer in good.iter().filter(|write| write.asker.is_some()) {
                self.note_answer(answer, "answer_released", format!("to {connection}"))
                    .await;
            }
            debug!(target: JOURNEY, stage = "fetched", %connection, %mailbox, count = good.len(), left);
        }
        let sent = self.submit(connection, &Command::Fetched { left }, Bytes::new()).await;
        confirmed(sent).await?;
        Ok(())
    }

    /// Gives up what is held in a mailbox and past its time, and tells what else is held.
    pub(super) async fn expire(&self, mailbox: Mailbox) -> Result<Vec<HeldWrite>, OutboundError> {
        let most = match mailbox {
            Mailbox::Pushes(_) => MOST_AT_A_TIME as u64,
            // Not all of it need be for whoever is there now.
            Mailbox::Answers(_) => self.hold.messages,
        };
        let held = self.store.held_writes(mailbox, most).await?;
        let (late, good): (Vec<_>, Vec<_>) = held.into_iter().partition(|write| self.is_over(write.since));
        for write in &late {
            self.give_up(write, mailbox, GaveUp::Expired, None).await?;
        }
        if !late.is_empty() {
            self.forget(mailbox, &late).await?;
        }
        Ok(good)
    }

    /// Whether all of it arrived.
    async fn release(&self, fetch: Fetch, held: &[HeldWrite]) -> Result<bool, OutboundError> {
        let Fetch { connection, identity } = fetch;
        let mut sent = Vec::with_capacity(held.len());
        for one in held {
            let errand = Command::Write(Write {
                released: true,
                ..write(one, Some(identity))
            });
            let body = Bytes::copy_from_slice(one.body.as_bytes());
            sent.push(self.submit(connection, &errand, body).await);
        }
        let mut all = true;
        for sending in sent {
            all &= self.arrival(identity, connection, sending).await? == Arrival::Arrived;
        }
        Ok(all)
    }

    async fn forget(&self, mailbox: Mailbox, writes: &[HeldWrite]) -> Result<u64, OutboundError> {
        let keys: Vec<_> = writes.iter().map(|write| write.key.clone()).collect();
        Ok(self.store.drop_writes(mailbox, &keys).await?)
    }
}
