//! Asks by the queue, as any other service would, one request after the other.

use std::time::Duration;

use serde_json::value::RawValue;
use shared::bus::topology::Names;
use shared::bus::{Bus, PublishError};
use tokio::sync::Mutex;

use crate::support::rpc_client::{NoReply, One, Pace, RpcClient};

/// A busy handler's time included.
const PACE: Pace = Pace {
    in_flight: 1,
    timeout: Duration::from_secs(30),
};

/// Asks one request at a time.
pub(crate) struct Backend(Mutex<RpcClient>);

impl Backend {
    /// Begins to listen for answers.
    pub(crate) fn new(bus: &dyn Bus, names: Names) -> Self {
        Self(Mutex::new(RpcClient::on(bus, names, PACE, true)))
    }

    /// Asks under a routing key. The answer is none if none came in time.
    ///
    /// # Errors
    /// If the queue does not take it.
    pub(super) async fn ask(&self, key: &str, mut request: One) -> Result<Option<Box<RawValue>>, PublishError> {
        let mut client = self.0.lock().await;
        // One request can always be read.
        let _ = client.ask(key, &mut request).await;
        match request.reply {
            Some(Ok(answer)) => Ok(serde_json::from_slice(&answer.body).ok()),
            Some(Err(NoReply::NotTaken(error))) => Err(error),
            Some(Err(NoReply::Unanswered | NoReply::Taken)) | None => Ok(None),
        }
    }
}
