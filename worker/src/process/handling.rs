//! The application's part: what comes of a message whose sender is proved.

use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use shared::service::trace::{self as traces, SpanKind};
use shared::wire::protocol::{AuthBody, Effect, ErrorBody, ErrorCode};
use shared::wire::request_id::RequestId;
use tokio::time::{Instant, timeout};
use tracing::error;

use super::Pipeline;
use super::answer;
use super::given_up::Watched;
use crate::admin::event::Event;
use crate::admin::metrics::MessageOutcome;
use crate::auth::decision::RETRY_MS;
use crate::handler::idempotency::Recalled;
use crate::handler::places::{Claimant, NoPlace, PlacePermit};
use crate::handler::{Answers, Failure, Request};
use crate::message::deadline;
use crate::revocation::meanwhile::Accepted;

/// How a message comes to be handled.
#[derive(Clone, Copy)]
pub(super) struct Coming<'a> {
    /// Someone was given it and did not bring it to its end.
    pub(super) again: bool,
    /// As long as it waits, it can go back to the queue as it is.
    pub(super) may_move: bool,
    /// By what it may be.
    pub(super) accepted: Accepted<'a>,
}

/// Why a message does not get a place.
enum Placeless {
    /// Its sender is told.
    Refused(ErrorBody),
    /// Another worker handles it.
    Elsewhere,
}

/// What a message has come to.
pub(super) struct Handled {
    pub(super) outcome: MessageOutcome,
    /// One at least.
    pub(super) bodies: Vec<Bytes>,
    /// Why it never reached the handler, if so.
    pub(super) refused: Option<ErrorCode>,
    /// What its sender is told then.
    pub(super) why: Option<String>,
}

impl Handled {
    fn of(id: Option<&RequestId<'_>>, came_to: &Result<Answers, ErrorBody>, auth: Option<&AuthBody>) -> Self {
        let (outcome, bodies) = match came_to {
            Ok(answers) => (MessageOutcome::Handled, answer::replies(id, answers, auth)),
            Err(error) => (MessageOutcome::Error(error.code), vec![answer::error(id, error, auth)]),
        };
        Self {
            outcome,
            bodies,
            refused: None,
            why: None,
        }
    }

    /// Another worker handles it, and no one is told anything.
    fn elsewhere() -> Self {
        Self {
            outcome: MessageOutcome::HandedOn,
            bodies: Vec::new(),
            refused: None,
            why: None,
        }
    }

    /// It never reached the handler.
    fn refused(id: Option<&RequestId<'_>>, error: ErrorBody, auth: Option<&AuthBody>) -> Self {
        let error = untouched(error);
        Self {
            refused: Some(error.code),
            why: Some(error.message.clone()),
            ..Self::of(id, &Err(error), auth)
        }
    }
}

impl Pipeline {
    /// Has a message handled, or finds out what it came to before; what is told of it names it by that `id`.
    pub(super) async fn handle(
        &self,
        mut request: Request<'_>,
        id: Option<&RequestId<'_>>,
        message_id: &(dyn Display + Sync),
        auth: Option<&AuthBody>,
        coming: Coming<'_>,
    ) -> Handled {
        let Coming { again, may_move, .. } = coming;
        // Before all else: what is forbidden has no effect, and nothing is to be remembered of it.
        if let Some(forbidden) = self.handler.forbids(&request) {
            return Handled::refused(id, forbidden, auth);
        }
        if let Some(too_fast) = self.too_fast(request.identity, again).await {
            return Handled::refused(id, too_fast, auth);
        }
        let watched = self.given_up.watch(request.forwarded_id, request.id, Instant::now());
        request.given_up = watched.as_ref().map(Watched::stop);
        let kind: Arc<str> = request.kind.into();
        // Before a place is waited for, which may take as long as the calls that are under way.
        if let Some(left) = self.breaker.closed_for(&kind, request.identity.tag()) {
            return Handled::refused(id, down(left), auth);
        }
        let claimant = Claimant {
            kind: kind.clone(),
            identity: request.identity.tag(),
            injected: request.forwarded_id.is_none(),
            may_move,
        };
        let _place = match self.place(claimant, &request, again).await {
            Ok(place) => place,
            Err(Placeless::Elsewhere) => return Handled::elsewhere(),
            Err(Placeless::Refused(why)) => return Handled::refused(id, why, auth),
        };
        // Before it is claimed: what may not be handled has no effect, and nothing is to be remembered of it.
        if let Err(revoked) = self.revoked.still(&coming.accepted, self.clock.now()) {
            return Handled::refused(id, revoked, auth);
        }
        // Strangers use equal ids, and are told nothing of each other.
        let idempotency = self.idempotency.as_ref().filter(|_| !request.identity.is_anonymous());
        let Some(idempotency) = idempotency else {
            return Handled::of(id, &self.ask(request, &kind, message_id, coming).await, auth);
        };
        match idempotency.recall(&request, again).await {
            Recalled::Fresh(claim) => {
                let mut came_to = self.ask(request, &kind, message_id, coming).await;
                if let Some(claim) = claim {
                    came_to = idempotency.remember(&claim, came_to).await;
                }
                Handled::of(id, &came_to, auth)
            }
            Recalled::Done(came_to) => Handled::of(id, &came_to, auth),
            Recalled::Refused(error) => Handled::refused(id, error, auth),
        }
    }

    /// Waits for a place, but no longer than anyone waits for the message.
    async fn place(&self, claimant: Claimant, request: &Request<'_>, again: bool) -> Result<PlacePermit, Placeless> {
        let left = deadline::left(request.deadline, self.clock.now(), again).map_err(Placeless::Refused)?;
        let place = pin!(self.places.take(claimant));
        let taking = pin!(async {
            match left {
                Some(left) => timeout(left, place).await,
                None => Ok(place.await),
            }
        });
        let Some(taken) = unless_given_up(request, taking).await else {
            return Err(Placeless::Refused(deadline::cancelled(again)));
        };
        match taken {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(NoPlace::Full)) => Err(Placeless::Refused(crowded())),
            Ok(Err(NoPlace::Elsewhere)) => Err(Placeless::Elsewhere),
            Err(_) => Err(Placeless::Refused(deadline::exceeded(again))),
        }
    }

    /// Has the application handle a message, unless it is down, no one waits any more, or what let it in was revoked meanwhile.
    async fn ask(
        &self,
        mut request: Request<'_>,
        kind: &Arc<str>,
        message_id: &(dyn Display + Sync),
        Coming { again, accepted, .. }: Coming<'_>,
    ) -> Result<Answers, ErrorBody> {
        let now = self.clock.now();
        request.time_left = deadline::left(request.deadline, now, again)?;
        self.revoked.still(&accepted, now).map_err(untouched)?;
        self.breaker
            .admit(kind, request.identity.tag())
            .map_err(down)
            .map_err(untouched)?;
        let (asker, started) = (request.identity.tag(), Instant::now());
        let span = traces::child("handle", SpanKind::Internal);
        let handling = async {
            let handled = unless_given_up(&request, pin!(self.handler.handle(request))).await;
            handled.unwrap_or(Err(Failure::GivenUp))
        };
        let handled = span.scope(pin!(handling)).await;
        if let Err(failure) = &handled {
            span.fail(failure.as_str());
        }
        drop(span);
        if let Some(is_there) = is_there(&handled) {
            self.breaker.ended(kind, asker, is_there, started);
        }
        let took = started.elapsed();
        let ok = handled.is_ok();
        self.observer.tell(request.forwarded_id, Event::Handled { ok, took });
        let answers = handled.map_err(|failure| {
            self.count(&failure, message_id);
            failure.into_error()
        })?;
        if answers.pushes().next().is_none() {
            return Ok(answers);
        }
        Box::pin(self.push_along(&request, answers)).await
    }

    fn count(&self, failure: &Failure, message_id: &dyn Display) {
        match failure {
            Failure::Error(..) | Failure::Deadline(_) | Failure::GivenUp => {}
            Failure::Panic => {
                self.metrics.handler_panicked();
                error!(%message_id, "the handler panicked; the client was told `internal`");
            }
            Failure::TooManyAnswers => {
                error!(%message_id, "the handler gave too many replies; the client was told `internal`");
            }
            Failure::Improper(why) => {
                error!(%message_id, %why, "the application's reply cannot be passed on; the client was told `internal`");
            }
            Failure::Timeout => self.metrics.handler_timed_out(),
        }
    }
}

/// An error of a message that did not reach the application: that is said where it may be sent again, unless another
/// attempt may have had an effect.
pub(super) fn untouched(error: ErrorBody) -> ErrorBody {
    match error.effect {
        None if error.temporary => error.having(Effect::None),
        _ => error,
    }
}

/// Whether a call shows that its application is there; none if it shows neither that nor the contrary.
fn is_there(handled: &Result<Answers, Failure>) -> Option<bool> {
    match handled {
        Ok(_) | Err(Failure::TooManyAnswers | Failure::Panic | Failure::Improper(_)) => Some(true),
        Err(Failure::Timeout) => Some(false),
        Err(Failure::GivenUp) => None,
        Err(Failure::Deadline(presence) | Failure::Error(_, presence)) => presence.is_there(),
    }
}

/// None if its sender gives it up before.
async fn unless_given_up<T>(request: &Request<'_>, doing: impl Future<Output = T>) -> Option<T> {
    match request.given_up {
        Some(given_up) => given_up.run_until_cancelled(doing).await,
        None => Some(doing.await),
    }
}

fn down(left: Duration) -> ErrorBody {
    let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
    ErrorBody::new(ErrorCode::Busy, "the application is not answering at the moment").retry_after_ms(left_ms)
}

fn crowded() -> ErrorBody {
    let why = "too many messages of this `type` wait for the application already";
    ErrorBody::new(ErrorCode::Busy, why).retry_after_ms(RETRY_MS)
}
