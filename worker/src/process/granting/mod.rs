//! What a connection has by a token, and how it logs out.

pub(super) mod early;
pub(super) mod limits;

use bytes::Bytes;
use shared::bus::PublishError;
use shared::wire::envelope::{Change, Command, ForwardedMessage};
use shared::wire::grant::Grant;
use shared::wire::id::ConnectionId;
use shared::wire::protocol::{AuthBody, ErrorBody, ErrorCode};
use shared::wire::tag::{IdentityTag, ResumeSecret};
use tracing::debug;

use self::limits::Ungranted;
use super::concluding::MessageContext;
use super::{Conclusion, Pipeline, answer};
use crate::admin::event::Event;
use crate::admin::metrics::MessageOutcome;
use crate::auth::decision::unavailable;
use crate::auth::recorded::{Proven, Unrecorded, digest_of};
use crate::auth::snapshot::{Principal, subject_of};
use crate::handler::idempotency::Idempotency;
use crate::message::ResumeKey;
use crate::outbound::missed::Recovery;
use crate::store::{Recorded, StoreError};
use crate::token::Verified;

/// What stands beside the claims of a grant: its facts, message ids, and what traces a message.
const MOST_BESIDE_CLAIMS: usize = 3 * 1_024;

/// What a message has made of its connection.
pub(super) struct Granted {
    pub(super) identity: IdentityTag,
    pub(super) change: Change,
    /// What the client is told of it, unless a newer message has changed the connection already.
    pub(super) auth: Option<AuthBody>,
}

impl Pipeline {
    /// Grants the connection what the token earns it, on record.
    ///
    /// # Errors
    /// What the client is told if that cannot be recorded: nothing has changed, and the message may not be handled.
    pub(super) async fn grant(
        &self,
        asked: &MessageContext<'_>,
        forwarded: &ForwardedMessage,
        verified: &Verified,
        resumes: Option<ConnectionId>,
    ) -> Result<Granted, Ungranted> {
        let message_id = forwarded.message_id;
        let terms = &self.rules.terms;
        let resume = secret_of(asked, forwarded);
        let principal = Principal::to_text(verified, &resume);
        if principal.len().saturating_add(MOST_BESIDE_CLAIMS) > self.publisher.room_for_headers() {
            let why = "the token's claims are more than the broker carries with a message; a token with fewer claims is needed";
            return Err(ErrorBody::new(ErrorCode::TooLarge, why).into());
        }
        let grant = terms.grant(verified, asked.now);
        let proven = Proven {
            message_id,
            verified,
            entry: Proven::entry(message_id, grant.until, &subject_of(verified, None)),
            identity: grant.identity,
            resume: &resume,
            client: self.rules.client_of(&verified.claims),
            known: forwarded.snapshot.by,
            resumes,
            is_renewal: asked
                .authenticated
                .is_some_and(|authenticated| authenticated.grant.identity == grant.identity),
        };
        let recording = match self.record(&proven).await {
            Ok(recording) => recording,
            Err(Unrecorded::Store(reason)) => return Err(self.away(asked, &reason).into()),
            Err(Unrecorded::OverLimit(_)) => return Err(Ungranted::over_limit()),
        };
        self.close_oldest(grant.identity, &recording.oldest).await;
        let (recorded, waiting) = (recording.recorded, recording.waiting);
        self.observer.tell(message_id, Event::Granted { recorded, waiting });
        let key = ResumeKey {
            connection: message_id.connection,
            secret: resume,
        };
        let auth = if recording.is_stale() {
            None
        } else {
            let window = self.idempotency.as_ref().map(Idempotency::window);
            let missed = match recorded {
                Some(_) => self.outbound.take_missed(grant.identity, waiting).await,
                None => 0,
            };
            Some(AuthBody {
                missed: not_zero(missed),
                ..answer::auth(verified, &key, window, asked.now)
            })
        };
        Ok(Granted {
            identity: grant.identity,
            auth,
            change: Change::Live {
                grant: Grant {
                    waiting,
                    resumes,
                    ..grant
                },
                principal,
            },
        })
    }

    /// `auth.authenticate`, with a token that is good.
    ///
    /// # Errors
    /// If the one who had the connection that it takes over could not be told.
    pub(super) async fn authenticate(
        &self,
        asked: &MessageContext<'_>,
        forwarded: &ForwardedMessage,
        verified: &Verified,
    ) -> Result<Conclusion, PublishError> {
        let key = asked.message.resume();
        // Anyone who resumes the connection that it is has missed nothing.
        let is_another = |key: &ResumeKey| key.connection != forwarded.message_id.connection;
        let shown = key.as_ref().is_ok_and(|key| key.as_ref().is_some_and(is_another));
        let resumes = match key {
            Ok(key) => self.take_over(forwarded.message_id.connection, key, verified).await,
            Err(fault) => return Ok(Conclusion::refused(asked.id(), &fault.error())),
        };
        let resumes = match resumes {
            Ok(resumes) => resumes,
            Err(reason) => return Ok(Conclusion::refused(asked.id(), &self.away(asked, &reason))),
        };
        let mut granted = match self.grant(asked, forwarded, verified, resumes).await {
            Ok(granted) => granted,
            Err(Ungranted { error, close }) => return Ok(self.refuse(asked, &error, close)),
        };
        if let Some(auth) = granted.auth.as_mut().filter(|_| shown) {
            let recovery = match resumes {
                Some(lost) => self.outbound.recovery(granted.identity, lost).await,
                None => Recovery::UNKNOWN,
            };
            auth.recovered = Some(recovery.is_whole);
            auth.missed = not_zero(auth.missed.unwrap_or_default() + recovery.missed);
        }
        if let Some(old) = resumes {
            // If its socket is open still, its client is not on it any more, or is another one.
            self.send_command(old, &Command::Replaced, Bytes::new()).await?;
        }
        let body = answer::auth_ok(asked.id(), granted.auth.as_ref());
        let mut conclusion = Conclusion::of(MessageOutcome::Authenticated, body);
        conclusion.answer.change = Some(granted.change);
        let authenticated = Event::Authenticated { resumes };
        let decided = self.observer.decide(forwarded.message_id, asked.id(), authenticated);
        Ok(conclusion.having(decided))
    }

    /// The connection whose held messages this one takes over, if the client has proved that it may.
    async fn take_over(
        &self,
        connection: ConnectionId,
        key: Option<ResumeKey>,
        verified: &Verified,
    ) -> Result<Option<ConnectionId>, StoreError> {
        // Anyone who resumes the connection that it is has nothing to take over.
        let Some(key) = key.filter(|key| key.connection != connection) else {
            return Ok(None);
        };
        // Anyone who has a successor inherits nothing any more: else a client with two secrets could make two connections successors
        // of each other, and what is told to a successor would be told for ever.
        if self.store.successor(connection).await?.is_some() {
            return Ok(None);
        }
        let digest = digest_of(&key.secret, self.rules.client_of(&verified.claims));
        let taken = self
            .store
            .resume(key.connection, &digest, &verified.identity, connection)
            .await?;
        let from = key.connection;
        self.observer.tell(connection, Event::Resumed { from, taken });
        Ok(taken.then_some(from))
    }

    /// `auth.logout`, when all that came before it is settled.
    ///
    /// # Errors
    /// If what is held of the connection could not be refused.
    pub(super) async fn log_out(
        &self,
        asked: &MessageContext<'_>,
        forwarded: &ForwardedMessage,
    ) -> Result<Conclusion, PublishError> {
        let message_id = forwarded.message_id;
        let identity = asked.authenticated.map(|authenticated| authenticated.grant.identity);
        let recorded = match self.recorder.forget(message_id).await {
            Ok(recorded) => recorded,
            Err(reason) => return Ok(Conclusion::refused(asked.id(), &self.away(asked, &reason))),
        };
        // If it came again, or the connection is closed: what is older than it is refused all the same.
        if let Err(reason) = self.refuse_all_held(forwarded).await? {
            return Ok(Conclusion::refused(asked.id(), &self.away(asked, &reason)));
        }
        if let Some(identity) = identity {
            if recorded != Recorded::Stale {
                self.recorder.leave(message_id, identity).await;
            }
            self.outbound.left(identity).await;
        }
        let logged_out = Event::LoggedOut { recorded };
        let decided = self.observer.decide(message_id, asked.id(), logged_out);
        let mut conclusion = Conclusion::of(MessageOutcome::Forgotten, answer::auth_ok(asked.id(), None));
        conclusion.answer.change = Some(Change::Forgotten);
        Ok(conclusion.having(decided))
    }

    /// What waits for a fresh token of someone who has left is refused.
    async fn refuse_all_held(&self, forwarded: &ForwardedMessage) -> Result<Result<(), StoreError>, PublishError> {
        let connection = forwarded.message_id.connection;
        let held = match self.store.held_messages(connection).await {
            Ok(held) => held,
            Err(reason) => return Ok(Err(reason)),
        };
        let refusal = ErrorBody::new(
            ErrorCode::AuthRequired,
            "the connection was logged out while the message waited for a token",
        );
        let mut refused = Vec::new();
        for message in held {
            let message_id = shared::wire::id::MessageId {
                connection,
                sequence: message.sequence,
            };
            if message_id.sequence < forwarded.message_id.sequence {
                self.refuse_held(connection, message_id, &message, &refusal).await?;
                refused.push(message_id.sequence);
            }
        }
        if refused.is_empty() {
            return Ok(Ok(()));
        }
        Ok(self.store.drop_messages(connection, &refused).await.map(|_| ()))
    }

    /// What a client is told while the store is away.
    pub(super) fn away(&self, asked: &MessageContext<'_>, reason: &StoreError) -> ErrorBody {
        self.metrics.store_failed();
        debug!(message_id = %asked.origin, %reason, "the store could not be asked");
        unavailable("the authentication cannot be recorded at the moment")
    }
}

fn not_zero(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}

/// By which the connection can be resumed: its terminator drew it, and gives it back in one way or the other.
fn secret_of(asked: &MessageContext<'_>, forwarded: &ForwardedMessage) -> ResumeSecret {
    let of_principal = || Some(asked.authenticated?.principal()?.resume);
    forwarded
        .snapshot
        .resume
        .or_else(of_principal)
        .unwrap_or_else(ResumeSecret::random)
}
