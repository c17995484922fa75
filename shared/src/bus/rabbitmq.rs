//! The bus on RabbitMQ, by lapin.
//!
//! Two connections, one to publish and one to consume, because a broker that
//! runs out of memory blocks a publisher's connection whole, and acknowledgements
//! must not wait behind it. Each has a supervisor that connects anew for ever
//! (`connection`); what lives on a connection is rebuilt with each generation of
//! it: the topology (`declare`), confirm channels (`publish`), consumers (`consume`), looks at queues (`look`).
//! lapin's own recovery is off: it cannot tell what of ours was still in flight.

mod connection;
mod consume;
mod convert;
mod declare;
mod link_board;
mod look;
mod pending;
mod publish;

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use self::connection::{Connections, Role};
use self::link_board::LinkBoard;
use super::topology::{Names, Queue, Topology};
use super::{Bus, Closing, Consumer, Link, Looking, Patience, Publisher};
use crate::config::BrokerConfig;

/// How to reach RabbitMQ.
pub struct RabbitmqConfig {
    /// `amqp://` or `amqps://`, one for each node of a cluster, tried in turn.
    pub urls: Vec<String>,
    /// What the management page shows as the connection's name.
    pub name: String,
    /// What must be there before anything is published or consumed.
    pub topology: Topology,
}

impl RabbitmqConfig {
    /// What the settings of `program` say, for everybody's topology.
    pub fn of_program(program: &str, broker: &BrokerConfig) -> Self {
        Self {
            urls: broker.amqp_url.iter().map(|url| url.expose().to_owned()).collect(),
            name: format!("{} {program}", broker.namespace),
            topology: Names::new(broker.namespace.as_str()).common(),
        }
    }
}

/// A RabbitMQ broker or cluster.
pub struct RabbitmqBus {
    /// Publishing and consuming; nothing once the bus is closed.
    connections: Mutex<Option<(Connections, Connections)>>,
    board: LinkBoard,
    tasks: TaskTracker,
}

impl RabbitmqBus {
    /// Begins to connect, and returns at once; [`Bus::link`] tells how it goes.
    pub fn new(config: RabbitmqConfig) -> Self {
        let board = LinkBoard::new();
        let tasks = TaskTracker::new();
        let publishing = connection::supervise(&config, Role::Publishing, &board, &tasks);
        let consuming = connection::supervise(&config, Role::Consuming, &board, &tasks);
        Self {
            connections: Mutex::new(Some((publishing, consuming))),
            board,
            tasks,
        }
    }

    fn connections(&self) -> Option<(Connections, Connections)> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Bus for RabbitmqBus {
    fn publisher(&self, patience: Patience) -> Publisher {
        let (publisher, queue) = Publisher::new();
        if let Some((publishing, _)) = self.connections() {
            self.tasks
                .spawn(publish::run(queue, publishing, self.board.subscribe(), patience));
        }
        publisher
    }

    fn consumer(&self, queue: Queue, prefetch: u16) -> Consumer {
        let (consumer, home) = Consumer::new();
        if let Some((_, consuming)) = self.connections() {
            let slot = self.board.slot(format!("not yet consuming {}", queue.name));
            self.tasks.spawn(consume::run(queue, prefetch, home, consuming, slot));
        }
        consumer
    }

    fn is_consumed<'a>(&'a self, queue: &'a str) -> Looking<'a> {
        Box::pin(async move {
            match self.connections() {
                // A connection on which we publish may be blocked, and answer nothing.
                Some((_, consuming)) => look::is_consumed(consuming, queue).await,
                None => false,
            }
        })
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.board.subscribe()
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(async {
            // The supervisors end when nobody holds their connections any more.
            self.connections.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.tasks.close();
            self.tasks.wait().await;
        })
    }
}
