//! What has been taken back.
//!
//! One field for each target; its times are numbers side by side, so that a script
//! can compare them without reading the target.

use std::collections::HashMap;

use shared::clock::Timestamp;
use shared::revocation::{CAPACITY, Revocation, Target};

use super::{RedisStore, keep_ms, unreadable};
use crate::store::StoreError;

/// How many are forgotten at a reading, and how many are read at a time: either keeps Redis busy for about a
/// millisecond.
const AT_A_TIME: usize = 1_000;

impl RedisStore {
    pub(super) async fn write_revocation(&self, revocation: &Revocation) -> Result<(), StoreError> {
        let now = self.clock.now();
        if revocation.until <= now {
            return Ok(());
        }
        let target = serde_json::to_string(&revocation.target).map_err(unreadable)?;
        let mut invocation = self.scripts.revoke.prepare_invoke();
        for key in self.keys_of_revocations() {
            invocation.key(key);
        }
        invocation
            .arg(target)
            .arg(revocation.issued_before.as_millis())
            .arg(revocation.effective.as_millis())
            .arg(revocation.until.as_millis())
            .arg(keep_ms(now, revocation.until))
            .arg(CAPACITY);
        self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }

    pub(super) async fn read_revocations(&self) -> Result<Vec<Revocation>, StoreError> {
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
    }

    fn keys_of_revocations(&self) -> [String; 2] {
        ["{revocations}", "{revocations}:ends"].map(|what| self.of_all(what))
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
