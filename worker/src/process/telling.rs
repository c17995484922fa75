//! What is written or noted besides the answer.

use std::fmt::Display;

use bytes::Bytes;
use shared::bus::{PublishError, Route};
use shared::service::audit;
use shared::service::trace::{self as traces, SpanKind, headers, words};
use shared::wire::envelope::Command;
use shared::wire::envelope::command::Write;
use shared::wire::id::{ConnectionId, MessageId};
use shared::wire::protocol::{ErrorBody, ErrorCode};
use shared::wire::tag::IdentityTag;
use tokio::time::Instant;
use tracing::field::display;
use tracing::info;

use super::Pipeline;
use super::answer;
use crate::admin::event::is_noted;
use crate::admin::metrics::Lost;
use crate::store::HeldMessage;

impl Pipeline {
    /// Has the connection's terminator do something, and waits until that has arrived. Tells whether there is one.
    ///
    /// # Errors
    /// If it cannot be said whether it has arrived.
    pub(super) async fn send_command(
        &self,
        connection: ConnectionId,
        command: &Command,
        body: Bytes,
    ) -> Result<bool, PublishError> {
        let queue = self.names.return_queue(connection.terminator).name;
        let mut message = command.to_message(connection, body);
        let span = traces::child("answer", SpanKind::Producer);
        span.describe(|| words::messaging("answer", "send", &queue));
        headers::write(&mut message.properties, &span);
        match self.publisher.publish(Route::queue(&queue), message).await {
            Ok(()) => Ok(true),
            Err(PublishError::Unroutable) => Ok(false),
            Err(reason) => Err(reason),
        }
    }

    /// Refuses a message that was held, to anyone who is on that connection.
    ///
    /// # Errors
    /// If it cannot be said whether they are told.
    pub(super) async fn refuse_held(
        &self,
        connection: ConnectionId,
        held: MessageId,
        message: &HeldMessage,
        refusal: &ErrorBody,
    ) -> Result<(), PublishError> {
        let write = Write {
            // Of a message that was answered already, by anyone who could not then forget that it was held, nothing more is told.
            key: format!("{held}.0"),
            identity: None,
            producer: None,
            connections: 0,
            alone: false,
            asked_by: None,
            released: false,
            fetched: false,
            since: message.since,
            until: None,
        };
        let body = answer::error(message.id.as_ref(), refusal, None);
        if !self.send_command(connection, &Command::Write(write), body).await? {
            self.metrics.answer_lost(Lost::Unroutable);
        }
        Ok(())
    }

    /// Writes an answer to anyone who is on `connection`, or keeps it for them; if it cannot be published, they are told.
    ///
    /// # Errors
    /// If it cannot be said whether it has arrived.
    pub(super) async fn write_released(
        &self,
        connection: ConnectionId,
        write: Write,
        body: Bytes,
        message: &HeldMessage,
    ) -> Result<(), PublishError> {
        let command = Command::Write(write.clone());
        let sent = self.send_command(connection, &command, body.clone()).await;
        if sent == Err(PublishError::Malformed) {
            self.metrics.answer_lost(Lost::Unpublishable);
            // It has nothing of anyone's.
            let command = Command::Write(Write {
                identity: None,
                ..write
            });
            let instead = answer::unpublishable(message.id.as_ref());
            if !self.send_command(connection, &command, instead).await? {
                self.metrics.answer_lost(Lost::Unroutable);
            }
            return Ok(());
        }
        if !sent? {
            self.send_undelivered(command.to_message(connection, body)).await?;
        }
        Ok(())
    }

    /// Leaves a line for the auditor, if someone was refused for what they may not do.
    pub(super) fn audit_refusal(
        &self,
        code: ErrorCode,
        origin: &dyn Display,
        identity: Option<IdentityTag>,
        why: &str,
    ) {
        self.tell_refusal(code, origin, why);
        if !is_noted(code) && code != ErrorCode::Forbidden {
            return;
        }
        if let Some(unwritten) = self.audit.admit(code.as_str(), Instant::now()) {
            let identity = identity.map(display);
            info!(target: audit::TARGET, refused = code.as_str(), %origin, identity, why, unwritten, "refused");
        }
    }

    /// Leaves a line for the operator, if there is a reason, and it is about who may what.
    fn tell_refusal(&self, code: ErrorCode, origin: &dyn Display, why: &str) {
        let is_told = is_noted(code) || matches!(code, ErrorCode::Forbidden | ErrorCode::AuthUnavailable);
        if !is_told || why.is_empty() {
            return;
        }
        let origin = origin.to_string();
        // By its connection, that is, a person can have it explained.
        match origin.parse::<MessageId>() {
            Ok(message_id) => self.refusals.tell(code.as_str(), &message_id.connection, why),
            Err(_) => self.refusals.tell(code.as_str(), &origin, why),
        }
    }
}
