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
use super::trace::JOURNEY;
use super::{Conclusion, Pipeline};
use crate::admin::metrics::{Held, Outcome, Released};
use crate::auth::rights::Allowed;
use crate::auth::snapshot::subject_of;
use crate::store::{HeldMessage, Holding, StoreError};
use crate::token::Verified;

/// When to try again what was refused because others have too much held: holds of connections that are nobody's are short.
const RETRY_WHEN_CROWDED_MS: u64 = 5_000;

/// How far the connections are followed that took over from each other.
pub(super) const MOST_HEIRS: usize = 16;

impl Pipeline {
    /// Holds a message, or refuses it if that cannot be.
    ///
    /// # Errors
    /// If whoever waits for it could not be told.
    pub(super) async fn hold(
        &self,
        asked: &MessageContext<'_>,
        question: &ForwardedMessage,
        own: Option<&Verified>,
        reason: Reason,
    ) -> Result<Conclusion, PublishError> {
        let stamp = question.stamp;
        let message = self.to_be_held(asked, stamp, own);
        let limits = if message.unauthenticated {
            match self.reserve(stamp.connection, &message).await {
                Ok(true) => &self.rules.unauthenticated.hold,
                Ok(false) => {
                    let error = ErrorBody::new(
                        ErrorCode::Busy,
                        "too much is held for unauthenticated connections; authenticate first, or try later",
                    );
                    return Ok(self.not_held(asked, Held::Crowded, &error.retry_after_ms(RETRY_WHEN_CROWDED_MS)));
                }
                Err(reason) => return Ok(Conclusion::refused(asked.id(), &self.away(asked, &reason))),
            }
        } else {
            &self.rules.hold
        };
        let mut holding = self.store.hold_message(stamp.connection, &message, limits).await;
        if holding.is_err() {
            // The store may hold it although it did not say so, and it is not to be refused and handled later. Once more
            // makes sure of that, unless the store is away.
            holding = self.store.hold_message(stamp.connection, &message, limits).await;
        }
        let (count, successor) = match holding {
            Ok(Holding::Held { count, successor }) => (count, successor),
            Ok(Holding::Overflow) => {
                let error = ErrorBody::new(
                    ErrorCode::HoldOverflow,
                    "the message needs a fresh token, and too much waits for one already",
                );
                return Ok(self.not_held(asked, Held::Overflow, &error));
            }
            Ok(Holding::Deserted) => {
                let error = ErrorBody::new(
                    ErrorCode::AuthRequired,
                    "the connection closed before it was authenticated",
                );
                return Ok(self.not_held(asked, Held::Deserted, &error));
            }
            Err(reason) => return Ok(Conclusion::refused(asked.id(), &self.away(asked, &reason))),
        };
        if let Some(successor) = successor {
            self.wake(stamp.connection, successor).await?;
        }
        self.metrics.held(Held::For(reason));
        debug!(target: JOURNEY, stage = "held", %stamp, reason = reason.as_str(), count);
        let mut conclusion = Conclusion::of(Outcome::Held, Bytes::new());
        let hold_ms = u64::try_from(limits.ttl.as_millis()).unwrap_or(u64::MAX);
        conclusion.answer.verdict = Verdict::Held { reason, hold_ms };
        conclusion.answer.id = asked.id().cloned().map(RequestId::into_owned);
        Ok(conclusion.recent_decisions(self.decision(Some(stamp), asked.id(), "held", reason.as_str())))
    }

    /// The message as it is held.
    fn to_be_held(&self, asked: &MessageContext<'_>, stamp: MessageId, own: Option<&Verified>) -> HeldMessage {
        let accepted = match own {
            Some(own) => Some(subject_of(own, None)),
            None => asked.bound.map(|bound| bound.subject(stamp.connection)),
        };
        HeldMessage {
            sequence: stamp.sequence,
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
            unauthenticated: asked.bound.is_none(),
            deadline: asked.deadline,
            trace: headers::to_text(),
        }
    }

    /// The refusal of a message that cannot be held, and why it is counted.
    fn not_held(&self, asked: &MessageContext<'_>, why: Held, error: &ErrorBody) -> Conclusion {
        self.metrics.held(why);
        self.refuse(asked, error, None)
    }

    /// Counts a message of a connection that is nobody's. Tells whether it may be held.
    async fn reserve(&self, connection: ConnectionId, message: &HeldMessage) -> Result<bool, StoreError> {
        let reservation = self.rules.unauthenticated.reservation(message, message.since);
        self.store.reserve(connection, &reservation).await
    }

    /// Forgets what is held of a closed connection that was never anybody's: nobody can ever ask for it.
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
    /// that whoever is told too early is told again.
    async fn wake(&self, connection: ConnectionId, mut successor: ConnectionId) -> Result<(), PublishError> {
        let errand = Command::Wake { from: Some(connection) };
        for _ in 0..MOST_HEIRS {
            self.metrics.woke_heir();
            if self.send_errand(successor, &errand, Bytes::new()).await? {
                break;
            }
            // Its terminator is gone. It may have been taken over in its turn.
            match self.store.successor(successor).await {
                Ok(Some(next)) => successor = next,
                Ok(None) => break,
                Err(reason) => {
                    // The message is held, so it is not refused; if nobody comes for it, it is given up in time.
                    self.metrics.store_failed();
                    debug!(%successor, %reason, "it is not known which connection has taken over");
                    break;
                }
            }
        }
        Ok(())
    }
}
