//! What a client's message comes to: read, proved, decided, carried out.

use std::pin::pin;

use bytes::Bytes;
use shared::bus::{Delivery, PublishError, UNREADABLE};
use shared::service::clock::Timestamp;
use shared::service::trace::{self as traces, KeyValue, words};
use shared::wire::envelope::{ForwardedMessage, Verdict};
use shared::wire::protocol::{AuthBody, CloseCode, ErrorBody, ErrorCode};
use shared::wire::request_id::RequestId;
use shared::wire::tag::IdentityTag;

use super::answer;
use super::granting::limits::Ungranted;
use super::handling::Coming;
use super::run::turn;
use super::{Conclusion, Pipeline};
use crate::admin::event::Event;
use crate::admin::metrics::MessageOutcome;
use crate::auth::decision::{Decision, decide};
use crate::auth::identity::Identity;
use crate::auth::snapshot::Authenticated;
use crate::dead_letter::redact;
use crate::handler::Request;
use crate::message::deadline;
use crate::message::origin::{Origin, was_moved};
use crate::message::{ClientMessage, Fault, NOT_AMQP};
use crate::revocation::meanwhile::{Accepted, By, Seen};
use crate::token::Verified;

/// A message, and what is known of it.
pub(super) struct MessageContext<'a> {
    pub(super) message: ClientMessage<'a>,
    pub(super) origin: &'a Origin,
    /// What its producer named it, if it was injected.
    pub(super) message_id: Option<&'a str>,
    /// Whether its `id` names it beyond its connection.
    named: bool,
    /// The grant of its connection, in force or expired.
    pub(super) authenticated: Option<&'a Authenticated>,
    /// When it is decided.
    pub(super) now: Timestamp,
    /// What was known to be revoked then.
    seen: Seen,
    /// When its terminator says that it was received.
    received: Option<Timestamp>,
    /// Until when its sender waits, if they have said so.
    pub(super) deadline: Option<Timestamp>,
    /// Whether it was given to someone who did not bring it to its end.
    pub(super) again: bool,
}

impl MessageContext<'_> {
    pub(super) fn id(&self) -> Option<&RequestId<'_>> {
        self.message.id.as_ref()
    }

    /// Whose its connection is, if its grant is in force.
    fn live_identity(&self) -> Option<IdentityTag> {
        let live = self
            .authenticated
            .filter(|authenticated| authenticated.grant.is_live(self.now));
        live.map(|authenticated| authenticated.grant.identity)
    }

    /// The same message, handed to the application.
    fn request<'b>(
        &'b self,
        identity: &'b Identity,
        claims: &'b serde_json::Map<String, serde_json::Value>,
        client: Option<&'b str>,
    ) -> Request<'b> {
        Request {
            identity,
            claims,
            client,
            kind: &self.message.kind,
            id: self.id().map(RequestId::as_str),
            payload: self.message.payload,
            forwarded_id: self.origin.message_id(),
            message_id: self.message_id,
            time_left: None,
            deadline: self.deadline,
            given_up: None,
            answered_on: self.origin.message_id().map(|message_id| message_id.connection),
            named: self.named,
        }
    }
}

impl Pipeline {
    /// What the message has come to, if its connection has that grant.
    ///
    /// # Errors
    /// If it could not be brought to an end.
    pub(super) async fn conclude(
        &self,
        delivery: &Delivery,
        origin: &Origin,
        authenticated: Option<&Authenticated>,
    ) -> Result<Conclusion, PublishError> {
        let opened = match self.opening.open(origin.message_id(), &delivery.message.body) {
            Ok(opened) => opened,
            Err(why) => return Box::pin(self.unsealable(delivery, origin, why)).await,
        };
        let body = &opened;
        // What goes back goes as it came.
        let as_it_came = &delivery.message.body;
        let message = match ClientMessage::parse(body, origin.most_bytes()) {
            Ok(message) => message,
            Err(malformed) => {
                let given_up = ClientMessage::given_up(body, malformed);
                return Ok(match (given_up, origin.forwarded()) {
                    (Ok(id), Some(forwarded)) => Box::pin(self.cancel(forwarded, id)).await,
                    // Who injects has no connection on which something could have been asked.
                    (Ok(_), None) => Conclusion::refused(None, &Fault::NoType.error()),
                    (Err(malformed), _) => Conclusion::refused(malformed.id.as_ref(), &malformed.error()),
                });
            }
        };
        if delivery.message.properties.header(UNREADABLE).is_some() {
            let refusal = ErrorBody::new(ErrorCode::BadRequest, NOT_AMQP);
            return Ok(Conclusion::refused(message.id.as_ref(), &refusal));
        }
        traces::describe(|| [KeyValue::new(words::TYPE, redact::text(&message.kind).into_owned())]);
        let now = self.clock.now();
        // What was injected is received when it is here: no one is believed who says otherwise.
        let received = origin
            .forwarded()
            .filter(|forwarded| !forwarded.snapshot.unsure)
            .and_then(|_| ForwardedMessage::received(&delivery.message.properties));
        let asked = MessageContext {
            received: ForwardedMessage::received_ms(&delivery.message.properties),
            deadline: deadline::of(received.unwrap_or(now), message.timeout),
            message,
            origin,
            message_id: delivery
                .message
                .properties
                .message_id
                .as_deref()
                .filter(|_| origin.forwarded().is_none()),
            named: self.idempotency.is_some(),
            authenticated,
            now,
            seen: self.revoked.seen(now),
            again: was_moved(delivery, &self.internal),
        };
        let received = delivery.message.properties.timestamp_s.map(Timestamp::from_secs);
        let received = received.filter(|_| origin.forwarded().is_none_or(|forwarded| !forwarded.snapshot.unsure));
        let case = self.case(&asked, received);
        let Some(forwarded) = origin.forwarded() else {
            return Ok(Box::pin(self.conclude_injected(&asked, decide(&case))).await);
        };
        let decision = turn::behind_what_is_held(&forwarded.snapshot, decide(&case));
        if let Some(verified) = turn::awaited(&forwarded.snapshot, &decision) {
            return Ok(Box::pin(self.send_back(&asked, forwarded, as_it_came, verified)).await);
        }
        // What is rare is boxed, here and elsewhere: a future has room for the largest of its branches, and is moved.
        Ok(match decision {
            Decision::InOwnName { verified, renews } => self.in_own_name(&asked, forwarded, &verified, renews).await,
            Decision::InConnectionsName => self.in_connections_name(&asked, forwarded).await,
            Decision::Anonymously => Box::pin(self.anonymously(&asked)).await,
            Decision::Authenticate { verified, renews: true } => {
                Box::pin(self.authenticate(&asked, forwarded, &verified)).await?
            }
            // The connection has a newer one already, by which it lives on.
            Decision::Authenticate { renews: false, .. } => {
                Conclusion::of(MessageOutcome::Authenticated, answer::auth_ok(asked.id(), None))
            }
            Decision::Forget => Box::pin(self.log_out(&asked, forwarded)).await?,
            Decision::Again => Box::pin(self.send_back(&asked, forwarded, as_it_came, None)).await,
            Decision::Hold { own, reason } => Box::pin(self.hold(&asked, forwarded, own.as_deref(), reason)).await?,
            Decision::Refuse { error, close } => self.refuse(&asked, &error, close),
        })
    }

    /// Sends a message back to its terminator. What its token earns its connection it has from now on.
    async fn send_back(
        &self,
        asked: &MessageContext<'_>,
        forwarded: &ForwardedMessage,
        body: &Bytes,
        verified: Option<&Verified>,
    ) -> Conclusion {
        self.observer.tell(forwarded.message_id, Event::SentBack);
        let mut again = sent_back(body);
        if let Some(verified) = verified {
            // What cannot be recorded now is said when its turn comes.
            let granted = self.grant(asked, forwarded, verified, None).await;
            again.answer.change = granted.ok().map(|granted| granted.change);
        }
        again
    }

    async fn conclude_injected(&self, asked: &MessageContext<'_>, decision: Decision) -> Conclusion {
        match decision {
            Decision::InOwnName { verified, .. } => {
                let by = By::Token(&verified, None);
                self.process(asked, (&verified.identity, &verified.claims), by, None)
                    .await
            }
            Decision::Anonymously => self.anonymously(asked).await,
            Decision::Refuse { error, .. } => Conclusion::refused(asked.id(), &error),
            // All others are about a connection, and there is none.
            _ => {
                let error = ErrorBody::new(ErrorCode::AuthRequired, "the message carries no token");
                Conclusion::refused(asked.id(), &error)
            }
        }
    }

    async fn in_own_name(
        &self,
        asked: &MessageContext<'_>,
        forwarded: &ForwardedMessage,
        verified: &Verified,
        renews: bool,
    ) -> Conclusion {
        let granted = if renews {
            match Box::pin(self.grant(asked, forwarded, verified, None)).await {
                Ok(granted) => Some(granted),
                Err(Ungranted { error, close }) => return self.refuse(asked, &error, close),
            }
        } else {
            None
        };
        let identity = match &granted {
            Some(granted) => Some(granted.identity),
            // The policy that lets a message in although its connection has expired lets its answer out.
            None => asked.live_identity(),
        };
        let auth = granted.as_ref().and_then(|granted| granted.auth.as_ref());
        let change = granted.as_ref().map(|granted| &granted.change);
        let mut conclusion = {
            let by = By::Token(verified, Some(forwarded.message_id.connection));
            let handling = pin!(self.process(asked, (&verified.identity, &verified.claims), by, auth));
            self.with_early_grant(forwarded, asked.received, change, handling).await
        };
        conclusion.answer.identity = identity;
        conclusion.answer.change = granted.map(|granted| granted.change);
        conclusion
    }

    async fn in_connections_name(&self, asked: &MessageContext<'_>, forwarded: &ForwardedMessage) -> Conclusion {
        let read = asked
            .authenticated
            .and_then(|authenticated| Some((authenticated, authenticated.principal()?)));
        let Some((authenticated, principal)) = read else {
            let error = ErrorBody::new(
                ErrorCode::AuthRequired,
                "the connection's identity cannot be read; authenticate again",
            );
            return self.refuse(asked, &error, None);
        };
        let by = By::Grant(authenticated, forwarded.message_id.connection);
        let whose = (&principal.identity, &principal.claims);
        let mut conclusion = self.process(asked, whose, by, None).await;
        // The policy that lets a message in although its connection has expired lets its answer out; what else is for the
        // connection is for `on-expired-push` to say.
        conclusion.answer.identity = asked.live_identity();
        conclusion
    }

    /// Its answer is in no one's name: anyone who is on the connection may read it, whatever has become of its grant.
    async fn anonymously(&self, asked: &MessageContext<'_>) -> Conclusion {
        let whose = (&Identity::anonymous(), &serde_json::Map::new());
        self.process(asked, whose, By::Nothing, None).await
    }

    async fn process(
        &self,
        asked: &MessageContext<'_>,
        (identity, claims): (&Identity, &serde_json::Map<String, serde_json::Value>),
        by: By<'_>,
        auth: Option<&AuthBody>,
    ) -> Conclusion {
        traces::describe(|| [KeyValue::new(words::IDENTITY, identity.tag().to_string())]);
        let request = asked.request(identity, claims, self.rules.client_of(claims));
        let coming = Coming {
            again: asked.again,
            // What is tried alone is tried here, and what was injected waits in a queue of its own.
            may_move: !asked.again && asked.origin.forwarded().is_some(),
            accepted: Accepted { by, seen: asked.seen },
        };
        let handled = self.handle(request, asked.id(), asked.origin, auth, coming).await;
        let decided = handled.refused.and_then(|code| {
            let why = match code {
                ErrorCode::Duplicate => "the `id` was another message's, or its answer is not kept",
                // As its sender is told.
                ErrorCode::TokenRevoked => handled.why.as_deref().unwrap_or_default(),
                _ => return None,
            };
            let refused = Event::Refused { code, why, close: None };
            self.observer.decide(asked.origin.message_id(), asked.id(), refused)
        });
        Conclusion {
            bodies: handled.bodies,
            refused: handled.refused,
            why: handled.why,
            decided,
            ..Conclusion::of(handled.outcome, bytes::Bytes::new())
        }
    }

    /// Refuses a message of a connection.
    pub(super) fn refuse(&self, asked: &MessageContext<'_>, error: &ErrorBody, close: Option<CloseCode>) -> Conclusion {
        let (code, why) = (error.code, &*error.message);
        let refused = Event::Refused { code, why, close };
        let decided = self.observer.decide(asked.origin.message_id(), asked.id(), refused);
        Conclusion::refused(asked.id(), error).and_close(close).having(decided)
    }
}

/// A message that goes back to its terminator, which sends it again.
pub(super) fn sent_back(body: &Bytes) -> Conclusion {
    let mut again = Conclusion::of(MessageOutcome::Again, body.clone());
    again.answer.verdict = Verdict::Again;
    again
}
