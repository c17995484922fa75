//! A message that comes twice has its effect once.
//!
//! Anyone who handles a message that has an `id` claims it in the store first, and
//! writes there what it came to, before anyone is answered. So the same message
//! from the same identity gets the same answer again, on whatever connection and
//! worker; and another message with that `id` is a `duplicate`. The modules:
//!
//! - `cause`: by whose token it had its effect, and to whom it is told.
//! - `fingerprint`: by what two messages are the same.
//! - `outcome`: what a message came to, as it is kept.
//! - `counters`: what is counted of it.
//!
//! A store that cannot say lets nothing through: the client is told `busy`. A worker
//! that dies between the effect and its note is what remains: the same message
//! redelivered by the broker (by its message id) takes over at once, another with its `id` only
//! when the lease is over, and then the effect may be there twice. A message that its
//! terminator has published twice waits for its first copy, and is answered like that.

mod cause;
mod counters;
mod fingerprint;
mod outcome;

use std::sync::Arc;
use std::time::Duration;

use shared::service::clock::Clock;
use shared::wire::protocol::{Effect, ErrorBody, ErrorCode};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use super::idempotency::cause::Cause;
use super::idempotency::counters::{ClaimResult, Counters};
pub(crate) use super::idempotency::fingerprint::fingerprint;
use super::idempotency::fingerprint::key;
use crate::admin::metrics::Metrics;
use crate::auth::decision::RETRY_MS;
use crate::handler::{Answers, Request};
use crate::revocation::known::{Judgement, Revoked};
use crate::store::{Begun, Claim, Run, Store, StoreError};

/// By how much the lease of a claim outlasts the handler's time: for what the store takes, and for clocks of workers that
/// differ by seconds.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// How often, and in which distance, the store is told what a message came to, which the handler will not say again.
const NOTE_TRIES: u32 = 3;
const NOTE_PAUSE: Duration = Duration::from_millis(500);

/// Knows which messages were handled. There is none where idempotency is off.
pub(crate) struct Idempotency {
    store: Arc<dyn Store>,
    revoked: Arc<Revoked>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    counters: Counters,
    window: Duration,
    lease: Duration,
}

/// That a message is being handled, and by what.
pub(crate) struct Claimed {
    claim: Claim,
    cause: Cause,
}

/// What is known of a message that is to be handled.
pub(crate) enum Recalled {
    /// It has no effect yet, so that it may have it now; under this claim, if it has a name.
    Fresh(Option<Box<Claimed>>),
    /// It had, and came to this.
    Done(Result<Answers, ErrorBody>),
    /// It may not have one.
    Refused(ErrorBody),
}

impl Idempotency {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        revoked: Arc<Revoked>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        window: Duration,
        handler_timeout: Duration,
    ) -> Self {
        Self {
            store,
            revoked,
            clock,
            metrics,
            counters: Counters::new(),
            window,
            lease: handler_timeout.saturating_add(LEASE_MARGIN),
        }
    }

    /// For how long a message is remembered.
    pub(crate) const fn window(&self) -> Duration {
        self.window
    }

    /// Finds out whether a message has had its effect already, and claims it if not. One that comes `again`, because
    /// the one who was given it did not bring it to its end, may have to wait for its own claim to end.
    pub(crate) async fn recall(&self, request: &Request<'_>, again: bool) -> Recalled {
        let Some(id) = request.id else {
            return Recalled::Fresh(None);
        };
        let claim = Claim {
            key: key(request.identity, request.client, id),
            fingerprint: fingerprint(request.kind, request.payload),
            run: Run {
                forwarded_id: request.forwarded_id,
                number: shared::service::chance::number(),
            },
            redelivered: again,
            lease: self.lease,
            window: self.window,
        };
        let begun = self.begin(&claim).await;
        self.judge(request, claim, begun)
    }

    /// Keeps what a message came to, unless it may well come to something else later. Tells what the client is told:
    /// the same, or what the message came to in another's hands before.
    pub(crate) async fn remember(
        &self,
        claimed: &Claimed,
        came_to: Result<Answers, ErrorBody>,
    ) -> Result<Answers, ErrorBody> {
        let Claimed { claim, cause } = claimed;
        // Who is forbidden something, or was revoked before it, has done nothing, and may be allowed it by the next token.
        let without_effect = [ErrorCode::Forbidden, ErrorCode::TokenRevoked];
        let changes = |error: &ErrorBody| error.temporary || without_effect.contains(&error.code);
        if came_to.as_ref().is_err_and(changes) {
            if let Err(reason) = self.store.abandon(claim).await {
                // It is free when its lease is over.
                self.failed(&reason);
            }
            return came_to;
        }
        let text = outcome::to_text(cause, &came_to);
        match self.note(claim, text.as_deref()).await {
            Some(before) => outcome::from_text(&before).map_or(came_to, |(_, before)| before),
            None => came_to,
        }
    }

    async fn begin(&self, claim: &Claim) -> Result<Begun, StoreError> {
        let since = Instant::now();
        loop {
            let mut begun = self.store.begin(claim).await;
            if begun.is_err() {
                // It may be claimed although the store did not say so, and anyone who tries again would find it running.
                begun = self.store.begin(claim).await;
            }
            let waits = match begun {
                // The first copy is answered, and the one who asked is not to be told two things.
                Ok(Begun::Running { same: true }) => true,
                // What was injected has no message id, by which it would be known that the claim is its own; and there may be
                // no one who could be told to try again. Such messages come one at a time.
                Ok(Begun::Running { same: false }) => claim.redelivered && claim.run.forwarded_id.is_none(),
                _ => false,
            };
            if !waits || since.elapsed() >= self.lease {
                return begun;
            }
            sleep(Duration::from_millis(RETRY_MS)).await;
        }
    }

    fn judge(&self, request: &Request<'_>, claim: Claim, begun: Result<Begun, StoreError>) -> Recalled {
        // What this attempt has not done another may have.
        let busy = |why| {
            ErrorBody::new(ErrorCode::Busy, why)
                .retry_after_ms(RETRY_MS)
                .having(Effect::Unknown)
        };
        let (known, recalled) = match begun {
            Ok(Begun::First) => {
                let cause = Cause::of(request);
                (
                    ClaimResult::First,
                    Recalled::Fresh(Some(Box::new(Claimed { claim, cause }))),
                )
            }
            Ok(Begun::Running { .. }) => (
                ClaimResult::Running,
                Recalled::Refused(busy("the message came before, and is being handled")),
            ),
            Ok(Begun::Done(text)) => match text.as_deref().and_then(outcome::from_text) {
                Some((cause, came_to)) => match self.may_be_told(request, &cause) {
                    Ok(()) => (ClaimResult::Again, Recalled::Done(came_to)),
                    Err(why) => (
                        ClaimResult::NotTold,
                        Recalled::Refused(ErrorBody::new(ErrorCode::Duplicate, why)),
                    ),
                },
                None => (
                    ClaimResult::NotKept,
                    Recalled::Refused(ErrorBody::new(
                        ErrorCode::Duplicate,
                        "the message came before, and was handled; its answer is not kept",
                    )),
                ),
            },
            Ok(Begun::Conflict) => (
                ClaimResult::Conflict,
                Recalled::Refused(ErrorBody::new(
                    ErrorCode::Duplicate,
                    "another message had this `id` before",
                )),
            ),
            Err(reason) => {
                self.failed(&reason);
                (
                    ClaimResult::Unavailable,
                    Recalled::Refused(busy("it is temporarily unknown whether the message was sent before")),
                )
            }
        };
        self.counters.knew(known);
        recalled
    }

    /// Whether anyone who asks could have caused it, and no one has taken that back.
    fn may_be_told(&self, request: &Request<'_>, cause: &Cause) -> Result<(), &'static str> {
        if !cause.is_within(request.claims) {
            return Err("the message came before, by a token that allowed more, and was handled");
        }
        let subject = cause.subject(request.identity.tag());
        match self.revoked.judge(&subject, self.clock.now()) {
            Judgement::Good => Ok(()),
            Judgement::Revoked => Err("the message came before, by a token that was revoked since, and was handled"),
            Judgement::Unknown => Err(
                "the message was sent before, and was handled; whether its reply may be repeated is temporarily unknown",
            ),
        }
    }

    /// Writes down what a message came to. If the store does not take it, the client is answered all the same: the effect
    /// is there.
    async fn note(&self, claim: &Claim, text: Option<&str>) -> Option<String> {
        for tried in 1..=NOTE_TRIES {
            match self.store.finish(claim, text).await {
                Ok(before) => return before,
                Err(reason) => self.failed(&reason),
            }
            if tried < NOTE_TRIES {
                sleep(NOTE_PAUSE).await;
            }
        }
        self.counters.knew(ClaimResult::Unnoted);
        warn!("the result of a message could not be stored; a repetition may have its effect again");
        None
    }

    fn failed(&self, reason: &StoreError) {
        self.metrics.store_failed();
        debug!(%reason, "the store could not be asked about a message that may have come before");
    }
}
