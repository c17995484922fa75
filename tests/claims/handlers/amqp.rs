//! Applications on the broker, in whatever language: they are asked by plain AMQP, answer by plain AMQP, and whatever they
//! do, their client is told.

use lapin::BasicProperties;
use serde_json::{Value, json};
use tests::peers::queue::Message;
use tests::servers::app::text;
use tests::tokens::token::ISSUER;
use tests::{App, Program, Span, Stack, eventually, token_for};

async fn stack(settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .setting("handler", "amqp")
        .settings(settings)
        .start()
        .await
}

async fn metric(worker: &Program, name: &str) -> f64 {
    let name = format!("countersign_worker_upstream_{name}");
    worker.metrics().await.get(&name).copied().unwrap_or_default()
}

fn message_id(message: &Message) -> String {
    message
        .properties
        .message_id()
        .as_ref()
        .expect("a message_id")
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_gets_the_message_and_who_sent_it_and_never_the_token() {
    let stack = stack(&[]).await;
    let mut orders = App::start(&stack, "orders.*").await;
    let mut others = App::start(&stack, "others.#").await;
    let token = token_for("alice").claim("scope", "orders").mint();
    let mut client = stack.client().await;
    let id = client.ask("orders.create", Some(&token), json!({"n": 1})).await;
    let asked = orders.next().await;
    assert_eq!(asked.json(), json!({"n": 1}));
    assert_eq!(asked.properties.kind().as_ref().unwrap().as_str(), "orders.create");
    assert_eq!(
        asked.properties.content_type().as_ref().unwrap().as_str(),
        "application/json"
    );
    assert_eq!(text(&asked, "issuer").as_deref(), Some(ISSUER));
    assert_eq!(text(&asked, "subject").as_deref(), Some("alice"));
    assert_eq!(text(&asked, "id"), Some(id.clone()));
    let claims: Value = serde_json::from_str(&text(&asked, "claims").unwrap()).unwrap();
    assert_eq!(claims["scope"], "orders");
    let connection = text(&asked, "connection").expect("the connection");
    assert_eq!(message_id(&asked), format!("{connection}.1"));
    for part in token.split('.') {
        assert!(!asked.everything().contains(part), "{}", asked.everything());
    }
    orders.answer(&asked, r#"{"order": 7}"#).await;
    let answer = client.answer_to(&id, 10.s()).await;
    assert_eq!(
        (&answer["type"], &answer["payload"]),
        (&json!("reply"), &json!({"order": 7}))
    );
    assert!(others.is_left_alone_for(50.ms()).await);

    // A message without a payload has a body that is JSON all the same, and one that was injected no connection.
    let mut replies = stack.queue().await.reply_queue().await;
    let body = json!({"type": "others.x.y", "token": token_for("bob").mint()}).to_string();
    stack.queue().await.publish("message", body, replies.properties()).await;
    let asked = others.next().await;
    assert_eq!(
        (asked.text(), text(&asked, "subject")),
        ("null".to_owned(), Some("bob".to_owned()))
    );
    assert_eq!((text(&asked, "connection"), text(&asked, "id")), (None, None));
    others.answer(&asked, "2").await;
    assert_eq!(
        replies.next(10.s()).await.json(),
        json!({"type": "reply", "payload": 2})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_it_says_is_one_answer_to_one_client() {
    let stack = stack(&[]).await;
    let mut app = App::start(&stack, "#").await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    let id = client.ask("x", None, Value::Null).await;
    let asked = app.next().await;
    app.answer(&asked, "").await;
    let answer = client.answer_to(&id, 10.s()).await;
    assert_eq!((&answer["type"], answer.get("payload")), (&json!("reply"), None));
    let busy = json!({"code": "busy", "message": "later", "temporary": true, "retry_after_ms": 1500});
    for (said, told) in [
        (
            json!({"code": "forbidden", "message": "not yours"}),
            json!({"code": "forbidden", "message": "not yours", "temporary": false}),
        ),
        (busy.clone(), busy),
        (
            json!({"code": "token_expired"}),
            json!({"code": "internal", "message": "internal error", "temporary": false, "effect": "unknown"}),
        ),
        (
            json!({"code": "out_of_stock", "message": "sold", "details": {"left": 0}, "temporary": true}),
            json!({"code": "app.out_of_stock", "message": "sold", "details": {"left": 0}, "temporary": true}),
        ),
    ] {
        let id = client.ask("x", None, Value::Null).await;
        let asked = app.next().await;
        app.refuse(&asked, &said).await;
        assert_eq!(client.answer_to(&id, 10.s()).await["error"], told);
    }
    let id = client.ask("x", None, Value::Null).await;
    let asked = app.next().await;
    app.answer(&asked, "<html>").await;
    assert_eq!(client.answer_to(&id, 10.s()).await["error"]["code"], "internal");
    let worker = &stack.workers()[0];
    for (outcome, count) in [
        ("answered", 1.0),
        ("refused", 2.0),
        ("failed", 2.0),
        ("invalid_response", 1.0),
    ] {
        let name = format!(r#"calls_total{{outcome="{outcome}"}}"#);
        assert_eq!(metric(worker, &name).await, count, "{outcome}");
    }
    client.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_application_takes_is_refused_at_once() {
    let stack = stack(&[]).await;
    let _app = App::start(&stack, "orders.*").await;
    let mut client = stack.client().await;
    let answer = client
        .request("others", Some(&token_for("alice").mint()), Value::Null)
        .await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["temporary"]),
        (&json!("busy"), &json!(true))
    );
    assert_eq!(
        metric(&stack.workers()[0], r#"calls_total{outcome="unreachable"}"#).await,
        1.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_or_twice_or_unasked_is_counted_and_reaches_nobody() {
    let stack = stack(&[("handler-timeout", "500ms")]).await;
    let mut app = App::start(&stack, "#").await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    let slow = client.ask("x", None, Value::Null).await;
    let late = app.next().await;
    assert_eq!(client.answer_to(&slow, 10.s()).await["error"]["code"], "busy");
    app.answer(&late, "\"late\"").await;
    let quick = client.ask("x", None, Value::Null).await;
    let asked = app.next().await;
    app.answer(&asked, "1").await;
    app.answer(&asked, "2").await;
    assert_eq!(client.answer_to(&quick, 10.s()).await["payload"], 1);
    let reply_to = asked.properties.reply_to().as_ref().unwrap().to_string();
    stack
        .queue()
        .await
        .publish_to("", &reply_to, "3", BasicProperties::default())
        .await;
    let worker = &stack.workers()[0];
    eventually(10.s(), "three answers that nobody waits for", async || {
        metric(worker, "late_answers_total").await == 3.0
    })
    .await;
    assert_eq!(metric(worker, r#"calls_total{outcome="timeout"}"#).await, 1.0);
    client.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_nobody_waits_for_any_more_does_not_wait_for_its_application() {
    let stack = stack(&[("handler-timeout", "300ms")]).await;
    let app = App::idle(&stack, "#").await;
    let mut client = stack.client().await;
    let answer = client.request("x", Some(&token_for("alice").mint()), Value::Null).await;
    assert_eq!(answer["error"]["code"], "busy");
    eventually(10.s(), "it has left the queue", async || app.waiting().await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_meanwhile_leaves_a_message_that_comes_again_by_its_name_and_is_answered_once() {
    let mut stack = stack(&[]).await;
    let mut app = App::start(&stack, "#").await;
    let mut client = stack.client().await;
    let id = client.ask("x", Some(&token_for("alice").mint()), Value::Null).await;
    let first = app.next().await;
    stack.worker(0).kill();
    stack.start_workers(1).await;
    let second = app.next().await;
    assert_eq!(message_id(&first), message_id(&second));
    assert_ne!(first.properties.correlation_id(), second.properties.correlation_id());
    assert_ne!(first.properties.reply_to(), second.properties.reply_to());
    // The first comes to a queue that no one reads any more.
    app.answer(&first, "1").await;
    app.answer(&second, "2").await;
    assert_eq!(client.answer_to(&id, 10.s()).await["payload"], 2);
    client.expect_nothing_shown().await;
    assert!(app.is_left_alone_for(50.ms()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_waits_for_the_applications_that_are_at_work() {
    let mut stack = stack(&[]).await;
    let mut app = App::start(&stack, "#").await;
    let mut client = stack.client().await;
    let id = client.ask("x", Some(&token_for("alice").mint()), Value::Null).await;
    let asked = app.next().await;
    stack.worker(0).terminate();
    eventually(10.s(), "it drains", async || {
        stack.workers()[0].is_ready().await.is_err()
    })
    .await;
    app.answer(&asked, "1").await;
    assert_eq!(client.answer_to(&id, 10.s()).await["payload"], 1);
    assert!(stack.worker(0).wait_exit(20.s()).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_injects_can_have_a_worker_answer_in_an_applications_place() {
    let stack = stack(&[]).await;
    let mut app = App::start(&stack, "#").await;
    let token = token_for("mallory").mint();
    let mut client = stack.client().await;
    let id = client.ask("x", Some(&token_for("alice").mint()), Value::Null).await;
    let asked = app.next().await;
    // Even if they knew where, and under which correlation.
    let properties = BasicProperties::default()
        .with_reply_to(asked.properties.reply_to().clone().unwrap())
        .with_correlation_id(asked.properties.correlation_id().clone().unwrap());
    let body = json!({"type": "y", "token": token}).to_string();
    stack.queue().await.publish("message", body, properties).await;
    let forged = app.next().await;
    app.answer(&forged, "\"forged\"").await;
    eventually(10.s(), "it is handled", async || {
        metric(&stack.workers()[0], r#"calls_total{outcome="answered"}"#).await == 1.0
    })
    .await;
    app.answer(&asked, "\"true\"").await;
    assert_eq!(client.answer_to(&id, 10.s()).await["payload"], "true");
    assert_eq!(metric(&stack.workers()[0], "late_answers_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_acknowledges_and_never_answers_costs_each_asker_the_time_limit_and_is_told_once() {
    let stack = stack(&[("handler-timeout", "1s")]).await;
    let mut app = App::start(&stack, "#").await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    for _ in 0..2 {
        let id = client.ask("x", None, Value::Null).await;
        app.next().await;
        let answer = client.answer_to(&id, 30.s()).await;
        assert_eq!(
            (&answer["error"]["code"], &answer["error"]["effect"]),
            (&json!("busy"), &json!("unknown")),
            "{answer}"
        );
    }
    client.expect_nothing_shown().await;
    let worker = &stack.workers()[0];
    assert_eq!(worker.metric("countersign_worker_handler_timeouts_total").await, 2.0);
}
