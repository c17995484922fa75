//! One event, from its text to the store.
//!
//! Anyone who reaches the port chooses what comes and how often, so little goes on at a time, and what proves false keeps its
//! place for a moment: a flood of it is looked at so many times a second and no more, and the rest is told to come
//! again. What is true goes on when its sender has left. It is said to be taken only when the store has it.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use shared::service::clock::Clock;
use shared::service::refusals::Refusals;
use shared::wire::revocation::Revocation;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::event::{EventRules, ProviderEvent};
use super::fault::EventFault;
use super::kind::EventKind;
use super::outcome::EventOutcome;
use super::request::Request;
use crate::revocation::revoker::Revoker;
use crate::store::StoreError;
use crate::token::{Rejection, Statement, Verifier};

/// How many events are looked at at a time.
const PLACES: usize = 8;
/// How long one waits for a place.
const PATIENCE: Duration = Duration::from_secs(2);
/// For how long one that proves false keeps its place: 8 / 20 ms are 400 a second, at half a millisecond each at worst (eight
/// keys, P-256).
const KEPT_BY_THE_FALSE: Duration = Duration::from_millis(20);
/// How long a key that is unknown is waited for: an issuer that has just changed its keys says so to no one but who asks.
const KEY_PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether it has come.
const KEY_PERIOD: Duration = Duration::from_millis(100);

/// What takes events.
pub(super) struct Taking {
    verifier: Arc<Verifier>,
    clock: Arc<dyn Clock>,
    rules: EventRules,
    revoker: Arc<Revoker>,
    places: Arc<Semaphore>,
    refusals: Arc<Refusals>,
    tasks: TaskTracker,
    kill: CancellationToken,
}

impl Taking {
    pub(super) fn new(
        verifier: Arc<Verifier>,
        clock: Arc<dyn Clock>,
        rules: EventRules,
        revoker: Arc<Revoker>,
        tasks: TaskTracker,
        kill: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            verifier,
            clock,
            rules,
            revoker,
            places: Arc::new(Semaphore::new(PLACES)),
            refusals: Arc::default(),
            tasks,
            kill,
        })
    }

    /// Where what is refused is counted, and told once a minute.
    pub(super) fn refusals(&self) -> Arc<Refusals> {
        self.refusals.clone()
    }

    /// Takes one, whatever becomes of anyone who has sent it; `whose` tells who that was.
    pub(super) async fn take(
        self: &Arc<Self>,
        kind: EventKind,
        request: Result<Request, EventFault>,
        whose: String,
    ) -> EventOutcome {
        let taking = self.clone();
        let taken = self
            .tasks
            .spawn(async move { taking.bring_to_its_end(kind, request, whose).await });
        // It does not panic, and is ended with the worker alone.
        taken.await.unwrap_or(EventOutcome::Away("the worker ends"))
    }

    async fn bring_to_its_end(
        self: Arc<Self>,
        kind: EventKind,
        request: Result<Request, EventFault>,
        whose: String,
    ) -> EventOutcome {
        let Some((place, proved)) = self.prove(&request).await else {
            return self.told(kind, EventOutcome::Away("too many events come at a time"), &whose);
        };
        let (outcome, revoked) = match self.attempt(kind, request, proved).await {
            Ok(done) => done,
            Err(outcome) => (outcome, Vec::new()),
        };
        self.go_on(place, outcome, revoked);
        self.told(kind, outcome, &whose)
    }

    /// What an issuer has signed, and a place to go on; none if there is none. The key may have to be fetched first, and
    /// that takes no one's place.
    async fn prove(
        &self,
        request: &Result<Request, EventFault>,
    ) -> Option<(OwnedSemaphorePermit, Result<Statement, EventOutcome>)> {
        let began = Instant::now();
        loop {
            let place = timeout(PATIENCE, self.places.clone().acquire_owned())
                .await
                .ok()?
                .ok()?;
            let request = match request {
                Ok(request) => request,
                Err(fault) => return Some((place, Err(EventOutcome::Refused(*fault)))),
            };
            let proved = match self.verifier.statement(&request.text, self.rules.issuers()) {
                Ok(statement) => Ok(statement),
                Err(Rejection::Unavailable { wait }) if began.elapsed() + wait < KEY_PATIENCE => {
                    drop(place);
                    sleep(KEY_PERIOD).await;
                    continue;
                }
                Err(Rejection::Unavailable { .. }) => {
                    Err(EventOutcome::Away("its key cannot be fetched at the moment"))
                }
                Err(rejection) => Err(EventOutcome::Refused(rejection.into())),
            };
            return Some((place, proved));
        }
    }

    async fn attempt(
        &self,
        kind: EventKind,
        request: Result<Request, EventFault>,
        proved: Result<Statement, EventOutcome>,
    ) -> Result<(EventOutcome, Vec<Revocation>), EventOutcome> {
        let request = request.map_err(EventOutcome::Refused)?;
        let statement = proved?;
        let event = self
            .rules
            .read(kind, &statement, request.subject.as_ref(), self.clock.now());
        let ProviderEvent { id, keep, revocations } = event.map_err(EventOutcome::Refused)?;
        let store = &self.revoker.outbound.store;
        if store.know_event(id, None).await.map_err(|reason| away(&reason))? {
            return Err(EventOutcome::Refused(EventFault::Replayed));
        }
        if !revocations.is_empty() {
            match self.revoker.keep(&revocations).await {
                Ok(kept) if kept.refused.is_empty() => {}
                Ok(_) => {
                    return Err(EventOutcome::Away(
                        "as many revocations as `max-revocations` are in force",
                    ));
                }
                // Anyone who runs is told all the same: its sender may not come again.
                Err(reason) => return Ok((away(&reason), revocations)),
            }
        }
        revocations
            .iter()
            .for_each(|revocation| self.revoker.leave_a_line(revocation));
        // Only now: what is not in the store yet must be taken when it comes again.
        let known = store.know_event(id, Some(keep)).await;
        let outcome = match (known, revocations.is_empty()) {
            (Err(reason), _) => away(&reason),
            (Ok(_), true) => EventOutcome::Ignored,
            (Ok(_), false) => EventOutcome::Revoked,
        };
        info!(
            kind = kind.as_str(),
            issuer = statement.issuer.as_str(),
            count = revocations.len(),
            "a provider's event is accepted"
        );
        Ok((outcome, revocations))
    }

    /// Keeps the place of what is false, or cannot be found out, for a while, and of what is true until everyone has been told of it.
    fn go_on(self: &Arc<Self>, place: OwnedSemaphorePermit, outcome: EventOutcome, revoked: Vec<Revocation>) {
        let revoker = self.revoker.clone();
        let rest = async move {
            let _place = place;
            if !revoked.is_empty() {
                revoker.broadcast(&revoked).await;
            } else if matches!(outcome, EventOutcome::Refused(_) | EventOutcome::Away(_)) {
                sleep(KEPT_BY_THE_FALSE).await;
            }
        };
        self.tasks.spawn(self.kill.clone().run_until_cancelled_owned(rest));
    }

    fn told(&self, kind: EventKind, outcome: EventOutcome, whose: &str) -> EventOutcome {
        counter!("countersign_worker_provider_events_total", "kind" => kind.as_str(), "outcome" => outcome.as_str())
            .increment(1);
        match outcome {
            EventOutcome::Refused(fault) => self.refusals.tell("provider_event", &whose, &fault.to_string()),
            EventOutcome::Away(why) => self.refusals.tell("provider_event", &whose, why),
            EventOutcome::Revoked | EventOutcome::Ignored => debug!(kind = kind.as_str(), outcome = outcome.as_str()),
        }
        outcome
    }
}

fn away(reason: &StoreError) -> EventOutcome {
    warn!(%reason, "the store cannot take a provider's event; the provider is told to send it again");
    EventOutcome::Away("the store does not answer")
}
