//! A run: messages of one connection, one after the other.
//!
//! Each is handled when the one before it is and its answer is on its way; confirms are waited for meanwhile. The run is
//! acknowledged when all are. What it could not bring to its end goes on as another run: so nothing that was finished is
//! done again for the sake of what comes behind it.
//!
//! A run that comes again may be what killed a worker. Then its first message is tried alone, and the rest goes on
//! behind it when it is settled, in one way or the other.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use shared::bus::topology::keys;
use shared::bus::{Delivery, PublishError, Route};
use shared::service::trace::Span;
use shared::wire::envelope::run::{self, Entry};
use shared::wire::envelope::{ForwardedMessage, Verdict};
use tokio::time::Instant;

use crate::admin::event::Event;
use crate::admin::metrics::MessageOutcome;
use crate::auth::snapshot::Authenticated;
use crate::message::of_run::{message_of, rest_of};
use crate::message::origin::{Origin, key_of, was_moved};
use crate::process::concluding::sent_back;
use crate::process::trace;
use crate::process::{Conclusion, Pipeline};

/// After this time the rest of a run goes on as another: perhaps to a worker with less to do, and long before a broker
/// takes a run back that no one acknowledges.
const ENOUGH: Duration = Duration::from_secs(30);

/// What those before it mean for a message.
#[derive(Clone, Copy, Default)]
struct Before {
    /// One of them is held.
    held: bool,
    /// One of them was sent back, so all behind it are.
    sent_back: bool,
}

impl Pipeline {
    /// Brings the messages of a run to their ends.
    pub(in crate::process) async fn run_in_order(&self, delivery: Delivery, first: &ForwardedMessage) {
        let entries = match run::decode(&delivery.message.body) {
            Ok(entries) => entries,
            Err(broken) => {
                let (reason, queue) = (broken.to_string(), self.names.messages_by(&delivery.routing_key));
                return match self
                    .dead_letters
                    .dead_letter_unreadable(&delivery, &reason, queue)
                    .await
                {
                    Ok(()) => delivery.ack(),
                    Err(reason) => self.give_back(delivery, &reason).await,
                };
            }
        };
        let alone = was_moved(&delivery, &self.internal);
        // It is the same for all of them.
        let authenticated = Authenticated::of(&first.snapshot);
        let (until, began) = (if alone { 1 } else { entries.len() }, Instant::now());
        let mut answering = FuturesUnordered::new();
        let (mut before, mut done) = (Before::default(), 0);
        let (mut failed, mut broken) = (None, None);
        for (place, entry) in entries.iter().enumerate().take(until) {
            if place > 0 && (began.elapsed() >= ENOUGH || self.stopping.is_cancelled()) {
                break;
            }
            let mut forwarded = run::request_at(first, place, entry);
            forwarded.snapshot.held |= before.held;
            let part = delivery.part(message_of(&delivery.message, &forwarded, entry));
            let origin = Origin::Terminator(Box::new(forwarded));
            let bytes = entry.body.len();
            self.observer.tell(origin.message_id(), Event::Taken { bytes });
            let span = trace::process(&self.tracer, &part, &origin);
            let concluded = {
                let mut concluding =
                    pin!(self.conclude_in_order(&part, (&origin, authenticated.as_ref()), before, &span));
                loop {
                    tokio::select! {
                        biased;
                        concluded = &mut concluding => break concluded,
                        Some(answered) = answering.next() => failed = failed.or(answered),
                    }
                }
            };
            match concluded {
                // Another worker goes on with it, and what is behind it.
                Ok(conclusion) if conclusion.outcome == MessageOutcome::HandedOn => {
                    self.ended(&span, conclusion.outcome);
                    break;
                }
                Ok(mut conclusion) => {
                    before.held |= matches!(conclusion.answer.verdict, Verdict::Held { .. });
                    before.sent_back |= conclusion.answer.verdict == Verdict::Again;
                    answering.push(async move { self.answer_in_order(&part, &origin, &mut conclusion, &span).await });
                    // The first poll submits it, so that answers leave in their order.
                    failed = failed.or(answering.next().now_or_never().flatten().flatten());
                    done = place + 1;
                }
                Err(reason) => {
                    span.fail(reason.as_str());
                    broken = Some(reason);
                    break;
                }
            }
        }
        while let Some(answered) = answering.next().await {
            failed = failed.or(answered);
        }
        drop(answering);
        let rest = entries.get(done..).unwrap_or_default();
        let failed = match (failed, broken) {
            (None, _) if rest.is_empty() => None,
            // Nothing of it is finished, so it is the broker's to count.
            (None, Some(reason)) if done == 0 => Some(reason),
            (None, broken) => {
                let mut behind = first.clone();
                behind.snapshot.held |= before.held;
                // What no one has tried is tried as before, unless one of it may be what kills.
                let careful = alone || broken.is_some();
                let key = if careful { keys::RETRY } else { key_of(&delivery) };
                self.pass_on(&delivery, &behind, &entries, done, key).await.err()
            }
            (failed, _) => failed,
        };
        match failed {
            None => delivery.ack(),
            Some(reason) => self.give_back(delivery, &reason).await,
        }
    }

    async fn conclude_in_order(
        &self,
        part: &Delivery,
        (origin, authenticated): (&Origin, Option<&Authenticated>),
        before: Before,
        span: &Span,
    ) -> Result<Conclusion, PublishError> {
        if before.sent_back {
            return Ok(sent_back(&part.message.body));
        }
        span.logged_scope(pin!(self.conclude(part, origin, authenticated)))
            .await
    }

    /// Tells the one who asked, and why that is not possible.
    async fn answer_in_order(
        &self,
        part: &Delivery,
        origin: &Origin,
        conclusion: &mut Conclusion,
        span: &Span,
    ) -> Option<PublishError> {
        let answered = span.logged_scope(pin!(self.carry_out(part, origin, conclusion))).await;
        match answered {
            Ok(outcome) => {
                self.ended(span, outcome);
                None
            }
            Err(reason) => {
                span.fail(reason.as_str());
                Some(reason)
            }
        }
    }

    /// Has the entries from `place` on go on as another run.
    async fn pass_on(
        &self,
        delivery: &Delivery,
        first: &ForwardedMessage,
        entries: &[Entry],
        place: usize,
        key: &str,
    ) -> Result<(), PublishError> {
        match rest_of(delivery, first, entries, place, key) {
            Some(message) => self.publisher.publish(Route::new(&self.internal, key), message).await,
            None => Ok(()),
        }
    }
}
