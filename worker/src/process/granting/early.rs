//! That a connection has a grant, when the application takes its time.
//!
//! A grant goes with the answer. But the one who showed a good token in time is not to expire because the handler is slow; so
//! when an answer does not come at once, the terminator is told the grant by a part of the answer that has no body, and of
//! which another follows. It counts as none of the parts: a worker that handles the message again may say it again, or not.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use shared::bus::Route;
use shared::service::clock::Timestamp;
use shared::wire::envelope::{Change, ForwardedMessage, Part, Reply};
use tracing::debug;

use crate::admin::event::Event;
use crate::process::Pipeline;

/// How long an answer that carries a grant may take before the grant is told alone: less than the advance notice of any
/// expire, and longer than almost all handlers take.
const ENOUGH: Duration = Duration::from_millis(200);

impl Pipeline {
    /// Waits for what the request comes to, and tells its terminator the grant meanwhile if that takes long.
    pub(in crate::process) async fn with_early_grant<T>(
        &self,
        forwarded: &ForwardedMessage,
        received: Option<Timestamp>,
        change: Option<&Change>,
        handling: impl Future<Output = T>,
    ) -> T {
        let mut handling = pin!(handling);
        let Some(change) = change else {
            return handling.await;
        };
        let telling = async {
            tokio::time::sleep(ENOUGH).await;
            Box::pin(self.tell_early(forwarded, received, change)).await;
        };
        tokio::select! {
            biased;
            came_to = &mut handling => return came_to,
            () = telling => {}
        }
        handling.await
    }

    async fn tell_early(&self, forwarded: &ForwardedMessage, received: Option<Timestamp>, change: &Change) {
        let message_id = forwarded.message_id;
        let answer = Reply {
            part: Part { index: 0, more: true },
            change: Some(change.clone()),
            second: forwarded.snapshot.again,
            ..Reply::ONLY
        };
        let queue = self.names.return_queue(message_id.connection.terminator).name;
        let mut message = answer.to_message(Some(message_id.to_string()), Bytes::new());
        self.tell_time(forwarded, received, true, &mut message.properties);
        match self.publisher.publish(Route::queue(&queue), message).await {
            Ok(()) => self.observer.tell(message_id, Event::GrantedEarly),
            // The answer carries it too, and what cannot be told is told with that.
            Err(reason) => debug!(%message_id, %reason, "an authentication is reported with its reply only"),
        }
    }
}
