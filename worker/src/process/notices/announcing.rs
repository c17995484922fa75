//! What terminators tell on their own account, so that neither a store that lost something nor a queue that expired has
//! the last word.

use std::time::Duration;

use bytes::Bytes;
use shared::bus::{Properties, PublishError, Route};
use shared::service::clock::Timestamp;
use shared::wire::envelope::{self, Command, ForwardedMessage};
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::revocation::MOST_AT_A_TIME;
use tokio::time::timeout;
use tracing::debug;

use crate::admin::event::{Event, Subject};
use crate::admin::metrics::MessageOutcome;
use crate::auth::recorded::{Proven, digest_of};
use crate::auth::snapshot::Authenticated;
use crate::process::Pipeline;
use crate::revocation::known::Judgement;
use crate::store::Authentication;

/// How long a terminator that asks what is revoked waits in one worker's hands until that is known. Then it comes again.
const UNTIL_KNOWN: Duration = Duration::from_secs(10);

impl Pipeline {
    /// A connection is there, as it stands: what the store may have lost of it is written again. If it has that still,
    /// nothing changes, since nothing is newer than what was written by the same message.
    ///
    /// # Errors
    /// If the connection could not be told of what is held, or its terminator that it is entered.
    pub(in crate::process) async fn announced(
        &self,
        forwarded: &ForwardedMessage,
    ) -> Result<MessageOutcome, PublishError> {
        let (connection, now) = (forwarded.message_id.connection, self.clock.now());
        let authenticated = Authenticated::of(&forwarded.snapshot).zip(forwarded.snapshot.by);
        let is_known = match &authenticated {
            Some((authenticated, by)) => self.enter(connection, authenticated, *by, now).await?,
            None => true,
        };
        if is_known {
            self.send_command(connection, &Command::Entered, Bytes::new()).await?;
        }
        Ok(MessageOutcome::Announced)
    }

    /// Tells whether the store knows of the connection now, or need not. Nothing waits here, where messages are handled, for a
    /// store that may be away for long: the connection is announced again.
    async fn enter(
        &self,
        connection: ConnectionId,
        authenticated: &Authenticated,
        by: Sequence,
        now: Timestamp,
    ) -> Result<bool, PublishError> {
        let subject = authenticated.subject(connection);
        let Some(principal) = authenticated.principal() else {
            return Ok(true);
        };
        if self.revoked.judge(&subject, now) == Judgement::Revoked {
            return Ok(true);
        }
        let authentication = Authentication::Live {
            until: authenticated.grant.until.saturating_sub(self.rules.terms.leeway),
            by,
            resume: digest_of(&principal.resume, self.rules.client_of(&principal.claims)),
            identity: principal.identity,
        };
        let message_id = shared::wire::id::MessageId {
            connection,
            sequence: by,
        };
        let entry = Proven::entry(message_id, authenticated.grant.until, &subject);
        let entered = self
            .recorder
            .restore(authenticated.grant.identity, entry, &authentication)
            .await;
        let recording = match entered {
            Ok(recording) => recording,
            Err(reason) => {
                self.metrics.store_failed();
                debug!(%connection, %reason, "a connection that was announced could not be entered");
                return Ok(false);
            }
        };
        let (recorded, waiting) = (recording.recorded, recording.waiting);
        self.observer.tell(message_id, Event::Announced { recorded, waiting });
        if waiting > 0 && authenticated.grant.is_live(now) {
            // What is held may have come while no one knew of the connection.
            self.send_command(connection, &Command::Wake { from: None }, Bytes::new())
                .await?;
        }
        Ok(true)
    }

    /// A terminator is back that may have missed revocations: it is told all.
    ///
    /// # Errors
    /// If they are not known yet, or could not be told.
    pub(in crate::process) async fn tell_all_revocations(
        &self,
        properties: &Properties,
    ) -> Result<MessageOutcome, PublishError> {
        let Some(queue) = properties.reply_to.as_deref() else {
            return Ok(MessageOutcome::Announced);
        };
        if timeout(UNTIL_KNOWN, self.revoked.until_loaded()).await.is_err() {
            return Err(PublishError::Away);
        }
        let all = self.revoked.in_force(self.clock.now());
        let count = all.len();
        self.observer
            .tell(Subject::Other, Event::ToldRevocations { queue, count });
        for some in all.chunks(MOST_AT_A_TIME) {
            // If the queue is not there yet, it is tried again.
            self.publisher
                .publish(Route::queue(queue), envelope::revoked(some))
                .await?;
        }
        Ok(MessageOutcome::Announced)
    }
}
