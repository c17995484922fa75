//! The nodes of a cluster, and which of them no one should be connected to at the moment.
//!
//! A node that is cut off from its peers answers heartbeats, and serves no one: what shows it is that nothing is
//! confirmed and nothing can be asked of its queues. Anyone who finds that out suspects the node, and all connections to it
//! go to another.

use std::sync::Arc;
use std::time::Duration;

use lapin::uri::AMQPUri;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::service::repetition::Repetitions;

/// How often a connection shows that it is alive, unless its URL says otherwise (`?heartbeat=`). One that has been silent
/// for twice as long is given up. RabbitMQ warns of less than 5 s (<https://www.rabbitmq.com/docs/heartbeats>).
const HEARTBEAT_S: u16 = 5;

/// For how long a suspect is tried last: a partition takes a cluster about a minute to notice, and anyone who is connected
/// to the side that then stops is disconnected.
const SUSPECTED_FOR: Duration = Duration::from_secs(60);

/// All nodes that were named. Clones share what is known of them.
#[derive(Clone)]
pub(super) struct Nodes {
    count: usize,
    /// When each was last suspected.
    suspected: watch::Sender<Vec<Option<Instant>>>,
    /// Why they could not be reached. A program has several connections, and all of them fail alike.
    told: Arc<Repetitions>,
}

/// That address, with how often a connection to it shows that it is alive.
pub(super) fn with_heartbeat(mut uri: AMQPUri) -> AMQPUri {
    uri.query.heartbeat = uri.query.heartbeat.or(Some(HEARTBEAT_S));
    uri
}

impl Nodes {
    pub(super) fn new(count: usize) -> Self {
        Self {
            count,
            suspected: watch::Sender::new(vec![None; count]),
            told: Arc::default(),
        }
    }

    /// Whether it is to be told that a node cannot be reached, for this reason: once a minute, by one of the connections. Tells how
    /// often it was not since.
    pub(super) fn admit(&self, reason: &str) -> Option<u64> {
        self.told.admit(reason, Instant::now())
    }

    /// Which to try after `last`: the next in turn, but a suspect only if there is no one else.
    pub(super) fn after(&self, last: Option<usize>) -> usize {
        let count = self.count.max(1);
        let first = last.map_or(0, |last| (last + 1) % count);
        let suspected = self.suspected.borrow();
        let is_suspect = |node: &usize| is_recent(suspected.get(*node).copied().flatten());
        let in_turn = (0..count).map(|step| (first + step) % count);
        in_turn.clone().find(|node| !is_suspect(node)).unwrap_or(first)
    }

    /// Everyone who is connected to it now leaves it. Tells whether that is so: if all of them were suspected lately, it is
    /// not the nodes but some queue, and no one else's connection ends for that.
    pub(super) fn suspect(&self, node: usize) -> bool {
        self.suspected.send_if_modified(|suspected| {
            let all = suspected.iter().all(|at| is_recent(*at));
            match suspected.get_mut(node) {
                Some(at) if !all => {
                    *at = Some(Instant::now());
                    true
                }
                _ => false,
            }
        })
    }

    /// Waits until someone suspects it, after `connected`.
    pub(super) async fn until_suspected(&self, node: usize, connected: Instant) {
        let mut suspected = self.suspected.subscribe();
        let later = |at: &Option<Instant>| at.is_some_and(|at| at > connected);
        // The sender is here, so that this ends only so.
        let _ = suspected.wait_for(|all| all.get(node).is_some_and(later)).await;
    }
}

fn is_recent(suspected: Option<Instant>) -> bool {
    suspected.is_some_and(|at| at.elapsed() < SUSPECTED_FOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_shows_every_few_seconds_that_it_is_alive_unless_its_url_says_otherwise() {
        for (url, heartbeat) in [
            ("amqp://a/%2f", HEARTBEAT_S),
            ("amqp://a/%2f?channel_max=5", HEARTBEAT_S),
            ("amqp://b/%2f?heartbeat=30", 30),
            ("amqp://c/%2f?channel_max=5&heartbeat=0", 0),
        ] {
            let uri = with_heartbeat(url.parse().unwrap());
            assert_eq!(uri.query.heartbeat, Some(heartbeat), "{url}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_told_once_a_minute_whichever_connection_meets_it() {
        let nodes = Nodes::new(1);
        let other = nodes.clone();
        assert_eq!(nodes.admit("a: refused"), Some(0));
        assert_eq!(other.admit("a: refused"), None);
        assert_eq!(other.admit("a: reset"), Some(0));
        assert_eq!(nodes.admit("a: refused"), None, "though another came between");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(other.admit("a: refused"), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn the_nodes_are_tried_in_turn_and_suspects_last() {
        let nodes = Nodes::new(3);
        let turns = |from| nodes.after(from);
        assert_eq!([None, Some(0), Some(1), Some(2)].map(turns), [0, 1, 2, 0]);
        let connected = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(nodes.suspect(0));
        nodes.until_suspected(0, connected).await;
        assert_eq!([None, Some(0), Some(1), Some(2)].map(turns), [1, 1, 2, 1]);
        assert!(nodes.suspect(1) && nodes.suspect(2));
        assert_eq!(turns(Some(0)), 1, "there is nobody else");
        assert!(!nodes.suspect(1), "so it is not the nodes");
        tokio::time::advance(SUSPECTED_FOR).await;
        assert_eq!([None, Some(0), Some(1), Some(2)].map(turns), [0, 1, 2, 0]);
    }
}
