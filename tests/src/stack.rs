//! A whole system for one claim: terminators, workers, a broker, a store, and a namespace of their own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use shared::service::config::{Setting, section};
use terminator::TerminatorConfig;
use worker::config::WorkerConfig;

use crate::nodes::program::{Kind, Program, programs};
use crate::nodes::rabbitmq::{Broker, shared_broker};
use crate::nodes::redis::{Store, shared_store};
use crate::peers::client::Client;
use crate::peers::producer::Producer;
use crate::peers::queue::Queue;
use crate::tokens::key::test_keys;
use crate::tokens::token::{AUDIENCE, ISSUER};
use crate::wait::eventually;

/// The programs that know a setting of this name: terminators, workers. A name that neither knows is a slip of the pen,
/// and would stop them.
pub(crate) fn known_to(name: &str) -> (bool, bool) {
    let knows = |settings: Vec<Setting>| settings.iter().any(|setting| setting.name == name);
    (
        knows(section::<TerminatorConfig>().1),
        knows(section::<WorkerConfig>().1),
    )
}

pub(crate) type Settings = Vec<(String, String)>;

/// What a stack shall be. By default: one terminator, one worker, the shared broker and store, and tokens as
/// [`crate::token_for`] makes them.
#[derive(Debug)]
pub struct Builder {
    terminators: usize,
    workers: usize,
    worker_kind: Kind,
    broker: Option<Arc<Broker>>,
    broker_urls: [Option<String>; 2],
    store: Option<Arc<Store>>,
    of_terminators: Settings,
    of_workers: Settings,
    has_addresses: bool,
}

impl Builder {
    /// A configuration file, which says where broker and store are.
    #[must_use]
    pub fn configured_by(mut self, file: &str) -> Self {
        for settings in [&mut self.of_terminators, &mut self.of_workers] {
            settings.push(("config".to_owned(), file.to_owned()));
        }
        self.has_addresses = true;
        self
    }

    /// How many terminators.
    #[must_use]
    pub fn terminators(mut self, count: usize) -> Self {
        self.terminators = count;
        self
    }

    /// How many workers; 0 is well.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = count;
        self
    }

    /// Workers whose handler does the harm that a message asks for.
    #[must_use]
    pub fn poisoned_workers(mut self, count: usize) -> Self {
        self.worker_kind = Kind::PoisonedWorker;
        self.workers(count)
    }

    /// A broker of the claim's own, to do it harm.
    #[must_use]
    pub fn broker(mut self, broker: &Arc<Broker>) -> Self {
        self.broker = Some(broker.clone());
        self
    }

    /// A store of the claim's own, to do it harm.
    #[must_use]
    pub fn store(mut self, store: &Arc<Store>) -> Self {
        self.store = Some(store.clone());
        self
    }

    /// The broker's users as whom the programs log in, rather than its administrator: see [`Broker::add_user`].
    #[must_use]
    pub fn users(mut self, terminator_url: &str, worker_url: &str) -> Self {
        self.broker_urls = [Some(terminator_url.to_owned()), Some(worker_url.to_owned())];
        self
    }

    /// A setting by its name in the contract, for the programs that know it; the last one counts.
    ///
    /// # Panics
    /// If there is no such setting.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        let (of_terminators, of_workers) = known_to(name);
        assert!(of_terminators || of_workers, "there is no setting {name}");
        if of_terminators {
            self.of_terminators.push((name.to_owned(), value.to_owned()));
        }
        if of_workers {
            self.of_workers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Several such settings, in this order.
    #[must_use]
    pub fn settings(self, settings: &[(&str, &str)]) -> Self {
        settings
            .iter()
            .fold(self, |builder, (name, value)| builder.setting(name, value))
    }

    /// Starts everything and returns when all of it is ready.
    pub async fn start(self) -> Stack {
        let own_broker = self.broker.is_some();
        let broker = match self.broker {
            Some(broker) => broker,
            None => shared_broker().await,
        };
        let store = match self.store {
            Some(store) => store,
            None => shared_store().await,
        };
        let namespace = format!("claim-{:08x}", rand::random::<u32>());
        let common = |url: Option<String>| {
            let url = url.unwrap_or_else(|| broker.url());
            settings(&[
                ("admin-listen", "127.0.0.1:0"),
                ("amqp-url", &url),
                ("namespace", &namespace),
            ])
        };
        let [terminator_url, worker_url] = self.broker_urls;
        let of_terminators = [
            common(terminator_url),
            settings(&[("listen", "127.0.0.1:0")]),
            for_strangers(),
            self.of_terminators,
        ];
        let of_workers = [
            common(worker_url),
            settings(&[("store-url", &store.url())]),
            token_settings(),
            self.of_workers,
        ];
        let has_addresses = self.has_addresses;
        let given = |groups: Vec<Settings>| -> Settings {
            let all = groups.concat().into_iter();
            all.filter(|(name, _)| !has_addresses || !["amqp-url", "store-url"].contains(&name.as_str()))
                .collect()
        };
        let mut stack = Stack {
            terminators: Vec::new(),
            workers: Vec::new(),
            worker_kind: self.worker_kind,
            programs: programs().to_owned(),
            of_terminators: given(of_terminators.to_vec()),
            of_workers: given(of_workers.to_vec()),
            namespace,
            broker,
            store,
        };
        stack.start_terminators(self.terminators).await;
        stack.start_workers(self.workers).await;
        if own_broker {
            stack.broker.settle().await;
        }
        stack
    }
}

/// A running stack. Its programs die with this value; so does what is left in its namespace, with the broker and store.
#[derive(Debug)]
pub struct Stack {
    terminators: Vec<Program>,
    workers: Vec<Program>,
    worker_kind: Kind,
    programs: PathBuf,
    of_terminators: Settings,
    of_workers: Settings,
    namespace: String,
    broker: Arc<Broker>,
    store: Arc<Store>,
}

impl Stack {
    /// Describes a stack to start.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            terminators: 1,
            workers: 1,
            worker_kind: Kind::Worker,
            broker: None,
            broker_urls: [None, None],
            store: None,
            of_terminators: Vec::new(),
            of_workers: Vec::new(),
            has_addresses: false,
        }
    }

    /// The smallest stack, with every default.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// The prefix of its queues, exchanges and keys, and the name of the exchange into which one injects.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Its broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// Its store.
    #[must_use]
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The terminators, in the order of their start; killed ones keep their place.
    #[must_use]
    pub fn terminators(&self) -> &[Program] {
        &self.terminators
    }

    /// One terminator, counted from 0.
    pub fn terminator(&mut self, number: usize) -> &mut Program {
        &mut self.terminators[number]
    }

    /// The workers, in the order of their start; killed ones keep their place.
    #[must_use]
    pub fn workers(&self) -> &[Program] {
        &self.workers
    }

    /// One worker, counted from 0.
    pub fn worker(&mut self, number: usize) -> &mut Program {
        &mut self.workers[number]
    }

    /// Starts more terminators, with the settings of the first, and returns when they are ready.
    pub async fn start_terminators(&mut self, count: usize) {
        self.spawn_terminators(count);
        let first_new = self.terminators.len() - count;
        ready(&mut self.terminators[first_new..]).await;
    }

    /// Starts a terminator whose clock is ahead by so many seconds, or behind, with the settings of the first, and returns when it
    /// is ready. It is the last.
    pub async fn start_skewed_terminator(&mut self, ahead_s: i64) {
        let kind = Kind::SkewedTerminator(ahead_s);
        self.terminators.push(Program::spawn(kind, &self.of_terminators));
        let last = self.terminators.len() - 1;
        ready(&mut self.terminators[last..]).await;
    }

    /// Gives a setting to the workers that are started from now on.
    pub fn set_for_workers(&mut self, name: &str, value: &str) {
        self.of_workers.push((name.to_owned(), value.to_owned()));
    }

    /// Takes the programs that are started from now on from this folder, as those of another version.
    pub fn programs_from(&mut self, folder: &Path) {
        folder.clone_into(&mut self.programs);
    }

    fn spawn(&self, kind: Kind, settings: &Settings) -> Program {
        Program::spawn_from(&self.programs, kind, settings, &[])
    }

    /// Starts more workers, with the settings of the first, and returns when they are ready.
    pub async fn start_workers(&mut self, count: usize) {
        self.spawn_workers(count);
        let first_new = self.workers.len() - count;
        ready(&mut self.workers[first_new..]).await;
    }

    /// Starts more terminators, and does not wait: for what keeps them from being ready.
    pub fn spawn_terminators(&mut self, count: usize) {
        let new: Vec<_> = (0..count)
            .map(|_| self.spawn(Kind::Terminator, &self.of_terminators))
            .collect();
        self.terminators.extend(new);
    }

    /// Starts more workers, and does not wait: for what keeps them from being ready.
    pub fn spawn_workers(&mut self, count: usize) {
        let new: Vec<_> = (0..count)
            .map(|_| self.spawn(self.worker_kind, &self.of_workers))
            .collect();
        self.workers.extend(new);
    }

    /// Starts a worker in the place of each that has ended, and does not wait. Returns how many that were.
    pub fn replace_ended_workers(&mut self) -> usize {
        let ended = self
            .workers
            .iter_mut()
            .filter_map(|worker| worker.has_ended().then_some(worker));
        ended
            .map(|worker| *worker = Program::spawn(self.worker_kind, &self.of_workers))
            .count()
    }

    /// Replaces workers until poison kills none any more: a worker that dies between moving a message and acknowledging
    /// it leaves two of it. What a worker has just been given is in no queue, so that all must be quiet three times in a row.
    ///
    /// # Panics
    /// If it is not over within 30 s.
    pub async fn outlive_poison(&mut self) {
        let queue = self.queue().await;
        let queues = ["messages", "retry", "failed"].map(|name| format!("{}.{name}", self.namespace));
        let mut quiet = 0;
        eventually(Duration::from_secs(30), "no worker dies any more", async || {
            quiet = if self.is_quiet(&queue, &queues).await? {
                quiet + 1
            } else {
                0
            };
            if quiet < 3 {
                return Err("one has just died, or may yet".to_owned());
            }
            Ok(())
        })
        .await;
    }

    async fn is_quiet(&mut self, queue: &Queue, queues: &[String]) -> Result<bool, String> {
        let mut quiet = self.replace_ended_workers() == 0;
        for name in queues {
            quiet &= queue.count(name).await == 0;
        }
        for worker in &self.workers {
            worker.is_ready().await?;
        }
        Ok(quiet)
    }

    /// A client of the first terminator.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn client(&self) -> Client {
        Client::connect(&self.terminators[0]).await
    }

    /// A client of any terminator, counted from 0.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn client_of(&self, terminator: usize) -> Client {
        Client::connect(&self.terminators[terminator]).await
    }

    /// A backend that pushes and revokes.
    pub async fn producer(&self) -> Producer {
        Producer::on(self.queue().await).await
    }

    /// An AMQP client of its broker and namespace.
    pub async fn queue(&self) -> Queue {
        Queue::connect(&self.broker.url(), &self.namespace).await
    }
}

async fn ready(programs: &mut [Program]) {
    for program in programs {
        program.ready().await;
    }
}

/// Unlike the default, a client may stay a stranger for as long as its claim takes.
pub(crate) fn for_strangers() -> Settings {
    settings(&[("auth-timeout", "off")])
}

/// What makes a worker accept the tokens of [`crate::token_for`].
pub(crate) fn token_settings() -> Settings {
    let secret = test_keys().secret_entry();
    settings(&[
        ("jwt-keys", secret.as_str()),
        ("jwt-issuer", ISSUER),
        ("jwt-audience", AUDIENCE),
        ("jwt-algorithms", "HS256"),
    ])
}

pub(crate) fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
