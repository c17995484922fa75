//! One delivery, from its arrival to its acknowledgement.
//!
//! Take, authenticate, decide, record, handle, answer; and only when the answer
//! is confirmed, acknowledge. Whatever breaks on the way, the broker still has
//! the message: a delivery that is dropped here comes again. The modules:
//!
//! - `concluding`: what a client's message comes to, as the table of decisions has it.
//! - `cancelling`: that a client has given a message up.
//! - `proving`: what its token proves, and what else the decision needs to know.
//! - `granting`: what a connection has by a token, and how it logs out; in it `early`: that it has it, when the application
//!   takes its time, and `limits`: how much one identity may have and do.
//! - `holding`: a message that waits for a fresh token.
//! - `releasing`: what has waited, when the token is there, or the time is over.
//! - `in_order`: messages of one connection, one after the other.
//! - `handling`: the application's part.
//! - `along`: what it pushes with its answer.
//! - `announcing`: what terminators tell when a store or a queue may have lost something.
//! - `turn`: whether it is a message's turn, where a connection's messages have an order.
//! - `unsealable`: what cannot be opened.
//! - `replying`: the answers on their way to the one who asked.
//! - `telling`: what is written or noted besides the answer.

mod along;
pub(crate) mod answer;
mod concluding;
pub(crate) mod given_up;
mod granting;
mod handling;
mod holding;
pub(crate) mod notices;
mod proving;
mod releasing;
mod replying;
pub(crate) mod run;
mod telling;
pub mod trace;
mod unsealable;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use shared::bus::topology::Names;
use shared::bus::{Delivery, PublishError, Publisher, Replier, Route};
use shared::service::audit::Audit;
use shared::service::clock::{Clock, Timestamp};
use shared::service::refusals::Refusals;
use shared::service::trace::{Span, Tracer};
use shared::wire::envelope::release::known_to_be_held;
use shared::wire::envelope::{ForwardedMessage, MessageKind, Reply};
use shared::wire::protocol::{CloseCode, ErrorBody, ErrorCode};
use shared::wire::request_id::RequestId;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::admin::event::Event;
use crate::admin::metrics::{MessageOutcome, Metrics};
use crate::admin::observer::{Decided, Observer};
use crate::auth::recorded::AuthStateRecorder;
use crate::auth::snapshot::{Authenticated, Terms};
use crate::config::{Elevation, Policies, PublicTypes, Strategy};
use crate::dead_letter::DeadLetterPublisher;
use crate::handler::HandlerRunner;
use crate::handler::breaker::Breaker;
use crate::handler::idempotency::Idempotency;
use crate::handler::places::Places;
use crate::message::opening::Opening;
use crate::message::origin::{Origin, key_of, was_moved};
use crate::outbound::Outbound;
use crate::process::given_up::GivenUp;
use crate::revocation::known::Revoked;
use crate::store::{HoldLimits, Store, UnauthenticatedLimits};
use crate::token::Verifier;

/// What could not be brought to its end is given back only after this, or it would come again at once, and
/// use up its deliveries within milliseconds.
const GIVE_BACK_PAUSE: Duration = Duration::from_secs(1);

/// How long a message waits until it is known again what is revoked, when this process has stood still.
const UNTIL_KNOWN: Duration = Duration::from_secs(5);

pub(crate) struct Pipeline {
    pub(crate) names: Names,
    pub(crate) internal: String,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) revoked: Arc<Revoked>,
    /// What is held for identities, and who is told of it.
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) recorder: AuthStateRecorder,
    pub(crate) handler: HandlerRunner,
    /// Whether a message was handled before; none if no one wants to know.
    pub(crate) idempotency: Option<Idempotency>,
    /// Who may ask the application next. Only to ask it takes a place.
    pub(crate) places: Arc<Places>,
    /// Which applications are not asked, because they are down.
    pub(crate) breaker: Breaker,
    /// What clients have given up.
    pub(crate) given_up: Arc<GivenUp>,
    /// What terminators have sealed.
    pub(crate) opening: Arc<Opening>,
    pub(crate) publisher: Publisher,
    /// For answers into queues that an injector has named.
    pub(crate) replier: Replier,
    pub(crate) dead_letters: Arc<DeadLetterPublisher>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) tracer: Tracer,
    pub(crate) audit: Arc<Audit>,
    /// What an operator is told of them, by kind.
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) rules: Rules,
    /// The worker takes nothing new.
    pub(crate) stopping: CancellationToken,
}

/// What an operator has decided.
pub(crate) struct Rules {
    pub(crate) strategy: Strategy,
    pub(crate) public: PublicTypes,
    pub(crate) elevation: Elevation,
    pub(crate) client_claims: Vec<String>,
    pub(crate) on_unauthenticated: Policies,
    pub(crate) hold: HoldLimits,
    pub(crate) unauthenticated: UnauthenticatedLimits,
    /// How many messages a second an identity may send; none if any number.
    pub(crate) messages_per_second_per_identity: Option<u32>,
    pub(crate) terms: Terms,
}

/// What a delivery has come to.
struct Conclusion {
    outcome: MessageOutcome,
    /// At least one.
    bodies: Vec<Bytes>,
    /// What is said around them.
    answer: Reply,
    /// The refusal, if it never reached the handler: it must not be lost because no one hears it.
    refused: Option<ErrorCode>,
    /// What its sender is told, if these are our own words.
    why: Option<String>,
    /// What a person may want to know later.
    decided: Option<Decided>,
}

impl Conclusion {
    /// One answer and no more to say.
    fn of(outcome: MessageOutcome, body: Bytes) -> Self {
        Self {
            outcome,
            bodies: vec![body],
            answer: Reply::ONLY,
            refused: None,
            why: None,
            decided: None,
        }
    }

    /// It did not reach the application.
    fn refused(id: Option<&RequestId<'_>>, refusal: &ErrorBody) -> Self {
        let refusal = handling::untouched(refusal.clone());
        Self {
            refused: Some(refusal.code),
            why: Some(refusal.message.clone()),
            ..Self::of(MessageOutcome::Error(refusal.code), answer::error(id, &refusal, None))
        }
    }

    fn and_close(mut self, close: Option<CloseCode>) -> Self {
        self.answer.close = close;
        self
    }

    fn having(self, decided: Option<Decided>) -> Self {
        Self { decided, ..self }
    }
}

impl Rules {
    /// The client that a token with these claims was issued to, if it says so.
    fn client_of<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c str> {
        let named = |name: &String| claims.get(name).and_then(Value::as_str);
        self.client_claims.iter().find_map(named)
    }
}

impl Pipeline {
    /// Brings a delivery to its end, or gives it back.
    pub(crate) async fn run(&self, delivery: Delivery) {
        let _in_flight = self.metrics.in_flight();
        self.revoked.runs(self.clock.now());
        if self.revoked.is_being_asked() {
            // What it has had in hand meanwhile may be revoked.
            let _ = tokio::time::timeout(UNTIL_KNOWN, self.revoked.until_asked()).await;
        }
        let origin = Origin::of(&delivery, &self.internal);
        let timed = origin.forwarded().filter(|forwarded| !forwarded.snapshot.unsure);
        if let (Some(_), Some(received_s)) = (timed, delivery.message.properties.timestamp_s) {
            let received = Timestamp::from_secs(received_s);
            self.metrics.waited(self.clock.now().saturating_since(received));
        }
        if let Some(first) = origin
            .forwarded()
            .filter(|forwarded| forwarded.notice == MessageKind::Run)
        {
            return Box::pin(self.run_in_order(delivery, first)).await;
        }
        // Boxed, like a run: what is spawned for a delivery is moved several times, and has no room for either.
        Box::pin(self.run_alone(delivery, origin)).await;
    }

    async fn run_alone(&self, delivery: Delivery, origin: Origin) {
        let bytes = delivery.message.body.len();
        self.observer.tell(origin.message_id(), Event::Taken { bytes });
        let span = trace::process(&self.tracer, &delivery, &origin);
        let ended = span.logged_scope(pin!(self.bring_to_its_end(&delivery, &origin))).await;
        match ended {
            Ok(outcome) => {
                self.ended(&span, outcome);
                delivery.ack();
            }
            Err(reason) => {
                span.fail(reason.as_str());
                drop(span);
                self.give_back(delivery, &reason).await;
            }
        }
    }

    /// A message has come to this.
    fn ended(&self, span: &Span, outcome: MessageOutcome) {
        trace::ended(span, outcome);
        self.metrics.ended(outcome);
    }

    /// Gives a delivery back to its queue, from which it will come again.
    pub(crate) async fn give_back(&self, delivery: Delivery, reason: &PublishError) {
        self.metrics.gave_back();
        debug!(%reason, "a message could not be finished, and is requeued");
        tokio::time::sleep(GIVE_BACK_PAUSE).await;
        drop(delivery);
    }

    async fn bring_to_its_end(&self, delivery: &Delivery, origin: &Origin) -> Result<MessageOutcome, PublishError> {
        let forwarded = origin.forwarded();
        let mut conclusion = match forwarded.map(|forwarded| (forwarded, forwarded.notice)) {
            Some((forwarded, MessageKind::Closed { code })) => {
                self.close(forwarded, code).await;
                return Ok(MessageOutcome::Closed);
            }
            Some((forwarded, MessageKind::Announced)) => return self.announced(forwarded).await,
            Some((_, MessageKind::Back)) => return self.tell_all_revocations(&delivery.message.properties).await,
            Some((forwarded, MessageKind::Release { from })) => {
                let again = was_moved(delivery, &self.internal);
                let known = known_to_be_held(&delivery.message.body);
                Box::pin(self.release(forwarded, from, known, again)).await?
            }
            Some((_, MessageKind::Message | MessageKind::Run)) | None => {
                let authenticated = forwarded.and_then(|forwarded| Authenticated::of(&forwarded.snapshot));
                self.conclude(delivery, origin, authenticated.as_ref()).await?
            }
        };
        self.carry_out(delivery, origin, &mut conclusion).await
    }

    /// Tells the one who asked what came of it.
    async fn carry_out(
        &self,
        delivery: &Delivery,
        origin: &Origin,
        conclusion: &mut Conclusion,
    ) -> Result<MessageOutcome, PublishError> {
        let forwarded = origin.forwarded();
        let outcome = conclusion.outcome;
        if outcome == MessageOutcome::HandedOn {
            let route = Route::new(&self.internal, key_of(delivery));
            self.publisher.publish(route, delivery.message.clone()).await?;
            return Ok(outcome);
        }
        if let MessageOutcome::Error(code) = outcome {
            let why = conclusion.why.as_deref().unwrap_or_default();
            let identity = forwarded.and_then(|forwarded| Authenticated::of(&forwarded.snapshot));
            self.audit_refusal(
                code,
                origin,
                identity.map(|authenticated| authenticated.grant.identity),
                why,
            );
        }
        self.answer(delivery, origin, conclusion).await?;
        // No one waits for it any more.
        if let Some(decided) = conclusion.decided.take() {
            Box::pin(self.observer.keep(decided)).await;
        }
        Ok(outcome)
    }

    async fn close(&self, forwarded: &ForwardedMessage, code: Option<u16>) {
        let message_id = forwarded.message_id;
        let identity = Authenticated::of(&forwarded.snapshot).map(|authenticated| authenticated.grant.identity);
        self.recorder.close(message_id, identity).await;
        if let Some(identity) = identity {
            self.outbound.left(identity).await;
        }
        if let Some(code) = code {
            let closed = Event::Closed { code };
            self.observer.note(message_id.connection, None, closed).await;
        }
        // Nothing that it sent can prove any more who it was.
        if identity.is_none() && !forwarded.snapshot.unsettled {
            self.discard_held(message_id.connection).await;
        }
    }
}
