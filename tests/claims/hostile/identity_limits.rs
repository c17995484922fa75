//! How much one identity may have and do, on all its connections, terminators and workers together.

use serde_json::{Value, json};
use tests::{Client, Span, Stack, eventually, token_for};
use tokio::time::Instant;

use crate::authentication::expiry::{SOON, fresh};

const CLOSES: &str = "countersign_worker_close_requests_total{code=\"4505\"}";

async fn stack(on_more: &str) -> Stack {
    Stack::builder()
        .terminators(2)
        .workers(2)
        .settings(&[("max-connections-per-identity", "2"), ("on-connection-limit", on_more)])
        .start()
        .await
}

/// What a connection is told that shows a token of that subject: its `auth`, or the error.
async fn shows(client: &mut Client, subject: &str) -> Result<Value, Value> {
    let answer = client
        .request("auth.authenticate", Some(&fresh(subject)), Value::Null)
        .await;
    match answer["type"] == "auth.ok" {
        true => Ok(answer["auth"].clone()),
        false => Err(answer["error"].clone()),
    }
}

async fn told_to_close(stack: &Stack) -> f64 {
    let mut sum = 0.0;
    for worker in stack.workers() {
        sum += worker.metrics().await.get(CLOSES).copied().unwrap_or_default();
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_more_than_an_identity_may_have_is_refused_until_one_has_gone() {
    let stack = stack("refuse").await;
    let (mut first, mut second) = (stack.client().await, stack.client_of(1).await);
    let resume = shows(&mut first, "alice").await.unwrap()["resume"].clone();
    shows(&mut second, "alice").await.unwrap();
    let mut third = stack.client_of(1).await;
    let error = shows(&mut third, "alice").await.unwrap_err();
    assert_eq!(
        (&error["code"], &error["temporary"]),
        (&json!("forbidden"), &json!(false)),
        "{error}"
    );
    third.expect_close(4505, SOON).await;
    // Nor by a message of its own.
    let mut fourth = stack.client().await;
    let answer = fourth.request("echo", Some(&fresh("alice")), json!(1)).await;
    assert_eq!(answer["error"]["code"], "forbidden", "{answer}");
    fourth.expect_close(4505, SOON).await;
    assert!(told_to_close(&stack).await >= 2.0);
    // Those who are there renew and live on, and no other identity is concerned.
    shows(&mut first, "alice").await.unwrap();
    shows(&mut second, "alice").await.unwrap();
    shows(&mut stack.client().await, "bob").await.unwrap();
    // A connection that resumes one of them has its place.
    let mut successor = stack.client_of(1).await;
    let message =
        json!({"id": "r", "type": "auth.authenticate", "token": fresh("alice"), "payload": {"resume": resume}});
    successor.send_json(&message).await;
    assert_eq!(successor.answer_to("r", SOON).await["type"], "auth.ok");
    first.expect_close(4510, SOON).await;
    second.close().await;
    eventually(SOON, "the place of one that has gone is free", async || {
        let mut next = stack.client().await;
        shows(&mut next, "alice").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_that_authenticate_an_identity_at_once_give_no_place_twice() {
    let stack = stack("refuse").await;
    let mut all = Vec::new();
    for number in 0..10 {
        let mut client = stack.client_of(number % 2).await;
        let token = fresh("alice");
        let id = client.ask("auth.authenticate", Some(&token), Value::Null).await;
        all.push((client, id));
    }
    let mut authenticated = 0;
    for (client, id) in &mut all {
        authenticated += u32::from(client.answer_to(id, SOON).await["type"] == "auth.ok");
    }
    assert_eq!(authenticated, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_its_terminator_does_not_know_counts_until_the_next_one_is_refused() {
    let stack = stack("refuse").await;
    let mut first = stack.client().await;
    shows(&mut first, "alice").await.unwrap();
    // As one whose close no worker could write to the store.
    let mut store = stack.store().connect().await.unwrap();
    let pattern = format!("{}:*:places*", stack.namespace());
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut store).await.unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in keys {
        let mut range = redis::cmd("ZRANGE");
        range.arg(&key).arg("0").arg("-1").arg("WITHSCORES");
        let present: Vec<(String, f64)> = range.query_async(&mut store).await.unwrap();
        let (connection, score) = present.first().expect("the first one's place");
        let (terminator, _) = connection.rsplit_once('.').expect("the terminator's and its own");
        let mut add = redis::cmd("ZADD");
        add.arg(&key).arg(*score).arg(format!("{terminator}.99999"));
        assert_eq!(add.query_async::<i64>(&mut store).await.unwrap(), 1);
    }
    let mut second = stack.client().await;
    assert_eq!(shows(&mut second, "alice").await.unwrap_err()["code"], "forbidden");
    second.expect_close(4505, SOON).await;
    eventually(SOON, "it is found gone", async || {
        let mut next = stack.client().await;
        shows(&mut next, "alice").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_connection_gives_way_where_that_is_wanted() {
    let stack = stack("close-oldest").await;
    let mut all = Vec::new();
    for number in 0..3 {
        let mut client = stack.client_of(number % 2).await;
        shows(&mut client, "alice").await.unwrap();
        all.push(client);
    }
    let said = all[0].expect_close(4505, SOON).await;
    assert_eq!(said.last().expect("an error")["error"]["code"], "forbidden");
    for client in &mut all[1..] {
        let answer = client.request("echo", None, json!(1)).await;
        assert_eq!(answer["type"], "reply", "{answer}");
    }
    assert!(told_to_close(&stack).await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_sends_so_many_messages_a_second_on_all_its_connections() {
    const RATE: u32 = 5;
    let stack = Stack::builder()
        .terminators(2)
        .workers(2)
        .setting("messages-per-second-per-identity", &RATE.to_string())
        .start()
        .await;
    let mut clients = [stack.client().await, stack.client_of(1).await];
    for client in &mut clients {
        client.authenticate(&fresh("alice")).await;
    }
    let begun = Instant::now();
    let mut asked = Vec::new();
    for number in 0..40 {
        let client = number % 2;
        asked.push((client, clients[client].ask("echo", None, json!(number)).await));
    }
    let (mut replies, mut wait_ms) = (0, 0);
    for (client, id) in asked {
        let answer = clients[client].answer_to(&id, SOON).await;
        if answer["type"] == "reply" {
            replies += 1;
            continue;
        }
        let error = &answer["error"];
        assert_eq!(
            (&error["code"], &error["temporary"]),
            (&json!("rate_limited"), &json!(true)),
            "{answer}"
        );
        assert_eq!(error["effect"], "none", "{answer}");
        wait_ms = error["retry_after_ms"].as_u64().expect("a time to wait");
        assert!((1..=1_000).contains(&wait_ms), "{answer}");
    }
    let most = f64::from(RATE) * (begun.elapsed().as_secs_f64() + 1.0) + 1.0;
    assert!(
        replies >= RATE && f64::from(replies) <= most,
        "{replies} of at most {most}"
    );
    assert!(wait_ms > 0, "none of 40 was too fast");
    let mut counted = 0.0;
    for worker in stack.workers() {
        let all = worker.metrics().await;
        counted += all
            .get("countersign_worker_messages_total{outcome=\"rate_limited\"}")
            .copied()
            .unwrap_or_default();
    }
    assert_eq!(counted, f64::from(40 - replies));
    // Another identity has a rate of its own, and this one has its own again.
    let mut bob = stack.client().await;
    assert_eq!(
        bob.request("echo", Some(&token_for("bob").mint()), json!(1)).await["type"],
        "reply"
    );
    eventually(30.s(), "it is let in again", async || {
        let answer = clients[0].request("echo", None, json!(2)).await;
        if answer["type"] == "reply" { Ok(()) } else { Err(answer) }
    })
    .await;
}
