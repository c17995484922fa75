//! That a client has given a message up.

use bytes::Bytes;
use shared::bus::Route;
use shared::bus::topology::keys;
use shared::wire::envelope::{self, Cancel, ForwardedMessage};
use shared::wire::request_id::RequestId;
use tokio::time::Instant;
use tracing::debug;

use crate::admin::metrics::Outcome;
use crate::process::trace::JOURNEY;
use crate::process::{Conclusion, Pipeline};

impl Pipeline {
    /// Stops what the connection has sent before under that name, wherever it is under way. Nothing is answered to that: the
    /// message itself is.
    pub(in crate::process) async fn cancel(&self, question: &ForwardedMessage, id: RequestId<'_>) -> Conclusion {
        let cancel = Cancel {
            connection: question.stamp.connection,
            id: id.as_str().to_owned(),
            before: question.stamp.sequence,
        };
        debug!(target: JOURNEY, stage = "cancel", stamp = %question.stamp);
        if !self.given_up.give_up(&cancel, Instant::now()) {
            self.given_up.told();
            let route = Route::new(&self.internal, keys::RULES);
            if let Err(reason) = self.publisher.publish(route, envelope::cancelled(&cancel)).await {
                // Then it is handled, as if nobody had said anything.
                debug!(%reason, "the other workers are not told what was given up");
            }
        }
        Conclusion::of(Outcome::Cancel, Bytes::new())
    }
}
