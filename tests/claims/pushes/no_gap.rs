//! A client that comes back with its key has missed nothing, or knows it (P7, P13).

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tests::{Client, Push, Queue, Stack, eventually, token_for};

use crate::authentication::expiry::SOON;

async fn gone(stack: &Stack, number: usize, before: f64) {
    eventually(SOON, "it is known that a connection is gone", async || {
        let open = stack.terminators()[number]
            .metric("countersign_terminator_connections")
            .await;
        if open < before { Ok(()) } else { Err(open) }
    })
    .await;
}

/// Logs in, and tells the key by which it can come back.
async fn with_key(mut client: Client) -> (Client, String) {
    let auth = client.authenticate(&token_for("alice").mint()).await;
    (client, auth["resume"].as_str().expect("a key").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_comes_back_gets_what_the_laptop_got_meanwhile_each_once_and_in_order() {
    let stack = Stack::builder().terminators(2).start().await;
    let mut backend = stack.producer().await;
    let (mut laptop, _) = with_key(stack.client_of(0).await).await;
    let (mut phone, key) = with_key(stack.client_of(0).await).await;
    assert_eq!(backend.push(&Push::to("alice", 0)).await["connections"], 2);
    assert_eq!(
        (laptop.pushes(1).await, phone.pushes(1).await),
        (vec![json!(0)], vec![json!(0)])
    );
    // Its socket is torn down, and some is pushed before anyone knows.
    drop(phone);
    let numbers: Vec<Value> = (1..=20).map(Value::from).collect();
    let (early, late) = numbers.split_at(10);
    for number in early {
        backend.push_to("alice", number.clone()).await;
    }
    gone(&stack, 0, 2.0).await;
    for number in late {
        assert_eq!(backend.push_to("alice", number.clone()).await, "delivered");
    }
    assert_eq!(laptop.pushes(20).await, numbers);
    let mut phone = stack.client_of(1).await;
    let auth = phone.resume(&token_for("alice").mint(), &key).await;
    assert_eq!((&auth["recovered"], auth.get("missed")), (&json!(true), None));
    backend.push_to("alice", 21).await;
    let mut all = numbers.clone();
    all.push(json!(21));
    assert_eq!(phone.pushes(21).await, all);
    assert_eq!(laptop.pushes(1).await, [21]);
    for client in [&mut phone, &mut laptop] {
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_key_or_comes_too_late_is_told_and_gets_what_nobody_got() {
    let stack = Stack::builder().setting("resume-window", "off").start().await;
    let mut backend = stack.producer().await;
    let (mut laptop, _) = with_key(stack.client().await).await;
    let (phone, key) = with_key(stack.client().await).await;
    phone.close().await;
    gone(&stack, 0, 2.0).await;
    assert_eq!(backend.push_to("alice", 1).await, "delivered");
    assert_eq!(laptop.pushes(1).await, [1]);
    let mut phone = stack.client().await;
    let auth = phone.resume(&token_for("alice").mint(), &key).await;
    assert_eq!(auth["recovered"], false);
    phone.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_is_told_how_many_did_not_fit_and_which_those_are_is_a_setting() {
    for (overflow, first) in [("newest", 0), ("oldest", 30)] {
        let stack = Stack::builder().setting("hold-overflow", overflow).start().await;
        let mut backend = stack.producer().await;
        let pushes: Vec<_> = (0..130).map(|number| Push::to("alice", number)).collect();
        let told = backend.burst(&pushes).await;
        for correlation in told {
            let outcome = backend.outcome_of(&correlation, SOON).await;
            assert!(outcome["outcome"] == "held" || overflow == "newest", "{outcome}");
        }
        let mut alice = stack.client().await;
        let auth = alice.authenticate(&token_for("alice").mint()).await;
        assert_eq!((&auth["missed"], auth.get("recovered")), (&json!(30), None));
        let got = alice.pushes(100).await;
        assert_eq!(got, (first..first + 100).map(Value::from).collect::<Vec<_>>());
        let again = alice
            .authenticate(
                &token_for("alice")
                    .expiring_in(std::time::Duration::from_secs(900))
                    .mint(),
            )
            .await;
        assert_eq!(again.get("missed"), None, "it is told once");
    }
}

async fn push(queue: &Queue, payload: i32, expiration: &str) {
    let mut headers = FieldTable::default();
    headers.insert("subject".into(), AMQPValue::LongString("alice".into()));
    let properties = BasicProperties::default()
        .with_headers(headers)
        .with_expiration(expiration.into());
    queue.publish("push", payload.to_string(), properties).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_for_no_longer_than_its_expiration_says() {
    let stack = Stack::start().await;
    let (queue, mut backend) = (stack.queue().await, stack.producer().await);
    push(&queue, 1, "0").await;
    push(&queue, 2, "300000").await;
    push(&queue, 3, "1").await;
    // In order behind those.
    assert_eq!(backend.push_to("alice", 4).await, "held");
    let mut alice = stack.client().await;
    alice.authenticate(&token_for("alice").mint()).await;
    assert_eq!(alice.pushes(2).await, [2, 4]);
    push(&queue, 5, "0").await;
    assert_eq!(backend.push_to("alice", 6).await, "delivered");
    let got = alice.pushes(1).await;
    if got == [5] {
        assert_eq!(alice.pushes(1).await, [6]);
    } else {
        // The broker itself drops what it cannot hand over at once.
        assert_eq!(got, [6]);
    }
    alice.expect_nothing_shown().await;
}
