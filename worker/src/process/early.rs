//! That a connection has a grant, when the application takes its time.
//!
//! A grant goes with the answer. But whoever showed a good token in time is not to expire because the handler is slow; so
//! when an answer does not come at once, the terminator is told the grant by a part of the answer that has no body, and of
//! which another follows. It counts as none of the parts: a worker that handles the message again may say it again, or not.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use shared::bus::Route;
use shared::service::clock::Timestamp;
use shared::wire::envelope::{Change, ForwardedMessage, Part, Reply};
use tracing::debug;

use super::Pipeline;
use super::trace::JOURNEY;

/// How long an answer that carries a grant may take before the grant is told alone: less than the advance notice of any
/// expire, and longer than almost all handlers take.
const ENOUGH: Duration = Duration::from_millis(200);

impl Pipeline {
    /// Waits for what the question comes to, and tells its terminator the grant meanwhile if that takes long.
    pub(super) async fn with_early_grant<T>(
        &self,
        question: &ForwardedMessage,
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
            self.tell_early(question, received, change).await;
        };
        tokio::select! {
            biased;
            came_to = &mut handling => return came_to,
            () = telling => {}
        }
        handling.await
    }

    async fn tell_early(&self, question: &ForwardedMessage, received: Option<Timestamp>, change: &Change) {
        let stamp = question.stamp;
        let answer = Reply {
            part: Part { index: 0, more: true },
            change: Some(change.clone()),
            second: question.standing.again,
            ..Reply::ONLY
        };
        let queue = self.names.return_queue(stamp.connection.terminator).name;
        let mut message = answer.to_message(Some(stamp.to_string()), Bytes::new());
        self.tell_time(question, received, true, &mut message.properties);
        match self.publisher.publish(Route::queue(&queue), message).await {
            Ok(()) => debug!(target: JOURNEY, stage = "granted-early", %stamp),
            // The answer carries it too, and what cannot be told is told with that.
            Err(reason) => debug!(%stamp, %reason, "an authentication is reported with its reply only"),
        }
    }
}
