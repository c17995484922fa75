//! Which life of the store this is.
//!
//! A server that lost something has the key no more, or is another than the one that
//! had it. In a cluster each node may lose its own, so there is a key in each
//! sixteenth of the slots; the epoch is all of theirs together.

use futures_util::future::try_join_all;
use shared::service::chance;

use super::{LONGEST_KEPT, RedisStore, millis};
use crate::store::{Epoch, StoreError};

/// One for each sixteenth of the slots of a cluster.
const IN_EACH_PART: [&str; 16] = [
    "epoch-22", "epoch-0", "epoch-40", "epoch-62", "epoch-23", "epoch-1", "epoch-41", "epoch-63", "epoch-20",
    "epoch-2", "epoch-42", "epoch-60", "epoch-21", "epoch-3", "epoch-43", "epoch-61",
];

impl RedisStore {
    pub(super) async fn read_epoch(&self) -> Result<Epoch, StoreError> {
        let parts = self.parts_of_epoch().await?;
        Ok(Epoch {
            id: id_of(&parts),
            announced: parts.iter().all(|part| part.announced),
        })
    }

    /// Nothing is written if another epoch has begun meanwhile.
    pub(super) async fn write_announced(&self, epoch: Epoch) -> Result<(), StoreError> {
        let parts = self.parts_of_epoch().await?;
        if id_of(&parts) != epoch.id {
            return Ok(());
        }
        let writes = self.keys_of_epoch().zip(parts).map(async |(key, part)| {
            let mut invocation = self.scripts.announced.key(key);
            invocation.arg(part.id);
            self.ask(async |mut wire| invocation.invoke_async::<()>(&mut wire).await)
                .await
        });
        try_join_all(writes).await.map(|_| ())
    }

    async fn parts_of_epoch(&self) -> Result<Vec<Epoch>, StoreError> {
        let reads = self.keys_of_epoch().map(async |key| {
            let mut invocation = self.scripts.epoch.key(key);
            invocation.arg(chance::number()).arg(millis(LONGEST_KEPT));
            let (id, announced) = self
                .ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await?;
            Ok(Epoch { id, announced })
        });
        try_join_all(reads).await
    }

    fn keys_of_epoch(&self) -> impl Iterator<Item = String> {
        let parts = if self.link.is_cluster() { IN_EACH_PART.len() } else { 1 };
        let keys = IN_EACH_PART.iter().take(parts);
        keys.map(|part| self.of_all(&format!("{{{part}}}")))
    }
}

fn id_of(parts: &[Epoch]) -> u64 {
    parts.iter().fold(0, |sum, part| sum.wrapping_add(part.id))
}

#[cfg(test)]
mod tests {
    use super::super::link::slot_of;
    use super::*;

    #[test]
    fn every_part_of_a_cluster_has_its_own() {
        let mut parts: Vec<_> = IN_EACH_PART.iter().map(|part| slot_of(part) / 1_024).collect();
        parts.sort_unstable();
        assert_eq!(parts, (0..16).collect::<Vec<_>>());
    }
}
