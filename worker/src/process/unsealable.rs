//! A message that cannot be opened: kept for a person, and its sender told.

use shared::bus::{Delivery, PublishError};
use shared::wire::protocol::{ErrorBody, ErrorCode};
use shared::wire::seal::Unsealable;

use super::{Conclusion, Pipeline};
use crate::message::origin::Origin;

impl Pipeline {
    /// # Errors
    /// If it could not be kept.
    pub(super) async fn unsealable(
        &self,
        delivery: &Delivery,
        origin: &Origin,
        why: Unsealable,
    ) -> Result<Conclusion, PublishError> {
        self.opening.tell(origin.message_id(), why);
        let queue = self.names.messages_by(&delivery.routing_key);
        self.dead_letters.dead_letter_unsealable(delivery, why, queue).await?;
        // By what `id` its client knows it, no one can tell.
        let refusal = ErrorBody::new(ErrorCode::Internal, "the message cannot be read");
        Ok(Conclusion::refused(None, &refusal))
    }
}
