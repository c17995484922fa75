//! What is held leaves the hold, for a connection that asks for it.
//!
//! It is sent and confirmed, and only then forgotten: a worker that dies in between
//! sends it once more, and the terminator knows it by its key.

use bytes::Bytes;
use shared::envelope::errand::Write;
use shared::envelope::{Errand, Fetch};
use shared::tag::IdentityTag;
use tracing::debug;

use super::metrics::GaveUp;
use super::{Arrival, Outbound, Trouble, confirmed, write};
use crate::pipeline::JOURNEY;
use crate::store::HeldWrite;

/// How many are sent at a time, before the terminator asks for more.
const MOST_AT_A_TIME: u64 = 256;

impl Outbound {
    /// Sends what is held, in its order, and how many there are left.
    pub(super) async fn fetch(&self, fetch: Fetch) -> Result<(), Trouble> {
        let Fetch { connection, identity } = fetch;
        let good = self.expire(identity).await?;
        if !self.release(fetch, &good).await? {
            // It stays where it is, for whoever asks next.
            return Ok(());
        }
        let left = self.forget(identity, &good).await?;
        self.counters.released(good.len());
        debug!(target: JOURNEY, stage = "fetched", %connection, %identity, count = good.len(), left);
        let sent = self.submit(connection, &Errand::Fetched { left }, Bytes::new()).await;
        confirmed(sent).await?;
        Ok(())
    }

    /// Gives up what is held for an identity and past its time, and tells what else is held.
    pub(super) async fn expire(&self, identity: IdentityTag) -> Result<Vec<HeldWrite>, Trouble> {
        let held = self.store.held_writes(identity, MOST_AT_A_TIME).await?;
        let (late, good): (Vec<_>, Vec<_>) = held.into_iter().partition(|write| self.is_over(write.since));
        for write in &late {
            self.give_up(write, identity, GaveUp::Expired, None).await?;
        }
        if !late.is_empty() {
            self.forget(identity, &late).await?;
        }
        Ok(good)
    }

    /// Whether all of it arrived.
    async fn release(&self, fetch: Fetch, held: &[HeldWrite]) -> Result<bool, Trouble> {
        let Fetch { connection, identity } = fetch;
        let mut sent = Vec::with_capacity(held.len());
        for one in held {
            let errand = Errand::Write(Write {
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

    async fn forget(&self, identity: IdentityTag, writes: &[HeldWrite]) -> Result<u64, Trouble> {
        let keys: Vec<_> = writes.iter().map(|write| write.key.clone()).collect();
        Ok(self.store.drop_writes(identity, &keys).await?)
    }
}
