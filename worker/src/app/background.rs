//! The intakes that are not about a client's message: pushes, what comes back, revocations.

use std::sync::{Arc, Mutex};

use metrics::gauge;
use shared::bus::topology::{MOST_PUSH_SHARDS, Names, QueueKind};
use shared::bus::{Bus, PublishTimeout, Replier};
use shared::service::audit::Audit;
use shared::service::chance;
use shared::service::config::EventForm;
use shared::wire::revocation::MOST_AT_A_TIME;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::parts::Parts;
use super::queue_consumer::{QueueConsumer, Shutdown};
use super::shards;
use super::sharing::Sharing;
use crate::admin::metrics::Metrics;
use crate::admin::observer::Observer;
use crate::admin::recent_decisions::RecentDecisions;
use crate::auth::agreement::Agreement;
use crate::dead_letter::DeadLetterPublisher;
use crate::handler::places::Places;
use crate::message::opening::Opening;
use crate::outbound::audience::Audience;
use crate::outbound::metrics::Counters;
use crate::outbound::open::OpenConnections;
use crate::outbound::outcome_publisher::PushOutcomePublisher;
use crate::outbound::pushes::Pushes;
use crate::outbound::pushes::known::Known as KnownPushes;
use crate::outbound::pushes::shards::Shards;
use crate::outbound::undelivered::UndeliveredConsumer;
use crate::outbound::{Leavings, Outbound};
use crate::process::given_up::GivenUp;
use crate::revocation::RevocationRules;
use crate::revocation::consumer::RevocationConsumer;
use crate::revocation::known::Revoked;
use crate::revocation::listening::RevocationSync;
use crate::revocation::removed_keys::RemovedKeys;
use crate::revocation::revoker::Revoker;
use crate::store::losses::{Losses, Watcher};

/// Different identities go side by side, so this many round trips to store and broker are under way at a time.
const OUTBOUND_PREFETCH: u16 = 256;
/// Of pushes more is taken, so that more gathers for each identity and is delivered together. A connection knows twice as many by
/// their keys if they come again.
const PUSHES_PREFETCH: u16 = 512;
/// As many as travel in one message, and as many again that come meanwhile.
const REVOCATIONS_PREFETCH: u16 = 2 * MOST_AT_A_TIME as u16;
/// What is heard is only added to a set.
const HEARD_PREFETCH: u16 = 256;

/// What these intakes share with those of messages.
pub(crate) struct OutboundConsumers {
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) given_up: Arc<GivenUp>,
    pub(crate) revoker: Arc<Revoker>,
    pub(crate) known: RevocationRules,
    pub(crate) places: Arc<Places>,
    pub(crate) opening: Arc<Opening>,
    /// A digest of those that this worker goes by.
    rules: String,
    pub(crate) losses: Losses,
    removed_keys: RemovedKeys,
    seen: watch::Sender<u64>,
    /// To how many queues this worker passes pushes on.
    push_shards: u16,
    /// In which form it tells the ends of connections that were lost; none if it does not remember which are open.
    connection_events: Option<EventForm>,
}

impl OutboundConsumers {
    pub(crate) fn new(parts: &Parts, names: &Names, metrics: &Arc<Metrics>) -> Self {
        // What came in order cannot be passed over, so anyone who waits for a confirm waits for as long as it takes.
        let publisher = || parts.bus.publisher(PublishTimeout::Endless);
        let counters = Arc::new(Counters::new());
        let replier = || Replier::new(&parts.bus, PublishTimeout::Endless);
        let outcomes_publisher = Arc::new(PushOutcomePublisher::new(replier(), names.clone(), counters.clone()));
        let revoked = Arc::new(Revoked::unloaded());
        let opening = Opening::new(parts.sealing.clone());
        let dead_letters = |publisher| {
            Arc::new(DeadLetterPublisher::new(
                publisher,
                replier(),
                parts.clock.clone(),
                metrics.clone(),
                names,
                parts.limits.max_deliveries,
                (outcomes_publisher.clone(), opening.clone()),
            ))
        };
        let of_clients = dead_letters(publisher());
        let of_outsiders = dead_letters(parts.bus.replier(PublishTimeout::Endless));
        let rules = parts.verifier.rules();
        gauge!("countersign_worker_jwt_leeway_seconds").set(rules.leeway.as_secs_f64());
        let known = RevocationRules {
            issuers: parts.issuers.clone(),
            // What a token was accepted for may wait for another's end.
            longest_life: rules
                .max_lifetime
                .saturating_add(rules.leeway)
                .saturating_add(parts.limits.hold.ttl),
            leeway: rules.leeway,
        };
        let audience = Audience {
            bus: parts.bus.clone(),
            store: parts.store.clone(),
            names: names.clone(),
            clock: parts.clock.clone(),
            revoked: revoked.clone(),
            on_expired_push: parts.limits.on_expired_push,
            looks: Mutex::default(),
        };
        let observer = Observer {
            metrics: metrics.clone(),
            counters: counters.clone(),
            recent_decisions: RecentDecisions::default(),
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            listener: parts.listener.clone(),
        };
        let outbound = Outbound {
            names: names.clone(),
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            publisher: publisher(),
            audience,
            outcomes_publisher,
            dead_letters: of_clients,
            outsiders: of_outsiders,
            hold: parts.limits.hold,
            hold_overflow: parts.limits.hold_overflow,
            resume_window: parts.limits.resume_window,
            counters,
            leavings: Leavings::default(),
            observer: Arc::new(observer),
        };
        let (seen, losses) = Losses::none();
        let (outbound, audit) = (Arc::new(outbound), Arc::<Audit>::default());
        let revoker = Revoker {
            outbound: outbound.clone(),
            revoked: revoked.clone(),
            audit: audit.clone(),
        };
        let revoker = Arc::new(revoker);
        let grace = parts.limits.removed_key_grace;
        Self {
            revoked,
            outbound,
            audit,
            removed_keys: RemovedKeys::new(parts.verifier.clone(), revoker.clone(), known.clone(), grace),
            revoker,
            given_up: Arc::new(GivenUp::new()),
            places: Arc::new(Places::new(parts.limits.shares())),
            opening,
            known,
            rules: parts.limits.rules_digest.clone(),
            losses,
            seen,
            push_shards: parts.limits.push_shards,
            connection_events: parts.limits.connection_events,
        }
    }

    /// Begins to consume; the broker may come later.
    pub(crate) fn start(self, bus: &Arc<dyn Bus>, shutdown: &Shutdown, tasks: &TaskTracker) {
        let Self {
            revoked,
            outbound,
            audit: _,
            given_up,
            revoker,
            places,
            opening: _,
            known,
            rules,
            losses,
            removed_keys,
            seen,
            push_shards,
            connection_events,
        } = self;
        let (names, kill) = (&outbound.names, &shutdown.kill);
        let own = Shards::several(push_shards).map_or(0, |_| push_shards);
        let wanted = watch::Sender::new(own);
        let agreement = Agreement::new(&rules, wanted.clone());
        let telling = agreement.clone().tell(outbound.publisher.clone(), names.clone());
        tokio::spawn(kill.clone().run_until_cancelled_owned(telling));
        let sharing = Arc::new(Sharing::new(places));
        let telling = (sharing.clone()).tell(outbound.publisher.clone(), names.clone(), shutdown.stop.clone());
        tokio::spawn(kill.clone().run_until_cancelled_owned(telling));
        tokio::spawn(kill.clone().run_until_cancelled_owned(removed_keys.run()));
        let listening = RevocationSync {
            agreement,
            sharing,
            revoked,
            outbound: outbound.clone(),
            given_up,
            losses,
        };
        let watcher = Watcher {
            store: outbound.store.clone(),
            publisher: outbound.publisher.clone(),
            names: names.clone(),
            counters: outbound.counters.clone(),
            seen,
        };
        tokio::spawn(kill.clone().run_until_cancelled_owned(watcher.run()));
        // Its queue is there before the store is read. It is heard to the very end, so that nothing is waited for here.
        let heard = listening.run(
            bus.consumer(names.worker_queue(chance::number()), HEARD_PREFETCH),
            bus.link(),
        );
        tokio::spawn(kill.clone().run_until_cancelled_owned(heard));

        let in_order = |queue, prefetch| QueueConsumer::in_order(bus.consumer(queue, prefetch), shutdown.clone());
        let pushes = Pushes {
            outbound: outbound.clone(),
            issuers: known.issuers.clone(),
            known: Arc::new(KnownPushes::new()),
            shards: Shards::several(push_shards),
        };
        let begin = {
            let from_shard = Arc::new(Pushes {
                shards: None,
                ..pushes.clone()
            });
            let (bus, names, shutdown, tasks) = (bus.clone(), names.clone(), shutdown.clone(), tasks.clone());
            move |shard| {
                let mut queue = names.push_shard(shard);
                if let QueueKind::Quorum(limits) = &mut queue.kind {
                    // Not all of them are to be one worker's.
                    limits.priority = Some(chance::number().to_be_bytes()[0]);
                }
                let intake = QueueConsumer::in_order(bus.consumer(queue, PUSHES_PREFETCH), shutdown.clone());
                let pushing = from_shard.clone().run(intake);
                tasks.spawn(shutdown.kill.clone().run_until_cancelled_owned(pushing));
            }
        };
        let looking = {
            let (bus, names, wanted) = (bus.clone(), names.clone(), wanted.clone());
            async move {
                let name = |shard| names.push_shard(shard).name;
                shards::look(&bus, name, MOST_PUSH_SHARDS, &wanted).await;
            }
        };
        tokio::spawn(kill.clone().run_until_cancelled_owned(looking));
        tasks.spawn(
            shutdown
                .stop
                .clone()
                .run_until_cancelled_owned(shards::keep_up(wanted.subscribe(), 0, begin)),
        );
        let putting = Arc::new(UndeliveredConsumer::new(outbound.clone()));
        let pushing = Arc::new(pushes).run(in_order(names.pushes(), PUSHES_PREFETCH));
        let putting = putting.run(in_order(names.undelivered(), OUTBOUND_PREFETCH));
        tasks.spawn(kill.clone().run_until_cancelled_owned(pushing));
        tasks.spawn(kill.clone().run_until_cancelled_owned(putting));
        if let Some(form) = connection_events {
            let open = Arc::new(OpenConnections::new(outbound.clone(), bus.clone(), form));
            let entering = open.clone().run(in_order(names.open_connections(), OUTBOUND_PREFETCH));
            tasks.spawn(kill.clone().run_until_cancelled_owned(entering));
            tasks.spawn(shutdown.stop.clone().run_until_cancelled_owned(open.look_for_lost()));
        }
        tasks.spawn(shutdown.stop.clone().run_until_cancelled_owned(outbound.clone().reap()));

        let revocations = QueueConsumer::new(
            bus.consumer(names.revocations(), REVOCATIONS_PREFETCH),
            shutdown.clone(),
        );
        let revoking = RevocationConsumer {
            outbound: outbound.clone(),
            revoker,
            known,
        };
        let kill = kill.clone();
        tasks.spawn(revoking.run(revocations, kill));
    }
}
