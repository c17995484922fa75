//! P8: the JWT is never in the store, a log, a trace, a metric, or a dead letter.

use std::io;

use lapin::BasicProperties;
use serde_json::{Value, json};
use tests::{Key, Span, Stack, eventually, http, token_for};

#[tokio::test]
async fn no_part_of_a_token_is_left_anywhere() {
    let stack = Stack::builder()
        .poisoned_workers(1)
        .setting("max-deliveries", "2")
        .setting("log", "trace");
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
    let mut client = stack.client().await;
    let dead = format!("{}.dead", stack.namespace());
    let mut buried = String::new();
    for token in &tokens {
        let good = json!({"id": "i", "type": "echo", "token": token, "payload": 1});
        client.request("echo", Some(token), Value::Null).await;
        client.request("fail", Some(token), Value::Null).await;
        client.request("panic", Some(token), Value::Null).await;
        queue.request(&good).await;
        queue.request(&json!({"id": 1, "type": "echo", "token": token})).await;
        let nobody = BasicProperties::default().with_reply_to("no-such-queue".into());
        queue.publish("message", good.to_string(), nobody).await;
        // Each of these is buried, because nobody would hear why it is refused.
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
    for token in &tokens {
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
