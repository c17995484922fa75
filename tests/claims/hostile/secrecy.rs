//! P8: the JWT is never in the store, a log, a trace, a metric, or a dead letter.

use std::io;

use lapin::BasicProperties;
use serde_json::{Value, json};
use tests::servers::http;
use tests::{Key, Producer, Push, Span, Stack, eventually, token_for};

use crate::authentication::expiry::SOON;

#[tokio::test]
async fn no_part_of_a_token_is_left_anywhere() {
    let stack = Stack::builder()
        .poisoned_workers(1)
        .setting("max-deliveries", "2")
        .setting("jwt-leeway", "0s")
        .setting("log-filter", "trace");
    let mut stack = stack.start().await;
    let canary = || token_for("alice").claim("canary", "c4n4ry");
    let stranger = Key::generate(tests::Algorithm::Hs256);
    let tokens = [
        canary().mint(),
        canary().expired_since(60.s()).mint(),
        canary().signed_with(&stranger).mint(),
        canary().audience("others").mint(),
        canary().signature([]).mint(),
        format!("{}=", canary().mint()),
    ];
    let queue = stack.queue().await;
    let mut backend = stack.producer().await;
    let dead = format!("{}.dead", stack.namespace());
    let mut buried = String::new();
    for token in &tokens {
        let good = json!({"id": "i", "type": "echo", "token": token, "payload": 1});
        // One that has expired is held, and is answered when the connection is authenticated.
        let mut client = stack.client().await;
        for kind in ["echo", "fail", "panic"] {
            client.ask(kind, Some(token), Value::Null).await;
        }
        client.ping(SOON).await;
        queue.request(&good).await;
        queue.request(&json!({"id": 1, "type": "echo", "token": token})).await;
        let nobody = BasicProperties::default().with_reply_to("amq.gen-no-such-queue".into());
        queue.publish("message", good.to_string(), nobody).await;
        // Each of these is buried, because no one would hear why it is refused.
        let half = good.to_string().replace(r#""payload":1"#, r#""payload""#);
        for body in [
            half,
            format!("Bearer {token}"),
            json!({"typo": "echo", "token": token}).to_string(),
        ] {
            let properties = BasicProperties::default()
                .with_content_type(format!("{token:.255}").as_str().into())
                .with_correlation_id(format!("{token:.255}").as_str().into());
            queue.publish("message", body, properties).await;
            buried += &queue.dead_letter(10.s()).await.everything();
        }
    }
    let lived = a_whole_life(&stack, &mut backend).await;
    queue
        .publish(
            "message",
            json!({"id": "p", "type": "abort", "token": tokens[0]}).to_string(),
            BasicProperties::default(),
        )
        .await;
    let mut logs = String::new();
    let letter = eventually(20.s(), "the poison is buried", async || {
        if stack.worker(0).has_ended() {
            logs += &stack.workers()[0].stderr();
            stack.replace_ended_workers();
        }
        queue.get(&dead).await
    })
    .await;
    buried += &letter.everything();
    // A worker may still die of a second copy of the poison while it is asked.
    logs += &eventually(60.s(), "every program tells its metrics", async || {
        stack.outlive_poison().await;
        let mut metrics = String::new();
        for program in stack.terminators().iter().chain(stack.workers()) {
            metrics += &http::get(program.admin(), "/metrics").await?.body;
        }
        io::Result::Ok(metrics)
    })
    .await;
    for program in stack.terminators().iter().chain(stack.workers()) {
        logs += &program.stderr();
        logs += &program.stdout();
    }
    assert!(logs.contains(r#""level":"DEBUG""#), "the log is as loud as it can be");
    let stored = stack.store().dump().await;
    assert!(
        stored.contains(stack.namespace()) && stored.contains("alice"),
        "the store is not empty"
    );
    assert!(stored.contains("held by a canary"), "something is held");
    for token in tokens.iter().chain(&lived) {
        for segment in token.split('.').filter(|segment| segment.len() > 10) {
            for (place, text) in [
                ("a dead letter", &buried),
                ("the store", &stored),
                ("a log or a metric", &logs),
            ] {
                // The beginning would be enough to tell that it is there.
                let at = text.find(&segment[..segment.len().min(24)]);
                let around = at.map(|at| text[at.saturating_sub(200)..].chars().take(300).collect::<String>());
                assert_eq!(around, None, "in {place}");
            }
        }
    }
    assert!(!logs.contains("c4n4ry") && !stored.contains("c4n4ry"), "nor its claims");
}

/// Each thing that a token can do or have done to it, and some that stay as they are. Returns the tokens.
async fn a_whole_life(stack: &Stack, backend: &mut Producer) -> Vec<String> {
    let canary = |subject: &str| token_for(subject).claim("canary", "c4n4ry");
    let mut tokens = Vec::new();
    let mut mint = |builder: tests::tokens::token::Builder<'_>| {
        let token = builder.mint();
        tokens.push(token.clone());
        token
    };
    let (mut alice, mut bob, mut mallory) = (stack.client().await, stack.client().await, stack.client().await);
    let brief = canary("alice").expiring_in(2.s());
    let key = alice.authenticate(&mint(brief.clone())).await["resume"].clone();
    bob.authenticate(&mint(canary("bob"))).await;
    backend.push_to("alice", "seen").await;
    alice.push(SOON).await;
    brief.expired().await;
    // Held with a token, without one, and for the next.
    alice.ask("echo", Some(&brief.mint()), json!("held by a canary")).await;
    alice.ask("echo", None, json!("held by a canary")).await;
    alice.expect_required("expired", SOON).await;
    backend.push_to("alice", "held by a canary").await;
    alice.try_authenticate(&brief.mint()).await;
    alice.try_authenticate(&mint(canary("alice").audience("others"))).await;
    // Another's token, and one that is revoked.
    mallory.authenticate(&mint(canary("mallory"))).await;
    mallory.ask("echo", Some(&mint(canary("bob"))), Value::Null).await;
    mallory.expect_close(4509, SOON).await;
    backend.revoke(&json!({"subject": "bob"})).await;
    bob.expect_close(4503, SOON).await;
    let mut revoked = stack.client().await;
    revoked.try_authenticate(&mint(canary("bob"))).await;
    // What was held comes through on another connection, whose own goes on to expire and hold.
    alice.close().await;
    let mut next = stack.client().await;
    let brief = canary("alice").expiring_in(2.s());
    next.resume(&mint(brief.clone()), key.as_str().expect("a key")).await;
    next.push(SOON).await;
    brief.expired().await;
    next.ask("echo", None, json!("held by a canary")).await;
    next.expect_required("expired", SOON).await;
    backend.push_to("alice", "held by a canary").await;
    backend.push(&Push::to("alice", 1).raw(&mint(canary("alice")))).await;
    next.ping(SOON).await;
    tokens
}
