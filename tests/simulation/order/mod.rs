//! Order: whatever the order in which workers processed them, a connection's messages have the effects that they would
//! have one after the other.
//!
//! Each history is one client's: bursts of messages, shuffled over four workers
//! and delivered more than once, and between the bursts, when all is settled, a
//! token ends or is revoked. [`model`] says what must have become of each.

pub(crate) mod model;

use std::time::Duration;

use shared::wire::grant::Policy;
use testkit::chaos::{LatencyModel, Role};
use testkit::rng::Rng;

use crate::parts::token::Proof;
use crate::scenario::{Fault, Kind, STABLE, SUBJECTS, Say, Scenario, Seat, Settings, Step, Target};

/// Lives longer than any burst takes, and not for ever.
const SHORT: Duration = Duration::from_secs(20);
/// Outlives every history.
const LONG: Duration = Duration::from_secs(3_600);
/// Longer than the short tokens and every leeway.
const EXPIRY: Duration = Duration::from_secs(25);
/// Longer than every history.
const HOLD_TTL: Duration = Duration::from_secs(1_000);
const BURSTS: u64 = 6;

/// The history of that seed.
pub(crate) fn history(seed: u64) -> Scenario {
    let mut rng = Rng::new(seed);
    let subject = SUBJECTS[0];
    let mut steps = vec![(Duration::ZERO, Step::Connect { resuming: false })];
    for _ in 0..rng.between(2, BURSTS) {
        for _ in 0..rng.between(1, 8) {
            let say = say(&mut rng, subject);
            steps.push((Duration::from_millis(rng.between(0, 4)), Step::Say(say)));
        }
        steps.push((Duration::ZERO, Step::Quiet));
        match rng.between(1, 10) {
            1..=3 => steps.push((EXPIRY, Step::Quiet)),
            4 => {
                let subject = rng.pick(&SUBJECTS).expect("there are two");
                steps.push((Duration::ZERO, Step::Revoke(Target::Subject(subject))));
            }
            _ => {}
        }
        // If it was closed, there is another.
        steps.push((Duration::ZERO, Step::Connect { resuming: false }));
    }
    Scenario {
        seed,
        settings: settings(&mut rng),
        seats: vec![Seat {
            subject,
            renews: None,
            steps,
        }],
        producers: Vec::new(),
        revocations: Vec::new(),
        faults: faults(&mut rng),
        losses: Vec::new(),
        purges: Vec::new(),
        jumps: Vec::new(),
    }
}

fn say(rng: &mut Rng, subject: &'static str) -> Say {
    let subject = if rng.chance(3) { SUBJECTS[1] } else { subject };
    let valid = match rng.between(1, 12) {
        1..=4 => Proof::Valid {
            subject,
            lifetime: SHORT,
        },
        5..=7 => Proof::Same,
        8 => Proof::Older {
            subject,
            lifetime: SHORT,
        },
        9 => Proof::Older {
            subject,
            lifetime: LONG,
        },
        _ => Proof::Valid {
            subject,
            lifetime: LONG,
        },
    };
    let (kind, proof) = match rng.between(1, 100) {
        1..=12 => (Kind::Authenticate, valid),
        13..=15 => (Kind::Authenticate, Proof::Expired { subject }),
        16 => (Kind::Authenticate, Proof::Invalid),
        17..=24 => (Kind::Forget, Proof::None),
        25..=40 => (Kind::One, valid),
        41..=48 => (Kind::One, Proof::Expired { subject }),
        49..=51 => (Kind::One, Proof::Invalid),
        _ => (Kind::One, Proof::None),
    };
    Say { kind, proof }
}

fn settings(rng: &mut Rng) -> Settings {
    let policy = match rng.between(1, 10) {
        1 => Policy::Ignore,
        2 => Policy::Close,
        _ => Policy::Reauthenticate,
    };
    Settings {
        strategy: match rng.between(1, 10) {
            1 | 2 => "per-message",
            3 | 4 => "explicit",
            _ => "both",
        },
        on_unauthenticated: policy,
        on_expired_push: Policy::Reauthenticate,
        leeway: Duration::from_secs(rng.between(0, 2)),
        hold_ttl: HOLD_TTL,
        hold_max_messages: 100,
        max_in_flight: rng.between(1, 16),
        ordered: false,
        push_ack: false,
        workers: 4,
        terminators: 1,
        answer_timeout: None,
        clocks_wrong: [0; 2],
        latency: LatencyModel {
            usual: Duration::from_millis(rng.between(1, 10)),
            slow: Duration::from_millis(rng.between(10, 100)),
        },
        store_fails: 0,
        alone: true,
        to_the_end: false,
        patience: STABLE,
    }
}

/// What was delivered is delivered again.
fn faults(rng: &mut Rng) -> Vec<(Duration, Fault)> {
    (0..rng.between(0, 4))
        .map(|_| {
            let after = Duration::from_millis(rng.between(0, 100));
            let which = rng.number();
            let fault = if rng.chance(30) {
                Fault::KillWorker {
                    which,
                    back_after: Duration::from_millis(rng.between(0, 50)),
                }
            } else {
                Fault::Lose {
                    which,
                    role: *rng.pick(&[Role::Publishing, Role::Consuming]).expect("there are two"),
                    away: Duration::from_millis(rng.between(0, 50)),
                    told: false,
                }
            };
            (after, fault)
        })
        .collect()
}
