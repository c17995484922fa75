//! What happens in a simulation: drawn from its seed, all of it, before it begins.

use std::time::Duration;

use shared::bus::memory::chaos::{LatencyModel, Role};
use shared::service::rng::Rng;
use shared::wire::grant::Policy;

use crate::parts::losing::Loss;
use crate::parts::token::Proof;

/// The identities.
pub(crate) const SUBJECTS: [&str; 2] = ["alice", "bob"];

/// A connection that is authenticated for so long gets whatever there is for it, even if a worker dies over it, and
/// another, and the store is away.
pub(crate) const STABLE: Duration = Duration::from_secs(15);

/// How long an answer waits for its terminator before it is given back, and then some.
pub(crate) const RETURN_TTL: Duration = Duration::from_secs(75);

/// Longer than any answer takes that comes at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// One simulation.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) settings: Settings,
    pub(crate) seats: Vec<Seat>,
    /// The pushes of each producer, each so long after the one before.
    pub(crate) producers: Vec<Vec<(Duration, Push)>>,
    /// Each so long after the one before.
    pub(crate) revocations: Vec<(Duration, Revoke)>,
    /// Each so long after the one before.
    pub(crate) faults: Vec<(Duration, Fault)>,
    /// What the store loses, each so long after the one before.
    pub(crate) losses: Vec<(Duration, Loss)>,
    /// When a question is purged, each so long after the one before.
    pub(crate) purges: Vec<Duration>,
}

/// How terminator and workers are set up.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) strategy: &'static str,
    pub(crate) on_unauthenticated: Policy,
    pub(crate) on_expired_push: Policy,
    pub(crate) leeway: Duration,
    pub(crate) hold_ttl: Duration,
    pub(crate) hold_max_messages: u64,
    pub(crate) max_in_flight: u64,
    /// Whether messages of a connection have an order.
    pub(crate) ordered: bool,
    /// Whether clients acknowledge what is pushed to them.
    pub(crate) push_ack: bool,
    pub(crate) workers: usize,
    pub(crate) terminators: usize,
    /// After what time without any answer a connection is closed; nothing if no question is ever lost.
    pub(crate) answer_timeout: Option<Duration>,
    /// By how many seconds the clock of each terminator is wrong.
    pub(crate) clocks_wrong: [i64; 2],
    pub(crate) weather: LatencyModel,
    /// Of a hundred operations of the store.
    pub(crate) store_fails: u64,
    /// Whether there is one client alone.
    pub(crate) alone: bool,
    /// Whether it goes on until what is held is given up.
    pub(crate) to_the_end: bool,
    /// How long a connection must be authenticated to get for certain whatever there is for it.
    pub(crate) patience: Duration,
}

/// A person with a client.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// Who it is, but for mistakes.
    pub(crate) subject: &'static str,
    /// How long after being asked the client comes with a fresh token, if it does.
    pub(crate) renews: Option<(Duration, Duration)>,
    /// Each so long after the one before.
    pub(crate) steps: Vec<(Duration, Step)>,
}

/// What a person does.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Takes a new socket, if there is none. The first message that authenticates asks for what the last one has left.
    Connect { resuming: bool },
    /// Writes a message.
    Say(Say),
    /// Waits until everything that was asked is answered.
    Quiet,
    /// Does not read for a while.
    Doze(Duration),
    /// Leaves, with a closing handshake or without.
    Leave { abruptly: bool },
    /// Has something taken back, and waits until that is in force.
    Revoke(Target),
}

/// A message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Say {
    pub(crate) kind: Kind,
    pub(crate) proof: Proof,
}

/// What a message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To be authenticated.
    Authenticate,
    /// To be logged out.
    Forget,
    /// One answer.
    One,
    /// Two of them.
    Two,
    /// None.
    Silent,
    /// It costs the connection on which it is published.
    Deadly,
    /// Its answer does.
    DeadlyAnswer,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Authenticate => "auth.authenticate",
            Self::Forget => "auth.logout",
            Self::One => "one",
            Self::Two => "two",
            Self::Silent => "none",
            Self::Deadly => "deadly",
            Self::DeadlyAnswer => "deadly-answer",
        }
    }
}

/// Something for an identity.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Push {
    pub(crate) subject: &'static str,
}

/// Something to be taken back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revoke {
    pub(crate) target: Target,
    pub(crate) grace: Duration,
}

/// What is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// All tokens of a subject.
    Subject(&'static str),
    /// The token that was issued last.
    LastToken,
}

/// What breaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A worker dies, and another comes after a while.
    KillWorker { which: u64, back_after: Duration },
    /// A terminator dies with all its sockets, and another comes.
    KillTerminator { which: u64, back_after: Duration },
    /// A process loses a connection to the broker.
    Lose {
        which: u64,
        role: Role,
        away: Duration,
        told: bool,
    },
}

impl Scenario {
    /// The simulation of that seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut dice = Rng::new(seed);
        let mut settings = Settings::of(&mut dice.fork());
        let seats: Vec<_> = (0..dice.between(1, 3)).map(|_| Seat::of(&mut dice.fork())).collect();
        settings.alone = seats.len() == 1;
        let producers = (0..dice.between(0, 2)).map(|_| pushes(&mut dice.fork())).collect();
        let revocations = revocations(&mut dice.fork());
        let faults = faults(&mut dice.fork());
        let losses = losses(&mut dice.fork());
        let purges = purges(&mut dice.fork());
        if !purges.is_empty() {
            // Whoever has asked what is lost is told so.
            settings.answer_timeout = Some(ANSWER_TIMEOUT);
        }
        if faults
            .iter()
            .any(|(_, fault)| matches!(fault, Fault::KillTerminator { .. }))
        {
            // What was on its way to a terminator that dies comes back after a minute, and must not be too old by then.
            settings.hold_ttl += RETURN_TTL;
            settings.patience += RETURN_TTL;
        }
        Self {
            seed,
            settings,
            seats,
            producers,
            revocations,
            faults,
            losses,
            purges,
        }
    }
}

impl Settings {
    fn of(dice: &mut Rng) -> Self {
        let mostly = |dice: &mut Rng| match dice.between(1, 10) {
            1 => Policy::Ignore,
            2 => Policy::Close,
            _ => Policy::Reauthenticate,
        };
        let strategy = match dice.between(1, 10) {
            1 => "per-message",
            2 | 3 => "explicit",
            _ => "both",
        };
        let weather = LatencyModel {
            usual: Duration::from_millis(dice.between(0, 10)),
            slow: Duration::from_millis(dice.between(10, 120)),
        };
        let mut settings = Self {
            strategy,
            on_unauthenticated: mostly(dice),
            on_expired_push: mostly(dice),
            leeway: Duration::from_secs(dice.between(0, 2)),
            hold_ttl: Duration::from_secs(dice.between(20, 60)),
            hold_max_messages: if dice.chance(20) { dice.between(1, 4) } else { 100 },
            max_in_flight: dice.between(1, 16),
            ordered: dice.chance(75),
            push_ack: false,
            workers: usize::try_from(dice.between(1, 4)).expect("it is small"),
            terminators: usize::try_from(dice.between(1, 5).div_ceil(4)).expect("it is small"),
            answer_timeout: None,
            clocks_wrong: [0; 2],
            weather,
            store_fails: if dice.chance(30) { dice.between(1, 10) } else { 0 },
            alone: false,
            to_the_end: true,
            patience: STABLE,
        };
        // Drawn last: what was drawn before stays what it was.
        settings.clocks_wrong = [(); 2].map(|()| match dice.between(1, 4) {
            1 => -i64::try_from(dice.between(1, 300)).expect("it is small"),
            2 => i64::try_from(dice.between(1, 300)).expect("it is small"),
            _ => 0,
        });
        settings.push_ack = dice.chance(50);
        settings
    }
}

impl Seat {
    fn of(dice: &mut Rng) -> Self {
        let subject = dice.pick(&SUBJECTS).expect("there are two");
        let renews = dice
            .chance(60)
            .then(|| (Duration::from_millis(dice.between(0, 500)), lifetime(dice)));
        let mut steps = vec![(gap(dice), Step::Connect { resuming: false })];
        for _ in 0..dice.between(10, 40) {
            let step = step(dice, subject);
            steps.push((gap(dice), step));
        }
        Self { subject, renews, steps }
    }
}

fn step(dice: &mut Rng, subject: &'static str) -> Step {
    match dice.between(1, 100) {
        1..=3 => Step::Leave {
            abruptly: dice.chance(50),
        },
        4..=12 => Step::Connect {
            resuming: dice.chance(60),
        },
        13..=15 => Step::Quiet,
        16..=17 => Step::Doze(Duration::from_millis(dice.between(100, 8_000))),
        _ => Step::Say(say(dice, subject)),
    }
}

fn say(dice: &mut Rng, subject: &'static str) -> Say {
    let subject = if dice.chance(4) {
        dice.pick(&SUBJECTS).expect("there are two")
    } else {
        subject
    };
    let valid = Proof::Valid {
        subject,
        lifetime: lifetime(dice),
    };
    let older = Proof::Older {
        subject,
        lifetime: lifetime(dice),
    };
    let (kind, proof) = match dice.between(1, 100) {
        1..=15 => (Kind::Authenticate, valid),
        16..=17 => (Kind::Authenticate, Proof::Expired { subject }),
        18 => (Kind::Authenticate, Proof::Invalid),
        19..=22 => (Kind::Forget, Proof::None),
        23..=24 => (app(dice), older),
        25..=30 => (app(dice), valid),
        31..=40 => (app(dice), Proof::Same),
        41..=46 => (app(dice), Proof::Expired { subject }),
        47..=48 => (app(dice), Proof::Invalid),
        _ => (app(dice), Proof::None),
    };
    Say { kind, proof }
}

fn app(dice: &mut Rng) -> Kind {
    match dice.between(1, 200) {
        1 => return Kind::Deadly,
        2 => return Kind::DeadlyAnswer,
        _ => {}
    }
    *dice
        .pick(&[Kind::One, Kind::One, Kind::One, Kind::Two, Kind::Silent])
        .expect("there are some")
}

/// Half of the tokens end while the simulation lasts.
fn lifetime(dice: &mut Rng) -> Duration {
    Duration::from_secs(if dice.chance(50) { dice.between(1, 8) } else { 3_600 })
}

/// Mostly at once, so that much is under way at a time; sometimes long enough for a token to end.
fn gap(dice: &mut Rng) -> Duration {
    Duration::from_millis(match dice.between(1, 10) {
        1..=5 => dice.between(0, 20),
        6..=8 => dice.between(0, 500),
        9 => dice.between(500, 3_000),
        _ => dice.between(3_000, 12_000),
    })
}

fn pushes(dice: &mut Rng) -> Vec<(Duration, Push)> {
    (0..dice.between(1, 12))
        .map(|_| {
            let subject = dice.pick(&SUBJECTS).expect("there are two");
            (gap(dice), Push { subject })
        })
        .collect()
}

fn revocations(dice: &mut Rng) -> Vec<(Duration, Revoke)> {
    let many = if dice.chance(40) { dice.between(1, 2) } else { 0 };
    (0..many)
        .map(|_| {
            let target = match dice.chance(70) {
                true => Target::Subject(dice.pick(&SUBJECTS).expect("there are two")),
                false => Target::LastToken,
            };
            let grace = Duration::from_secs(if dice.chance(30) { dice.between(1, 5) } else { 0 });
            let after = Duration::from_millis(dice.between(0, 20_000));
            (after, Revoke { target, grace })
        })
        .collect()
}

fn faults(dice: &mut Rng) -> Vec<(Duration, Fault)> {
    let many = if dice.chance(70) { dice.between(1, 6) } else { 0 };
    (0..many)
        .map(|_| {
            let after = Duration::from_millis(dice.between(0, 5_000));
            let which = dice.number();
            let back_after = Duration::from_millis(dice.between(0, 2_000));
            let fault = match dice.between(1, 10) {
                1..=4 => Fault::KillWorker { which, back_after },
                5 => Fault::KillTerminator { which, back_after },
                _ => Fault::Lose {
                    which,
                    role: *dice.pick(&[Role::Publishing, Role::Consuming]).expect("there are two"),
                    away: Duration::from_millis(dice.between(0, 200)),
                    told: dice.chance(30),
                },
            };
            (after, fault)
        })
        .collect()
}

fn purges(dice: &mut Rng) -> Vec<Duration> {
    let many = if dice.chance(10) { dice.between(1, 4) } else { 0 };
    (0..many)
        .map(|_| Duration::from_millis(dice.between(0, 8_000)))
        .collect()
}

fn losses(dice: &mut Rng) -> Vec<(Duration, Loss)> {
    let many = if dice.chance(30) { dice.between(1, 2) } else { 0 };
    (0..many)
        .map(|_| {
            let after = Duration::from_millis(dice.between(0, 20_000));
            let loss = match dice.chance(30) {
                true => Loss::All,
                false => Loss::Last(Duration::from_millis(dice.between(0, 3_000))),
            };
            (after, loss)
        })
        .collect()
}
