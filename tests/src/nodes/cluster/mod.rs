//! A private RabbitMQ cluster of three nodes, each of which a claim may kill, freeze, or cut off from everyone.
//!
//! Programs reach a node by a [`Link`], and so do the nodes each other ([`Mapper`]): a cut is one word, on any machine,
//! and no one needs to be root. Frozen is another thing than cut off: a frozen node takes connections and says nothing.

mod link;
mod mapper;

use std::{env, sync::Arc};

use futures_util::future::join_all;
use tokio::sync::SemaphorePermit;

pub use super::cluster::link::Link;
pub use super::cluster::mapper::Mapper;
use super::port::free_port;
use super::rabbitmq::{Broker, Seat, turns};
use super::watchdog::Folder;
use crate::wait::{Span, eventually};

/// How many nodes: the fewest of which one may be missed.
const NODES: usize = 3;

/// After how many seconds of silence, a quarter more or less, nodes take each other for lost: as docs/drills.md recommends.
const RECOMMENDED_TICK_TIME_S: u32 = 10;

/// Another such time. RabbitMQ's default is 60.
const TICK_TIME: &str = "COUNTERSIGN_TEST_NET_TICKTIME";

/// What stands before the `@` of their names.
const NAMES: [&str; NODES] = ["rabbit-0", "rabbit-1", "rabbit-2"];

/// Three nodes. They die with this value.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Arc<Broker>>,
    /// From programs to each node.
    doors: Vec<Link>,
    /// Between nodes: who connects, to whom.
    ways: Vec<(usize, usize, Link)>,
    _mappers: Vec<Mapper>,
    // Given back last, when the nodes are gone.
    _turn: SemaphorePermit<'static>,
}

impl Cluster {
    /// Starts one, when it is its turn, and returns when all three nodes are in it.
    ///
    /// # Panics
    /// If they do not find each other.
    pub async fn start() -> Self {
        let turn = turns(NODES as u32).await;
        let cookie = format!("{:032x}", rand::random::<u128>());
        let distribution_ports: Vec<_> = NAMES.iter().map(|_| free_port()).collect();
        let (mut nodes, mut doors, mut ways, mut mappers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (number, name) in NAMES.iter().enumerate() {
            let mut peers = Vec::new();
            for peer in (0..NODES).filter(|peer| *peer != number) {
                let way = Link::to(distribution_ports[peer]).await;
                peers.push((NAMES[peer], way.port()));
                ways.push((number, peer, way));
            }
            let mapper = Mapper::start(&peers).await;
            let seat = Seat {
                name: format!("{name}@localhost"),
                amqp_port: free_port(),
                distribution_port: distribution_ports[number],
                epmd_port: mapper.port(),
                cookie: cookie.clone(),
                settings: settings(),
            };
            doors.push(Link::to(seat.amqp_port).await);
            nodes.push(Arc::new(Broker::seated(seat, Folder::new(name))));
            mappers.push(mapper);
        }
        // The first makes the cluster, the others join it.
        nodes[0].launch().await;
        join_all(nodes[1..].iter().map(|node| node.launch())).await;
        let cluster = Self {
            nodes,
            doors,
            ways,
            _mappers: mappers,
            _turn: turn,
        };
        cluster.is_whole().await;
        cluster
    }

    /// [`Broker::settle`]s every node.
    pub async fn settle(&self) {
        for node in &self.nodes {
            node.settle().await;
        }
    }

    /// Waits until every node sees all three.
    pub async fn is_whole(&self) {
        for node in 0..NODES {
            self.sees(node, NODES).await;
        }
    }

    /// Waits until a node that is cut off has paused, and the others have given it up. Healed when only some have noticed, they
    /// take each other for lost and stay apart until one is restarted.
    pub async fn has_lost(&self, node: usize) {
        for other in (0..NODES).filter(|other| *other != node) {
            self.sees(other, NODES - 1).await;
        }
        self.sees(node, 0).await;
    }

    /// Waits until that node sees so many that run, itself among them.
    async fn sees(&self, node: usize, running: usize) {
        let count = "case rabbit:is_running() of true -> length(rabbit_nodes:all_running()); false -> 0 end.";
        eventually(120.s(), "the node sees those that run", async || {
            let seen = self.nodes[node].ctl(&["eval", count]).await;
            if seen.trim() == running.to_string() {
                Ok(())
            } else {
                Err(format!("{node} sees {seen}"))
            }
        })
        .await;
    }

    /// The URLs of all nodes, beginning with that one, as `amqp-url` wants them.
    #[must_use]
    pub fn urls_from(&self, first: usize) -> String {
        let urls: Vec<_> = (0..NODES).map(|number| self.url((first + number) % NODES)).collect();
        urls.join(",")
    }

    /// The URL of one node, by the link that can be cut.
    #[must_use]
    pub fn url(&self, node: usize) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.doors[node].port())
    }

    /// One node.
    #[must_use]
    pub fn node(&self, number: usize) -> &Arc<Broker> {
        &self.nodes[number]
    }

    /// Nothing reaches that node any more, and nothing comes from it.
    pub fn cut_off(&self, node: usize) {
        self.links_of(node).for_each(Link::cut);
    }

    /// The other nodes and that one do not reach each other any more. Programs reach all of them.
    pub fn part(&self, node: usize) {
        self.ways_of(node).for_each(Link::cut);
    }

    /// The node is reached again.
    pub fn heal(&self, node: usize) {
        self.links_of(node).for_each(Link::heal);
    }

    /// Which node leads that quorum queue, as the first node sees it.
    ///
    /// # Panics
    /// If none does.
    pub async fn leader_of(&self, queue: &str) -> usize {
        // Not `list_queues`: all nodes would answer it, each to a `rabbitmqctl` that only the first can reach.
        let looked_up = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<{queue:?}>>)),
            rabbit_amqqueue:info(Q, [leader])."
        );
        let told = self.nodes[0].ctl(&["eval", &looked_up]).await;
        let number = NAMES.iter().position(|name| told.contains(&format!("{name}@")));
        number.unwrap_or_else(|| panic!("{queue} is led by {told}"))
    }

    fn links_of(&self, node: usize) -> impl Iterator<Item = &Link> {
        self.ways_of(node).chain([&self.doors[node]])
    }

    fn ways_of(&self, node: usize) -> impl Iterator<Item = &Link> {
        let ways = self
            .ways
            .iter()
            .filter(move |(from, to, _)| [*from, *to].contains(&node));
        ways.map(|(_, _, link)| link)
    }
}

fn settings() -> String {
    let nodes = NAMES
        .iter()
        .zip(1..)
        .map(|(name, number)| format!("cluster_formation.classic_config.nodes.{number} = {name}@localhost\n"));
    let nodes: String = nodes.collect();
    let tick_time = env::var(TICK_TIME).unwrap_or_else(|_| RECOMMENDED_TICK_TIME_S.to_string());
    // What the side that is cut off does: it stops, rather than go on alone (https://www.rabbitmq.com/docs/partitions).
    format!(
        "cluster_formation.peer_discovery_backend = classic_config\n{nodes}cluster_partition_handling = pause_minority\n\
        net_ticktime = {tick_time}\n"
    )
}
