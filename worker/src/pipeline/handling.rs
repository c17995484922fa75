//! The application's part: what comes of a message whose sender is proved.

use std::fmt::Display;
use std::pin::pin;

use bytes::Bytes;
use shared::protocol::{AuthBody, ErrorBody, ErrorCode};
use shared::request_id::RequestId;
use shared::trace::{self as traces, SpanKind};
use tokio::time::Instant;
use tracing::{debug, error};

use super::{JOURNEY, Pipeline};
use crate::answer;
use crate::handler::{Answers, Failure, Request};
use crate::idempotency::Recalled;
use crate::metrics::Outcome;

/// What a message has come to.
pub(super) struct Handled {
    pub(super) outcome: Outcome,
    /// One at least.
    pub(super) bodies: Vec<Bytes>,
    /// Why it never reached the handler, if so.
    pub(super) refused: Option<ErrorCode>,
}

impl Handled {
    fn of(id: Option<&RequestId<'_>>, came_to: &Result<Answers, ErrorBody>, auth: Option<&AuthBody>) -> Self {
        let (outcome, bodies) = match came_to {
            Ok(answers) => (Outcome::Handled, answer::replies(id, answers, auth)),
            Err(error) => (Outcome::Error(error.code), vec![answer::error(id, error, auth)]),
        };
        Self {
            outcome,
            bodies,
            refused: None,
        }
    }
}

impl Pipeline {
    /// Has a message handled, or finds out what it came to before; what is told of it names it by that `id`. It comes `again` if somebody was given it and did not
    /// bring it to its end.
    pub(super) async fn handle(
        &self,
        request: Request<'_>,
        id: Option<&RequestId<'_>>,
        stamp: &(dyn Display + Sync),
        auth: Option<&AuthBody>,
        again: bool,
    ) -> Handled {
        // Before all else: what is forbidden has no effect, and nothing is to be remembered of it.
        if let Some(forbidden) = self.handler.forbids(&request) {
            let refusal = ErrorBody::from(forbidden);
            return Handled {
                refused: Some(refusal.code),
                ..Handled::of(id, &Err(refusal), auth)
            };
        }
        // Strangers use equal ids, and are told nothing of each other.
        let idempotency = self.idempotency.as_ref().filter(|_| !request.identity.is_anonymous());
        let Some(idempotency) = idempotency else {
            return Handled::of(id, &self.ask(request, stamp).await, auth);
        };
        match idempotency.recall(&request, again).await {
            Recalled::Fresh(claim) => {
                let mut came_to = self.ask(request, stamp).await;
                if let Some(claim) = claim {
                    came_to = idempotency.remember(&claim, came_to).await;
                }
                Handled::of(id, &came_to, auth)
            }
            Recalled::Done(came_to) => Handled::of(id, &came_to, auth),
            Recalled::Refused(error) => Handled {
                refused: Some(error.code),
                ..Handled::of(id, &Err(error), auth)
            },
        }
    }

    /// Has the application handle a message.
    async fn ask(&self, request: Request<'_>, stamp: &(dyn Display + Sync)) -> Result<Answers, ErrorBody> {
        let started = Instant::now();
        let span = traces::child("handle", SpanKind::Internal);
        let handled = span.scope(pin!(self.handler.handle(request))).await;
        if let Err(failure) = &handled {
            span.fail(failure.as_str());
        }
        drop(span);
        let took = started.elapsed();
        self.metrics.handling_took(took);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        debug!(target: JOURNEY, stage = "handler", %stamp, ok = handled.is_ok(), took_us);
        handled.map_err(|failure| {
            self.count(&failure, stamp);
            failure.into_error()
        })
    }

    fn count(&self, failure: &Failure, stamp: &dyn Display) {
        match failure {
            Failure::Error(_) => {}
            Failure::Panic => {
                self.metrics.handler_panicked();
                error!(%stamp, "the handler panicked; the client was told `internal`");
            }
            Failure::TooManyAnswers => {
                error!(%stamp, "the handler gave too many answers; the client was told `internal`");
            }
            Failure::Timeout => self.metrics.handler_timed_out(),
        }
    }
}
