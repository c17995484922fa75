//! What was held, when a fresh token is there or the time is over.
//!
//! A terminator asks when a grant is in force and all that came before it is
//! settled, so nothing that the release is for can still be on its way into the
//! hold. What is released is authorised now, by that grant, and by no more of it than the message's own token allowed, if
//! it had one; what has been revoked since is not released. It is handled in its order, one at a time; what is dead before
//! it is dropped is handled again, and written once, by its key.

use std::borrow::Cow;
use std::collections::HashSet;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use shared::bus::PublishError;
use shared::service::clock::Timestamp;
use shared::service::trace::{KeyValue, Span, SpanKind, headers, words};
use shared::wire::envelope::command::Write;
use shared::wire::envelope::{Command, ForwardedMessage, Release};
use shared::wire::id::{ConnectionId, MessageId, Sequence};
use shared::wire::protocol::{ErrorBody, ErrorCode};
use shared::wire::request_id::RequestId;
use shared::wire::revocation::Subject;
use shared::wire::tag::IdentityTag;
use tokio::time::Instant;
use tracing::debug;

use super::handling::Coming;
use super::{Conclusion, Pipeline};
use crate::admin::event::{Event, Released};
use crate::admin::metrics::MessageOutcome;
use crate::auth::rights;
use crate::auth::snapshot::{Authenticated, Principal};
use crate::auth::successors::{self, Successors};
use crate::handler::Request;
use crate::revocation::known::Judgement;
use crate::revocation::meanwhile::{Accepted, By, Seen};
use crate::store::{HOLD_GRACE, HeldMessage, StoreError};

/// The most that one release handles: the terminator asks for the rest.
const MOST_RELEASED: usize = 32;

/// A release begins nothing new after this, so that it does not keep a worker that stops.
const LONGEST_RELEASE: Duration = Duration::from_secs(30);

/// Why a release came to an end before its time.
enum Stop {
    /// What is held could not be asked for, or not be dropped.
    Store(StoreError),
    /// It cannot be said whether an answer arrived.
    Broker(PublishError),
}

impl From<StoreError> for Stop {
    fn from(reason: StoreError) -> Self {
        Self::Store(reason)
    }
}

impl From<PublishError> for Stop {
    fn from(reason: PublishError) -> Self {
        Self::Broker(reason)
    }
}

/// For whom something is released.
struct Successor {
    identity: IdentityTag,
    principal: Principal,
    /// What a revocation must mean to concern it, and what was known to be revoked when it was judged.
    subject: Subject,
    seen: Seen,
    /// Whether it was to be released before, by someone who did not bring it to an end.
    again: bool,
}

/// What becomes of one held message: pure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReleaseDecision {
    /// It is given up.
    Expires,
    /// It waits on.
    Stays,
    /// It was another identity's, which is not there.
    Mismatch,
    /// What it was accepted by was revoked.
    Revoked,
    /// It is handled.
    Goes,
}

/// A release: of which connection, on whose behalf, and of what came before which message, if not of all.
#[derive(Clone, Copy, Debug)]
struct Terms {
    now: Timestamp,
    ttl: Duration,
    /// For what was no one's, as long as no one is there.
    brief_ttl: Duration,
    /// Nothing, if there is no grant in force.
    identity: Option<IdentityTag>,
    before: Option<Sequence>,
}

impl Terms {
    fn fate(&self, message: &HeldMessage, revoked: bool) -> ReleaseDecision {
        let is_brief = message.unauthenticated && self.identity.is_none();
        let ttl = if is_brief { self.brief_ttl } else { self.ttl };
        if message.since.saturating_add(ttl) <= self.now {
            return ReleaseDecision::Expires;
        }
        if revoked {
            return ReleaseDecision::Revoked;
        }
        match self.identity {
            None => ReleaseDecision::Stays,
            // Only what is newer than it proves anything of it.
            Some(_) if self.before.is_some_and(|before| message.sequence >= before) => ReleaseDecision::Stays,
            Some(identity) if message.owner.is_some_and(|owner| owner != identity) => ReleaseDecision::Mismatch,
            Some(_) => ReleaseDecision::Goes,
        }
    }
}

impl Pipeline {
    /// A terminator asks for what is held, of its connection or of one that this connection has taken over. Of its own it
    /// means what is `known` to be held. It asks `again` if someone was given the request and did not bring it to its end.
    ///
    /// # Errors
    /// If it cannot be said whether what was told has arrived.
    pub(super) async fn release(
        &self,
        forwarded: &ForwardedMessage,
        from: Option<ConnectionId>,
        known: Option<Vec<Sequence>>,
        again: bool,
    ) -> Result<Conclusion, PublishError> {
        let (left, body) = match self.try_release(forwarded, from, known, again).await {
            Ok((left, release)) => (left, release.to_body()),
            Err(Stop::Broker(reason)) => return Err(reason),
            Err(Stop::Store(reason)) => {
                self.metrics.store_failed();
                debug!(message_id = %forwarded.message_id, %reason, "held messages cannot be released at the moment");
                // As good as all: the terminator asks again after a while.
                (u64::from(u32::MAX), Bytes::new())
            }
        };
        let mut conclusion = Conclusion::of(MessageOutcome::Released, body);
        conclusion.answer.left = left;
        Ok(conclusion)
    }

    /// How many are left of those that it means: while no one is there, of all. And what has become of each.
    async fn try_release(
        &self,
        forwarded: &ForwardedMessage,
        from: Option<ConnectionId>,
        known: Option<Vec<Sequence>>,
        again: bool,
    ) -> Result<(u64, Release), Stop> {
        let connection = forwarded.message_id.connection;
        if let Some(from) = from
            && !self.has_taken_over(connection, from).await?
        {
            return Ok((0, Release::default()));
        }
        let known: Option<HashSet<Sequence>> = known.map(HashSet::from_iter);
        let source = from.unwrap_or(connection);
        let held = self.store.held_messages(source).await?;
        let now = self.clock.now();
        let successor = self.successor_of(forwarded, now, again);
        let terms = Terms {
            now,
            ttl: self.rules.hold.ttl,
            brief_ttl: self.rules.unauthenticated.hold.ttl,
            identity: successor.as_ref().map(|successor| successor.identity),
            // A connection without a change has released nothing; one that takes over takes all.
            before: from.is_none().then(|| forwarded.snapshot.by.unwrap_or(Sequence::FIRST)),
        };
        if successor.is_some() && held.iter().any(|message| message.unauthenticated) {
            // It is someone's now, and waits as long as everything that is.
            self.store.keep_messages(source, terms.ttl + HOLD_GRACE).await?;
            self.store.unreserve(source).await?;
        }
        let fate = |message: &HeldMessage| {
            let subject = message.subject(source);
            terms.fate(message, self.revoked.forbids_held(source, subject.as_ref(), now))
        };
        let newer = |message: &&HeldMessage| terms.identity.is_some() && fate(message) == ReleaseDecision::Stays;
        let mut left = (held.len() - held.iter().filter(newer).count()) as u64;
        let (started, mut handled) = (Instant::now(), 0);
        let mut release = Release::default();
        for message in &held {
            let fate = fate(message);
            let enough = handled >= MOST_RELEASED || started.elapsed() >= LONGEST_RELEASE;
            if fate == ReleaseDecision::Stays || (fate == ReleaseDecision::Goes && enough) {
                release.held.push(message.sequence);
                continue;
            }
            if fate == ReleaseDecision::Goes && known.as_ref().is_some_and(|known| !known.contains(&message.sequence)) {
                // It had its answer, perhaps before a log-out; the store has lost that it was dropped.
                self.store.drop_messages(source, &[message.sequence]).await?;
                left -= 1;
                continue;
            }
            handled += usize::from(fate == ReleaseDecision::Goes);
            let message_id = MessageId {
                connection: source,
                sequence: message.sequence,
            };
            self.end_hold(connection, message_id, message, fate, successor.as_ref())
                .await?;
            self.store.drop_messages(source, &[message.sequence]).await?;
            release.settled.push(message.sequence);
            left -= 1;
        }
        match from {
            // Someone who did not say so may have settled more.
            None => release.settled.extend(self.store.dropped_messages(source).await?),
            Some(from) if left == 0 => self.look_further(connection, from).await?,
            Some(_) => {}
        }
        Ok((left, release))
    }

    /// Tells a connection of what is held of those that the one it took over had taken over itself: anyone who lost two
    /// connections in a row knows the second one's key alone.
    async fn look_further(&self, connection: ConnectionId, from: ConnectionId) -> Result<(), Stop> {
        for earlier in successors::taken_over(&*self.store, from).await? {
            if !self.store.held_messages(earlier).await?.is_empty() {
                let command = Command::Wake { from: Some(earlier) };
                self.metrics.woke_successor();
                self.send_command(connection, &command, Bytes::new()).await?;
            }
        }
        Ok(())
    }

    /// On whose behalf things are released; none if there is no grant in force.
    fn successor_of(&self, forwarded: &ForwardedMessage, now: Timestamp, again: bool) -> Option<Successor> {
        let authenticated =
            Authenticated::of(&forwarded.snapshot).filter(|authenticated| authenticated.grant.is_live(now))?;
        let (subject, seen) = (
            authenticated.subject(forwarded.message_id.connection),
            self.revoked.seen(now),
        );
        let judgement = self.revoked.judge(&subject, now);
        (judgement == Judgement::Good).then_some(())?;
        Some(Successor {
            identity: authenticated.grant.identity,
            principal: authenticated.principal()?,
            subject,
            seen,
            again,
        })
    }

    /// Whether that connection, or one that has taken over from it and so on, was taken over by this one.
    async fn has_taken_over(&self, connection: ConnectionId, from: ConnectionId) -> Result<bool, StoreError> {
        let mut successors = Successors::of(&*self.store, from);
        while let Some(successor) = successors.next().await? {
            if successor == connection {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Handles a message that was held, or refuses it; anyone who is on `connection` is told.
    async fn end_hold(
        &self,
        connection: ConnectionId,
        message_id: MessageId,
        message: &HeldMessage,
        fate: ReleaseDecision,
        successor: Option<&Successor>,
    ) -> Result<(), PublishError> {
        let (code, why, how) = match (fate, successor) {
            (ReleaseDecision::Goes, Some(successor)) => {
                let span = self.span_of_held(message_id, message, successor);
                let released = pin!(self.release_one(connection, message_id, message, successor));
                return span.logged_scope(released).await;
            }
            (ReleaseDecision::Mismatch, _) => (
                ErrorCode::IdentityMismatch,
                "the message was another identity's than the connection's",
                Released::Mismatch,
            ),
            (ReleaseDecision::Revoked, _) => (
                ErrorCode::TokenRevoked,
                "what the message was accepted by was revoked while it waited",
                Released::Revoked,
            ),
            _ => (
                ErrorCode::HoldExpired,
                "no fresh token came while the message waited for one",
                Released::Expired,
            ),
        };
        self.refuse_held(connection, message_id, message, &ErrorBody::new(code, why))
            .await?;
        self.audit_refusal(code, &message_id, message.owner, why);
        let ended = Event::HoldEnded { how, why };
        self.observer.note(message_id, message.id.as_ref(), ended).await;
        Ok(())
    }

    /// What was traced when it was held begins a trace that goes back to that one, which may be minutes old.
    fn span_of_held(&self, message_id: MessageId, message: &HeldMessage, successor: &Successor) -> Span {
        let held = message.trace.as_deref().and_then(headers::from_text);
        let span = held.map_or(Span::NONE, |held| {
            self.tracer.resume(held, "process", SpanKind::Consumer)
        });
        span.describe(|| {
            [
                KeyValue::new(words::CONVERSATION_ID, message_id.to_string()),
                KeyValue::new(words::OUTCOME, Released::Handled.as_str()),
                KeyValue::new(words::IDENTITY, successor.identity.to_string()),
            ]
        });
        span
    }

    async fn release_one(
        &self,
        connection: ConnectionId,
        message_id: MessageId,
        message: &HeldMessage,
        successor: &Successor,
    ) -> Result<(), PublishError> {
        let payload = message
            .payload
            .clone()
            .and_then(|text| RawValue::from_string(text).ok());
        let granted = &successor.principal.claims;
        // What came by a token of its own does no more than that one allowed.
        let (claims, client) = match &message.allowed {
            Some(own) => (Cow::Owned(rights::lesser(granted, own)), message.client.as_deref()),
            None => (Cow::Borrowed(granted), self.rules.client_of(granted)),
        };
        let request = Request {
            identity: &successor.principal.identity,
            claims: &claims,
            client,
            kind: &message.kind,
            id: message.id.as_ref().map(RequestId::as_str),
            payload: payload.as_deref(),
            forwarded_id: Some(message_id),
            message_id: None,
            time_left: None,
            deadline: message.deadline,
            given_up: None,
            answered_on: Some(connection),
            named: self.idempotency.is_some(),
        };
        let both = [Some(successor.subject), message.subject(message_id.connection)];
        // It is in the store, where it is this worker's turn to take it out.
        let coming = Coming {
            again: successor.again,
            may_move: false,
            accepted: Accepted {
                by: By::Release(&both),
                seen: successor.seen,
            },
        };
        let handled = self
            .handle(request, message.id.as_ref(), &message_id, None, coming)
            .await;
        self.metrics.ended(handled.outcome);
        for (index, body) in handled
            .bodies
            .into_iter()
            .enumerate()
            .filter(|(_, body)| !body.is_empty())
        {
            let write = Write {
                key: format!("{message_id}.{index}"),
                identity: Some(successor.identity),
                producer: None,
                connections: 0,
                alone: false,
                asked_by: Some(message_id.connection),
                released: true,
                // What was answered before it, and is held, goes first.
                fetched: false,
                since: message.since,
                until: None,
            };
            self.write_released(connection, write, body, message).await?;
        }
        let released = Event::Released { by: connection };
        self.observer.note(message_id, message.id.as_ref(), released).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn alice() -> IdentityTag {
        IdentityTag::of(&[1; 32])
    }

    fn held(sequence: u64, owner: Option<IdentityTag>, since_s: u64) -> HeldMessage {
        HeldMessage {
            sequence: Sequence::new(sequence),
            id: None,
            kind: "echo".to_owned(),
            payload: None,
            owner,
            token_id: None,
            session: None,
            issued_at: None,
            allowed: None,
            client: None,
            since: Timestamp::from_secs(since_s),
            unauthenticated: false,
            deadline: None,
            trace: None,
        }
    }

    fn terms(identity: Option<IdentityTag>, before: Option<u64>) -> Terms {
        Terms {
            now: NOW,
            ttl: Duration::from_secs(60),
            brief_ttl: Duration::from_secs(10),
            identity,
            before: before.map(Sequence::new),
        }
    }

    #[test]
    fn what_has_waited_too_long_is_given_up_whoever_is_there() {
        for identity in [None, Some(alice())] {
            for before in [None, Some(1), Some(9)] {
                assert_eq!(
                    terms(identity, before).fate(&held(5, None, 940), false),
                    ReleaseDecision::Expires
                );
            }
        }
    }

    #[test]
    fn what_was_nobodys_waits_for_less_as_long_as_nobody_is_there() {
        let unauthenticated = |since_s| HeldMessage {
            unauthenticated: true,
            ..held(5, None, since_s)
        };
        let fate = |identity, since_s| terms(identity, Some(9)).fate(&unauthenticated(since_s), false);
        assert_eq!(fate(None, 991), ReleaseDecision::Stays);
        assert_eq!(fate(None, 990), ReleaseDecision::Expires);
        assert_eq!(fate(Some(alice()), 941), ReleaseDecision::Goes);
        assert_eq!(fate(Some(alice()), 940), ReleaseDecision::Expires);
    }

    #[test]
    fn nothing_is_released_to_nobody_or_by_an_older_proof() {
        assert_eq!(
            terms(None, Some(9)).fate(&held(5, None, 941), false),
            ReleaseDecision::Stays
        );
        assert_eq!(
            terms(Some(alice()), Some(5)).fate(&held(5, None, 941), false),
            ReleaseDecision::Stays
        );
        assert_eq!(
            terms(Some(alice()), Some(6)).fate(&held(5, None, 941), false),
            ReleaseDecision::Goes
        );
        assert_eq!(
            terms(Some(alice()), None).fate(&held(5, None, 941), false),
            ReleaseDecision::Goes
        );
    }

    #[test]
    fn what_was_revoked_is_given_up_whoever_is_there() {
        for identity in [None, Some(alice())] {
            assert_eq!(
                terms(identity, Some(1)).fate(&held(5, None, 941), true),
                ReleaseDecision::Revoked
            );
            assert_eq!(
                terms(identity, Some(1)).fate(&held(5, None, 940), true),
                ReleaseDecision::Expires
            );
        }
    }

    #[test]
    fn what_somebody_has_proved_is_released_to_them_alone() {
        let bob = IdentityTag::of(&[2; 32]);
        let terms = terms(Some(alice()), Some(9));
        assert_eq!(terms.fate(&held(5, Some(alice()), 941), false), ReleaseDecision::Goes);
        assert_eq!(terms.fate(&held(5, Some(bob), 941), false), ReleaseDecision::Mismatch);
    }
}
