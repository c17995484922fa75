//! What an injector may write stops no one else: injecting needs no trust. Each is one with exactly the permissions of
//! `docs/permissions.md`.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, LongString},
};
use serde_json::{Value, json};
use tests::peers::amqp::{Verdict, entry, long, place};
use tests::servers::upstream::{Asked, Said};
use tests::{
    Broker, Client, Program, Push, Queue, RawProperties, RawPublisher, Span, Stack, Upstream, eventually, token_for,
};

use super::permissions::injector_of;
use crate::authentication::expiry::{SOON, fresh};

/// How many of each kind come: more than all workers together could fall over, one after the other.
const MANY: usize = 12;

/// Where nothing is left when all is worked off.
pub(crate) const WORKED_OFF: [&str; 8] = [
    "messages",
    "retry",
    "failed",
    "injected",
    "injected.retry",
    "injected.failed",
    "pushes",
    "revocations",
];

/// Longer than an answer takes on a machine that has other things to do, and much shorter than what any attack here once cost.
const PROMPT: std::time::Duration = std::time::Duration::from_secs(8);

/// Looks like what RabbitMQ gives to anyone who wants a direct reply.
const UNREADABLE: &str = "amq.rabbitmq.reply-to.g1h2AA5yZXBseUAxMjM0NTY3ODkAAAAAAAAAAAAAAAA=.AAAAAAAA";

async fn stack() -> Stack {
    Stack::builder().poisoned_workers(2).start().await
}

/// An injector with the permissions of `docs/permissions.md`, and no more.
async fn injector(stack: &Stack) -> Queue {
    let url = stack.broker().url_of(&injector_of(stack).await);
    Queue::connect(&url, stack.namespace()).await
}

/// Someone honest is answered, now and again, while the queue is worked off.
async fn honest(client: &mut Client) {
    let token = fresh("alice");
    for number in 0..20 {
        let answer = client.request("echo", Some(&token), json!(number)).await;
        assert_eq!(answer["payload"], number, "{answer}");
    }
}

/// Everything that was injected has come to an end: none of it waits to be tried again.
async fn worked_off(stack: &Stack) {
    for name in WORKED_OFF {
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
    let queue = injector(&stack).await;
    let mut alice = stack.client().await;
    let body = json!({"type": "echo", "token": fresh("mallory"), "payload": 1});
    let before: Vec<_> = stack.workers().iter().map(losses).collect();
    let terms = terms().into_iter().map(|term| {
        let process = BASE64_STANDARD.encode(term);
        format!("amq.rabbitmq.reply-to.{process}.3H0xhtuWmxl7TSZ9wz0ZvA==")
    });
    let plain = ["amq.rabbitmq.reply-to.AAAA.BBBB", UNREADABLE].map(str::to_owned);
    let mut replies = queue.direct_replies().await;
    for reply_to in plain.into_iter().chain(terms) {
        let properties = BasicProperties::default().with_reply_to(reply_to.as_str().into());
        inject_many(&queue, &body, &properties).await;
        for key in ["push", "revoke"] {
            queue.publish(key, "{}", properties.clone()).await;
        }
        honest(&mut alice).await;
        let asked = json!({"type": "echo", "token": fresh("bob"), "payload": 1}).to_string();
        queue.publish("message", asked, replies.properties()).await;
        assert_eq!(replies.next(SOON).await.json()["payload"], 1, "{reply_to}");
    }
    worked_off(&stack).await;
    for (worker, before) in stack.workers().iter().zip(before) {
        assert_eq!(losses(worker), before, "no connection is lost");
    }
}

/// Erlang terms of which the broker makes no process, although they begin like one.
fn terms() -> Vec<Vec<u8>> {
    vec![
        vec![131, 104, 2, 97, 1, 97, 1],
        vec![131, 106, 0, 0, 0, 0],
        vec![131, 107, 0, 3, 1, 2, 3],
        vec![131, 108, 0xff, 0xff, 0xff, 0xff, 97, 1],
        vec![131, 80, 0x7f, 0xff, 0xff, 0xff, 120, 156, 3, 0],
        [&[131, 119, 60][..], &[b'z'; 60]].concat(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_to_processes_of_no_node_keep_no_one_waiting_who_has_named_a_queue() {
    let stack = stack().await;
    let (queue, own) = (injector(&stack).await, stack.queue().await);
    let body = json!({"type": "echo", "token": fresh("mallory"), "payload": 1});
    let mut replies = own.reply_queue().await;
    for number in 0..MANY {
        let node = format!("reply@{number:08}");
        let old = [&[131, 103, 100, 0, 14][..], node.as_bytes(), &[0; 9]].concat();
        let new = [&[131, 88, 119, 14][..], node.as_bytes(), &[0; 12]].concat();
        for process in [old, new] {
            let reply_to = format!(
                "amq.rabbitmq.reply-to.{}.3H0xhtuWmxl7TSZ9wz0ZvA==",
                BASE64_STANDARD.encode(process)
            );
            let properties = BasicProperties::default().with_reply_to(reply_to.as_str().into());
            queue.publish("message", body.to_string(), properties.clone()).await;
            queue
                .publish("push", json!({"subject": "bob", "payload": 1}).to_string(), properties)
                .await;
        }
        let asked = json!({"type": "echo", "token": fresh("bob"), "payload": number}).to_string();
        own.publish("message", asked, replies.properties()).await;
        assert_eq!(replies.next(SOON).await.json()["payload"], number);
    }
    worked_off(&stack).await;
    for worker in stack.workers() {
        let lost = |line: &&Value| line.to_string().contains("lost the broker");
        let roles: Vec<_> = worker
            .log()
            .iter()
            .filter(lost)
            .map(|line| line["role"].clone())
            .collect();
        assert!(roles.iter().all(|role| role == "replying directly"), "{roles:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_any_size_and_bytes_are_their_sender_s_loss_alone() {
    let mut stack = stack().await;
    let (queue, administrator) = (injector(&stack).await, stack.queue().await);
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
        // No one is told that it is none, so it is buried, with what is kept of it.
        inject_many(&queue, &json!({"no": "message"}), &headers(text(value.clone()))).await;
    }
    let taken = format!("{}.injected", stack.namespace());
    eventually(SOON, "they are taken", async || administrator.count(&taken).await == 0).await;
    stack.worker(0).kill();
    stack.worker(1).kill();
    stack.start_workers(2).await;
    let mut alice = stack.client().await;
    honest(&mut alice).await;
    eventually(60.s(), "all is worked off", async || {
        let mut left = 0;
        for name in WORKED_OFF {
            left += administrator.count(&format!("{}.{name}", stack.namespace())).await;
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
    let queue = injector(&stack).await;
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
    let (queue, administrator) = (injector(&stack).await, stack.queue().await);
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
    // Anyone who guesses a message id and names the queue of its terminator, and says what workers say of what they have moved.
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
    let failed = format!("{}.injected.failed", stack.namespace());
    eventually(SOON, "it has expired", async || administrator.count(&failed).await == 1).await;
    let asked = alice.ask("echo", Some(&fresh("alice")), json!(1)).await;
    stack.start_workers(1).await;
    let answer = alice.answer_to(&asked, SOON).await;
    assert_eq!(answer["payload"], 1, "it is the real one: {answer}");
    alice.expect_nothing_shown().await;
    assert_eq!(
        administrator.dead_letter(SOON).await.header("queue"),
        Some(AMQPValue::LongString(format!("{}.injected", stack.namespace()).into()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_only_where_the_asker_may_read() {
    let stack = Stack::builder().setting("reply-queues", r"^reports-").start().await;
    let (injector, queue) = (injector(&stack).await, stack.queue().await);
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
            ("revoke", r#"{"subject":"somebody"}"#),
        ] {
            let properties = BasicProperties::default().with_reply_to(name.as_str().into());
            injector.publish(key, text, properties).await;
        }
    }
    eventually(SOON, "what may be answered is", async || queue.count(&own).await == 5).await;
    for name in &foreign {
        assert_eq!(queue.count(name).await, 0, "{name}");
    }
    eventually(SOON, "what may not be answered is counted", async || {
        let metrics = stack.workers()[0].metrics().await;
        let lost = [
            r#"countersign_worker_replies_lost_total{reason="not_allowed"}"#,
            "countersign_worker_outcomes_lost_total",
        ];
        let lost = lost.map(|name| metrics.get(name).copied().unwrap_or_default());
        if lost == [3.0, 3.0] { Ok(()) } else { Err(lost) }
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
    // What the broker has said of its limit is believed: no other costs a channel, on which others' replies are under way.
    for _ in 0..5 {
        let asked = large_and_small(&mut client).await;
        large_is_refused(&mut client, asked).await;
    }
    let closed = |line: &&Value| line.to_string().contains("a message closes its channel");
    assert_eq!(
        stack.workers()[0].log().iter().filter(closed).count(),
        0,
        "not even the first twice"
    );
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

/// An injector that writes by hand, and reads its direct replies.
async fn by_hand(stack: &Stack) -> RawPublisher {
    let port = stack.broker().amqp_port();
    RawPublisher::connect(port, &injector_of(stack).await)
        .await
        .expect("it logs in")
}

/// What a library of AMQP would not write, by name.
fn unspeakable() -> Vec<(&'static str, RawProperties)> {
    let direct = || RawProperties::default().text(place::REPLY_TO, b"amq.rabbitmq.reply-to");
    let mut nested = Vec::new();
    while nested.len() < 100_000 {
        nested = [b"A".to_vec(), long(&nested)].concat();
    }
    let many: Vec<u8> = (0..9_000)
        .flat_map(|number| entry(format!("h{number}").as_bytes(), b't', &[1]))
        .collect();
    vec![
        ("a message_id of 0xFF", direct().text(place::MESSAGE_ID, b"\xff")),
        ("a type of 0xC3", direct().text(place::TYPE, b"\xc3")),
        ("a content_type", direct().text(place::CONTENT_TYPE, b"a/\xf0\x9f")),
        ("an app_id", direct().text(place::APP_ID, &[0x80; 255])),
        ("a name of a header", direct().headers(&entry(b"\xff", b't', &[1]))),
        (
            "a nest in a nest",
            direct().headers(&[entry(b"n", nested[0], &nested[1..])].concat()),
        ),
        (
            "nearly a frame",
            direct().headers(&entry(b"x", b'S', &long(&[b'a'; 130_950]))),
        ),
        (
            "nearly a frame of nothing",
            direct().headers(&entry(b"x", b'x', &long(&[0xff; 130_940]))),
        ),
        ("nine thousand headers", direct().headers(&many)),
        (
            "a forged count",
            direct().headers(&entry(b"x-delivery-count", b'I', &9_i32.to_be_bytes())),
        ),
        (
            "a forged death",
            direct().headers(&entry(b"x-death", b'S', &long(b"nonsense"))),
        ),
    ]
}

/// How often a program has lost a connection to the broker.
fn losses(program: &Program) -> usize {
    let lost = |line: &Value| line.to_string().contains("lost the broker");
    program.log().iter().filter(|line| lost(line)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_library_would_write_is_refused_or_handled_and_costs_nobody_a_connection() {
    let stack = stack().await;
    let (mut mallory, mut alice) = (by_hand(&stack).await, stack.client().await);
    let before: Vec<_> = stack.workers().iter().map(losses).collect();
    let body = json!({"type": "echo", "token": fresh("mallory"), "payload": 1}).to_string();
    let mut published = 0;
    for round in 0..3 {
        for (name, properties) in unspeakable() {
            let verdict = mallory
                .publish(stack.namespace(), "message", &properties, body.as_bytes())
                .await;
            assert_eq!(verdict, Verdict::Confirmed, "{name}");
            published += 1;
            let nobody = properties.clone().text(place::REPLY_TO, b"");
            for key in ["message", "push", "revoke"] {
                mallory.publish(stack.namespace(), key, &nobody, body.as_bytes()).await;
            }
            let asked = tokio::time::Instant::now();
            let answer = alice.request("echo", Some(&fresh("alice")), json!(round)).await;
            assert_eq!(answer["payload"], round, "{answer}");
            assert!(
                asked.elapsed() < PROMPT,
                "{name}: an honest client waits {:?}",
                asked.elapsed()
            );
        }
    }
    mallory.gather_answers(published, SOON).await;
    assert_eq!(mallory.answers(), published, "each is answered");
    worked_off(&stack).await;
    for (worker, before) in stack.workers().iter().zip(before) {
        assert_eq!(losses(worker), before, "no connection is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_again_and_has_outgrown_a_frame_meanwhile_harms_none_of_its_neighbours() {
    const INNOCENT: usize = 40;
    let mut stack = Stack::builder().poisoned_workers(1).start().await;
    let mut mallory = by_hand(&stack).await;
    let (queue, administrator) = (injector(&stack).await, stack.queue().await);
    let mut replies = queue.direct_replies().await;
    let large = RawProperties::default().headers(&entry(b"x", b'S', &long(&[b'a'; 131_000])));
    // The one who had them all dies with them, and what the broker adds is too much.
    stack.worker(0).freeze().await;
    let slow = json!({"type": "echo", "token": fresh("mallory"), "payload": 1}).to_string();
    assert_eq!(
        mallory
            .publish(stack.namespace(), "message", &large, slow.as_bytes())
            .await,
        Verdict::Confirmed
    );
    for number in 0..INNOCENT {
        let body = json!({"type": "echo", "token": fresh("alice"), "payload": number}).to_string();
        queue.publish("message", body, replies.properties()).await;
    }
    let taken = format!("{}.injected", stack.namespace());
    eventually(SOON, "they are taken", async || administrator.count(&taken).await == 0).await;
    stack.worker(0).kill();
    stack.replace_ended_workers();
    stack.worker(0).ready().await;
    stack.start_workers(1).await;
    let mut answered = std::collections::BTreeSet::new();
    for _ in 0..INNOCENT {
        let answer = replies.next(30.s()).await.json();
        assert!(answered.insert(answer["payload"].as_u64()), "{answer}");
    }
    worked_off(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_reply_queue_of_one_s_own_keeps_nobody_else_waiting() {
    const MANY: usize = 200;
    let stack = Stack::builder().setting("reply-queues", r"^full-").start().await;
    let (injector, queue) = (injector(&stack).await, stack.queue().await);
    let full = format!("full-{}", stack.namespace());
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let options = lapin::options::QueueDeclareOptions::default();
    queue
        .channel()
        .queue_declare(full.as_str().into(), options, arguments)
        .await
        .expect("a queue");
    // It takes nothing from the first answer on.
    queue
        .channel()
        .basic_publish(
            "".into(),
            full.as_str().into(),
            lapin::options::BasicPublishOptions::default(),
            b"full",
            BasicProperties::default(),
        )
        .await
        .expect("it is published");
    eventually(SOON, "it is full", async || queue.count(&full).await == 1).await;
    let body = json!({"type": "echo", "token": fresh("mallory"), "payload": 1}).to_string();
    for key in ["message", "push", "revoke"] {
        for _ in 0..MANY {
            let properties = BasicProperties::default().with_reply_to(full.as_str().into());
            injector.publish(key, &body, properties).await;
        }
    }
    let mut other = injector.direct_replies().await;
    let asked = tokio::time::Instant::now();
    injector.publish("message", &body, other.properties()).await;
    assert_eq!(other.next(SOON).await.json()["payload"], 1);
    assert!(asked.elapsed() < 10.s(), "another injector waits {:?}", asked.elapsed());
    worked_off(&stack).await;
    assert!(asked.elapsed() < 30.s(), "all of it takes {:?}", asked.elapsed());
    let lost = stack.workers()[0].metrics().await;
    let lost = lost
        .get(r#"countersign_worker_replies_lost_total{reason="queue_full"}"#)
        .copied();
    assert!(lost.unwrap_or_default() >= 150.0, "each is counted: {lost:?}");
    queue.delete(&full).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn injected_poison_and_injected_slowness_keep_no_client_waiting() {
    let mut stack = Stack::builder()
        .poisoned_workers(2)
        .setting("concurrency", "8")
        .setting("max-deliveries", "2")
        .start()
        .await;
    let (queue, administrator) = (injector(&stack).await, stack.queue().await);
    let token = fresh("mallory");
    // As many as would take every place, many times over; and some that expire, as many as would fill a queue of the failed.
    for _ in 0..100 {
        let slow = json!({"type": "slow", "token": token}).to_string();
        queue.publish("message", slow, BasicProperties::default()).await;
        let gone = BasicProperties::default().with_expiration("0".into());
        queue.publish("message", "{}", gone).await;
    }
    let mut alice = stack.client().await;
    for number in 0..20 {
        let asked = tokio::time::Instant::now();
        let answer = alice.request("echo", Some(&fresh("alice")), json!(number)).await;
        assert_eq!(answer["payload"], number, "{answer}");
        assert!(asked.elapsed() < PROMPT, "an honest client waits {:?}", asked.elapsed());
    }
    let retry = format!("{}.retry", stack.namespace());
    stack.worker(0).kill();
    stack.replace_ended_workers();
    stack.worker(0).ready().await;
    assert_eq!(
        administrator.count(&retry).await,
        0,
        "what is injected is not tried again among clients' messages"
    );
    honest(&mut alice).await;
}

/// An earlier version bound the queue of clients' messages for outsiders, and left something there.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_version_left_among_clients_messages_is_handled_once() {
    let mut stack = Stack::builder().terminators(0).workers(0).start().await;
    stack.start_terminators(1).await;
    let queue = stack.queue().await;
    let messages = format!("{}.messages", stack.namespace());
    let bind = queue.channel().queue_bind(
        messages.as_str().into(),
        stack.namespace().into(),
        "message".into(),
        lapin::options::QueueBindOptions::default(),
        FieldTable::default(),
    );
    bind.await.expect("it is bound as it was once");
    let mut replies = queue.reply_queue().await;
    let body = json!({"type": "echo", "token": fresh("alice"), "payload": 1}).to_string();
    queue.publish_to("", &messages, &body, replies.properties()).await;
    stack.start_workers(1).await;
    assert_eq!(replies.next(SOON).await.json()["payload"], 1);
    queue.publish("message", &body, replies.properties()).await;
    assert_eq!(replies.next(SOON).await.json()["payload"], 1);
    assert!(replies.try_next(500.ms()).await.is_none(), "it comes by one way alone");
}
