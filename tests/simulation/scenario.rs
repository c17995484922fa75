//! What happens in a simulation: drawn from its seed, all of it, before it begins.

use std::time::Duration;

use shared::wire::grant::Policy;
use testkit::chaos::{LatencyModel, Role};
use testkit::rng::Rng;

use crate::parts::jumps::Jump;
use crate::parts::losing::{LONGEST, Loss};
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
    /// When a request is purged, each so long after the one before.
    pub(crate) purges: Vec<Duration>,
    /// What happens to clocks, each so long after the one before.
    pub(crate) jumps: Vec<(Duration, Jump)>,
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
    /// After what time without any answer a connection is closed; none if no request is ever lost.
    pub(crate) answer_timeout: Option<Duration>,
    /// By how many seconds the clock of each terminator is wrong at first.
    pub(crate) clocks_wrong: [i64; 2],
    pub(crate) latency: LatencyModel,
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
    /// Has something revoked, and waits until that is in force.
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

/// Something to be revoked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revoke {
    pub(crate) target: Target,
    pub(crate) grace: Duration,
}

/// What is revoked.
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
        let mut rng = Rng::new(seed);
        let mut settings = Settings::of(&mut rng.fork());
        let seats: Vec<_> = (0..rng.between(1, 3)).map(|_| Seat::of(&mut rng.fork())).collect();
        settings.alone = seats.len() == 1;
        let producers = (0..rng.between(0, 2)).map(|_| pushes(&mut rng.fork())).collect();
        let revocations = revocations(&mut rng.fork());
        let faults = faults(&mut rng.fork());
        let losses = losses(&mut rng.fork());
        let purges = purges(&mut rng.fork());
        if !purges.is_empty() {
            // The one who has asked what is lost is told so.
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
        let mut scenario = Self {
            seed,
            settings,
            seats,
            producers,
            revocations,
            faults,
            losses,
            purges,
            jumps: Vec::new(),
        };
        // Drawn last: what was drawn before stays what it was.
        let mut rng = rng.fork();
        if rng.chance(5) {
            scenario.forget_a_revocation(&mut rng);
        } else {
            scenario.jump(Jump::some(&mut rng.fork()));
        }
        scenario
    }

    /// What the store loses is what was just revoked, the one worker that knows it dies when it must have been written back, and
    /// then someone comes by it. All that came by chance alone once in many thousand seeds.
    fn forget_a_revocation(&mut self, rng: &mut Rng) {
        let subject = *rng.pick(&SUBJECTS).expect("there are two");
        let soon = |rng: &mut Rng| Duration::from_millis(rng.between(0, 500));
        let proof = Proof::Valid {
            subject,
            lifetime: Duration::from_secs(3_600),
        };
        let kind = Kind::Authenticate;
        let mut steps = vec![
            (soon(rng), Step::Connect { resuming: false }),
            (soon(rng), Step::Say(Say { kind, proof })),
            (soon(rng), Step::Quiet),
            (soon(rng), Step::Revoke(Target::Subject(subject))),
            (Duration::from_secs(20), Step::Connect { resuming: false }),
        ];
        let (kind, proof) = (Kind::One, Proof::Same);
        steps.extend((0..3).map(|_| (soon(rng), Step::Say(Say { kind, proof }))));
        self.seats.push(Seat {
            subject,
            renews: None,
            steps,
        });
        self.settings.alone = false;
        self.settings.workers = 1;
        self.settings.store_fails = 0;
        let lost_after = Duration::from_millis(rng.between(5_000, 7_000));
        self.losses = vec![(lost_after, Loss::Last(lost_after))];
        let killed_after = Duration::from_millis(rng.between(13_000, 16_000));
        let kill = Fault::KillWorker {
            which: 0,
            back_after: soon(rng),
        };
        self.faults = vec![(killed_after, kill)];
    }
}

impl Settings {
    fn of(rng: &mut Rng) -> Self {
        let mostly = |rng: &mut Rng| match rng.between(1, 10) {
            1 => Policy::Ignore,
            2 => Policy::Close,
            _ => Policy::Reauthenticate,
        };
        let strategy = match rng.between(1, 10) {
            1 => "per-message",
            2 | 3 => "explicit",
            _ => "both",
        };
        let latency = LatencyModel {
            usual: Duration::from_millis(rng.between(0, 10)),
            slow: Duration::from_millis(rng.between(10, 120)),
        };
        let mut settings = Self {
            strategy,
            on_unauthenticated: mostly(rng),
            on_expired_push: mostly(rng),
            leeway: Duration::from_secs(rng.between(0, 2)),
            hold_ttl: Duration::from_secs(rng.between(20, 60)),
            hold_max_messages: if rng.chance(20) { rng.between(1, 4) } else { 100 },
            max_in_flight: rng.between(1, 16),
            ordered: rng.chance(75),
            push_ack: false,
            workers: usize::try_from(rng.between(1, 4)).expect("it is small"),
            terminators: usize::try_from(rng.between(1, 5).div_ceil(4)).expect("it is small"),
            answer_timeout: None,
            clocks_wrong: [0; 2],
            latency,
            store_fails: if rng.chance(30) { rng.between(1, 10) } else { 0 },
            alone: false,
            to_the_end: true,
            patience: STABLE,
        };
        // Drawn last: what was drawn before stays what it was.
        settings.clocks_wrong = [(); 2].map(|()| match rng.between(1, 4) {
            1 => -i64::try_from(rng.between(1, 300)).expect("it is small"),
            2 => i64::try_from(rng.between(1, 300)).expect("it is small"),
            _ => 0,
        });
        settings.push_ack = rng.chance(50);
        settings
    }
}

impl Seat {
    fn of(rng: &mut Rng) -> Self {
        let subject = rng.pick(&SUBJECTS).expect("there are two");
        let renews = rng
            .chance(60)
            .then(|| (Duration::from_millis(rng.between(0, 500)), lifetime(rng)));
        let mut steps = vec![(gap(rng), Step::Connect { resuming: false })];
        for _ in 0..rng.between(10, 40) {
            let step = step(rng, subject);
            steps.push((gap(rng), step));
        }
        Self { subject, renews, steps }
    }
}

fn step(rng: &mut Rng, subject: &'static str) -> Step {
    match rng.between(1, 100) {
        1..=3 => Step::Leave {
            abruptly: rng.chance(50),
        },
        4..=12 => Step::Connect {
            resuming: rng.chance(60),
        },
        13..=15 => Step::Quiet,
        16..=17 => Step::Doze(Duration::from_millis(rng.between(100, 8_000))),
        _ => Step::Say(say(rng, subject)),
    }
}

fn say(rng: &mut Rng, subject: &'static str) -> Say {
    let subject = if rng.chance(4) {
        rng.pick(&SUBJECTS).expect("there are two")
    } else {
        subject
    };
    let valid = Proof::Valid {
        subject,
        lifetime: lifetime(rng),
    };
    let older = Proof::Older {
        subject,
        lifetime: lifetime(rng),
    };
    let (kind, proof) = match rng.between(1, 100) {
        1..=15 => (Kind::Authenticate, valid),
        16..=17 => (Kind::Authenticate, Proof::Expired { subject }),
        18 => (Kind::Authenticate, Proof::Invalid),
        19..=22 => (Kind::Forget, Proof::None),
        23..=24 => (app(rng), older),
        25..=30 => (app(rng), valid),
        31..=40 => (app(rng), Proof::Same),
        41..=46 => (app(rng), Proof::Expired { subject }),
        47..=48 => (app(rng), Proof::Invalid),
        _ => (app(rng), Proof::None),
    };
    Say { kind, proof }
}

fn app(rng: &mut Rng) -> Kind {
    match rng.between(1, 200) {
        1 => return Kind::Deadly,
        2 => return Kind::DeadlyAnswer,
        _ => {}
    }
    *rng.pick(&[Kind::One, Kind::One, Kind::One, Kind::Two, Kind::Silent])
        .expect("there are some")
}

/// Half of the tokens end while the simulation lasts.
fn lifetime(rng: &mut Rng) -> Duration {
    Duration::from_secs(if rng.chance(50) { rng.between(1, 8) } else { 3_600 })
}

/// Mostly at once, so that much is under way at a time; sometimes long enough for a token to end.
fn gap(rng: &mut Rng) -> Duration {
    Duration::from_millis(match rng.between(1, 10) {
        1..=5 => rng.between(0, 20),
        6..=8 => rng.between(0, 500),
        9 => rng.between(500, 3_000),
        _ => rng.between(3_000, 12_000),
    })
}

fn pushes(rng: &mut Rng) -> Vec<(Duration, Push)> {
    (0..rng.between(1, 12))
        .map(|_| {
            let subject = rng.pick(&SUBJECTS).expect("there are two");
            (gap(rng), Push { subject })
        })
        .collect()
}

fn revocations(rng: &mut Rng) -> Vec<(Duration, Revoke)> {
    let many = if rng.chance(40) { rng.between(1, 2) } else { 0 };
    (0..many)
        .map(|_| {
            let target = match rng.chance(70) {
                true => Target::Subject(rng.pick(&SUBJECTS).expect("there are two")),
                false => Target::LastToken,
            };
            let grace = Duration::from_secs(if rng.chance(30) { rng.between(1, 5) } else { 0 });
            let after = Duration::from_millis(rng.between(0, 20_000));
            (after, Revoke { target, grace })
        })
        .collect()
}

fn faults(rng: &mut Rng) -> Vec<(Duration, Fault)> {
    let many = if rng.chance(70) { rng.between(1, 6) } else { 0 };
    (0..many)
        .map(|_| {
            let after = Duration::from_millis(rng.between(0, 5_000));
            let which = rng.number();
            let back_after = Duration::from_millis(rng.between(0, 2_000));
            let fault = match rng.between(1, 10) {
                1..=4 => Fault::KillWorker { which, back_after },
                5 => Fault::KillTerminator { which, back_after },
                _ => Fault::Lose {
                    which,
                    role: *rng.pick(&[Role::Publishing, Role::Consuming]).expect("there are two"),
                    away: Duration::from_millis(rng.between(0, 200)),
                    told: rng.chance(30),
                },
            };
            (after, fault)
        })
        .collect()
}

fn purges(rng: &mut Rng) -> Vec<Duration> {
    let many = if rng.chance(10) { rng.between(1, 4) } else { 0 };
    (0..many)
        .map(|_| Duration::from_millis(rng.between(0, 8_000)))
        .collect()
}

fn losses(rng: &mut Rng) -> Vec<(Duration, Loss)> {
    let many = if rng.chance(30) { rng.between(1, 2) } else { 0 };
    (0..many)
        .map(|_| {
            let after = Duration::from_millis(rng.between(0, 20_000));
            let loss = match rng.chance(30) {
                true => Loss::All,
                false => Loss::Last(Duration::from_millis(rng.between(0, LONGEST.as_millis() as u64))),
            };
            (after, loss)
        })
        .collect()
}
