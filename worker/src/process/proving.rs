//! What a message's own token proves, and how its connection stands: all that the decision is made by.

use std::sync::Arc;

use shared::service::clock::Timestamp;
use shared::service::trace::{self as traces, KeyValue, SpanKind, words};
use shared::wire::envelope::ForwardedMessage;
use shared::wire::id::ConnectionId;
use shared::wire::tag::TokenTag;

use super::Pipeline;
use super::concluding::MessageContext;
use crate::admin::event::{Checked, Event, Proved};
use crate::auth::decision::{Case, CurrentGrant, Proof, Sender, Stand};
use crate::auth::rights;
use crate::auth::snapshot::{Authenticated, Principal, subject_of};
use crate::config::Elevation;
use crate::revocation::known::Judgement;
use crate::token::{Reason, Rejection, Verified};

impl Pipeline {
    /// What the decision is made by.
    pub(super) fn case(&self, asked: &MessageContext<'_>, received: Option<Timestamp>) -> Case {
        let forwarded = asked.origin.forwarded();
        let proof = self.prove(asked, forwarded.map(|forwarded| forwarded.message_id.connection));
        let sender = forwarded.map_or(Sender::Injector, |forwarded| {
            Sender::Connection(self.stand(asked, forwarded, &proof, received))
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
        forwarded: &ForwardedMessage,
        proof: &Proof,
        received: Option<Timestamp>,
    ) -> Stand {
        let authenticated = asked.authenticated.map(|authenticated| {
            let shown = match proof {
                Proof::Good(verified) => Some(&**verified),
                _ => None,
            };
            let other = shown.filter(|shown| TokenTag::of(shown.digest.as_bytes()) != authenticated.grant.token);
            CurrentGrant {
                identity: authenticated.grant.identity,
                token: authenticated.grant.token,
                live: authenticated.grant.is_live(asked.now),
                was_live: authenticated.grant.is_live(received.unwrap_or(asked.now)),
                judgement: match (shown, other) {
                    // It is the message's own token, and was judged.
                    (Some(_), None) => Judgement::Good,
                    _ => self
                        .revoked
                        .judge(&authenticated.subject(forwarded.message_id.connection), asked.now),
                },
                newer: other
                    .is_some_and(|other| self.rules.terms.grant(other, asked.now).precedes(&authenticated.grant)),
                exceeded: other.is_some_and(|other| self.is_exceeded(authenticated, other)),
            }
        });
        Stand {
            authenticated,
            unsettled: forwarded.snapshot.unsettled,
            held: forwarded.snapshot.held,
            again: forwarded.snapshot.again,
        }
    }

    /// Whether a token allows what the connection's grant does not, where that makes a difference.
    fn is_exceeded(&self, authenticated: &Authenticated, shown: &Verified) -> bool {
        let within = |principal: Principal| rights::is_within(&shown.claims, &principal.claims);
        self.rules.elevation == Elevation::Message && !authenticated.principal().is_some_and(within)
    }

    /// What the message's own token proves.
    fn prove(&self, asked: &MessageContext<'_>, connection: Option<ConnectionId>) -> Proof {
        let Some(token) = asked.message.token.as_deref() else {
            let judged = Event::Judged {
                kind: Proved::None,
                cached: None,
                checked: None,
            };
            self.observer.tell(asked.origin.message_id(), judged);
            return Proof::None;
        };
        let span = traces::child("verify", SpanKind::Internal);
        let verdict = self.verifier.verify(token, asked.now);
        span.describe(|| [KeyValue::new(words::CACHED, verdict.cached)]);
        drop(span);
        let (checked, cached) = (Checked::of(&verdict), verdict.cached);
        let proof = match (verdict.result, verdict.expired) {
            (Ok(verified), _) => self.judged(verified, asked, connection),
            // That its time is over does not undo that it was revoked.
            (Err(Rejection::Expired), Some(expired)) => {
                match self.revoked.judge(&subject_of(&expired, connection), asked.now) {
                    Judgement::Revoked => Proof::Revoked,
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
        let judged = Event::Judged {
            kind: kind(&proof),
            cached: Some(cached),
            checked: Some(checked),
        };
        self.observer.tell(asked.origin.message_id(), judged);
        proof
    }

    fn judged(&self, verified: Arc<Verified>, asked: &MessageContext<'_>, connection: Option<ConnectionId>) -> Proof {
        let tag = TokenTag::of(verified.digest.as_bytes());
        let known = asked
            .authenticated
            .filter(|authenticated| authenticated.grant.token == tag);
        let subject = match (known, connection) {
            // The steady state needs no digests: the facts hold them.
            (Some(authenticated), Some(connection)) => authenticated.subject(connection),
            _ => subject_of(&verified, connection),
        };
        match self.revoked.judge(&subject, asked.now) {
            Judgement::Good => Proof::Good(verified),
            Judgement::Revoked => Proof::Revoked,
            Judgement::Unknown => Proof::Unknown,
        }
    }
}

const fn kind(proof: &Proof) -> Proved {
    match proof {
        Proof::None => Proved::None,
        Proof::Good(_) => Proved::Valid,
        Proof::Revoked => Proved::Revoked,
        Proof::Expired(_) => Proved::Expired,
        Proof::NotYet { .. } => Proved::NotYet,
        Proof::Invalid(_) => Proved::Invalid,
        Proof::Unknown => Proved::Unknown,
    }
}
