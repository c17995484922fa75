//! The bus on RabbitMQ, by lapin.
//!
//! Two connections, one to publish and one to consume, because a broker that
//! runs out of memory blocks a publisher's connection whole, and acknowledgements
//! must not wait behind it; and two more for anyone who has to do with outsiders: one for what they wrote, which may be of any size, and
//! one for answers into queues that they name, since such a name may cost the connection on which it is used. What is
//! delivered passes a `sieve`, so that lapin can read all of it. Each connection has a supervisor that connects anew for ever
//! (`connection`); what lives on a connection is rebuilt with each generation of
//! it: the topology (`declare`), confirm channels (`publish`), consumers (`consume`), looks at queues (`look`).
//! lapin's own recovery is off: it cannot tell what of ours was still in flight.

mod access;
mod broker_status;
mod connection;
mod consume;
mod convert;
mod declare;
mod has_consumers;
mod nodes;
mod pace;
mod pending;
mod publish;
mod refusals;
mod sieve;
mod transport;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub use self::access::Access;
use self::connection::{Connections, Role};
use self::consume::Prefetch;
use self::declare::Declared;
pub use self::declare::quorum_arguments;
use self::nodes::Nodes;
use super::batch::{Returning, Unpacking};
use super::rabbitmq::broker_status::BrokerStatus;
use super::topology::{FilledBy, Names, Queue, Topology};
use super::{Bus, Closing, Consumer, Link, Looking, PublishTimeout, Publisher};
use crate::service::config::BrokerConfig;

/// How many bytes of an outsider's message are read where nothing else is said: one more than the largest that workers look
/// at, so that they see that it is larger.
pub const MOST_BODY: u64 = 1_024 * 1_024 + 1;

/// How to reach RabbitMQ.
pub struct RabbitmqConfig {
    /// Where it is, and as whom we come.
    pub access: Access,
    /// What the management page shows as the connection's name.
    pub name: String,
    /// What must be there before anything is published or consumed.
    pub topology: Topology,
    /// How many bytes of the body of an outsider's message are read; what is larger is cut off there.
    pub most_body: u64,
    /// Whether what is published at the same time for one of our own queues leaves as one AMQP message, and under which names
    /// those are; none if it does not. It is read in any case.
    pub batches: Option<Names>,
}

impl RabbitmqConfig {
    /// What the settings of `program` say, for everyone's topology.
    pub fn of_program(program: &str, broker: &BrokerConfig, access: Access) -> Self {
        let names = Names::new(broker.namespace.as_str());
        let mut topology = names.common();
        topology
            .queues
            .extend(names.message_shards(broker.message_shards).skip(1));
        if broker.connection_events.is_some() {
            topology.extend(names.events());
        }
        Self {
            access,
            name: format!("{} {program}", broker.namespace),
            topology,
            most_body: MOST_BODY,
            batches: broker.batches(),
        }
    }
}

/// The connections of a bus.
struct Homes {
    /// The way back for what is given back out of a batch.
    returning: Returning,
    publishing: Connections,
    consuming: Connections,
    /// For what outsiders wrote.
    receiving: Option<Connections>,
    /// With a board of its own, that no one looks at: whether answers to strangers leave is nothing for others to wait for.
    replying: Option<Replying>,
    replying_directly: Option<Replying>,
}

type Replying = (Connections, BrokerStatus);

/// A RabbitMQ broker or cluster.
pub struct RabbitmqBus {
    config: RabbitmqConfig,
    nodes: Nodes,
    declared: Declared,
    /// Nothing once the bus is closed.
    homes: Mutex<Option<Homes>>,
    board: BrokerStatus,
    tasks: TaskTracker,
}

impl RabbitmqBus {
    /// Begins to connect, and returns at once; [`Bus::link`] tells how it goes.
    pub fn new(config: RabbitmqConfig) -> Self {
        let board = BrokerStatus::new();
        let tasks = TaskTracker::new();
        let (nodes, declared) = (Nodes::new(config.access.nodes()), Declared::default());
        let known = (&nodes, &declared);
        let publishing = connection::supervise(&config, known, Role::Publishing, &board, &tasks);
        let consuming = connection::supervise(&config, known, Role::Consuming, &board, &tasks);
        let returning = {
            let (publishing, link, tasks) = (publishing.clone(), board.subscribe(), tasks.clone());
            Returning::new(move || publish::start(publishing, link, PublishTimeout::Endless, None, &tasks))
        };
        Self {
            homes: Mutex::new(Some(Homes {
                returning,
                publishing,
                consuming,
                receiving: None,
                replying: None,
                replying_directly: None,
            })),
            config,
            nodes,
            declared,
            board,
            tasks,
        }
    }

    fn homes(&self) -> MutexGuard<'_, Option<Homes>> {
        self.homes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it consumes; nothing once it is closed.
    fn consuming(&self, filled_by: FilledBy) -> Option<Connections> {
        let mut homes = self.homes();
        let homes = homes.as_mut()?;
        let connections = match filled_by {
            FilledBy::Us => &homes.consuming,
            FilledBy::Outsiders => homes.receiving.get_or_insert_with(|| {
                let known = (&self.nodes, &self.declared);
                connection::supervise(&self.config, known, Role::Receiving, &self.board, &self.tasks)
            }),
        };
        Some(connections.clone())
    }

    /// How many AMQP messages wait in each of these queues, for anyone who watches them. One that is not there, or of which the
    /// broker does not say, is left out.
    pub async fn waiting(&self, queues: &[String]) -> Vec<(String, u32)> {
        match self.consuming(FilledBy::Us) {
            Some(consuming) => crate::bus::rabbitmq::has_consumers::waiting(consuming, queues).await,
            None => Vec::new(),
        }
    }

    fn replier_at(
        &self,
        patience: PublishTimeout,
        role: Role,
        at: fn(&mut Homes) -> &mut Option<Replying>,
    ) -> Publisher {
        let mut homes = self.homes();
        let Some(homes) = homes.as_mut() else {
            return Publisher::new().0;
        };
        let known = (&self.nodes, &self.declared);
        let (replying, board) = at(homes).get_or_insert_with(|| {
            let board = BrokerStatus::new();
            let replying = connection::supervise(&self.config, known, role, &board, &self.tasks);
            (replying, board)
        });
        publish::start(replying.clone(), board.subscribe(), patience, None, &self.tasks)
    }

    fn consumer_at(&self, queue: Queue, prefetch: Prefetch) -> Consumer {
        let unpacking = self
            .homes()
            .as_ref()
            .and_then(|homes| Unpacking::of(&queue, &homes.returning));
        let (consumer, backend) = Consumer::new(unpacking);
        if let Some(consuming) = self.consuming(queue.filled_by) {
            let slot = self.board.slot(format!("not yet consuming {}", queue.name));
            self.tasks
                .spawn(consume::run(queue, prefetch, backend, consuming, slot));
        }
        consumer
    }
}

impl Bus for RabbitmqBus {
    fn publisher(&self, patience: PublishTimeout) -> Publisher {
        let publishing = self.homes().as_ref().map(|homes| homes.publishing.clone());
        match publishing {
            Some(publishing) => {
                let batches = self.config.batches.clone();
                publish::start(publishing, self.board.subscribe(), patience, batches, &self.tasks)
            }
            None => Publisher::new().0,
        }
    }

    fn replier(&self, patience: PublishTimeout) -> Publisher {
        self.replier_at(patience, Role::Replying, |homes| &mut homes.replying)
    }

    fn direct_replier(&self, patience: PublishTimeout) -> Publisher {
        self.replier_at(patience, Role::DirectReplying, |homes| &mut homes.replying_directly)
    }

    fn consumer(&self, queue: Queue, prefetch: u16) -> Consumer {
        self.consumer_at(queue, Prefetch::Fixed(prefetch))
    }

    fn shared_consumer(&self, queue: Queue, prefetch: u16) -> Consumer {
        self.consumer_at(queue, Prefetch::Messages(prefetch))
    }

    fn is_consumed<'a>(&'a self, queue: &'a str) -> Looking<'a> {
        Box::pin(async move {
            match self.consuming(FilledBy::Us) {
                // A connection on which we publish may be blocked, and answer nothing.
                Some(consuming) => crate::bus::rabbitmq::has_consumers::is_consumed(consuming, queue).await,
                None => false,
            }
        })
    }

    fn is_there<'a>(&'a self, queue: &'a str) -> Looking<'a> {
        Box::pin(async move {
            let looked = self.waiting(std::slice::from_ref(&queue.to_owned())).await;
            !looked.is_empty()
        })
    }

    fn is_gone<'a>(&'a self, queue: &'a str) -> Looking<'a> {
        Box::pin(async move {
            match self.consuming(FilledBy::Us) {
                Some(consuming) => crate::bus::rabbitmq::has_consumers::is_gone(consuming, queue).await,
                None => false,
            }
        })
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.board.subscribe()
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(async {
            // The supervisors end when no one holds their connections any more.
            self.homes().take();
            self.tasks.close();
            self.tasks.wait().await;
        })
    }
}
