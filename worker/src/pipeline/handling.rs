//! The application's part: what comes of a message whose sender is proved.

use std::fmt::Display;
use std::pin::pin;

use bytes::Bytes;
use shared::protocol::AuthBody;
use shared::trace::{self as traces, SpanKind};
use tokio::time::Instant;
use tracing::{debug, error};

use super::{JOURNEY, Pipeline};
use crate::answer;
use crate::handler::{Failure, Request};
use crate::metrics::Outcome;

impl Pipeline {
    /// Handles a message. The bodies of the answers are one at least.
    pub(super) async fn handle(
        &self,
        request: Request<'_>,
        stamp: &(dyn Display + Sync),
        auth: Option<&AuthBody>,
    ) -> (Outcome, Vec<Bytes>) {
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
        match handled {
            Ok(answers) => (Outcome::Handled, answer::replies(request.id, &answers, auth)),
            Err(failure) => {
                self.count(&failure, stamp);
                let refusal = failure.into_error();
                let body = answer::error(request.id, &refusal, auth);
                (Outcome::Error(refusal.code), vec![body])
            }
        }
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
