//! A Redis cluster of three nodes, which clients reach by TLS alone, as the nodes do each other.

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
        let mut nodes: Vec<Store> = Vec::new();
        let mut first = None;
        for slots in SLOTS {
            let mut member = Member::new();
            let port = free_port();
            member.tls = Some((port, files.concat()));
            let (port, between_nodes) = (port.to_string(), member.between_nodes.to_string());
            let node = Store::start_as(Some(member)).await;
            node.command(&[&["CLUSTER", "ADDSLOTSRANGE"], &slots[..]].concat())
                .await;
            match nodes.first() {
                Some(one) => {
                    one.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &between_nodes])
                        .await
                }
                None => first = Some(port),
            }
            nodes.push(node);
        }
        for node in &nodes {
            node.until_clustered(SLOTS.len()).await;
        }
        let url = format!("rediss-cluster://localhost:{}", first.expect("there is one"));
        Self { nodes, url }
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
