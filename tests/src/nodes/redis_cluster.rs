//! A Redis cluster of three nodes. By TLS, clients reach it by that alone, as the nodes do each other.

use super::port::free_port;
use super::redis::{Member, Store};
use crate::servers::pki;

/// Each has a third of the slots. They die with this value.
#[derive(Debug)]
pub struct StoreCluster {
    nodes: Vec<Store>,
    url: String,
}

/// The slots of each.
const SLOTS: [[&str; 2]; 3] = [["0", "5460"], ["5461", "10922"], ["10923", "16383"]];

impl StoreCluster {
    /// Starts the nodes, and returns when they are one.
    pub async fn start() -> Self {
        let (nodes, port) = Self::of(None).await;
        Self {
            nodes,
            url: format!("redis-cluster://127.0.0.1:{port}"),
        }
    }

    /// Starts the nodes, each with the server's certificate of the CA `a`, and returns when they are one. They ask for a
    /// certificate of that CA.
    pub async fn start_by_tls() -> Self {
        let files = [
            ("cert", "a-server.pem"),
            ("key", "a-server.key"),
            ("client-cert", "a-client.pem"),
            ("client-key", "a-client.key"),
            ("ca-cert", "a-ca.pem"),
        ];
        let files = files.map(|(option, name)| [format!("--tls-{option}-file"), pki::file(name).display().to_string()]);
        let (nodes, port) = Self::of(Some(files.concat())).await;
        Self {
            nodes,
            url: format!("rediss-cluster://localhost:{port}"),
        }
    }

    /// The nodes, and the port at which clients reach the first.
    async fn of(tls: Option<Vec<String>>) -> (Vec<Store>, u16) {
        let mut nodes: Vec<Store> = Vec::new();
        let mut first = None;
        for slots in SLOTS {
            let mut member = Member::new();
            let between_nodes = member.between_nodes.to_string();
            member.tls = tls.clone().map(|files| (free_port(), files));
            let by_tls = member.tls.as_ref().map(|(port, _)| *port);
            let node = Store::start_as(Some(member)).await;
            let port = by_tls.unwrap_or_else(|| node.port());
            node.command(&[&["CLUSTER", "ADDSLOTSRANGE"], &slots[..]].concat())
                .await;
            match nodes.first() {
                Some(one) => {
                    one.command(&["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), &between_nodes])
                        .await
                }
                None => first = Some(port),
            }
            nodes.push(node);
        }
        for node in &nodes {
            node.until_clustered(SLOTS.len()).await;
        }
        (nodes, first.expect("there is one"))
    }

    /// One of them, to do it harm. Killed and restarted it is empty, and has its slots as before.
    #[must_use]
    pub fn node(&self, number: usize) -> &Store {
        &self.nodes[number]
    }

    /// Waits until all of them know each other and have all slots.
    pub async fn is_whole(&self) {
        for node in &self.nodes {
            node.until_clustered(SLOTS.len()).await;
        }
    }

    /// Where one of them is; it knows the others.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All that is at rest on each.
    pub async fn dumps(&self) -> Vec<String> {
        let mut dumps = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            dumps.push(node.dump().await);
        }
        dumps
    }
}
