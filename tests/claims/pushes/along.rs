//! An application may push to the one who asked along with its answer: that is written before it, in its order, and to no one else.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use tests::servers::upstream::{Asked, Said};
use tests::{App, Client, Span, Stack, Upstream, eventually, token_for};

const ENVELOPE: &str = "application/vnd.countersign.answer+json";

async fn stack(handler: &str, settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .setting("handler", handler)
        .settings(settings)
        .start()
        .await
}

async fn client_of(stack: &Stack, subject: &str) -> Client {
    let mut client = stack.client().await;
    client.authenticate(&token_for(subject).mint()).await;
    client
}

/// Type and payload of the next messages.
async fn hears(client: &mut Client, count: usize) -> Vec<(String, Value)> {
    let mut heard = Vec::new();
    for _ in 0..count {
        let message = client.next_json(30.s()).await;
        let kind = message["type"].as_str().expect("a type").to_owned();
        heard.push((kind, message["payload"].clone()));
    }
    heard
}

fn push(payload: impl Into<Value>) -> (String, Value) {
    ("push".to_owned(), payload.into())
}

fn reply(payload: impl Into<Value>) -> (String, Value) {
    ("reply".to_owned(), payload.into())
}

fn enveloped(answer: &Value) -> Said {
    Said::Response(200, vec![("Content-Type", ENVELOPE.to_owned())], answer.to_string())
}

/// Pushes as its payload says, and answers.
fn pushes_as_asked(asked: &Asked) -> Said {
    if let Some(count) = asked.body["payload"].as_u64() {
        return enveloped(&json!({"pushes": vec![json!({"payload": 1}); count as usize]}));
    }
    enveloped(&json!({"pushes": asked.body["payload"], "payload": "answer"}))
}

#[tokio::test(flavor = "multi_thread")]
async fn five_pushes_and_an_answer_arrive_in_that_order_each_time_and_each_where_it_belongs() {
    let upstream = Upstream::start(pushes_as_asked).await;
    let stack = stack(&upstream.handler(), &[]).await;
    let mut alice = client_of(&stack, "alice").await;
    let mut tab = client_of(&stack, "alice").await;
    let mut bob = client_of(&stack, "bob").await;
    let pushes: Vec<_> = (0..5)
        .map(|n| json!({"to": if n % 2 == 0 { "connection" } else { "identity" }, "payload": n}))
        .collect();
    for _ in 0..30 {
        alice.ask("x", None, json!(pushes)).await;
        let mut expected: Vec<_> = (0..5).map(push).collect();
        expected.push(reply("answer"));
        assert_eq!(hears(&mut alice, 6).await, expected);
        assert_eq!(hears(&mut tab, 2).await, [push(1), push(3)]);
    }
    for client in [&mut alice, &mut tab, &mut bob] {
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_amqp_an_answer_has_pushes_too_and_several_answers_are_several_replies() {
    let stack = stack("amqp", &[]).await;
    let mut app = App::start(&stack, "#").await;
    let mut alice = client_of(&stack, "alice").await;
    alice.ask("x", None, Value::Null).await;
    let asked = app.next().await;
    let more = |properties: BasicProperties| {
        let mut headers = FieldTable::default();
        headers.insert("more".into(), AMQPValue::Boolean(true));
        properties.with_headers(headers)
    };
    let envelope = || BasicProperties::default().with_content_type(ENVELOPE.into());
    let first = json!({"pushes": [{"payload": 1}], "payload": "a"}).to_string();
    app.say(&asked, first, more(envelope())).await;
    app.say(&asked, "\"b\"", more(BasicProperties::default())).await;
    alice.expect_nothing_shown().await;
    let last = json!({"pushes": [{"to": "identity", "payload": 2}], "payload": "c"}).to_string();
    app.say(&asked, last, envelope()).await;
    assert_eq!(
        hears(&mut alice, 5).await,
        [push(1), reply("a"), reply("b"), push(2), reply("c")]
    );
    // A refusal is the last word, and all that is told.
    let id = alice.ask("x", None, Value::Null).await;
    let asked = app.next().await;
    app.say(&asked, "\"a\"", more(BasicProperties::default())).await;
    app.refuse(&asked, &json!({"code": "gone"})).await;
    let refused = alice.next_json(30.s()).await;
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(id), &json!("app.gone"))
    );
    // More than can be passed on are none.
    let id = alice.ask("x", None, Value::Null).await;
    let asked = app.next().await;
    for _ in 0..=worker::handler::MAX_ANSWERS {
        app.say(&asked, "1", more(BasicProperties::default())).await;
    }
    let refused = alice.next_json(30.s()).await;
    assert_eq!(
        (&refused["id"], &refused["error"]["code"]),
        (&json!(id), &json!("internal"))
    );
    alice.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_told_to_the_log_and_internal_to_the_client_and_nothing_is_half_written() {
    let upstream = Upstream::start(pushes_as_asked).await;
    let stack = stack(&upstream.handler(), &[]).await;
    let mut alice = client_of(&stack, "alice").await;
    let mut bob = client_of(&stack, "bob").await;
    let good = json!({"to": "identity", "payload": 1});
    for (pushes, why) in [
        (
            json!([good, {"to": {"subject": "bob"}, "payload": 1}]),
            "to other recipients than the sender",
        ),
        (
            json!([good, {"to": "bob", "payload": 1}]),
            "to other recipients than the sender",
        ),
        (json!(10_000), "more than 128 times"),
    ] {
        let answer = alice.request("x", None, pushes).await;
        assert_eq!(
            (&answer["type"], &answer["error"]["code"]),
            (&json!("error"), &json!("internal")),
            "{why}"
        );
        eventually(10.s(), "the log says why", async || {
            stack.workers()[0]
                .log()
                .iter()
                .any(|line| line["why"].as_str().is_some_and(|text| text.contains(why)))
        })
        .await;
    }
    let unreadable = json!([{"payload": 1, "two": 2}]);
    let answer = alice.request("x", None, unreadable).await;
    assert_eq!(answer["error"]["code"], "internal");
    for client in [&mut alice, &mut bob] {
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_again_is_answered_again_with_pushes_that_are_known() {
    let upstream = Upstream::start(pushes_as_asked).await;
    let stack = stack(&upstream.handler(), &[("idempotency-window", "1m")]).await;
    let message = json!({"id": "1", "type": "x", "payload": [{"payload": 1}]});
    let mut ids = Vec::new();
    for _ in 0..2 {
        let mut alice = client_of(&stack, "alice").await;
        alice.send_json(&message).await;
        let pushed = alice.next_json(30.s()).await;
        assert_eq!((&pushed["type"], &pushed["payload"]), (&json!("push"), &json!(1)));
        ids.push(pushed["id"].clone());
        assert_eq!(hears(&mut alice, 1).await, [reply("answer")]);
    }
    assert_eq!(ids[0], ids[1]);
    assert_eq!(upstream.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_message_that_has_no_connection_a_push_waits_for_the_identity_and_the_injector_hears_the_answer_alone() {
    let upstream = Upstream::start(pushes_as_asked).await;
    let stack = stack(&upstream.handler(), &[]).await;
    let queue = stack.queue().await;
    let token = token_for("alice").mint();
    let message = |to| json!({"type": "x", "token": token, "payload": [{"to": to, "payload": 1}]});
    let answer = queue.request(&message("identity")).await.json();
    assert_eq!(answer, json!({"type": "reply", "payload": "answer"}));
    let answer = queue.request(&message("connection")).await.json();
    assert_eq!(answer["error"]["code"], "internal");
    let mut alice = client_of(&stack, "alice").await;
    assert_eq!(hears(&mut alice, 1).await, [push(1)]);
}
