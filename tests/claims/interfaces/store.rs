//! The store keeps its promises on a real Redis, as it does within one process (there by a unit test of the same suite).

use std::fs;

use serde_json::json;
use tests::nodes::redis_cluster::StoreCluster;
use tests::servers::pki;
use tests::{Span, Stack, Store, eventually, shared_store, test_keys, token_for};
use worker::store::conformance;

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_every_promise_of_a_store() {
    let store = shared_store().await;
    let home = conformance::redis(&store.url(), &a_namespace(), 5.s()).unwrap();
    conformance::every_claim(&home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_that_are_named_are_all_that_a_store_needs() {
    let store = shared_store().await;
    let namespace = a_namespace();
    let mut administrator = store.connect().await.unwrap();
    let mut allow = redis::cmd("ACL");
    allow
        .arg(&["SETUSER", &namespace, "reset", "on", ">secret"])
        .arg(format!("~{namespace}:*"));
    for command in conformance::COMMANDS {
        allow.arg(format!("+{}", command.to_lowercase().replace(' ', "|")));
    }
    // By which the suite, and nobody else, finds what to make older.
    allow.arg("+keys");
    allow.exec_async(&mut administrator).await.unwrap();

    let url = store.url().replace("//", &format!("//{namespace}:secret@"));
    let home = conformance::redis(&url, &namespace, 5.s()).unwrap();
    conformance::every_claim(&home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_touches_one_slot_of_a_cluster() {
    let store = Store::start_clustered().await;
    let url = store.url().replace("redis://", "redis-cluster://");
    let home = conformance::redis(&url, &a_namespace(), 5.s()).unwrap();
    conformance::every_claim(&home).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_reached_by_tls_and_the_ca_by_which_it_is_believed_is_replaced() {
    let cluster = StoreCluster::start_by_tls().await;
    let ca = test_keys()
        .folder()
        .join(format!("cluster-ca-{:08x}", rand::random::<u32>()));
    let believe = |pems: &[&str]| {
        let beside = ca.with_extension("new");
        fs::write(&beside, pems.concat()).unwrap();
        fs::rename(&beside, &ca).unwrap();
    };
    believe(&[pki::pem("b-ca.pem")]);
    let builder = Stack::builder().settings(&[
        ("store-url", cluster.url()),
        ("store-ca", ca.to_str().unwrap()),
        ("store-cert", pki::file("a-client.pem").to_str().unwrap()),
        ("store-key", pki::file("a-client.key").to_str().unwrap()),
    ]);
    let mut stack = builder.workers(0).start().await;
    stack.spawn_workers(1);
    // Nobody who is signed by that CA is there.
    eventually(30.s(), "the worker is not ready", async || {
        stack.workers()[0].is_ready().await.is_err()
    })
    .await;
    believe(&[pki::pem("b-ca.pem"), pki::pem("a-ca.pem")]);
    stack.worker(0).ready().await;
    for subject in 0..30 {
        let mut client = stack.client().await;
        let token = token_for(&format!("subject-{subject}")).mint();
        let answer = client.request("echo", Some(&token), json!(subject)).await;
        assert_eq!(answer["payload"], subject, "{answer}");
    }
    // Each node has its part.
    for dump in cluster.dumps().await {
        assert!(dump.contains(stack.namespace()), "{dump}");
    }
}

/// A namespace that nobody else uses; it is a good name for a user, too.
fn a_namespace() -> String {
    format!("claims-{:016x}", rand::random::<u64>())
}
