//! One message, from its delivery to its acknowledgement.
//!
//! Take, authenticate, decide, record, handle, answer; and only when the answer
//! is confirmed, acknowledge. Whatever breaks on the way, the broker still has
//! the message: a delivery that is dropped here comes again.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use shared::bus::topology::Names;
use shared::bus::{Delivery, PublishError, Publisher, Route};
use shared::clock::Clock;
use shared::envelope::{Part, answer};
use shared::id::Stamp;
use shared::protocol::{AuthBody, ErrorBody, ErrorCode};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, error};

use crate::answer;
use crate::dead_letter::Undertaker;
use crate::decision::{Decision, Proof, Sender, decide};
use crate::handler::{Failure, Guarded, Request};
use crate::message::ClientMessage;
use crate::metrics::{Lost, Metrics, Outcome};
use crate::origin::Origin;
use crate::recorded::Recorder;
use crate::store::Recorded;
use crate::token::{Rejection, Verdict, Verified, Verifier};

/// The target of the events that tell a message's journey, one per stage. They hold no token and no payload.
pub const JOURNEY: &str = "countersign::journey";

/// When to try again while the store is away: it is asked anew each time.
const STORE_RETRY_MS: u64 = 1_000;

/// What could not be brought to its end is given back only after this, or it would come again at once, and
/// use up its deliveries within milliseconds.
const GIVE_BACK_PAUSE: Duration = Duration::from_secs(1);

pub(crate) struct Pipeline {
    pub(crate) names: Names,
    pub(crate) internal: String,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) recorder: Recorder,
    pub(crate) handler: Guarded,
    /// How many messages may be handled at a time. To wait for a confirm takes no permit.
    pub(crate) permits: Semaphore,
    pub(crate) publisher: Publisher,
    pub(crate) undertaker: Arc<Undertaker>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What a message has come to.
struct Conclusion {
    outcome: Outcome,
    /// At least one.
    answers: Vec<Bytes>,
    /// The refusal, if it never reached the handler: it must not be lost because nobody hears it.
    refused: Option<ErrorCode>,
}

impl Conclusion {
    fn refused(id: Option<&str>, refusal: &ErrorBody) -> Self {
        Self {
            outcome: Outcome::Error(refusal.code),
            answers: vec![answer::error(id, refusal, None)],
            refused: Some(refusal.code),
        }
    }
}

impl Pipeline {
    /// Brings a delivery to its end, or gives it back.
    pub(crate) async fn run(&self, delivery: Delivery) {
        let _in_flight = self.metrics.in_flight();
        let origin = Origin::of(&delivery, &self.internal);
        debug!(target: JOURNEY, stage = "worker", stamp = %origin, bytes = delivery.message.body.len());
        if let Origin::Closed(stamp) = origin {
            self.recorder.forget(stamp).await;
            self.metrics.ended(Outcome::Closed);
            return delivery.ack();
        }
        let conclusion = {
            // The semaphore is never closed, so a permit always comes.
            let _permit = self.permits.acquire().await;
            self.conclude(&delivery.message.body, origin).await
        };
        let outcome = conclusion.outcome;
        match self.answer(&delivery, origin, conclusion).await {
            Ok(()) => {
                self.metrics.ended(outcome);
                delivery.ack();
            }
            Err(reason) => self.give_back(delivery, &reason).await,
        }
    }

    /// Gives a delivery back to its queue, from which it will come again.
    pub(crate) async fn give_back(&self, delivery: Delivery, reason: &PublishError) {
        self.metrics.gave_back();
        debug!(%reason, "a message could not be brought to its end, and is given back");
        tokio::time::sleep(GIVE_BACK_PAUSE).await;
        drop(delivery);
    }

    async fn conclude(&self, body: &[u8], origin: Origin) -> Conclusion {
        let message = match ClientMessage::parse(body) {
            Ok(message) => message,
            Err(malformed) => return Conclusion::refused(malformed.id.as_deref(), &malformed.error()),
        };
        let id = message.id.as_deref();
        let (sender, stamp) = match origin.stamp() {
            Some(stamp) => (Sender::Connection(stamp), Some(stamp)),
            None => (Sender::Injector, None),
        };
        let (verified, record) = match decide(self.prove(message.token.as_deref(), origin), sender) {
            Decision::Process { verified, record } => (verified, record),
            Decision::Refuse(refusal) => return Conclusion::refused(id, &refusal),
        };
        let auth = match record {
            None => None,
            Some(stamp) => match self.record(stamp, &verified).await {
                Ok(auth) => auth,
                Err(refusal) => return Conclusion::refused(id, &refusal),
            },
        };
        let request = Request::new(&verified.identity, &verified.claims, &message, stamp);
        self.handle(request, origin, auth.as_ref()).await
    }

    fn prove(&self, token: Option<&str>, origin: Origin) -> Proof {
        let Some(token) = token else {
            self.metrics.no_token();
            debug!(target: JOURNEY, stage = "verdict", stamp = %origin, kind = "none");
            return Proof::None;
        };
        let verdict = self.verifier.verify(token, self.clock.now());
        self.metrics.verdict(&verdict);
        debug!(target: JOURNEY, stage = "verdict", stamp = %origin, kind = kind(&verdict), cached = verdict.cached);
        Proof::Token(verdict.result)
    }

    /// What the connection's authentication has become, if this message changed it.
    async fn record(&self, stamp: Stamp, verified: &Verified) -> Result<Option<AuthBody>, ErrorBody> {
        let recorded = self.recorder.record(stamp, verified).await.map_err(|reason| {
            debug!(%stamp, %reason, "the store did not take a record");
            ErrorBody::new(
                ErrorCode::AuthUnavailable,
                "whether you are authenticated cannot be recorded just now",
            )
            .retry_after_ms(STORE_RETRY_MS)
        })?;
        if let Some(recorded) = recorded {
            debug!(target: JOURNEY, stage = "store", %stamp, recorded = ?recorded);
        }
        Ok((recorded == Some(Recorded::Changed)).then(|| answer::auth(verified, self.clock.now())))
    }

    async fn handle(&self, request: Request<'_>, origin: Origin, auth: Option<&AuthBody>) -> Conclusion {
        let started = Instant::now();
        let handled = self.handler.handle(request).await;
        let took = started.elapsed();
        self.metrics.handling_took(took);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        debug!(target: JOURNEY, stage = "handler", stamp = %origin, ok = handled.is_ok(), took_us);
        match handled {
            Ok(answers) => Conclusion {
                outcome: Outcome::Handled,
                answers: answer::replies(request.id, &answers, auth),
                refused: None,
            },
            Err(failure) => {
                self.note(&failure, origin);
                let refusal = failure.into_error();
                Conclusion {
                    outcome: Outcome::Error(refusal.code),
                    answers: vec![answer::error(request.id, &refusal, auth)],
                    refused: None,
                }
            }
        }
    }

    fn note(&self, failure: &Failure, origin: Origin) {
        match failure {
            Failure::Error(_) => {}
            Failure::Panic => {
                self.metrics.handler_panicked();
                error!(stamp = %origin, "the handler panicked; the client was told `internal`");
            }
            Failure::TooManyAnswers => {
                error!(stamp = %origin, "the handler gave too many answers; the client was told `internal`");
            }
            Failure::Timeout => self.metrics.handler_timed_out(),
        }
    }

    /// Sends the answers to whoever asked, and waits until they have arrived.
    async fn answer(&self, delivery: &Delivery, origin: Origin, conclusion: Conclusion) -> Result<(), PublishError> {
        let properties = &delivery.message.properties;
        let Some(reply_to) = origin.reply_to(properties, &self.names) else {
            return match conclusion.refused {
                Some(code) => self.undertaker.bury_refused(delivery, code).await,
                None => {
                    self.metrics.answer_lost(Lost::Unwanted);
                    Ok(())
                }
            };
        };
        let started = Instant::now();
        match self
            .send(reply_to, &properties.correlation_id, conclusion.answers)
            .await
        {
            // Nobody is there any more, or there never was such a queue.
            Err(PublishError::Unroutable | PublishError::Malformed) => self.metrics.answer_lost(Lost::Unroutable),
            outcome => outcome?,
        }
        self.metrics.confirm_took(started.elapsed());
        debug!(target: JOURNEY, stage = "return", stamp = %origin);
        Ok(())
    }

    async fn send(
        &self,
        reply_to: &str,
        correlation_id: &Option<String>,
        mut bodies: Vec<Bytes>,
    ) -> Result<(), PublishError> {
        let route = Route::queue(reply_to);
        if bodies.len() <= 1 {
            let only = answer(correlation_id.clone(), Part::ONLY, bodies.pop().unwrap_or_default());
            return self.publisher.publish(route, only).await;
        }
        let last = bodies.len() - 1;
        // They are submitted in order, and confirmed together.
        let sends = bodies.into_iter().zip(0_u32..).map(|(body, index)| {
            let more = (index as usize) < last;
            let part = answer(correlation_id.clone(), Part { index, more }, body);
            self.publisher.publish(route.clone(), part)
        });
        try_join_all(sends).await.map(|_| ())
    }
}

const fn kind(verdict: &Verdict) -> &'static str {
    match verdict.result {
        Ok(_) => "valid",
        Err(Rejection::Expired) => "expired",
        Err(Rejection::Invalid(_)) => "invalid",
        Err(Rejection::Unavailable) => "unavailable",
    }
}
