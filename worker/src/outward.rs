//! The intakes that are not about a client's message: pushes, what comes back, revocations.

use std::sync::{Arc, Mutex};

use shared::audit::Audit;
use shared::bus::topology::Names;
use shared::bus::{Bus, Patience};
use shared::chance;
use shared::revocation::MOST_AT_A_TIME;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::agreement::Agreement;
use crate::dead_letter::Undertaker;
use crate::given_up::GivenUp;
use crate::intake::{Ending, Intake};
use crate::losses::{Losses, Watcher};
use crate::metrics::Metrics;
use crate::noted::Noted;
use crate::outbound::audience::Audience;
use crate::outbound::known::Known as KnownPushes;
use crate::outbound::metrics::Counters;
use crate::outbound::outcome::Teller;
use crate::outbound::pushes::Pushes;
use crate::outbound::undelivered::Putting;
use crate::outbound::{Leavings, Outbound};
use crate::revoke::Known;
use crate::revoke::intake::Revoking;
use crate::revoke::listening::Listening;
use crate::revoked::Revoked;
use crate::running::Parts;

/// Different identities go side by side, so this many round trips to store and broker are under way at a time.
const OUTBOUND_PREFETCH: u16 = 256;
/// As many as travel in one message, and as many again that come meanwhile.
const REVOCATIONS_PREFETCH: u16 = 2 * MOST_AT_A_TIME as u16;
/// What is heard is only added to a set.
const HEARD_PREFETCH: u16 = 256;

/// What these intakes share with those of messages.
pub(crate) struct Outward {
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) given_up: Arc<GivenUp>,
    known: Known,
    /// A digest of those that this worker goes by.
    rules: String,
    pub(crate) losses: Losses,
    seen: watch::Sender<u64>,
}

impl Outward {
    pub(crate) fn new(parts: &Parts, names: &Names, metrics: &Arc<Metrics>) -> Self {
        // What came in order cannot be passed over, so whoever waits for a confirm waits for as long as it takes.
        let publisher = || parts.bus.publisher(Patience::Endless);
        let counters = Arc::new(Counters::new());
        let replier = || parts.bus.replier(Patience::Endless);
        let teller = Arc::new(Teller::new(replier(), names.clone(), counters.clone()));
        let revoked = Arc::new(Revoked::unloaded());
        let undertaker = |publisher| {
            Arc::new(Undertaker::new(
                publisher,
                replier(),
                parts.clock.clone(),
                metrics.clone(),
                names,
                parts.limits.max_deliveries,
                teller.clone(),
            ))
        };
        let (of_clients, of_outsiders) = (undertaker(publisher()), undertaker(replier()));
        let rules = parts.verifier.rules();
        let known = Known {
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
        let outbound = Outbound {
            names: names.clone(),
            store: parts.store.clone(),
            clock: parts.clock.clone(),
            publisher: publisher(),
            audience,
            teller,
            undertaker: of_clients,
            outsiders: of_outsiders,
            hold: parts.limits.hold,
            counters,
            leavings: Leavings::default(),
            noted: Noted::default(),
        };
        let (seen, losses) = Losses::none();
        Self {
            revoked,
            outbound: Arc::new(outbound),
            audit: Arc::default(),
            given_up: Arc::new(GivenUp::new()),
            known,
            rules: parts.limits.rules_digest.clone(),
            losses,
            seen,
        }
    }

    /// Begins to consume; the broker may come later.
    pub(crate) fn start(self, bus: &dyn Bus, ending: &Ending, tasks: &TaskTracker) {
        let Self {
            revoked,
            outbound,
            audit,
            given_up,
            known,
            rules,
            losses,
            seen,
        } = self;
        let (names, kill) = (&outbound.names, &ending.kill);
        let agreement = Agreement::new(&rules);
        let telling = agreement.clone().tell(outbound.publisher.clone(), names.clone());
        tokio::spawn(kill.clone().run_until_cancelled_owned(telling));
        let listening = Listening {
            agreement,
            revoked: revoked.clone(),
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

        let in_order = |queue| Intake::in_order(bus.consumer(queue, OUTBOUND_PREFETCH), ending.clone());
        let pushes = Arc::new(Pushes {
            outbound: outbound.clone(),
            issuers: known.issuers.clone(),
            known: KnownPushes::new(),
        });
        let putting = Arc::new(Putting::new(outbound.clone()));
        let pushing = pushes.run(in_order(names.pushes()));
        let putting = putting.run(in_order(names.undelivered()));
        tasks.spawn(kill.clone().run_until_cancelled_owned(pushing));
        tasks.spawn(kill.clone().run_until_cancelled_owned(putting));
        tasks.spawn(ending.stop.clone().run_until_cancelled_owned(outbound.clone().reap()));

        let revocations = Intake::new(bus.consumer(names.revocations(), REVOCATIONS_PREFETCH), ending.clone());
        let revoking = Revoking {
            outbound: outbound.clone(),
            revoked,
            audit,
            known,
        };
        let kill = kill.clone();
        tasks.spawn(revoking.run(revocations, kill));
    }
}
