//! Anyone who has a token may ask through the queue: with any AMQP client, without a connection, and with no more
//! rights than the token gives.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use lapin::{
    BasicProperties,
    options::BasicConsumeOptions,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tests::peers::queue::amqp_tool;
use tests::{Key, Span, Stack, Store, connection_of, eventually, token_for};

fn message(kind: &str, token: &str) -> Value {
    json!({"id": "i", "type": kind, "token": token, "payload": {"n": 1}})
}

fn echo(subject: &str) -> Value {
    message("echo", &token_for(subject).mint())
}

/// What the store holds in the namespace.
async fn stored(store: &Store, namespace: &str) -> String {
    let dump = store.dump().await;
    // The store's own epoch is no one's state, nor is what shows that it can be written to.
    let (epoch, writable) = (format!("{namespace}:{{epoch"), format!("{namespace}:writable"));
    let ours: Vec<_> = dump
        .lines()
        .filter(|line| line.starts_with(namespace) && !line.starts_with(&epoch) && !line.starts_with(&writable))
        .collect();
    ours.join("\n")
}

#[tokio::test]
async fn the_token_in_the_body_authenticates_an_injected_message() {
    let stack = Stack::builder().terminators(0).start().await;
    let queue = stack.queue().await;
    let stranger = Key::generate(tests::Algorithm::Hs256);
    let code = async |message: Value| {
        let answer = queue.request(&message).await.json();
        assert_eq!(answer["id"], "i");
        match answer["type"].as_str() {
            Some("reply") => {
                assert_eq!(answer, json!({"type": "reply", "id": "i", "payload": {"n": 1}}));
                "ok".to_owned()
            }
            _ => answer["error"]["code"].as_str().unwrap().to_owned(),
        }
    };
    assert_eq!(code(echo("alice")).await, "ok");
    let without = json!({"id": "i", "type": "echo"});
    assert_eq!(code(without).await, "auth_required");
    for (token, expected) in [
        (token_for("alice").expired_since(60.s()).mint(), "token_expired"),
        (token_for("alice").signed_with(&stranger).mint(), "token_invalid"),
        (
            token_for("alice").header("alg", "none").signature([]).mint(),
            "token_invalid",
        ),
        (token_for("alice").audience("others").mint(), "token_invalid"),
        ("nonsense".to_owned(), "token_invalid"),
    ] {
        assert_eq!(code(message("echo", &token)).await, expected, "{token}");
    }
    assert_eq!(
        stored(stack.store(), stack.namespace()).await,
        "",
        "no connection, no state"
    );
}

#[tokio::test]
async fn a_correlation_comes_back_as_it_went() {
    let stack = Stack::builder().terminators(0).start().await;
    let queue = stack.queue().await;
    let mut replies = queue.reply_queue().await;
    let body = echo("alice").to_string();
    let odd = [
        "",
        " ",
        "\0\n\"{}\\",
        "Ünïcödé ☃",
        "0123456789abcdef.1.1",
        &"x".repeat(255),
        &"é".repeat(127),
    ];
    for correlation in odd {
        let properties = replies.properties().with_correlation_id(correlation.into());
        queue.publish("message", &body, properties).await;
        let answer = replies.next(10.s()).await;
        assert_eq!(
            answer.properties.correlation_id().as_ref().unwrap().as_str(),
            correlation
        );
        assert_eq!(answer.json()["type"], "reply");
    }
    queue.publish("message", &body, replies.properties()).await;
    assert_eq!(replies.next(10.s()).await.properties.correlation_id(), &None);
}

#[tokio::test]
async fn many_injected_messages_in_flight_are_each_answered_once() {
    const MESSAGES: usize = 300;
    let stack = Stack::builder().terminators(0).workers(2).start().await;
    let queue = stack.queue().await;
    let mut replies = queue.reply_queue().await;
    let token = token_for("alice").mint();
    let publications = (0..MESSAGES).map(|number| {
        let body = json!({"type": "echo", "token": token, "payload": number}).to_string();
        let properties = replies
            .properties()
            .with_correlation_id(number.to_string().as_str().into());
        let queue = &queue;
        async move { queue.publish("message", body, properties).await }
    });
    futures_util::future::join_all(publications).await;
    let mut answers = BTreeMap::<usize, u32>::new();
    for _ in 0..MESSAGES {
        let answer = replies.next(10.s()).await;
        let number: usize = answer
            .properties
            .correlation_id()
            .as_ref()
            .unwrap()
            .as_str()
            .parse()
            .unwrap();
        assert_eq!(answer.json()["payload"], number);
        *answers.entry(number).or_default() += 1;
    }
    assert_eq!(answers, (0..MESSAGES).map(|number| (number, 1)).collect());
    assert_eq!(replies.try_next(200.ms()).await, None);
}

#[tokio::test]
async fn debian_s_tools_inject_and_read_the_answer() {
    let stack = Stack::builder()
        .terminators(0)
        .setting("reply-queues", "^claim-.*-by-hand$")
        .start()
        .await;
    let url = stack.broker().url();
    let queue = stack.queue().await;
    let answers = format!("{}-by-hand", stack.namespace());
    queue.declare_quorum_queue(&answers).await;
    let body = echo("alice").to_string();
    let options = [
        "-e",
        stack.namespace(),
        "-r",
        "message",
        "-t",
        &answers,
        "-C",
        "application/json",
        "-b",
        &body,
    ];
    let published = amqp_tool("amqp-publish", &url, &options).await;
    assert!(published.status.success(), "{published:?}");
    let consumed = amqp_tool("amqp-consume", &url, &["-q", &answers, "-c", "1", "cat"]).await;
    let answer: Value = serde_json::from_slice(&consumed.stdout).unwrap();
    assert_eq!(answer, json!({"type": "reply", "id": "i", "payload": {"n": 1}}));
    queue.delete(&answers).await;
}

/// RabbitMQ's pseudo-queue, for which an injector needs no permission at all (<https://www.rabbitmq.com/docs/direct-reply-to>).
#[tokio::test]
async fn a_direct_reply_reaches_whoever_asked() {
    let stack = Stack::builder().terminators(0).start().await;
    let queue = stack.queue().await;
    let direct = "amq.rabbitmq.reply-to";
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consumer = queue
        .channel()
        .basic_consume(direct.into(), "".into(), options, FieldTable::default());
    let mut answers = consumer.await.unwrap();
    let properties = BasicProperties::default()
        .with_reply_to(direct.into())
        .with_correlation_id("c".into());
    queue.publish("message", echo("alice").to_string(), properties).await;
    let answer = tokio::time::timeout(10.s(), answers.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&answer.data).unwrap()["type"], "reply");
    assert_eq!(answer.properties.correlation_id().as_ref().unwrap().as_str(), "c");
}

#[tokio::test]
async fn an_answer_that_nobody_can_get_is_counted_and_hinders_nobody() {
    let stack = Stack::builder().terminators(0).start().await;
    let queue = stack.queue().await;
    let nowhere = BasicProperties::default().with_reply_to("amq.gen-no-such-queue".into());
    queue.publish("message", echo("alice").to_string(), nowhere).await;
    queue
        .publish("message", echo("alice").to_string(), BasicProperties::default())
        .await;
    assert_eq!(queue.request(&echo("alice")).await.json()["type"], "reply");
    eventually(5.s(), "both are counted", async || {
        let metrics = stack.workers()[0].metrics().await;
        let lost = |reason: &str| {
            metrics
                .get(&format!("countersign_worker_replies_lost_total{{reason=\"{reason}\"}}"))
                .copied()
        };
        let seen = (lost("unroutable"), lost("unwanted"));
        if seen == (Some(1.0), Some(1.0)) {
            Ok(())
        } else {
            Err(seen)
        }
    })
    .await;
    assert_eq!(queue.count(&format!("{}.dead", stack.namespace())).await, 0);
}

/// Headers that anyone may write, of which none may mean anything.
fn forged_headers(connection: &str) -> FieldTable {
    let mut headers = FieldTable::default();
    for (name, value) in [
        ("connection", connection),
        ("subject", "alice"),
        ("issuer", tests::tokens::token::ISSUER),
        ("identity", "alice"),
        ("origin", "forward"),
        ("x-first-death-reason", "forged"),
        ("x-first-death-queue", "forged"),
        ("x-first-death-exchange", "forged.internal"),
        ("x-death", "forged"),
    ] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    headers.insert("first_seen".into(), AMQPValue::LongLongInt(1));
    headers.insert("index".into(), AMQPValue::LongLongInt(7));
    headers.insert("more".into(), AMQPValue::Boolean(true));
    headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(0));
    headers
}

#[tokio::test]
async fn a_forged_message_id_changes_no_connection_and_writes_to_no_socket() {
    let stack = Stack::start().await;
    let (store, namespace) = (stack.store(), stack.namespace());
    let mut alice = stack.client().await;
    let alices = token_for("alice").mint();
    let connection = connection_of(&alice.request("echo", Some(&alices), json!(1)).await["auth"]);
    let state = stored(store, namespace).await;
    let (terminator, _) = connection.split_once('.').unwrap();
    let queue = stack.queue().await;
    let mut replies = queue.reply_queue().await;
    let return_queue = format!("{namespace}.return.{terminator}");
    let mallorys = message("echo", &token_for("mallory").mint()).to_string();
    for (kind, sequence, body) in [
        ("message", 1, mallorys.as_str()),
        ("message", 2, mallorys.as_str()),
        ("message", 1_000, mallorys.as_str()),
        ("message", 3, r#"{"id":"i","type":"echo"}"#),
        ("closed", 2, ""),
        ("closed", 1_000, mallorys.as_str()),
    ] {
        for reply_to in [replies.name().to_owned(), return_queue.clone()] {
            let properties = BasicProperties::default()
                .with_reply_to(reply_to.as_str().into())
                .with_type(kind.into())
                .with_correlation_id(format!("{connection}.{sequence}").as_str().into())
                .with_app_id("terminator".into())
                .with_headers(forged_headers(&connection));
            queue.publish("message", body, properties).await;
        }
        let answer = replies.next(10.s()).await.json();
        assert!(
            answer.get("auth").is_none(),
            "an injector has no connection to renew: {answer}"
        );
        let expected = if body == mallorys { "reply" } else { "error" };
        assert_eq!(
            answer["type"], expected,
            "a forged `{kind}` is handled like any injected message"
        );
    }
    alice.ping(5.s()).await;
    alice.expect_silence(100.ms()).await;
    assert_eq!(stored(store, namespace).await, state);
    let answer = alice.request("echo", Some(&alices), json!(2)).await;
    assert_eq!(
        (&answer["payload"], answer.get("auth")),
        (&json!(2), None),
        "it is still alice's"
    );
}

#[tokio::test]
async fn an_injected_answer_never_takes_the_place_of_a_worker_s() {
    let stack = Stack::builder().poisoned_workers(1).start().await;
    let mut alice = stack.client().await;
    let alices = token_for("alice").mint();
    let connection = connection_of(&alice.request("echo", Some(&alices), json!(1)).await["auth"]);
    let (terminator, _) = connection.split_once('.').unwrap();
    // This request is open while the forged one is answered.
    let asked = alice.ask("slow", Some(&alices), json!("alice's")).await;
    eventually(5.s(), "it is forwarded", async || {
        stack.terminators()[0]
            .metric("countersign_terminator_messages_confirmed_total")
            .await
            >= 2.0
    })
    .await;
    let queue = stack.queue().await;
    let properties = BasicProperties::default()
        .with_reply_to(format!("{}.return.{terminator}", stack.namespace()).as_str().into())
        .with_correlation_id(format!("{connection}.2").as_str().into());
    let mallorys = json!({"id": asked, "type": "echo", "token": token_for("mallory").mint(), "payload": "mallory's"});
    queue.publish("message", mallorys.to_string(), properties).await;
    assert_eq!(alice.answer_to(&asked, 10.s()).await["payload"], "alice's");
    alice.expect_silence(100.ms()).await;
}
