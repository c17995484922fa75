//! That a client has given a message up.

use bytes::Bytes;
use shared::bus::Route;
use shared::bus::topology::keys;
use shared::wire::envelope::{self, Cancel, ForwardedMessage};
use shared::wire::id::MessageId;
use shared::wire::request_id::RequestId;
use tokio::time::Instant;
use tracing::debug;

use crate::admin::event::{Event, Released};
use crate::admin::metrics::MessageOutcome;
use crate::message::deadline;
use crate::outbound::OutboundError;
use crate::process::{Conclusion, Pipeline};
use crate::store::HeldMessage;

impl Pipeline {
    /// Stops what the connection has sent before under that name, wherever it is under way. Nothing is answered to that: the
    /// message itself is.
    pub(in crate::process) async fn cancel(&self, forwarded: &ForwardedMessage, id: RequestId<'_>) -> Conclusion {
        let cancel = Cancel {
            connection: forwarded.message_id.connection,
            id: id.as_str().to_owned(),
            before: forwarded.message_id.sequence,
        };
        self.observer.tell(forwarded.message_id, Event::Cancelled);
        if !self.given_up.give_up(&cancel, Instant::now()) {
            self.given_up.told();
            let route = Route::new(&self.internal, keys::RULES);
            if let Err(reason) = self.publisher.publish(route, envelope::cancelled(&cancel)).await {
                // Then it is handled, as if no one had said anything.
                debug!(%reason, "a cancellation was not sent to the other workers");
            }
        }
        if forwarded.snapshot.held
            && let Err(reason) = self.take_out_of_hold(forwarded, &id).await
        {
            // It is refused when it is released.
            debug!(message_id = %forwarded.message_id, %reason, "a cancelled message is still held");
        }
        Conclusion::of(MessageOutcome::Cancel, Bytes::new())
    }

    /// What of it waits for a fresh token waits no more, and its sender is told at once.
    async fn take_out_of_hold(&self, forwarded: &ForwardedMessage, id: &RequestId<'_>) -> Result<(), OutboundError> {
        let connection = forwarded.message_id.connection;
        let is_meant = |message: &HeldMessage| {
            let is_named = message.id.as_ref().is_some_and(|other| other.as_str() == id.as_str());
            is_named && message.sequence < forwarded.message_id.sequence
        };
        let held = self.store.held_messages(connection).await?;
        for message in held.iter().filter(|message| is_meant(message)) {
            let message_id = MessageId {
                connection,
                sequence: message.sequence,
            };
            let refusal = deadline::cancelled(false);
            self.refuse_held(connection, message_id, message, &refusal).await?;
            self.store.drop_messages(connection, &[message.sequence]).await?;
            let ended = Event::HoldEnded {
                how: Released::Cancelled,
                why: &refusal.message,
            };
            self.observer.note(message_id, message.id.as_ref(), ended).await;
        }
        Ok(())
    }
}
