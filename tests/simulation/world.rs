//! One simulation, assembled and run: the real terminators and workers, each with its own way through the weather to the
//! one broker and the one store.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shared::bus::memory::MemoryBus;
use shared::bus::topology::Names;
use shared::service::config;
use shared::wire::id::TerminatorId;
use terminator::{Terminator, TerminatorConfig};
use testkit::chaos::{ChaosBus, Role};
use testkit::rng::Rng;
use tests::tokens::token::{AUDIENCE, ISSUER};
use tokio::io::DuplexStream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use worker::auth::identity::Issuer;
use worker::config::WorkerConfig;
use worker::store;
use worker::token::Verifier;
use worker::{Parts, Worker};

use crate::parts::clock::SimClock;
use crate::parts::handler::App;
use crate::parts::jumps::jump;
use crate::parts::losing::{LosingStore, Loss};
use crate::parts::outside::{operate, produce};
use crate::parts::store::ChaosStore;
use crate::parts::token::{Mint, Proof, verifier};
use crate::scenario::{Fault, Kind, Say, Scenario, Settings, Step};
use crate::seat::Person;
use crate::trace::{Event, Socket, Trace};

/// What fits between a client and its terminator, each way: no more than one or two answers, so that a client that does
/// not read is soon waited for.
pub(crate) const PIPE_BYTES: usize = 256;
/// How often a message may be delivered: nothing of what happens here is the message's own fault.
const MAX_DELIVERIES: &str = "20";
/// How long after the last fault everything that can be handled is.
const CALM: Duration = Duration::from_secs(6);

/// What all who take part share.
pub(crate) struct World {
    pub(crate) trace: Trace,
    pub(crate) mint: Mint,
    pub(crate) names: Names,
    pub(crate) broker: MemoryBus,
    /// The right one.
    pub(crate) clock: SimClock,
    /// That of each terminator's machine.
    pub(crate) clocks: [SimClock; 2],
    settings: Settings,
    store: Arc<LosingStore>,
    verifier: Arc<Verifier>,
    failing: Arc<AtomicU64>,
    rng: Mutex<Rng>,
    terminators: Mutex<Vec<Edge>>,
    workers: Mutex<Vec<Mate>>,
    sockets: AtomicUsize,
    messages: AtomicU64,
    revocations: AtomicUsize,
    over: AtomicBool,
}

/// A terminator and its process.
struct Edge {
    bus: Arc<ChaosBus>,
    terminator: Terminator,
}

/// A worker and its process.
struct Mate {
    bus: Arc<ChaosBus>,
    worker: Option<Worker>,
}

/// What is left when all is over, of what nothing may be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remains {
    /// The name of a queue, and how many messages are in it.
    pub(crate) queues: Vec<(String, usize)>,
}

/// Runs a scenario to its end. It must be called on a runtime with a paused clock.
pub(crate) async fn run(scenario: Scenario) -> (Vec<(u64, Event)>, Remains) {
    let world = World::new(&scenario).await;
    let mut people: Vec<_> = scenario
        .seats
        .into_iter()
        .map(|seat| Person::new(world.clone(), seat))
        .collect();
    let mut others = Vec::new();
    for (number, pushes) in scenario.producers.into_iter().enumerate() {
        others.push(tokio::spawn(produce(world.clone(), number, pushes)));
    }
    others.push(tokio::spawn(operate(world.clone(), scenario.revocations)));
    others.push(tokio::spawn(break_things(world.clone(), scenario.faults)));
    others.push(tokio::spawn(lose_things(world.clone(), scenario.losses)));
    others.push(tokio::spawn(purge(world.clone(), scenario.purges)));
    others.push(tokio::spawn(jump(world.clone(), scenario.jumps)));
    let mut acting = Vec::new();
    for mut person in people.drain(..) {
        acting.push(tokio::spawn(async move {
            person.act().await;
            person
        }));
    }
    let mut seats = Vec::new();
    for person in acting {
        seats.push(person.await.expect("a person does not panic"));
    }
    for other in others {
        other.await.expect("nobody panics");
    }
    world.calm().await;
    let probe = Step::Say(Say {
        kind: Kind::One,
        proof: Proof::None,
    });
    for person in &mut seats {
        person.step(probe.clone()).await;
    }
    world.over.store(true, Ordering::Relaxed);
    let settings = &world.settings;
    if settings.to_the_end {
        let lost = settings.answer_timeout.unwrap_or_default();
        sleep(settings.hold_ttl + settings.patience + lost).await;
    }
    sleep(CALM).await;
    (world.trace.take(), world.remains())
}

/// Whatever the store loses, one after the other.
async fn lose_things(world: Arc<World>, losses: Vec<(Duration, Loss)>) {
    for (after, loss) in losses {
        sleep(after).await;
        world.trace.note(Event::Lost(loss));
        world.store.lose(loss);
    }
}

/// Someone purges the queue of messages, now and then, when there is one in it.
async fn purge(world: Arc<World>, purges: Vec<Duration>) {
    for after in purges {
        sleep(after).await;
        world.trace.note(Event::Fault("the next request is purged".to_owned()));
        world.broker.purge_next(&world.names.messages().name);
    }
}

/// Whatever breaks, one after the other.
async fn break_things(world: Arc<World>, faults: Vec<(Duration, Fault)>) {
    for (after, fault) in faults {
        sleep(after).await;
        world.trace.note(Event::Fault(format!("{fault:?}")));
        match fault {
            Fault::KillWorker { which, back_after } => {
                world.trace.note(Event::Killed);
                let which = world.kill_worker(which);
                sleep(back_after).await;
                world.start_worker(which);
            }
            Fault::KillTerminator { which, back_after } => {
                let which = world.kill_terminator(which);
                sleep(back_after).await;
                world.start_terminator(which).await;
            }
            Fault::Lose {
                which,
                role,
                away,
                told,
            } => world.lose(which, role, away, told),
        }
    }
}

impl World {
    async fn new(scenario: &Scenario) -> Arc<Self> {
        let clock = SimClock::start();
        let names = Names::new("simulation");
        let settings = scenario.settings.clone();
        let mut topology = names.common();
        topology
            .queues
            .extend(names.retries(MAX_DELIVERIES.parse().expect("a number")));
        let store = LosingStore::new(
            &store::Settings {
                url: "memory:".to_owned(),
                namespace: "simulation".to_owned(),
                timeout: Duration::from_secs(1),
                leeway: settings.leeway,
                max_revocations: 1_000,
            },
            clock.clone(),
        );
        let world = Arc::new(Self {
            trace: Trace::new(clock.clone()),
            mint: Mint::new(clock.clone()),
            broker: MemoryBus::new(&topology).with_batches(names.clone()),
            names,
            clocks: settings.clocks_wrong.map(|wrong| clock.another(wrong)),
            clock,
            store: Arc::new(store),
            verifier: verifier(settings.leeway),
            failing: Arc::new(AtomicU64::new(settings.store_fails)),
            rng: Mutex::new(Rng::new(scenario.seed ^ 0x5eed)),
            terminators: Mutex::default(),
            workers: Mutex::default(),
            sockets: AtomicUsize::new(0),
            messages: AtomicU64::new(0),
            revocations: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            settings,
        });
        for which in 0..world.settings.workers {
            world.start_worker(which);
        }
        for which in 0..world.settings.terminators {
            world.start_terminator(which).await;
        }
        world
    }

    /// A process that has nothing but its way to the broker.
    pub(crate) fn process(&self) -> Arc<ChaosBus> {
        Arc::new(ChaosBus::new(&self.broker, self.settings.latency, self.fork()))
    }

    /// A socket to one of the terminators, and when that dies; nothing while there is none.
    pub(crate) fn connect(&self) -> Option<(DuplexStream, CancellationToken)> {
        let terminators = self.terminators.lock().expect("no holder panics");
        let edge = self
            .rng
            .lock()
            .expect("no holder panics")
            .pick(&terminators)
            .filter(|edge| !edge.bus.gone().is_cancelled())?;
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        edge.terminator.serve_stream(server);
        Some((client, edge.bus.gone()))
    }

    pub(crate) fn next_socket(&self) -> Socket {
        Socket(self.sockets.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn next_revocation(&self) -> usize {
        self.revocations.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether clients do nothing any more of their own accord: what is held then is given up.
    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A message's id, which tells what it asks for.
    pub(crate) fn next_id(&self, kind: Kind) -> String {
        let number = self.messages.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", kind.name())
    }

    fn fork(&self) -> Rng {
        self.rng.lock().expect("no holder panics").fork()
    }

    fn start_worker(&self, which: usize) {
        let bus = self.process();
        let latency = self.settings.latency;
        let store = ChaosStore {
            shared: self.store.clone(),
            latency,
            failing: self.failing.clone(),
            gone: bus.gone(),
            rng: Mutex::new(self.fork()),
        };
        let parts = Parts {
            bus: bus.clone(),
            store: Arc::new(store),
            verifier: self.verifier.clone(),
            issuers: vec![Issuer::new(ISSUER)],
            clock: Arc::new(self.clock.clone()),
            limits: worker_config(&self.settings).limits(),
            sealing: worker::Sealing::OFF,
            listener: None,
        };
        let worker = Some(Worker::start_with(
            parts,
            App::new(self.trace.clone(), latency, self.fork()),
        ));
        let mut workers = self.workers.lock().expect("no holder panics");
        let mate = Mate { bus, worker };
        match workers.get_mut(which) {
            Some(place) => *place = mate,
            None => workers.push(mate),
        }
    }

    /// Kills a worker in the middle of whatever it does.
    fn kill_worker(&self, which: u64) -> usize {
        let mut workers = self.workers.lock().expect("no holder panics");
        let which = place(which, workers.len());
        let mate = &mut workers[which];
        mate.bus.kill();
        drop(mate.worker.take());
        which
    }

    async fn start_terminator(&self, which: usize) {
        let bus = self.process();
        let parts = terminator::Parts {
            bus: bus.clone(),
            clock: Arc::new(self.clocks[which].clone()),
            id: TerminatorId::random(),
            listener: None,
        };
        let terminator = Terminator::without_socket(terminator_config(&self.settings), parts)
            .await
            .expect("it listens to nobody");
        let edge = Edge { bus, terminator };
        let mut terminators = self.terminators.lock().expect("no holder panics");
        match terminators.get_mut(which) {
            Some(place) => *place = edge,
            None => terminators.push(edge),
        }
    }

    /// Kills a terminator; its sockets see it by its bus.
    fn kill_terminator(&self, which: u64) -> usize {
        let terminators = self.terminators.lock().expect("no holder panics");
        let which = place(which, terminators.len());
        terminators[which].bus.kill();
        which
    }

    fn lose(&self, which: u64, role: Role, away: Duration, told: bool) {
        let workers = self.workers.lock().expect("no holder panics");
        let terminators = self.terminators.lock().expect("no holder panics");
        let buses: Vec<_> = workers
            .iter()
            .map(|mate| &mate.bus)
            .chain(terminators.iter().map(|edge| &edge.bus))
            .collect();
        // Several sockets that follow one word are woken in no fixed order.
        buses[place(which, buses.len())].lose(role, away, told && self.settings.alone);
    }

    /// Nothing breaks any more, and all that can be handled is.
    async fn calm(&self) {
        self.failing.store(0, Ordering::Relaxed);
        self.trace.note(Event::Calm);
        sleep(CALM).await;
    }

    fn remains(&self) -> Remains {
        let names = &self.names;
        let retries = names.retries(MAX_DELIVERIES.parse().expect("a number"));
        let left = names.common().queues.into_iter().chain(retries).filter_map(|queue| {
            let (ready, unsettled) = self.broker.depth(&queue.name);
            (ready + unsettled > 0).then_some((queue.name, ready + unsettled))
        });
        Remains { queues: left.collect() }
    }
}

fn place(which: u64, of: usize) -> usize {
    usize::try_from(which % of as u64).expect("it is below a length")
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}

fn worker_config(settings: &Settings) -> WorkerConfig {
    config::from_pairs([
        ("namespace", "simulation"),
        ("store-url", "memory:"),
        ("jwt-keys", "given ready-made"),
        ("jwt-issuer", ISSUER),
        ("jwt-audience", AUDIENCE),
        ("jwt-leeway", &seconds(settings.leeway)),
        ("strategy", settings.strategy),
        ("on-unauthenticated", settings.on_unauthenticated.as_str()),
        ("on-expired-push", settings.on_expired_push.as_str()),
        ("hold-ttl", &seconds(settings.hold_ttl)),
        ("hold-max-messages", &settings.hold_max_messages.to_string()),
        // A client may stay a stranger for as long as it likes, so that nothing is refused but for what it says.
        ("unauthenticated-hold-ttl", &seconds(settings.hold_ttl)),
        (
            "unauthenticated-hold-max-messages",
            &settings.hold_max_messages.to_string(),
        ),
        ("max-deliveries", MAX_DELIVERIES),
    ])
    .expect("the settings are good")
}

fn terminator_config(settings: &Settings) -> TerminatorConfig {
    config::from_pairs([
        ("namespace", "simulation"),
        ("admin-listen", "off"),
        ("auth-timeout", "off"),
        ("unauthenticated-messages-per-second", "off"),
        ("max-in-flight", &settings.max_in_flight.to_string()),
        ("push-ack", if settings.push_ack { "on" } else { "off" }),
        ("order", if settings.ordered { "connection" } else { "none" }),
        (
            "answer-timeout",
            &settings.answer_timeout.map_or_else(|| "off".to_owned(), seconds),
        ),
    ])
    .expect("the settings are good")
}
