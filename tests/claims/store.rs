//! The store keeps its promises on a real Redis, as it does within one process (there by a unit test of the same suite).

use tests::redis::shared_store;
use tests::wait::Span;
use worker::store::conformance;

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_every_promise_of_a_store() {
    let store = shared_store().await;
    let namespace = format!("claims-{:016x}", rand::random::<u64>());
    let home = conformance::redis(&store.url(), &namespace, 5.s()).unwrap();
    conformance::every_claim(&home).await;
}
