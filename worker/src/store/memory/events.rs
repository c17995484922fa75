//! Which events of issuers were told.

use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::tag::TokenIdTag;

use super::expiring::Expiring;
use crate::store::LONGEST_KEPT;

#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    known: Expiring<TokenIdTag, ()>,
}

impl Events {
    pub(super) fn know(&mut self, event: TokenIdTag, keep: Option<Duration>, now: Timestamp) -> bool {
        let known = self.known.get(&event, now).is_some();
        if let (false, Some(keep)) = (known, keep) {
            let gone_at = now.saturating_add(keep.min(LONGEST_KEPT));
            self.known.enter(event, now, gone_at, || ());
        }
        known
    }
}
