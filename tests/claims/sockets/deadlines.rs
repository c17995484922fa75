//! What no one waits for any more is not begun, and who is asked is told how long anyone waits.

use lapin::types::AMQPValue;
use serde_json::{Value, json};
use tests::servers::upstream::Said;
use tests::{App, Client, Span, Stack, Upstream, token_for};

const DAY_MS: u64 = 86_400_000;

async fn stack(handler: &str, settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .setting("handler", handler)
        .settings(settings)
        .start()
        .await
}

async fn alice(stack: &Stack) -> Client {
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    client
}

async fn ask(client: &mut Client, id: &str, timeout_ms: &Value) {
    let message = json!({"id": id, "type": "x", "timeout_ms": timeout_ms});
    client.send_json(&message).await;
}

/// The error without its words.
fn told(answer: &Value) -> Value {
    let error = &answer["error"];
    json!([error["code"], error["temporary"], error["effect"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_turn_longer_than_its_sender_does_is_not_begun() {
    let upstream = Upstream::start(|asked| match asked.body["id"].as_str() {
        Some("hangs") => Said::Nothing,
        _ => Said::status(200, "1"),
    })
    .await;
    let one_place = [
        ("concurrency", "1"),
        ("prefetch", "16"),
        ("concurrency-per-type-percent", "100"),
        ("concurrency-per-identity-percent", "100"),
        ("handler-timeout", "5s"),
    ];
    let stack = stack(&upstream.handler(), &one_place).await;
    // Two connections: those of one are for their order to say.
    let (mut slow, mut brief) = (alice(&stack).await, alice(&stack).await);
    ask(&mut slow, "hangs", &Value::Null).await;
    tests::eventually(10.s(), "it is with the application", async || {
        upstream.asked().len() == 1
    })
    .await;
    ask(&mut brief, "brief", &json!(500)).await;
    let refused = brief.answer_to("brief", 30.s()).await;
    assert_eq!(told(&refused), json!(["deadline_exceeded", true, "none"]));
    assert_eq!(told(&slow.answer_to("hangs", 30.s()).await)[0], "busy");
    // With more time it would have had its turn.
    ask(&mut brief, "patient", &json!(DAY_MS)).await;
    assert_eq!(brief.answer_to("patient", 30.s()).await["payload"], 1);
    let ids: Vec<_> = upstream
        .asked()
        .into_iter()
        .map(|asked| asked.body["id"].clone())
        .collect();
    assert_eq!(ids, ["hangs", "patient"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_behind_a_url_is_told_what_is_left_and_let_go_when_nothing_is() {
    let upstream = Upstream::start(|asked| match asked.body["id"].as_str() {
        Some("hangs") => Said::Nothing,
        _ => Said::status(200, "1"),
    })
    .await;
    let stack = stack(&upstream.handler(), &[("handler-timeout", "1h")]).await;
    let mut client = alice(&stack).await;
    for (id, timeout_ms) in [("all", Value::Null), ("some", json!(DAY_MS))] {
        ask(&mut client, id, &timeout_ms).await;
        assert_eq!(client.answer_to(id, 30.s()).await["payload"], 1);
    }
    ask(&mut client, "hangs", &json!(2_000)).await;
    let refused = client.answer_to("hangs", 30.s()).await;
    assert_eq!(told(&refused), json!(["deadline_exceeded", true, "unknown"]));
    let left: Vec<Option<u64>> = upstream
        .asked()
        .iter()
        .map(|asked| asked.header("timeout-ms").map(|ms| ms.parse().expect("a number")))
        .collect();
    assert_eq!(left[0], None);
    let within = |left: Option<u64>, most| left.is_some_and(|left| (1..=most).contains(&left));
    assert!(within(left[1], DAY_MS) && within(left[2], 2_000), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_by_amqp_waits_no_longer_than_whoever_asked() {
    let stack = stack("amqp", &[("handler-timeout", "1h")]).await;
    let app = App::idle(&stack, "#").await;
    let mut client = alice(&stack).await;
    ask(&mut client, "brief", &json!(1_000)).await;
    let refused = client.answer_to("brief", 30.s()).await;
    assert_eq!(told(&refused), json!(["deadline_exceeded", true, "unknown"]));
    tests::eventually(30.s(), "it has left the queue", async || app.waiting().await == 0).await;
    let mut app = app;
    app.consume().await;
    ask(&mut client, "patient", &json!(DAY_MS)).await;
    let asked = app.next().await;
    let Some(AMQPValue::LongLongInt(left)) = asked.header("timeout-ms") else {
        panic!("{}", asked.everything());
    };
    assert!((1..=i64::try_from(DAY_MS).unwrap()).contains(&left), "{left}");
    app.answer(&asked, "1").await;
    assert_eq!(client.answer_to("patient", 30.s()).await["payload"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_for_longer_than_its_sender_waits_is_not_begun_when_the_token_comes() {
    let upstream = Upstream::start(|_| Said::status(200, "1")).await;
    let stack = stack(&upstream.handler(), &[]).await;
    let mut client = stack.client().await;
    ask(&mut client, "brief", &json!(1)).await;
    ask(&mut client, "patient", &json!(DAY_MS)).await;
    client.expect_required("missing", 10.s()).await;
    client.try_authenticate(&token_for("alice").mint()).await;
    assert_eq!(
        told(&client.answer_to("brief", 30.s()).await),
        json!(["deadline_exceeded", true, "none"])
    );
    assert_eq!(client.answer_to("patient", 30.s()).await["payload"], 1);
    assert_eq!(upstream.asked().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_that_is_none_is_refused_by_its_name() {
    let stack = stack("echo", &[]).await;
    let mut client = alice(&stack).await;
    for (number, wrong) in ["0", "-5000", "0.5", "1e3", "86400001", "1e400", "\"5000\"", "{}"]
        .iter()
        .enumerate()
    {
        let id = number.to_string();
        client
            .send_text(&format!(r#"{{"id":"{id}","type":"x","timeout_ms":{wrong}}}"#))
            .await;
        let error = &client.answer_to(&id, 10.s()).await["error"];
        assert_eq!(
            (&error["code"], &error["temporary"]),
            (&json!("bad_request"), &json!(false))
        );
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|why| why.contains("`timeout_ms`")),
            "{error}"
        );
    }
}
