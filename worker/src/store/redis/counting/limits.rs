//! How much one identity has and does. Scripts, so that two workers that ask at the same moment get one place, and not two.

use std::time::Duration;

use shared::wire::tag::IdentityTag;

use crate::store::limits::{BURST_US, MOST_NAMED, interval_us};
use crate::store::redis::{RedisStore, keep_ms, unreadable};
use crate::store::{Admission, Call, ConnectionSlot, LimitStore, MOST_CONNECTIONS, OnConnectionLimit};

impl LimitStore for RedisStore {
    fn admit(&self, identity: IdentityTag, place: ConnectionSlot) -> Call<'_, Admission> {
        Box::pin(async move {
            let now = self.clock.now();
            let mut invocation = self.scripts.admit.prepare_invoke();
            for what in ["places", "places:ends"] {
                invocation.key(self.of_identity(identity, what));
            }
            invocation
                .arg(place.connection.to_string())
                .arg(now.as_millis())
                .arg(place.until.as_millis())
                .arg(keep_ms(now, place.until))
                .arg(place.limit.most)
                .arg(u8::from(place.limit.on_more == OnConnectionLimit::CloseOldest))
                .arg(u8::from(place.is_renewal))
                .arg(
                    place
                        .replaces
                        .map(|connection| connection.to_string())
                        .unwrap_or_default(),
                )
                .arg(MOST_CONNECTIONS)
                .arg(MOST_NAMED);
            let told: Vec<String> = self
                .ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await?;
            let mut told = told.iter();
            let is_admitted = told.next().is_some_and(|word| word == "1");
            let named = told.map(|connection| connection.parse().map_err(unreadable));
            let named = named.collect::<Result<_, _>>()?;
            Ok(if is_admitted {
                Admission::Admitted(named)
            } else {
                Admission::Refused(named)
            })
        })
    }

    fn pace(&self, identity: IdentityTag, per_second: u32) -> Call<'_, Option<Duration>> {
        Box::pin(async move {
            let mut invocation = self.scripts.pace.prepare_invoke();
            invocation
                .key(self.of_identity(identity, "pace"))
                .arg(self.clock.now().as_millis().saturating_mul(1_000))
                .arg(interval_us(per_second))
                .arg(BURST_US);
            let wait_us: u64 = self
                .ask(async |mut wire| invocation.invoke_async(&mut wire).await)
                .await?;
            Ok((wait_us > 0).then(|| Duration::from_micros(wait_us)))
        })
    }
}
