//! What an injector may write stops nobody else: injecting needs no trust (`docs/permissions.md`).

use std::sync::Arc;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString},
};
use serde_json::{Value, json};
use tests::upstream::{Asked, Said};
use tests::{Broker, Client, Push, Queue, Span, Stack, Upstream, eventually, token_for};

use crate::lapse::{SOON, fresh};

/// How many of each kind come: more than all workers together could fall over, one after the other.
const MANY: usize = 12;

/// Looks like what RabbitMQ gives to whoever wants a direct reply.
const UNREADABLE: &str = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMjM0NTY3ODkAAAAAAAAAAAAAAAA=.AAAAAAAA";

async fn stack() -> Stack {
    Stack::builder().poisoned_workers(2).start().await
}

/// Somebody honest is answered, now and again, while the queue is worked off.
async fn honest(client: &mut Client) {
    let token = fresh("alice");
    for number in 0..20 {
        let answer = client.request("echo", Some(&token), json!(number)).await;
        assert_eq!(answer["payload"], number, "{answer}");
    }
}

/// Everything that was injected has come to an end: none of it waits to be tried again.
async fn worked_off(stack: &Stack) {
    for name in ["messages", "retry", "failed"] {
        let name = format!("{}.{name}", stack.namespace());
        let queue = stack.queue().await;
        eventually(30.s(), &format!("{name} is worked off"), async || {
            let count = queue.count(&name).await;
            if count == 0 { Ok(()) } else { Err(count) }
        })
        .await;
    }
    for worker in stack.workers() {
        assert!(worker.is_alive());
    }
}

fn headers(value: AMQPValue) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("x".into(), value);
    BasicProperties::default().with_headers(headers)
}

fn text(bytes: Vec<u8>) -> AMQPValue {
    AMQPValue::LongString(LongString::from(bytes))
}

async fn inject_many(queue: &Queue, body: &Value, properties: &BasicProperties) {
    for _ in 0..MANY {
        queue.publish("message", body.to_string(), properties.clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_to_that_the_broker_rejects_is_its_sender_s_loss_alone() {
    let stack = stack().await;
    let queue = stack.queue().await;
    let mut alice = stack.client().await;
    let body = json!({"type": "echo", "token": fresh("mallory"), "payload": 1});
    for reply_to in ["amq.rabbitmq.reply-to.AAAA.BBBB", UNREADABLE] {
        let properties = BasicProperties::default().with_reply_to(reply_to.into());
        inject_many(&queue, &body, &properties).await;
        honest(&mut alice).await;
    }
    worked_off(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_any_size_and_bytes_are_their_sender_s_loss_alone() {
    let mut stack = stack().await;
    let queue = stack.queue().await;
    // What a worker had that died is moved by another, with what it says of itself.
    let moment = std::time::SystemTime::now() + 20.s();
    let moment = moment
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_millis();
    let slow = json!({"type": "until", "token": fresh("mallory"), "payload": u64::try_from(moment).expect("it fits")});
    let values = [vec![0xff; 60_000], vec![b'a'; 130_000], vec![0xc3; 40_000]];
    for value in &values {
        inject_many(&queue, &slow, &headers(text(value.clone()))).await;
        // Nobody is told that it is none, so it is buried, with what is kept of it.
        inject_many(&queue, &json!({"no": "message"}), &headers(text(value.clone()))).await;
    }
    let taken = format!("{}.messages", stack.namespace());
    eventually(SOON, "they are taken", async || queue.count(&taken).await == 0).await;
    stack.worker(0).kill();
    stack.worker(1).kill();
    stack.start_workers(2).await;
    let mut alice = stack.client().await;
    honest(&mut alice).await;
    eventually(60.s(), "all is worked off", async || {
        let mut left = 0;
        for name in ["messages", "retry", "failed"] {
            left += queue.count(&format!("{}.{name}", stack.namespace())).await;
        }
        if left == 0 { Ok(()) } else { Err(left) }
    })
    .await;
    honest(&mut alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_outgrow_a_frame_are_refused_to_whoever_has_them() {
    let broker = Arc::new(Broker::start().await);
    let url = format!("{}?frame_max=8192", broker.url());
    let stack = Stack::builder()
        .poisoned_workers(2)
        .broker(&broker)
        .users(&broker.url(), &url)
        .setting("jwt-max-size", "64KiB")
        .start()
        .await;
    let mut alice = stack.client().await;
    let large = token_for("mallory").claim("groups", vec!["a group of people"; 600]);
    // What is 5 bytes here may be 19 when it is written anew.
    let text = token_for("mallory").claim("limits", 7).payload_text();
    let many = format!(":[{}]", vec!["1e15"; 1_500].join(","));
    let growing = token_for("mallory").raw_payload(&text.replace(":7", &many));
    for token in [large, growing] {
        let mut mallory = stack.client().await;
        let answer = mallory.request("echo", Some(&token.mint()), json!(1)).await;
        assert_eq!(answer["type"], "error", "{answer}");
        assert_eq!(answer["error"]["temporary"], false, "{answer}");
        honest(&mut alice).await;
    }
    worked_off(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_and_revocations_that_cannot_be_answered_stop_nobody() {
    let stack = stack().await;
    let queue = stack.queue().await;
    let (mut alice, mut backend) = (stack.client().await, stack.producer().await);
    alice.authenticate(&fresh("alice")).await;
    for key in ["push", "revoke"] {
        for properties in [
            BasicProperties::default().with_reply_to("amq.rabbitmq.reply-to.AAAA.BBBB".into()),
            headers(text(vec![0xff; 60_000])).with_reply_to("amq.rabbitmq.reply-to.AAAA.BBBB".into()),
            headers(text(vec![b'a'; 130_000])),
        ] {
            for _ in 0..MANY {
                queue.publish(key, "{}", properties.clone()).await;
            }
        }
        assert_eq!(backend.push_to("alice", 1).await, "delivered");
        assert_eq!(alice.push(SOON).await["payload"], 1);
    }
    // One that the broker cannot read though it looks like one: outcomes go elsewhere than all else, and are late at worst.
    let properties = BasicProperties::default().with_reply_to(UNREADABLE.into());
    for _ in 0..3 {
        queue.publish("push", "{}", properties.clone()).await;
    }
    backend.send(&Push::to("alice", 2)).await;
    assert_eq!(alice.push(SOON).await["payload"], 2);
    honest(&mut alice).await;
    worked_off(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_expires_is_told_to_nobody_it_names() {
    let mut stack = Stack::builder().workers(0).start().await;
    let queue = stack.queue().await;
    let mut alice = stack.client().await;
    alice.ping(SOON).await;
    let returns = format!("{}.return.", stack.namespace());
    let queues = stack.broker().list_queues().await;
    let return_queue = queues
        .into_iter()
        .map(|(name, _)| name)
        .find(|name| name.starts_with(&returns));
    let return_queue = return_queue.expect("the terminator's queue");
    let terminator = return_queue.rsplit('.').next().expect("its id");
    // Whoever guesses a stamp and names the queue of its terminator, and says what workers say of what they have moved.
    let mut forged = FieldTable::default();
    for (name, value) in [
        ("origin", "forward".to_owned()),
        ("x-first-death-queue", format!("{}.retry", stack.namespace())),
        ("x-death-queue", format!("{}.retry", stack.namespace())),
        ("x-first-death-exchange", format!("{}.internal", stack.namespace())),
    ] {
        forged.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    let properties = BasicProperties::default()
        .with_reply_to(return_queue.as_str().into())
        .with_correlation_id(format!("{terminator}.1.1").as_str().into())
        .with_type("message".into())
        .with_expiration("50".into())
        .with_headers(forged);
    queue.publish("message", "{}", properties).await;
    let failed = format!("{}.failed", stack.namespace());
    eventually(SOON, "it has expired", async || queue.count(&failed).await == 1).await;
    let asked = alice.ask("echo", Some(&fresh("alice")), json!(1)).await;
    stack.start_workers(1).await;
    let answer = alice.answer_to(&asked, SOON).await;
    assert_eq!(answer["payload"], 1, "it is the real one: {answer}");
    alice.expect_nothing_shown().await;
    assert_eq!(
        queue.dead_letter(SOON).await.header("queue"),
        Some(AMQPValue::LongString(format!("{}.messages", stack.namespace()).into()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_only_where_the_asker_may_read() {
    let stack = Stack::builder().setting("reply-queues", r"^reports-").start().await;
    let queue = stack.queue().await;
    let own = format!("reports-{}", stack.namespace());
    let foreign = [
        format!("somebody-else-{}", stack.namespace()),
        format!("reports-{}.return.0123456789abcdef", stack.namespace()),
        format!("reports-{}.retry", stack.namespace()),
    ];
    for name in foreign.iter().chain([&own]) {
        queue.declare_quorum_queue(name).await;
    }
    let body = json!({"type": "echo", "token": fresh("mallory"), "payload": 1}).to_string();
    for name in foreign.iter().chain([&own]) {
        for (key, text) in [
            ("message", body.as_str()),
            ("message", "{}"),
            ("push", "{}"),
            ("revoke", "{}"),
        ] {
            let properties = BasicProperties::default().with_reply_to(name.as_str().into());
            queue.publish(key, text, properties).await;
        }
    }
    eventually(SOON, "what may be answered is", async || queue.count(&own).await == 4).await;
    for name in &foreign {
        assert_eq!(queue.count(name).await, 0, "{name}");
    }
    eventually(SOON, "what may not be answered is counted", async || {
        let metrics = stack.workers()[0].metrics().await;
        let lost = metrics
            .get(r#"countersign_worker_answers_lost_total{reason="not_allowed"}"#)
            .copied();
        if lost == Some(3.0) { Ok(()) } else { Err(lost) }
    })
    .await;
    for name in foreign.iter().chain([&own]) {
        queue.delete(name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_broker_does_not_take_is_told_to_who_asked_and_costs_nobody_else() {
    let broker = Arc::new(Broker::start().await);
    broker
        .ctl(&["eval", "application:set_env(rabbit, max_message_size, 100000)."])
        .await;
    let upstream = Upstream::start(|asked: &Asked| match asked.kind() {
        "large" => Said::status(200, format!("\"{}\"", "x".repeat(200_000))),
        _ => Said::status(200, "\"small\""),
    })
    .await;
    let stack = Stack::builder()
        .broker(&broker)
        .setting("handler", &upstream.handler())
        .start()
        .await;
    let token = fresh("alice");
    let mut client = stack.client().await;
    client.authenticate(&token).await;
    let asked = large_and_small(&mut client).await;
    large_is_refused(&mut client, asked).await;
    // And what was held comes to an end, too.
    let mut client = stack.client().await;
    let asked = large_and_small(&mut client).await;
    let required = client.next_of_type("auth.required", 10.s()).await;
    assert_eq!(required["reason"], "missing");
    client.authenticate(&token).await;
    large_is_refused(&mut client, asked).await;
}

/// Asks for an answer that is too large, and for another one.
async fn large_and_small(client: &mut Client) -> [String; 2] {
    let large = client.ask("large", None, Value::Null).await;
    [large, client.ask("small", None, Value::Null).await]
}

async fn large_is_refused(client: &mut Client, [large, small]: [String; 2]) {
    for _ in 0..2 {
        let answer = client.next_json(30.s()).await;
        if answer["id"] == *large {
            assert_eq!(answer["error"]["code"], "internal", "{answer}");
        } else {
            assert_eq!((&answer["id"], &answer["payload"]), (&json!(small), &json!("small")));
        }
    }
}
