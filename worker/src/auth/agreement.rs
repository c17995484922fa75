//! Whether all workers go by the same rules.
//!
//! A message is decided by whichever worker takes it, so two that have different rules
//! decide by chance. Each tells the others a digest of the settings that say who may what, at its start and every
//! now and then; who hears another one says so, in the log and as a metric. A roll-out is such a time, and passes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Gauge, gauge};
use sha2::{Digest as _, Sha256};
use shared::bus::topology::{MOST_PUSH_SHARDS, Names, keys};
use shared::bus::{Publisher, Route};
use shared::service::chance;
use shared::service::config::Settings as _;
use shared::wire::envelope::{self, Rules};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use crate::app::shards;
use crate::config::WorkerConfig;

/// How often a worker tells its rules, and for how long another's are believed to be in force.
const TELL_PERIOD: Duration = Duration::from_secs(30);
const BELIEVED: Duration = Duration::from_secs(100);

/// Of the digest, in hexadecimal digits.
const DIGITS: usize = 16;

/// The settings beside those of tokens (`jwt-…`) that say who may what.
const RULES: [&str; 19] = [
    "elevation",
    "handler",
    "hold-overflow",
    "hold-ttl",
    "idempotency-window",
    "max-connections-per-identity",
    "max-deliveries",
    "messages-per-second-per-identity",
    "on-connection-limit",
    "on-expired-push",
    "on-unauthenticated",
    "public-types",
    "relay-max-held",
    "relay-tells-presence",
    "reply-queues",
    "required-scopes",
    "resume-window",
    "seal",
    "strategy",
];

/// A digest of the settings that say who may what. Where keys are kept may differ from machine to machine, and does not
/// count.
pub(crate) fn digest(config: &WorkerConfig) -> String {
    let mut digest = Sha256::new();
    for (name, value) in config.show() {
        let counts = name.starts_with("jwt-") && name != "jwt-keys" || RULES.contains(&&*name);
        if counts {
            digest.update(format!("{name}={value:?}\n"));
        }
    }
    let mut text = hex::encode(digest.finalize());
    text.truncate(DIGITS);
    text
}

/// What one worker knows of the rules of all.
pub(crate) struct Agreement {
    own: Rules,
    others: Mutex<HashMap<String, Heard>>,
    differing: Gauge,
    /// To how many queues any of them passes pushes on.
    push_shards: watch::Sender<u16>,
}

struct Heard {
    digest: String,
    at: Instant,
}

impl Agreement {
    pub(crate) fn new(digest: &str, push_shards: watch::Sender<u16>) -> Arc<Self> {
        gauge!("countersign_worker_rules_info", "digest" => digest.to_owned()).set(1.0);
        let differing = gauge!("countersign_worker_rules_differing");
        differing.set(0.0);
        let own_shards = *push_shards.borrow();
        Arc::new(Self {
            own: Rules {
                worker: format!("{:016x}", chance::number()),
                digest: digest.to_owned(),
                push_shards: own_shards,
            },
            others: Mutex::default(),
            differing,
            push_shards,
        })
    }

    /// Tells the others, for ever.
    pub(crate) async fn tell(self: Arc<Self>, publisher: Publisher, names: Names) {
        let route = Route::new(&names.internal_exchange().name, keys::RULES);
        loop {
            let told = publisher.publish(route.clone(), envelope::rules(&self.own)).await;
            if let Err(reason) = told {
                debug!(%reason, "the authorisation settings were not sent to the other workers");
            }
            sleep(TELL_PERIOD.mul_f64(0.5 + chance::share() / 2.0)).await;
        }
    }

    /// Another worker has told its own.
    pub(crate) fn hear(&self, rules: Rules, now: Instant) {
        if rules.worker == self.own.worker {
            return;
        }
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.retain(|_, heard| now.saturating_duration_since(heard.at) < BELIEVED);
        let Rules {
            worker,
            digest,
            push_shards,
        } = rules;
        shards::raise(&self.push_shards, push_shards, MOST_PUSH_SHARDS);
        let before = others.insert(
            worker.clone(),
            Heard {
                digest: digest.clone(),
                at: now,
            },
        );
        let news = before.is_none_or(|before| before.digest != digest);
        let differing = others.values().filter(|heard| heard.digest != self.own.digest).count();
        drop(others);
        self.differing.set(u32::try_from(differing).map_or(f64::MAX, f64::from));
        if digest != self.own.digest && news {
            warn!(
                worker,
                theirs = digest,
                ours = self.own.digest,
                "another worker has other authorisation settings: give all workers the same (`--print-config` shows them)"
            );
        } else if news {
            info!(worker, digest, "another worker has the same authorisation settings");
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::service::config;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> String {
        let required = [("jwt-keys", "k"), ("jwt-issuer", "i"), ("jwt-audience", "a")];
        digest(&config::from_pairs(required.iter().chain(pairs).copied()).unwrap())
    }

    #[test]
    fn the_digest_changes_with_every_rule_and_with_nothing_else() {
        let usual = of(&[]);
        for other in [
            ("strategy", "explicit"),
            ("elevation", "message"),
            ("required-scopes", "a=b"),
            ("public-types", "a"),
            ("on-unauthenticated", "close"),
            ("jwt-audience", "b"),
            ("jwt-leeway", "6s"),
            ("jwt-allow", "id"),
            ("jwt-scope-claims", "roles"),
            ("jwt-subject-claim", "oid"),
        ] {
            assert_ne!(of(&[other]), usual, "{other:?}");
        }
        for other in [
            ("concurrency", "3"),
            ("prefetch", "3"),
            ("log-filter", "debug"),
            ("jwt-keys", "l"),
        ] {
            assert_eq!(of(&[other]), usual, "{other:?}");
        }
        for rule in RULES {
            assert!(config::is_a_setting(rule), "{rule}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_of_other_rules_is_counted_for_as_long_as_it_is_heard() {
        let (push_shards, _) = watch::channel(2);
        let agreement = Agreement::new("ours", push_shards.clone());
        let rules = |worker: &str, digest: &str| Rules {
            worker: worker.to_owned(),
            digest: digest.to_owned(),
            push_shards: 4,
        };
        let differing = || {
            let others = agreement.others.lock().unwrap();
            others.values().filter(|heard| heard.digest != "ours").count()
        };
        let now = Instant::now();
        agreement.hear(rules("a", "ours"), now);
        agreement.hear(rules("b", "theirs"), now);
        agreement.hear(agreement.own.clone(), now);
        assert_eq!((differing(), agreement.others.lock().unwrap().len()), (1, 2));
        assert_eq!(*push_shards.borrow(), 4, "what another passes on is taken, too");
        agreement.hear(rules("a", "ours"), now + BELIEVED);
        assert_eq!((differing(), agreement.others.lock().unwrap().len()), (0, 1));
    }
}
