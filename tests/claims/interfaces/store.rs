//! The store keeps its promises on a real Redis, as it does within one process (there by a test of the suite itself).

use std::fs;

use serde_json::json;
use testkit::store;
use tests::nodes::redis_cluster::StoreCluster;
use tests::servers::pki;
use tests::{Span, Stack, Store, eventually, shared_store, test_keys, token_for};
use worker::store::COMMANDS;

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_every_promise_of_a_store() {
    let server = shared_store().await;
    let tested = store::redis(&server.url(), &a_namespace(), 5.s()).unwrap();
    store::every_claim(&tested).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_that_are_named_are_all_that_a_store_needs() {
    let server = shared_store().await;
    let namespace = a_namespace();
    let mut administrator = server.connect().await.unwrap();
    let mut allow = redis::cmd("ACL");
    allow
        .arg(&["SETUSER", &namespace, "reset", "on", ">secret"])
        .arg(format!("~{namespace}:*"));
    for command in COMMANDS {
        allow.arg(format!("+{}", command.to_lowercase().replace(' ', "|")));
    }
    // By which the suite, and no one else, finds what to make older.
    allow.arg("+keys");
    allow.exec_async(&mut administrator).await.unwrap();

    let url = server.url().replace("//", &format!("//{namespace}:secret@"));
    let tested = store::redis(&url, &namespace, 5.s()).unwrap();
    store::every_claim(&tested).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_touches_one_slot_of_a_cluster() {
    let server = Store::start_clustered().await;
    let url = server.url().replace("redis://", "redis-cluster://");
    let tested = store::redis(&url, &a_namespace(), 5.s()).unwrap();
    store::every_claim(&tested).await;
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
    // No one who is signed by that CA is there: it has read the file, and waits for the store alone.
    eventually(60.s(), "the worker does not reach the store", async || {
        match stack.workers()[0].is_ready().await {
            Err(lack) if lack.contains(r#""broker":"ok""#) && !lack.contains(r#""store":"ok""#) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    believe(&[pki::pem("b-ca.pem"), pki::pem("a-ca.pem")]);
    stack.worker(0).ready().await;
    for subject in 0..30 {
        let mut client = stack.client().await;
        let token = token_for(&format!("subject-{subject}")).mint();
        // The first call to a node waits for its handshake, and may be refused for the moment on a machine with too much to do.
        eventually(30.s(), "a message is answered", async || {
            let answer = client.request("echo", Some(&token), json!(subject)).await;
            match answer["payload"] == subject {
                true => Ok(()),
                false if answer["error"]["temporary"] == true => Err(answer.to_string()),
                false => panic!("{answer}"),
            }
        })
        .await;
    }
    // Each node has its part.
    for dump in cluster.dumps().await {
        assert!(dump.contains(stack.namespace()), "{dump}");
    }
}

/// A namespace that no one else uses; it is a good name for a user, too.
fn a_namespace() -> String {
    format!("claims-{:016x}", rand::random::<u64>())
}
