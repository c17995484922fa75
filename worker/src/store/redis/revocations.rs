//! What has been taken back. One field for each target; its times are numbers side by side, so that a script can compare
//! them without reading the target.

use std::collections::HashMap;

use shared::clock::Timestamp;
use shared::revocation::{Revocation, Target};

use super::{RedisStore, keep_ms, unreadable};
use crate::store::StoreError;

impl RedisStore {
    pub(super) async fn write_revocation(&self, revocation: &Revocation) -> Result<(), StoreError> {
        let target = serde_json::to_string(&revocation.target).map_err(unreadable)?;
        let mut invocation = self.scripts.revoke.key(self.of_all("revocations"));
        invocation
            .arg(target)
            .arg(revocation.issued_before.as_millis())
            .arg(revocation.effective.as_millis())
            .arg(revocation.until.as_millis())
            .arg(keep_ms(self.clock.now(), revocation.until));
        self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }

    pub(super) async fn read_revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        let key = self.of_all("revocations");
        let mut command = redis::cmd("HGETALL");
        command.arg(&key);
        let fields: HashMap<String, String> = self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
        let now = self.clock.now();
        let (mut in_force, mut over) = (Vec::new(), redis::cmd("HDEL"));
        over.arg(&key);
        let mut any_over = false;
        for (target, times) in &fields {
            let revocation = read(target, times)?;
            if now < revocation.until {
                in_force.push(revocation);
            } else {
                any_over = true;
                over.arg(target);
            }
        }
        if any_over {
            self.ask(async |mut wire| over.exec_async(&mut wire).await).await?;
        }
        Ok(in_force)
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
