//! What an operator sees before it comes, and of what waits.

use serde_json::json;
use tests::{Program, Span, Stack, eventually, token_for};

use crate::authentication::expiry::SOON;

const WITHIN: [&str; 5] = ["10s", "60s", "300s", "900s", "3600s"];

async fn expiring(terminator: &Program) -> [f64; 5] {
    let metrics = terminator.metrics().await;
    let sample = |within: &str| format!("countersign_terminator_grants_expiring{{within=\"{within}\"}}");
    WITHIN.map(|within| metrics.get(&sample(within)).copied().unwrap_or(-1.0))
}

async fn until_expiring(terminator: &Program, expected: [f64; 5]) {
    eventually(SOON, &format!("{expected:?} are seen to end"), async || {
        let seen = expiring(terminator).await;
        if seen == expected { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test]
async fn a_wave_of_renewals_is_seen_before_it_comes_and_is_gone_when_it_has_passed() {
    let stack = Stack::start().await;
    let terminator = &stack.terminators()[0];
    until_expiring(terminator, [0.0; 5]).await;
    let mut clients = Vec::new();
    // With the leeway of five seconds.
    for seconds in [200, 200, 200, 800] {
        let mut client = stack.client().await;
        client
            .authenticate(&token_for("alice").expiring_in(seconds.s()).mint())
            .await;
        clients.push(client);
    }
    until_expiring(terminator, [0.0, 0.0, 3.0, 4.0, 4.0]).await;
    for client in &mut clients[..2] {
        client
            .authenticate(&token_for("alice").expiring_in(3_000.s()).mint())
            .await;
    }
    until_expiring(terminator, [0.0, 0.0, 1.0, 2.0, 4.0]).await;
    clients.pop().expect("a client").close().await;
    until_expiring(terminator, [0.0, 0.0, 1.0, 1.0, 3.0]).await;
}

#[tokio::test]
async fn what_waits_for_a_token_is_shown_until_it_has_come() {
    let stack = Stack::start().await;
    let held = async || {
        stack.terminators()[0]
            .metric("countersign_terminator_held_inbound")
            .await
    };
    let mut client = stack.client().await;
    let asked = [
        client.ask("echo", None, json!(1)).await,
        client.ask("echo", None, json!(2)).await,
    ];
    client.expect_required("missing", SOON).await;
    eventually(SOON, "both are held", async || held().await == 2.0).await;
    client.authenticate(&token_for("alice").mint()).await;
    for id in asked {
        client.answer_to(&id, SOON).await;
    }
    eventually(SOON, "nothing is held", async || held().await == 0.0).await;
}
