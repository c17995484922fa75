//! A message that waits for a fresh token: kept without the one that it came with.

use bytes::Bytes;
use shared::bus::PublishError;
use shared::service::trace::headers;
use shared::wire::envelope::{Command, ForwardedMessage, Verdict};
use shared::wire::id::{ConnectionId, MessageId};
use shared::wire::protocol::{ErrorBody, ErrorCode, Reason};
use shared::wire::request_id::RequestId;
use tracing::debug;

use super::concluding::MessageContext;
use super::{Conclusion, Pipeline};
use crate::admin::event::{Event, Released};
use crate::admin::metrics::{MessageOutcome, NotHeld};
use crate::auth::rights::Allowed;
use crate::auth::snapshot::subject_of;
use crate::auth::successors::Successors;
use crate::store::{HeldMessage, Holding, StoreError};
use crate::token::Verified;

/// When to try again what was refused because others have too much held: holds of connections that are no one's are short.
const RETRY_WHEN_CROWDED_MS: u64 = 5_000;

impl Pipeline {
    /// Holds a message, or refuses it if that cannot be.
    ///
    /// # Errors
    /// If anyone who waits for it could not be told.
    pub(super) async fn hold(
        &self,
        asked: &MessageContext<'_>,
        forwarded: &ForwardedMessage,
        own: Option<&Verified>,
        reason: Reason,
    ) -> Result<Conclusion, PublishError> {
        let message_id = forwarded.message_id;
        let message = self.to_be_held(asked, message_id, own);
        let limits = if message.unauthenticated {
            match self.reserve(message_id.connection, &message).await {
                Ok(true) => &self.rules.unauthenticated.hold,
                Ok(false) => {
                    let error = ErrorBody::new(
                        ErrorCode::Busy,
                        "too much is held for unauthenticated connections; authenticate first, or try later",
                    );
                    return Ok(self.not_held(asked, NotHeld::Crowded, &error.retry_after_ms(RETRY_WHEN_CROWDED_MS)));
                }
                Err(reason) => return Ok(Conclusion::refused(asked.id(), &self.away(asked, &reason))),
            }
        } else {
            &self.rules.hold
        };
        let mut holding = self.store.hold_message(message_id.connection, &message, limits).await;
        if holding.is_err() {
            // The store may hold it although it did not say so, and it is not to be refused and handled later. Once more
            // makes sure of that, unless the store is away.
            holding = self.store.hold_message(message_id.connection, &message, limits).await;
        }
        let (count, successor) = match holding {
            Ok(Holding::Held { count, successor }) => (count, successor),
            Ok(Holding::Overflow) => {
                let error = ErrorBody::new(
                    ErrorCode::HoldOverflow,
                    "the message needs a fresh token, and too much waits for one already",
                );
                return Ok(self.not_held(asked, NotHeld::Overflow, &error));
            }
            Ok(Holding::Deserted) => {
                let error = ErrorBody::new(
                    ErrorCode::AuthRequired,
                    "the connection closed before it was authenticated",
                );
                return Ok(self.not_held(asked, NotHeld::Deserted, &error));
            }
            Err(reason) => return Ok(Conclusion::refused(asked.id(), &self.away(asked, &reason))),
        };
        if let Some(successor) = successor {
            self.wake(message_id.connection, successor).await?;
        }
        let held = Event::Held { reason, count };
        let decided = self.observer.decide(message_id, asked.id(), held);
        let mut conclusion = Conclusion::of(MessageOutcome::Held, Bytes::new());
        let hold_ms = u64::try_from(limits.ttl.as_millis()).unwrap_or(u64::MAX);
        conclusion.answer.verdict = Verdict::Held { reason, hold_ms };
        conclusion.answer.id = asked.id().cloned().map(RequestId::into_owned);
        Ok(conclusion.having(decided))
    }

    /// The message as it is held.
    fn to_be_held(&self, asked: &MessageContext<'_>, message_id: MessageId, own: Option<&Verified>) -> HeldMessage {
        let accepted = match own {
            Some(own) => Some(subject_of(own, None)),
            None => asked
                .authenticated
                .map(|authenticated| authenticated.subject(message_id.connection)),
        };
        HeldMessage {
            sequence: message_id.sequence,
            id: asked.id().cloned().map(RequestId::into_owned),
            kind: asked.message.kind.clone().into_owned(),
            payload: asked.message.payload.map(|payload| payload.get().to_owned()),
            owner: accepted.map(|subject| subject.identity),
            token_id: accepted.and_then(|subject| subject.token_id),
            session: accepted.and_then(|subject| subject.session),
            issued_at: accepted.and_then(|subject| subject.issued_at),
            allowed: own.map(|own| Allowed::of(&own.claims)),
            client: own.and_then(|own| self.rules.client_of(&own.claims)).map(str::to_owned),
            since: asked.now,
            unauthenticated: asked.authenticated.is_none(),
            deadline: asked.deadline,
            trace: headers::to_text(),
        }
    }

    /// The refusal of a message that cannot be held, and why it is counted.
    fn not_held(&self, asked: &MessageContext<'_>, why: NotHeld, error: &ErrorBody) -> Conclusion {
        self.metrics.not_held(why);
        self.refuse(asked, error, None)
    }

    /// Counts a message of a connection that is no one's. Tells whether it may be held.
    async fn reserve(&self, connection: ConnectionId, message: &HeldMessage) -> Result<bool, StoreError> {
        let reservation = self.rules.unauthenticated.reservation(message, message.since);
        self.store.reserve(connection, &reservation).await
    }

    /// Forgets what is held of a closed connection that was never anyone's: no one can ever ask for it.
    pub(super) async fn discard_held(&self, connection: ConnectionId) {
        let discarded = async {
            let count = self.store.discard_messages(connection).await?;
            self.store.unreserve(connection).await?;
            Ok::<_, StoreError>(count)
        };
        match discarded.await {
            Ok(count) => (0..count).for_each(|_| self.metrics.released(Released::Closed)),
            Err(reason) => {
                // It ends by itself, and soon.
                self.metrics.store_failed();
                debug!(%connection, %reason, "what a closed connection left could not be forgotten");
            }
        }
    }

    /// Tells the connection that took over from a closed one that something more is held of it. It was put there first, so
    /// that anyone who is told too early is told again.
    async fn wake(&self, connection: ConnectionId, successor: ConnectionId) -> Result<(), PublishError> {
        let command = Command::Wake { from: Some(connection) };
        let (mut at, mut successors) = (Some(successor), Successors::of(&*self.store, successor));
        while let Some(successor) = at {
            self.metrics.woke_successor();
            if self.send_command(successor, &command, Bytes::new()).await? {
                break;
            }
            // Its terminator is gone. It may have been taken over in its turn.
            at = successors.next().await.unwrap_or_else(|reason| {
                // The message is held, so it is not refused; if no connection asks for it, it is given up in time.
                self.metrics.store_failed();
                debug!(%successor, %reason, "it is not known which connection has taken over");
                None
            });
        }
        Ok(())
    }
}
