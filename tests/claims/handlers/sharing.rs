//! What a worker cannot handle yet is handled by one that has nothing to do.

use serde_json::json;
use tests::servers::upstream::Said;
use tests::{Stack, Upstream, eventually, token_for};

use crate::authentication::expiry::SOON;

/// A handler that hangs, two places in a worker, and as many messages taken in as `prefetch` says.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_joins_gets_what_another_had_taken_in_and_could_not_handle() {
    let upstream = Upstream::start(|_| Said::Nothing).await;
    let mut stack = Stack::builder()
        .setting("handler", &upstream.handler())
        .settings(&[
            ("concurrency", "2"),
            ("concurrency-per-type-percent", "100"),
            ("concurrency-per-identity-percent", "100"),
            ("handler-timeout", "5m"),
        ])
        .start()
        .await;
    let mut clients = Vec::new();
    for number in 0..24 {
        let mut client = stack.client().await;
        client.authenticate(&token_for(&format!("user-{number}")).mint()).await;
        client.ask("hang", None, json!(number)).await;
        clients.push(client);
    }
    let handled = async |count: usize| {
        eventually(SOON, "as many are handled as there are places", async || {
            upstream.asked().len() == count
        })
        .await;
    };
    handled(2).await;
    for workers in 2..=3 {
        stack.start_workers(1).await;
        handled(2 * workers).await;
    }
    let mut numbers: Vec<_> = upstream
        .asked()
        .iter()
        .map(|asked| asked.body["payload"].as_u64())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 6, "each once");
}
