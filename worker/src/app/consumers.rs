//! A worker that runs: its intakes, and what ends them.
//!
//! ```text
//! <ns>.messages ───── many at a time ──────────────────▶ pipeline     (what was delivered before: moved to <ns>.retry)
//! <ns>.messages.<n> ─ likewise, as many as there are
//! <ns>.retry ──────── one at a time ───────────────────▶ pipeline
//! <ns>.failed ─────── one at a time ───────────────────▶ dead letters
//! <ns>.injected, <ns>.injected.retry, <ns>.injected.failed: likewise, apart
//! <ns>.pushes ─────── by one worker, in order ─────────▶ outbound, or <ns>.push.<n>, which are likewise
//! <ns>.undelivered ── by one worker, in order ─────────▶ outbound
//! <ns>.open ───────── likewise, with `connection-events`
//! <ns>.revocations ── one at a time ───────────────────▶ revoke
//! <ns>.worker.<id> ── as they come, until the very end ▶ revoked
//! <ns>.reply.<id> ─── likewise, if there is an application ▶ handler
//! ```
//!
//! Nothing in here outlives its [`Worker`](crate::Worker): to drop it is to give back what it has.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use shared::bus::topology::{MOST_MESSAGE_SHARDS, Names};
use shared::bus::{Delivery, PublishTimeout, Replier, batch};
use shared::service::clock::Clock;
use shared::service::trace::Tracer;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::background::OutboundConsumers;
use super::parts::{Limits, Parts};
use super::queue_consumer::{QueueConsumer, Shutdown};
use super::shards;
use crate::admin::metrics::Metrics;
use crate::admin::recent_decisions::RecentDecisions;
use crate::auth::recorded::AuthStateRecorder;
use crate::auth::snapshot::Terms;
use crate::config::Reading;
use crate::dead_letter::DeadLetterPublisher;
use crate::dead_letter::retry::RetryPublisher;
use crate::handler::HandlerRunner;
use crate::handler::breaker::Breaker;
use crate::handler::builtin::Application;
use crate::handler::idempotency::Idempotency;
use crate::handler::places::Shares;
use crate::process::{Pipeline, Rules};
use crate::revocation::RevocationRules;
use crate::revocation::revoker::Revoker;
use crate::store::Traced;

/// How long what came in one AMQP message with others waits for room in this worker, before it is left to another.
const SURPLUS_PATIENCE: Duration = Duration::from_millis(250);
/// Redelivered messages are processed one at a time, so that what one of them does befalls no other.
const RETRY_PREFETCH: u16 = 1;
/// Dead letters are few; they are dead-lettered one at a time, and may wait in a small pile.
const FAILED_PREFETCH: u16 = 8;
/// Outsiders may write bodies of any size. Of each as much is taken as could be a message (1 MiB), so that all of these
/// together are 64 MiB at most.
const INJECTED_PREFETCH: u16 = 64;

/// How much of `prefetch` may wait for a place: a quarter, as half of it is handled, if it is twice `concurrency`.
const WAITING_OF_PREFETCH: usize = 4;

/// How long a worker that starts waits until the store was asked what is revoked, which needs the broker first: longer than
/// a broker that starts takes to declare all queues.
const FIRST_LOAD: Duration = Duration::from_secs(15);
/// The same for a store that did not answer at once.
const SECOND_LOAD: Duration = Duration::from_secs(1);

impl Limits {
    pub(crate) fn shares(&self) -> Shares {
        Shares {
            places: self.concurrency.max(1),
            type_percent: self.type_percent.max(1),
            identity_percent: self.identity_percent.max(1),
            // What waits, and what is being handled, is less than `prefetch`, so that something always comes in.
            waiting: usize::from(self.prefetch) / WAITING_OF_PREFETCH,
        }
    }

    fn rules(&self, leeway: Duration) -> Rules {
        Rules {
            strategy: self.strategy,
            public: self.public_types.clone(),
            elevation: self.elevation,
            client_claims: self.client_claims.clone(),
            on_unauthenticated: self.on_unauthenticated.clone(),
            hold: self.hold,
            unauthenticated: self.unauthenticated,
            messages_per_second_per_identity: self.messages_per_second_per_identity,
            terms: Terms {
                leeway,
                on_expired_push: self.on_expired_push,
                hold_ttl: self.hold.ttl,
            },
        }
    }
}

/// The intakes of a worker. Dropped, it gives back what it has not finished.
pub(crate) struct Consumers {
    shutdown: Shutdown,
    tasks: TaskTracker,
    drain_timeout: Duration,
    /// What is decided.
    pub(crate) recent_decisions: RecentDecisions,
    /// Takes something back.
    pub(crate) revoker: Arc<Revoker>,
    /// What there is to know of whom it may mean.
    pub(crate) known: RevocationRules,
    _end: DropGuard,
}

impl Consumers {
    /// Begins to consume; the broker may come later.
    pub(crate) fn start(mut parts: Parts, application: Application, tracer: Tracer) -> Self {
        if tracer.is_on() {
            parts.store = Arc::new(Traced(parts.store));
        }
        let shutdown = Shutdown::default();
        let tasks = TaskTracker::new();
        let drain_timeout = parts.limits.drain_timeout;
        let names = Names::new(&parts.limits.namespace);
        let names = match parts.limits.reply_queues.clone() {
            Some(replies) => names.answering(replies),
            None => names,
        };
        let (prefetch, max_deliveries) = (parts.limits.prefetch, parts.limits.max_deliveries);
        let bus = parts.bus.clone();
        let intake = |queue, prefetch| QueueConsumer::new(bus.consumer(queue, prefetch), shutdown.clone());
        // Those where something is moved to are declared before anything can be.
        let retries = names.retries(max_deliveries).map(|queue| intake(queue, RETRY_PREFETCH));
        let failures = names.failures().map(|queue| intake(queue, FAILED_PREFETCH));
        let of_outsiders = prefetch.min(INJECTED_PREFETCH);
        let injected = intake(names.injected(), of_outsiders);
        let message_shards = parts.limits.message_shards.clamp(1, MOST_MESSAGE_SHARDS);
        let metrics = Arc::new(Metrics::new());
        let outward = OutboundConsumers::new(&parts, &names, &metrics);
        let rooms = Arc::new(MessageConsumers::new(
            parts,
            &names,
            application,
            metrics,
            &outward,
            (tracer, &shutdown),
        ));
        let recent_decisions = rooms.pipeline.observer.recent_decisions.clone();
        let (revoker, known) = (outward.revoker.clone(), outward.known.clone());
        let telling = rooms.pipeline.refusals.clone().keep_telling();
        tokio::spawn(shutdown.kill.clone().run_until_cancelled_owned(telling));
        outward.start(&bus, &shutdown, &tasks);
        tasks.spawn(
            rooms
                .clone()
                .work_on_messages(injected, of_outsiders, shutdown.kill.clone()),
        );
        let begin = {
            let (bus, names, rooms) = (bus.clone(), names.clone(), rooms.clone());
            let (shutdown, tasks) = (shutdown.clone(), tasks.clone());
            // All together are given what one would be.
            let share = prefetch.div_ceil(message_shards);
            move |shard| {
                let consumer = bus.shared_consumer(names.message_shard(shard), share);
                let intake = QueueConsumer::new(consumer, shutdown.clone());
                tasks.spawn(rooms.clone().work_on_messages(intake, share, shutdown.kill.clone()));
            }
        };
        (0..message_shards).for_each(&begin);
        let (wanted, there) = watch::channel(message_shards);
        let name = move |shard| names.message_shard(shard).name;
        let looking = shards::keep_looking(bus, name, MOST_MESSAGE_SHARDS, wanted);
        let keeping_up = shards::keep_up(there, message_shards, begin);
        for doing in [looking.boxed(), keeping_up.boxed()] {
            tasks.spawn(shutdown.stop.clone().run_until_cancelled_owned(doing));
        }
        for intake in retries {
            tasks.spawn(rooms.clone().work_on_retry(intake, shutdown.kill.clone()));
        }
        for (intake, dead_letters) in failures.into_iter().zip(rooms.dead_letters.clone()) {
            tasks.spawn(
                rooms
                    .clone()
                    .work_on_failed(intake, dead_letters, shutdown.kill.clone()),
            );
        }
        tasks.close();
        Self {
            _end: shutdown.kill.clone().drop_guard(),
            shutdown,
            tasks,
            drain_timeout,
            recent_decisions,
            revoker,
            known,
        }
    }

    /// Takes nothing new from now on.
    pub(crate) fn shutdown(&self) {
        self.shutdown.stop.cancel();
    }

    /// Waits until it was told to stop and has finished, or had to give back, what it had.
    pub(crate) async fn join(&self) {
        self.shutdown.stop.cancelled().await;
        if timeout(self.drain_timeout, self.tasks.wait()).await.is_ok() {
            info!("all messages are finished");
            return;
        }
        warn!("the drain-timeout is over; unfinished messages are requeued");
        self.shutdown.kill.cancel();
        self.tasks.wait().await;
    }
}

/// What the intakes of messages share.
struct MessageConsumers {
    pipeline: Pipeline,
    retry_publisher: RetryPublisher,
    /// Of clients' messages, and of others'.
    dead_letters: [Arc<DeadLetterPublisher>; 2],
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl MessageConsumers {
    fn new(
        parts: Parts,
        names: &Names,
        application: Application,
        metrics: Arc<Metrics>,
        outward: &OutboundConsumers,
        (tracer, shutdown): (Tracer, &Shutdown),
    ) -> Self {
        let handler = application.begin(&parts, names, &outward.outbound);
        let Parts {
            bus,
            store,
            verifier,
            issuers: _,
            clock,
            limits,
            sealing: _,
            listener: _,
        } = parts;
        let reading = Reading {
            audiences: verifier.rules().audiences.clone(),
            audience_claims: verifier.rules().audience_claims.clone(),
            scope_claims: limits.scope_claims.clone(),
        };
        // Anyone who waits for an answer cannot do without, and the request is not acknowledged before.
        let publisher = bus.publisher(PublishTimeout::Endless);
        let (of_clients, of_others) = (
            outward.outbound.dead_letters.clone(),
            outward.outbound.outsiders.clone(),
        );
        Self {
            pipeline: Pipeline {
                names: names.clone(),
                internal: names.internal_exchange().name,
                rules: limits.rules(verifier.rules().leeway),
                verifier,
                revoked: outward.revoked.clone(),
                outbound: outward.outbound.clone(),
                clock: clock.clone(),
                recorder: AuthStateRecorder::new(store.clone(), metrics.clone(), outward.losses.clone())
                    .limited_to(limits.connections_per_identity),
                idempotency: limits.idempotency.map(|window| {
                    let revoked = outward.revoked.clone();
                    Idempotency::new(
                        store.clone(),
                        revoked,
                        clock.clone(),
                        metrics.clone(),
                        window,
                        limits.handler_timeout,
                    )
                }),
                store,
                handler: HandlerRunner::new(handler, limits.handler_timeout, limits.required_scopes.clone(), reading),
                places: outward.places.clone(),
                breaker: Breaker::new(),
                given_up: outward.given_up.clone(),
                opening: outward.opening.clone(),
                publisher: publisher.clone(),
                replier: Replier::new(&bus, PublishTimeout::Endless),
                dead_letters: of_others.clone(),
                metrics: metrics.clone(),
                tracer,
                observer: outward.outbound.observer.clone(),
                audit: outward.audit.clone(),
                stopping: shutdown.stop.clone(),
                refusals: Arc::default(),
            },
            retry_publisher: RetryPublisher::new(publisher, bus.replier(PublishTimeout::Endless), names),
            dead_letters: [of_clients, of_others],
            metrics,
            clock,
        }
    }

    async fn work_on_messages(self: Arc<Self>, mut intake: QueueConsumer, prefetch: u16, kill: CancellationToken) {
        if intake.unless_stopped(self.know_what_is_revoked(&kill)).await.is_none() {
            return;
        }
        let taken = TaskTracker::new();
        let abandon = CancellationToken::new();
        let room = Arc::new(Semaphore::new(usize::from(prefetch)));
        loop {
            // Of what came together with what it has, as much as there is no room for is another worker's.
            let place = tokio::select! {
                place = room.clone().acquire_owned() => place,
                () = sleep(SURPLUS_PATIENCE), if intake.is_amid_batch() => {
                    intake.leave_the_rest();
                    continue;
                }
                () = intake.stopped() => continue,
                () = kill.cancelled() => break,
            };
            let Some(delivery) = intake.next().await else { break };
            let (rooms, abandon) = (self.clone(), abandon.clone());
            taken.spawn(async move {
                let _place = place;
                abandon.run_until_cancelled(rooms.take_message(delivery)).await
            });
        }
        taken.close();
        if kill.run_until_cancelled(taken.wait()).await.is_none() {
            // In this order: what is given back must not come here once more.
            drop(intake);
            abandon.cancel();
            taken.wait().await;
        }
    }

    async fn take_message(&self, delivery: Delivery) {
        if let Some(reason) = batch::why_unreadable(&delivery.message) {
            let queue = self.pipeline.names.messages_by(&delivery.routing_key);
            return match self.dead_letters[0]
                .dead_letter_unreadable(&delivery, reason, queue)
                .await
            {
                Ok(()) => delivery.ack(),
                Err(reason) => self.pipeline.give_back(delivery, &reason).await,
            };
        }
        if !delivery.is_redelivered() {
            return self.pipeline.run(delivery).await;
        }
        self.metrics.redelivered();
        match self.retry_publisher.copy(&delivery, self.clock.now()).await {
            Ok(()) => delivery.ack(),
            Err(reason) => self.pipeline.give_back(delivery, &reason).await,
        }
    }

    async fn work_on_retry(self: Arc<Self>, intake: QueueConsumer, kill: CancellationToken) {
        if intake.unless_stopped(self.know_what_is_revoked(&kill)).await.is_none() {
            return;
        }
        one_at_a_time(intake, kill, |delivery| self.pipeline.run(delivery)).await;
    }

    /// A worker that has just started would refuse what it cannot judge; so it waits a moment, but not for a store that is
    /// away. One that is told to stop before gives back what it was given.
    async fn know_what_is_revoked(&self, kill: &CancellationToken) {
        let revoked = &self.pipeline.revoked;
        let known = async {
            // Whether it is known or not, each message is judged by what is.
            let _ = timeout(FIRST_LOAD, revoked.until_asked()).await;
            let _ = timeout(SECOND_LOAD, revoked.until_loaded()).await;
        };
        let _ = kill.run_until_cancelled(known).await;
    }

    async fn work_on_failed(
        self: Arc<Self>,
        intake: QueueConsumer,
        dead_letters: Arc<DeadLetterPublisher>,
        kill: CancellationToken,
    ) {
        one_at_a_time(intake, kill, |delivery| self.take_failed(&dead_letters, delivery)).await;
    }

    async fn take_failed(&self, dead_letters: &DeadLetterPublisher, delivery: Delivery) {
        match dead_letters.dead_letter_failed(&delivery).await {
            Ok(()) => delivery.ack(),
            Err(reason) => self.pipeline.give_back(delivery, &reason).await,
        }
    }
}

pub(crate) async fn one_at_a_time<F: Future<Output = ()>>(
    mut intake: QueueConsumer,
    kill: CancellationToken,
    take: impl Fn(Delivery) -> F,
) {
    while let Some(delivery) = intake.next().await {
        let mut taken = pin!(take(delivery));
        if kill.run_until_cancelled(taken.as_mut()).await.is_none() {
            // Before `taken`: what is given back must not come here once more.
            drop(intake);
            return;
        }
    }
}
