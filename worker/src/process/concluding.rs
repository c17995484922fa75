//! What a client's message comes to: read, proved, decided, carried out.

use std::pin::pin;

use bytes::Bytes;
use shared::bus::{Delivery, PublishError, UNREADABLE};
use shared::service::clock::Timestamp;
use shared::service::trace::{self as traces, KeyValue, SpanKind, words};
use shared::wire::envelope::{ForwardedMessage, Verdict};
use shared::wire::id::ConnectionId;
use shared::wire::protocol::{AuthBody, CloseCode, ErrorBody, ErrorCode};
use shared::wire::request_id::RequestId;
use shared::wire::tag::{IdentityTag, TokenTag};
use tracing::debug;

use super::answer;
use super::handling::Coming;
use super::run::turn;
use super::telling::is_noted;
use super::trace::JOURNEY;
use super::{Conclusion, Pipeline};
use crate::admin::metrics::Outcome;
use crate::auth::decision::{self, Case, Decision, Proof, Sender, Stand, decide};
use crate::auth::identity::Identity;
use crate::auth::rights;
use crate::auth::snapshot::{Bound, Principal, subject_of};
use crate::config::Elevation;
use crate::dead_letter::redact;
use crate::handler::Request;
use crate::message::deadline;
use crate::message::origin::{Origin, was_moved};
use crate::message::{ClientMessage, Fault, NOT_AMQP};
use crate::revocation::known::Judgement;
use crate::token::{Reason, Rejection, Verified};

/// A message, and what is known of it.
pub(super) struct MessageContext<'a> {
    pub(super) message: ClientMessage<'a>,
    pub(super) origin: &'a Origin,
    /// What its producer named it, if it was injected.
    pub(super) message_id: Option<&'a str>,
    /// Whether its `id` names it beyond its connection.
    named: bool,
    /// The grant of its connection, in force or expired.
    pub(super) bound: Option<&'a Bound>,
    /// When it is decided.
    pub(super) now: Timestamp,
    /// When its terminator says that it was received.
    received: Option<Timestamp>,
    /// Until when its sender waits, if they have said so.
    pub(super) deadline: Option<Timestamp>,
    /// Whether it was given to somebody who did not bring it to its end.
    pub(super) again: bool,
}

impl MessageContext<'_> {
    pub(super) fn id(&self) -> Option<&RequestId<'_>> {
        self.message.id.as_ref()
    }

    /// Whose its connection is, if its grant is in force.
    fn live_identity(&self) -> Option<IdentityTag> {
        let live = self.bound.filter(|bound| bound.grant.is_live(self.now));
        live.map(|bound| bound.grant.identity)
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
            stamp: self.origin.stamp(),
            message_id: self.message_id,
            time_left: None,
            deadline: self.deadline,
            given_up: None,
            answered_on: self.origin.stamp().map(|stamp| stamp.connection),
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
        bound: Option<&Bound>,
    ) -> Result<Conclusion, PublishError> {
        let opened = match self.opening.open(origin.stamp(), &delivery.message.body) {
            Ok(opened) => opened,
            Err(why) => return self.unsealable(delivery, origin, why).await,
        };
        let body = &opened;
        // What goes back goes as it came.
        let as_it_came = &delivery.message.body;
        let message = match ClientMessage::parse(body, origin.most_bytes()) {
            Ok(message) => message,
            Err(malformed) => {
                let given_up = ClientMessage::given_up(body, malformed);
                return Ok(match (given_up, origin.question()) {
                    (Ok(id), Some(question)) => Box::pin(self.cancel(question, id)).await,
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
        // What was injected is received when it is here: nobody is believed who says otherwise.
        let received = origin
            .question()
            .filter(|question| !question.standing.unsure)
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
                .filter(|_| origin.question().is_none()),
            named: self.idempotency.is_some(),
            bound,
            now,
            again: was_moved(delivery, &self.internal),
        };
        let received = delivery.message.properties.timestamp_s.map(Timestamp::from_secs);
        let received = received.filter(|_| origin.question().is_none_or(|question| !question.standing.unsure));
        let case = self.case(&asked, received);
        let Some(question) = origin.question() else {
            return Ok(self.conclude_injected(&asked, decide(&case)).await);
        };
        let decision = turn::behind_what_is_held(&question.standing, decide(&case));
        if let Some(verified) = turn::awaited(&question.standing, &decision) {
            return Ok(self.send_back(&asked, question, as_it_came, verified).await);
        }
        Ok(match decision {
            Decision::InOwnName { verified, renews } => self.in_own_name(&asked, question, &verified, renews).await,
            Decision::InConnectionsName => self.in_connections_name(&asked).await,
            Decision::Anonymously => self.anonymously(&asked).await,
            Decision::Authenticate { verified, renews: true } => self.authenticate(&asked, question, &verified).await?,
            // The connection has a newer one already, by which it lives on.
            Decision::Authenticate { renews: false, .. } => {
                Conclusion::of(Outcome::Authenticated, answer::auth_ok(asked.id(), None))
            }
            Decision::Forget => self.log_out(&asked, question).await?,
            Decision::Again => self.send_back(&asked, question, as_it_came, None).await,
            Decision::Hold { own, reason } => self.hold(&asked, question, own.as_deref(), reason).await?,
            Decision::Refuse { error, close } => self.refuse(&asked, &error, close),
        })
    }

    /// Sends a message back to its terminator. What its token earns its connection it has from now on.
    async fn send_back(
        &self,
        asked: &MessageContext<'_>,
        question: &ForwardedMessage,
        body: &Bytes,
        verified: Option<&Verified>,
    ) -> Conclusion {
        debug!(target: JOURNEY, stage = "again", stamp = %asked.origin);
        let mut again = sent_back(body);
        if let Some(verified) = verified {
            // What cannot be recorded now is said when its turn comes.
            let granted = self.grant(asked, question, verified, None).await;
            again.answer.change = granted.ok().map(|granted| granted.change);
        }
        again
    }

    async fn conclude_injected(&self, asked: &MessageContext<'_>, decision: Decision) -> Conclusion {
        match decision {
            Decision::InOwnName { verified, .. } => {
                self.process(asked, &verified.identity, &verified.claims, None).await
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

    fn case(&self, asked: &MessageContext<'_>, received: Option<Timestamp>) -> Case {
        let question = asked.origin.question();
        let proof = self.prove(asked, question.map(|question| question.stamp.connection));
        traces::describe(|| [KeyValue::new(words::VERDICT, kind(&proof))]);
        let sender = question.map_or(Sender::Injector, |question| {
            Sender::Connection(self.stand(asked, question, &proof, received))
        });
        Case {
            purpose: asked.message.purpose,
            proof,
            sender,
            strategy: self.rules.strategy,
            elevation: self.rules.elevation,
            policy: self.rules.on_unauthenticated.of(&asked.message.kind),
            public: self.rules.public.mean(&asked.message.kind),
        }
    }

    fn stand(
        &self,
        asked: &MessageContext<'_>,
        question: &ForwardedMessage,
        proof: &Proof,
        received: Option<Timestamp>,
    ) -> Stand {
        let bound = asked.bound.map(|bound| {
            let shown = match proof {
                Proof::Good(verified) => Some(&**verified),
                _ => None,
            };
            let other = shown.filter(|shown| TokenTag::of(shown.digest.as_bytes()) != bound.grant.token);
            decision::CurrentGrant {
                identity: bound.grant.identity,
                token: bound.grant.token,
                live: bound.grant.is_live(asked.now),
                was_live: bound.grant.is_live(received.unwrap_or(asked.now)),
                judgement: match (shown, other) {
                    // It is the message's own token, and was judged.
                    (Some(_), None) => Judgement::Good,
                    _ => self.revoked.judge(&bound.subject(question.stamp.connection), asked.now),
                },
                newer: other.is_some_and(|other| self.rules.terms.grant(other, asked.now).precedes(&bound.grant)),
                exceeded: other.is_some_and(|other| self.is_exceeded(bound, other)),
            }
        });
        Stand {
            bound,
            unsettled: question.standing.unsettled,
            held: question.standing.held,
            again: question.standing.again,
        }
    }

    /// Whether a token allows what the connection's grant does not, where that makes a difference.
    fn is_exceeded(&self, bound: &Bound, shown: &Verified) -> bool {
        let within = |principal: Principal| rights::is_within(&shown.claims, &principal.claims);
        self.rules.elevation == Elevation::Message && !bound.principal().is_some_and(within)
    }

    /// What the message's own token proves.
    fn prove(&self, asked: &MessageContext<'_>, connection: Option<ConnectionId>) -> Proof {
        let Some(token) = asked.message.token.as_deref() else {
            self.metrics.no_token();
            debug!(target: JOURNEY, stage = "verdict", stamp = %asked.origin, kind = "none");
            return Proof::None;
        };
        let span = traces::child("verify", SpanKind::Internal);
        let verdict = self.verifier.verify(token, asked.now);
        span.describe(|| [KeyValue::new(words::CACHED, verdict.cached)]);
        drop(span);
        self.metrics.verdict(&verdict);
        let cached = verdict.cached;
        let proof = match (verdict.result, verdict.expired) {
            (Ok(verified), _) => self.judged(verified, asked, connection),
            // That its time is over does not undo that it was taken back.
            (Err(Rejection::Expired), Some(expired)) => {
                match self.revoked.judge(&subject_of(&expired, connection), asked.now) {
                    Judgement::Revoked => self.taken_back(),
                    Judgement::Good | Judgement::Unknown => Proof::Expired(expired),
                }
            }
            // The verifier tells whose it was; if it did not, the token would prove nothing.
            (Err(Rejection::Unavailable { wait }), _) if !wait.is_zero() => Proof::NotYet {
                reason: Reason::UnknownKey,
                wait,
            },
            (Err(Rejection::Expired), None) | (Err(Rejection::Unavailable { .. }), _) => Proof::Unknown,
            (Err(Rejection::NotYet { reason, wait }), _) => Proof::NotYet { reason, wait },
            (Err(Rejection::Invalid(reason)), _) => Proof::Invalid(reason),
        };
        debug!(target: JOURNEY, stage = "verdict", stamp = %asked.origin, kind = kind(&proof), cached);
        proof
    }

    fn judged(
        &self,
        verified: std::sync::Arc<Verified>,
        asked: &MessageContext<'_>,
        connection: Option<ConnectionId>,
    ) -> Proof {
        let tag = TokenTag::of(verified.digest.as_bytes());
        let known = asked.bound.filter(|bound| bound.grant.token == tag);
        let subject = match (known, connection) {
            // The steady state needs no digests: the facts hold them.
            (Some(bound), Some(connection)) => bound.subject(connection),
            _ => subject_of(&verified, connection),
        };
        match self.revoked.judge(&subject, asked.now) {
            Judgement::Good => Proof::Good(verified),
            Judgement::Revoked => self.taken_back(),
            Judgement::Unknown => Proof::Unknown,
        }
    }

    fn taken_back(&self) -> Proof {
        self.metrics.token_revoked();
        Proof::Revoked
    }

    async fn in_own_name(
        &self,
        asked: &MessageContext<'_>,
        question: &ForwardedMessage,
        verified: &Verified,
        renews: bool,
    ) -> Conclusion {
        let granted = if renews {
            match self.grant(asked, question, verified, None).await {
                Ok(granted) => Some(granted),
                Err(refusal) => return Conclusion::refused(asked.id(), &refusal),
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
            let handling = pin!(self.process(asked, &verified.identity, &verified.claims, auth));
            self.with_early_grant(question, asked.received, change, handling).await
        };
        conclusion.answer.identity = identity;
        conclusion.answer.change = granted.map(|granted| granted.change);
        conclusion
    }

    async fn in_connections_name(&self, asked: &MessageContext<'_>) -> Conclusion {
        let Some(principal) = asked.bound.and_then(Bound::principal) else {
            let error = ErrorBody::new(
                ErrorCode::AuthRequired,
                "the connection's identity cannot be read; authenticate again",
            );
            return self.refuse(asked, &error, None);
        };
        let mut conclusion = self.process(asked, &principal.identity, &principal.claims, None).await;
        // The policy that lets a message in although its connection has expired lets its answer out; what else is for the
        // connection is for `on-expired-push` to say.
        conclusion.answer.identity = asked.live_identity();
        conclusion
    }

    /// Its answer is in nobody's name: whoever is on the connection may read it, whatever has become of its grant.
    async fn anonymously(&self, asked: &MessageContext<'_>) -> Conclusion {
        self.process(asked, &Identity::anonymous(), &serde_json::Map::new(), None)
            .await
    }

    async fn process(
        &self,
        asked: &MessageContext<'_>,
        identity: &Identity,
        claims: &serde_json::Map<String, serde_json::Value>,
        auth: Option<&AuthBody>,
    ) -> Conclusion {
        traces::describe(|| [KeyValue::new(words::IDENTITY, identity.tag().to_string())]);
        let request = asked.request(identity, claims, self.rules.client_of(claims));
        let coming = Coming {
            again: asked.again,
            // What is tried alone is tried here, and what was injected waits in a queue of its own.
            may_move: !asked.again && asked.origin.question().is_some(),
        };
        let handled = self.handle(request, asked.id(), asked.origin, auth, coming).await;
        let recent_decisions = (handled.refused == Some(ErrorCode::Duplicate)).then(|| {
            let why = "duplicate: the `id` was another message's, or its answer is not kept";
            self.decision(asked.origin.stamp(), asked.id(), "refused", why)
        });
        Conclusion {
            bodies: handled.bodies,
            refused: handled.refused,
            why: handled.why,
            recent_decisions,
            ..Conclusion::of(handled.outcome, bytes::Bytes::new())
        }
    }

    /// Refuses a message of a connection.
    pub(super) fn refuse(&self, asked: &MessageContext<'_>, error: &ErrorBody, close: Option<CloseCode>) -> Conclusion {
        let conclusion = Conclusion::refused(asked.id(), error).and_close(close);
        if let Some(code) = close {
            self.metrics.closes(code);
            debug!(target: JOURNEY, stage = "closing", stamp = %asked.origin, code = code.code());
        }
        if !is_noted(error.code) {
            return conclusion;
        }
        let why = format!("{}: {}", error.code.as_str(), error.message);
        conclusion.recent_decisions(self.decision(asked.origin.stamp(), asked.id(), "refused", why))
    }
}

/// A message that goes back to its terminator, which sends it again.
pub(super) fn sent_back(body: &Bytes) -> Conclusion {
    let mut again = Conclusion::of(Outcome::Again, body.clone());
    again.answer.verdict = Verdict::Again;
    again
}

const fn kind(proof: &Proof) -> &'static str {
    match proof {
        Proof::None => "none",
        Proof::Good(_) => "valid",
        Proof::Revoked => "revoked",
        Proof::Expired(_) => "expired",
        Proof::NotYet { .. } => "not-yet",
        Proof::Invalid(_) => "invalid",
        Proof::Unknown => "unknown",
    }
}
