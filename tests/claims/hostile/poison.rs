//! A message that kills, panics, fails, dawdles or stays silent harms no one but its sender; and answers find their
//! own request among many.

use std::{
    collections::BTreeSet,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tests::peers::queue::Message;
use tests::{Client, Queue, Span, Stack, eventually, token_for};
use tokio::time::Instant;

fn message(id: &str, kind: &str, token: &str) -> String {
    json!({"id": id, "type": kind, "token": token, "payload": id}).to_string()
}

/// The next dead letter; workers that have died by then are replaced.
pub(crate) async fn dead_letter_over_the_dead(stack: &mut Stack, queue: &Queue) -> (Message, usize) {
    let name = format!("{}.dead", stack.namespace());
    let deadline = Instant::now() + 30.s();
    let mut died = 0;
    loop {
        died += stack.replace_ended_workers();
        match queue.get(&name).await {
            Some(dead) => return (dead, died),
            None => assert!(Instant::now() < deadline, "no dead letter, and {died} workers died"),
        }
        tokio::time::sleep(20.ms()).await;
    }
}

#[tokio::test]
async fn poison_is_buried_without_its_token_and_burns_none_of_its_neighbours() {
    const NEIGHBOURS: usize = 300;
    const DELIVERIES: usize = 3;
    let deliveries = DELIVERIES.to_string();
    let stack = Stack::builder()
        .poisoned_workers(2)
        .setting("max-deliveries", &deliveries);
    let mut stack = stack.start().await;
    let queue = stack.queue().await;
    let (mut replies, mut sender) = (queue.reply_queue().await, queue.reply_queue().await);
    let token = token_for("alice").mint();
    let sent_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let publish = async |number: usize| {
        let properties = replies
            .properties()
            .with_correlation_id(number.to_string().as_str().into());
        queue.publish("message", message("n", "echo", &token), properties).await;
    };
    join_all((0..NEIGHBOURS / 2).map(publish)).await;
    let mut forged = FieldTable::default();
    forged.insert("x-first-death-reason".into(), AMQPValue::LongString("forged".into()));
    forged.insert("first_seen".into(), AMQPValue::LongLongInt(1));
    let properties = sender
        .properties()
        .with_correlation_id("poison".into())
        .with_headers(forged);
    queue
        .publish("message", message("p", "abort", &token), properties)
        .await;
    join_all((NEIGHBOURS / 2..NEIGHBOURS).map(publish)).await;

    let (dead, died) = dead_letter_over_the_dead(&mut stack, &queue).await;
    assert_eq!(dead.json(), json!({"id": "p", "type": "abort", "payload": "p"}));
    assert!(!dead.everything().contains(token.rsplit('.').next().unwrap()));
    assert_eq!(
        dead.header("reason"),
        Some(AMQPValue::LongString("delivery_limit".into()))
    );
    assert_eq!(
        dead.header("count"),
        Some(AMQPValue::LongLongInt(DELIVERIES.try_into().unwrap()))
    );
    let first_seen_s = match dead.header("first_seen") {
        Some(AMQPValue::LongLongInt(seconds)) => u64::try_from(seconds).unwrap(),
        other => panic!("no time, but {other:?}"),
    };
    assert!((sent_s..=sent_s + 30).contains(&first_seen_s), "{first_seen_s}");
    // A worker that dies between moving the poison and acknowledging it leaves two of it.
    assert!((DELIVERIES..=2 * DELIVERIES).contains(&died), "{died} workers died");
    stack.outlive_poison().await;
    while let Some(dead) = queue.get(&format!("{}.dead", stack.namespace())).await {
        assert_eq!(dead.json()["id"], "p", "a neighbour is buried");
    }
    let told = sender.next(10.s()).await;
    assert_eq!(told.properties.correlation_id().as_ref().unwrap().as_str(), "poison");
    assert_eq!(
        (&told.json()["id"], &told.json()["error"]["code"]),
        (&json!("p"), &json!("internal"))
    );

    // Effects are at least once, and an injector has no terminator that drops what comes twice.
    let mut open: BTreeSet<_> = (0..NEIGHBOURS).map(|number| number.to_string()).collect();
    while !open.is_empty() {
        let answer = replies.next(20.s()).await;
        assert_eq!(answer.json()["type"], "reply");
        open.remove(answer.properties.correlation_id().as_ref().unwrap().as_str());
    }
    for name in ["dead", "injected.failed", "injected.retry", "injected"] {
        let name = format!("{}.{name}", stack.namespace());
        eventually(10.s(), "nothing is left", async || queue.count(&name).await == 0).await;
    }
}

#[tokio::test]
async fn poison_through_a_socket_is_told_once_and_its_neighbours_are_answered_once() {
    const NEIGHBOURS: usize = 200;
    let stack = Stack::builder()
        .poisoned_workers(2)
        .setting("max-deliveries", "2")
        .setting("max-in-flight", "500");
    let mut stack = stack.start().await;
    let queue = stack.queue().await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    client.request("echo", Some(&token), Value::Null).await;
    for number in 0..NEIGHBOURS {
        let (id, kind) = if number == NEIGHBOURS / 2 {
            ("poison".to_owned(), "abort")
        } else {
            (format!("n{number}"), "echo")
        };
        client.send_text(&message(&id, kind, &token)).await;
    }
    let (dead, died) = dead_letter_over_the_dead(&mut stack, &queue).await;
    assert!(dead.json()["id"] == "poison" && died >= 2, "{died} workers died");
    stack.outlive_poison().await;
    let mut seen = BTreeSet::new();
    for _ in 0..NEIGHBOURS {
        let answer = client.next_json(20.s()).await;
        let id = answer["id"].as_str().unwrap().to_owned();
        let expected = if id == "poison" {
            &json!("internal")
        } else {
            &Value::Null
        };
        assert_eq!(&answer["error"]["code"], expected, "{answer}");
        assert!(seen.insert(id), "twice: {answer}");
    }
    client.expect_silence(200.ms()).await;
    while let Some(dead) = queue.get(&format!("{}.dead", stack.namespace())).await {
        assert_eq!(dead.json()["id"], "poison", "a neighbour is buried");
    }
}

#[tokio::test]
async fn a_panic_and_an_error_are_one_error_each_and_many_answers_come_in_order() {
    let stack = Stack::builder().poisoned_workers(1).start().await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    client.request("echo", Some(&token), Value::Null).await;
    for (kind, code) in [("panic", "internal"), ("fail", "forbidden")] {
        let answer = client.request(kind, Some(&token), Value::Null).await;
        assert_eq!(
            (&answer["type"], &answer["error"]["code"]),
            (&json!("error"), &json!(code))
        );
    }
    client.send_text(&message("m", "many", &token)).await;
    for number in 0..20 {
        let answer = client.next_json(5.s()).await;
        assert_eq!(answer, json!({"type": "reply", "id": "m", "payload": number}));
    }
    assert_eq!(
        client.request("echo", Some(&token), json!("after")).await["payload"],
        "after"
    );
    client.expect_silence(100.ms()).await;
    assert_eq!(
        stack.workers()[0]
            .metric("countersign_worker_handler_panics_total")
            .await,
        1.0
    );
}

#[tokio::test]
async fn silence_frees_the_client_s_share_in_flight() {
    let stack = Stack::builder()
        .poisoned_workers(1)
        .setting("max-in-flight", "4")
        .start()
        .await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    client.request("echo", Some(&token), Value::Null).await;
    for _ in 0..40 {
        client.send_text(&message("n", "none", &token)).await;
    }
    let answer = client.request("echo", Some(&token), json!("after")).await;
    assert_eq!(answer["payload"], "after");
    eventually(5.s(), "nothing is in flight", async || {
        stack.terminators()[0]
            .metric("countersign_terminator_messages_in_flight")
            .await
            == 0.0
    })
    .await;
}

/// P2.
#[tokio::test]
async fn every_message_is_handled_in_the_name_of_its_own_token() {
    let stack = Stack::builder().poisoned_workers(3).start().await;
    let tokens: Vec<_> = (0..30)
        .map(|number| token_for(&format!("user-{number}")).mint())
        .collect();
    let queue = stack.queue().await;
    let ask = async |number: usize| {
        let number = number % tokens.len();
        let who = json!({"type": "whoami", "token": tokens[number]});
        let answer = queue.request(&who).await.json();
        let expected = json!({"issuer": tests::tokens::token::ISSUER, "subject": format!("user-{number}")});
        assert_eq!(answer["payload"], expected);
    };
    // A connection is one identity's, so each has its own, all at once.
    let through_connections = join_all(tokens.iter().enumerate().map(async |(number, token)| {
        let mut client = stack.client().await;
        for round in 0..5 {
            let message = json!({"id": round.to_string(), "type": "whoami", "token": token});
            client.send_text(&message.to_string()).await;
        }
        for _ in 0..5 {
            let answer = client.next_json(10.s()).await;
            assert_eq!(answer["payload"]["subject"], format!("user-{number}"), "{answer}");
        }
    }));
    tokio::join!(join_all((0..120).map(ask)), through_connections);
}

/// P5.
#[tokio::test]
async fn answers_reach_only_the_connection_that_asked() {
    const CONNECTIONS: usize = 20;
    const MESSAGES: usize = 40;
    let stack = Stack::builder().terminators(2).workers(3).start().await;
    let token = token_for("alice").mint();
    let clients = (0..CONNECTIONS).map(async |number| {
        let mut client = Client::connect(&stack.terminators()[number % 2]).await;
        // Everyone gives the same ids.
        for message in 0..MESSAGES {
            let body =
                json!({"id": format!("{message}"), "type": "echo", "token": token, "payload": [number, message]});
            client.send_json(&body).await;
        }
        let mut open: BTreeSet<_> = (0..MESSAGES)
            .map(|message| json!([number, message]).to_string())
            .collect();
        for _ in 0..MESSAGES {
            let answer = client.next_json(20.s()).await;
            assert_eq!(answer["id"], answer["payload"][1].to_string());
            assert!(
                open.remove(&answer["payload"].to_string()),
                "not mine, or twice: {answer}"
            );
        }
        client.expect_silence(100.ms()).await;
    });
    join_all(clients).await;
}
