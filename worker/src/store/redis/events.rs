//! Which events of issuers were told.

use std::time::Duration;

use shared::wire::tag::TokenIdTag;

use super::{RedisStore, millis};
use crate::store::{LONGEST_KEPT, StoreError};

impl RedisStore {
    pub(super) async fn look_for_event(&self, event: TokenIdTag, keep: Option<Duration>) -> Result<bool, StoreError> {
        let keep_ms = keep.map_or(0, |keep| millis(keep.min(LONGEST_KEPT)).max(1));
        let mut invocation = self
            .scripts
            .know_event
            .key(self.of_all(&format!("{{e:{event}}}:event")));
        invocation.arg(keep_ms);
        self.ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await
    }
}
