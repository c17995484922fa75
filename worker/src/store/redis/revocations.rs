//! What has been revoked.
//!
//! One field for each target; its times are numbers side by side, so that a script
//! can compare them without reading the target. Anyone who is told that something is
//! revoked relies on it, so a replica must have it too, where there is one. To wait
//! for that blocks a connection, hence these writes have one of their own.

use std::collections::HashMap;
use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::revocation::{MOST_AT_A_TIME, Revocation, Target};
use shared::wire::tag::TokenIdTag;

use super::{RedisStore, keep_ms, millis, unreadable};
use crate::store::{Call, Kept, LONGEST_KEPT, RevocationStore, StoreError};

/// How many are forgotten at a reading, and how many are read at a time: either keeps Redis busy for about a
/// millisecond.
const AT_A_TIME: usize = 1_000;

/// All of them are in one slot of a cluster.
const TAG: &str = "revocations";

impl RevocationStore for RedisStore {
    fn revoke<'a>(&'a self, revocations: &'a [Revocation]) -> Call<'a, Kept> {
        Box::pin(async move {
            let now = self.clock.now();
            let last: Vec<_> = revocations.iter().filter(|one| now < one.until).collect();
            let mut kept = Kept::default();
            for some in last.chunks(MOST_AT_A_TIME) {
                let (replicas, refused) = self.write_some(some, now).await?;
                let refused = refused.into_iter().filter_map(|number| some.get(number));
                kept.refused.extend(refused.map(|one| one.target));
                kept.unreplicated |= replicas > 0 && !self.is_replicated().await;
            }
            Ok(kept)
        })
    }

    fn revocations(&self) -> Call<'_, Vec<Revocation>> {
        Box::pin(async move {
            let now = self.clock.now();
            let [all, ends] = self.keys_of_revocations();
            let mut invocation = self.scripts.forget_revocations.key(&all);
            invocation.key(ends).arg(now.as_millis()).arg(AT_A_TIME);
            self.ask(async |mut wire| invocation.invoke_async::<()>(&mut wire).await)
                .await?;
            // What was there before the scan is in it, some of it perhaps twice.
            let mut in_force = HashMap::new();
            let mut cursor = 0_u64;
            loop {
                let mut command = redis::cmd("HSCAN");
                command.arg(&all).arg(cursor).arg("COUNT").arg(AT_A_TIME);
                let (next, fields): (u64, HashMap<String, String>) =
                    self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
                for (target, times) in &fields {
                    let revocation = read(target, times)?;
                    if now < revocation.until {
                        in_force.insert(revocation.target, revocation);
                    }
                }
                if next == 0 {
                    return Ok(in_force.into_values().collect());
                }
                cursor = next;
            }
        })
    }

    fn know_event(&self, event: TokenIdTag, keep: Option<Duration>) -> Call<'_, bool> {
        Box::pin(async move {
            let keep_ms = keep.map_or(0, |keep| millis(keep.min(LONGEST_KEPT)).max(1));
            let mut invocation = self
                .scripts
                .know_event
                .key(self.of_all(&format!("{{e:{event}}}:event")));
            invocation.arg(keep_ms);
            self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await
        })
    }
}

impl RedisStore {
    /// Tells how many replicas there are, and which of these are too many.
    async fn write_some(&self, some: &[&Revocation], now: Timestamp) -> Result<(usize, Vec<usize>), StoreError> {
        let [all, ends] = self.keys_of_revocations();
        let longest = some.iter().map(|one| keep_ms(now, one.until)).max().unwrap_or(1);
        let mut invocation = self.scripts.revoke.key(all);
        invocation
            .key(ends)
            .arg(now.as_millis())
            .arg(longest)
            .arg(self.max_revocations)
            .arg(AT_A_TIME);
        for one in some {
            invocation
                .arg(serde_json::to_string(&one.target).map_err(unreadable)?)
                .arg(one.issued_before.as_millis())
                .arg(one.effective.as_millis())
                .arg(one.until.as_millis());
        }
        self.ask_by(&self.waiting, async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }

    /// Waits until a replica has what was written on the connection that waits, for half of the time that a call has.
    async fn is_replicated(&self) -> bool {
        let longest = self.timeout / 2;
        let confirmed = self.ask_by(&self.waiting, async |mut wire| wire.replicas(TAG, longest).await);
        confirmed.await.is_ok_and(|replicas| replicas > 0)
    }

    fn keys_of_revocations(&self) -> [String; 2] {
        ["", ":ends"].map(|what| self.of_all(&format!("{{{TAG}}}{what}")))
    }
}

fn read(target: &str, times: &str) -> Result<Revocation, StoreError> {
    let target: Target = serde_json::from_str(target).map_err(unreadable)?;
    let times: Vec<u64> = times
        .split(':')
        .map(|time| time.parse().map_err(unreadable))
        .collect::<Result<_, _>>()?;
    let [issued_before, effective, until] = times[..] else {
        return Err(unreadable("a revocation with more or fewer times"));
    };
    Ok(Revocation {
        target,
        issued_before: Timestamp::from_millis(issued_before),
        effective: Timestamp::from_millis(effective),
        until: Timestamp::from_millis(until),
    })
}
