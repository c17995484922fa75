//! The store keeps its promises on a real Redis, as it does within one process (there by a unit test of the same suite).

use tests::nodes::redis::{Store, shared_store};
use tests::wait::Span;
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

/// A namespace that nobody else uses; it is a good name for a user, too.
fn a_namespace() -> String {
    format!("claims-{:016x}", rand::random::<u64>())
}
