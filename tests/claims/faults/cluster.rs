//! A cluster of three RabbitMQ nodes is the normal case: whatever befalls one of them costs seconds, and no promise.
//!
//! Clients and a backend go on all the time and write down what they sent and heard; the judge reads it (`history`). The
//! short drills run with all claims. The long ones, of which docs/drills.md has the table, run on request:
//!
//! ```text
//! COUNTERSIGN_TEST_DRILLS=all tests/run drills_one_after_the_other
//! COUNTERSIGN_TEST_DRILLS=frozen-75s,cut-off-30s tests/run drills_one_after_the_other
//! ```
//!
//! `COUNTERSIGN_TEST_HISTORIES` names a folder in which histories are kept, to be judged again by `judge-history`.

use std::{env, path::PathBuf, sync::Arc, time::Duration};

use tests::drill::Plan;
use tests::history::Judgement;
use tests::nodes::cluster::Link;
use tests::nodes::redis_cluster::StoreCluster;
use tests::nodes::watchdog::Folder;
use tests::{Cluster, Drill, History, Span, Stack, Store, eventually};
use tokio::time::sleep;

/// How long no one may be served when one node is lost: what it takes to notice (twice the heartbeat), to go to another
/// node, and to have a leader elected there.
const GAP_MOST: Duration = Duration::from_secs(20);

/// How long everything runs undisturbed before the harm, and after it.
const BEFORE: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(15);

/// Names of long drills, comma separated, or `all`.
const DRILLS: &str = "COUNTERSIGN_TEST_DRILLS";

/// A folder in which histories are kept.
const HISTORIES: &str = "COUNTERSIGN_TEST_HISTORIES";

/// All that can be harmed, under load.
struct Scene {
    cluster: Cluster,
    store: Arc<Store>,
    replica: Store,
    /// From workers to the store.
    store_door: Link,
    /// What workers have instead, in the drill about it.
    store_cluster: Option<StoreCluster>,
    stack: Stack,
    drill: Drill,
    _folder: Folder,
}

impl Scene {
    async fn set(name: &str) -> Self {
        let cluster = Cluster::start().await;
        let store = Arc::new(Store::start().await);
        let replica = Store::start().await;
        replica.follow(&store).await;
        let store_door = Link::to(store.port()).await;
        let store_cluster = match name == STORE_CLUSTER {
            true => Some(StoreCluster::start().await),
            false => None,
        };
        let door = format!("redis://127.0.0.1:{}", store_door.port());
        let store_url = store_cluster.as_ref().map_or(door, |cluster| cluster.url().to_owned());
        let urls = cluster.urls_from(0);
        let stack = Stack::builder()
            .broker(cluster.node(0))
            .users(&urls, &urls)
            .store(&store)
            .terminators(2)
            .poisoned_workers(3)
            .setting("messages-per-second", "off")
            .setting("store-url", &store_url)
            .start()
            .await;
        cluster.settle().await;
        let folder = Folder::new("history");
        let path = env::var_os(HISTORIES).map_or_else(|| folder.join(name), |kept| PathBuf::from(kept).join(name));
        let history = History::in_file(&path.with_extension("jsonl"));
        let broker_urls: Vec<_> = urls.split(',').map(str::to_owned).collect();
        let drill = Drill::start(&Plan::default(), &stack, &broker_urls, history);
        eventually(60.s(), "clients are served", async || drill.answers() > 200).await;
        sleep(BEFORE).await;
        Self {
            cluster,
            store,
            replica,
            store_door,
            store_cluster,
            stack,
            drill,
            _folder: folder,
        }
    }

    async fn finish(self, name: &str) -> Judgement {
        self.drill.healed(name);
        sleep(AFTER).await;
        let judgement = self.drill.finish().await;
        println!("{name}: {judgement}");
        judgement
    }
}

/// The node of which most is led, and to which every program is connected: they begin with the first of their URLs.
const LEADER: usize = 0;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_costs_seconds_and_no_promise() {
    let name = "killed";
    let scene = Scene::set(name).await;
    scene.drill.fault(name);
    scene.cluster.node(LEADER).kill();
    sleep(10.s()).await;
    let judgement = scene.finish(name).await;
    judgement.assert_sound();
    assert!(u128::from(judgement.gap_ms) <= GAP_MOST.as_millis(), "{judgement}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_leader_is_left_for_another_node_and_costs_no_promise() {
    let name = "frozen-20s";
    let scene = Scene::set(name).await;
    scene.drill.fault(name);
    scene.cluster.node(LEADER).freeze().await;
    sleep(30.s()).await;
    scene.cluster.node(LEADER).thaw();
    let judgement = scene.finish(name).await;
    judgement.assert_sound();
    assert!(u128::from(judgement.gap_ms) <= GAP_MOST.as_millis(), "{judgement}");
}

/// The drill in which the store is a cluster.
const STORE_CLUSTER: &str = "redis-cluster-nodes-in-turn";

/// What can be done, by name.
const ALL: [&str; 15] = [
    "none",
    "killed",
    "frozen-20s",
    "frozen-75s",
    "cut-off-30s",
    "cut-off-90s",
    "partitioned-30s",
    "nodes-in-turn",
    "terminators-in-turn",
    "workers-in-turn",
    "redis-killed-5s",
    "redis-frozen-10s",
    "redis-failed-over",
    "redis-emptied",
    STORE_CLUSTER,
];

#[tokio::test(flavor = "multi_thread")]
async fn drills_one_after_the_other() {
    let Ok(wanted) = env::var(DRILLS) else {
        println!("long drills run if {DRILLS} names some: {ALL:?}");
        return;
    };
    let wanted: Vec<_> = if wanted == "all" {
        ALL.to_vec()
    } else {
        wanted.split(',').collect()
    };
    let mut rows = vec![Judgement::HEAD.to_owned()];
    let mut judgements = Vec::new();
    for name in wanted {
        let mut scene = Scene::set(name).await;
        scene.drill.fault(name);
        harm(&mut scene, name).await;
        let judgement = scene.finish(name).await;
        rows.push(judgement.row(name));
        judgements.push(judgement);
    }
    println!("{}", rows.join("\n"));
    judgements.iter().for_each(Judgement::assert_sound);
}

async fn harm(scene: &mut Scene, name: &str) {
    let Scene {
        cluster,
        store,
        replica,
        store_door,
        store_cluster,
        stack,
        drill,
        ..
    } = scene;
    match name {
        "none" => sleep(20.s()).await,
        "killed" => {
            cluster.node(LEADER).kill();
            sleep(20.s()).await;
            cluster.node(LEADER).restart().await;
            cluster.is_whole().await;
        }
        "frozen-20s" | "frozen-75s" => {
            cluster.node(LEADER).freeze().await;
            sleep(if name == "frozen-20s" { 20.s() } else { 75.s() }).await;
            cluster.node(LEADER).thaw();
        }
        "cut-off-30s" | "cut-off-90s" => {
            cluster.cut_off(LEADER);
            sleep(if name == "cut-off-30s" { 30.s() } else { 90.s() }).await;
            cluster.heal(LEADER);
        }
        "partitioned-30s" => {
            cluster.part(LEADER);
            sleep(30.s()).await;
            cluster.heal(LEADER);
        }
        "nodes-in-turn" => {
            for node in 0..3 {
                cluster.node(node).ctl(&["stop"]).await;
                cluster.node(node).restart().await;
                cluster.is_whole().await;
                sleep(5.s()).await;
            }
        }
        "terminators-in-turn" => {
            for number in 0..2 {
                stack.start_terminators(1).await;
                stack.terminator(number).terminate();
                drill.targets().set_but(stack, number);
                stack.terminator(number).wait_exit(60.s()).await;
                sleep(5.s()).await;
            }
        }
        "workers-in-turn" => {
            for number in 0..3 {
                stack.worker(number).terminate();
                stack.start_workers(1).await;
                stack.worker(number).wait_exit(60.s()).await;
                sleep(5.s()).await;
            }
        }
        "redis-killed-5s" => {
            store.kill();
            sleep(5.s()).await;
            store.restart().await;
        }
        "redis-frozen-10s" => {
            store.freeze().await;
            sleep(10.s()).await;
            store.thaw();
        }
        "redis-failed-over" => {
            store.kill();
            sleep(5.s()).await;
            replica.promote().await;
            store_door.lead_to(replica.port());
            sleep(10.s()).await;
        }
        "redis-emptied" => store.flush().await,
        STORE_CLUSTER => {
            let nodes = store_cluster.as_ref().expect("it was started for this");
            for node in 0..3 {
                nodes.node(node).kill();
                sleep(5.s()).await;
                nodes.node(node).restart().await;
                nodes.is_whole().await;
                sleep(5.s()).await;
            }
        }
        other => panic!("there is no drill {other}; there are {ALL:?}"),
    }
}
