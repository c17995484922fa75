//! What is on the broker is as documented; and what is there otherwise is told, waited for, and fixes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use lapin::{options::QueueDeclareOptions, types::FieldTable};
use serde_json::{Value, json};
use tests::{Program, Span, Stack, eventually, shared_broker, token_for};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    time::Instant,
};

/// Stands before the broker, and counts who connects.
async fn counting_door(port: u16) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("amqp://guest:guest@{}/%2f", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut broker = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut broker).await;
            });
        }
    });
    (url, count)
}

fn errors(program: &Program) -> Vec<Value> {
    program
        .log()
        .into_iter()
        .filter(|line| line["level"] == "ERROR")
        .collect()
}

async fn declare_otherwise(stack: &Stack, name: &str) {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let queue = stack.queue().await;
    let declared = queue
        .channel()
        .queue_declare(name.into(), options, FieldTable::default())
        .await;
    declared.expect("a classic queue");
}

#[tokio::test]
async fn a_queue_that_is_there_otherwise_is_told_once_and_waited_for_without_haste() {
    let port = shared_broker().await.amqp_port();
    let ((terminator_url, of_terminator), (worker_url, of_worker)) =
        (counting_door(port).await, counting_door(port).await);
    let stack = Stack::builder()
        .terminators(0)
        .workers(0)
        .users(&terminator_url, &worker_url);
    let mut stack = stack.start().await;
    let name = format!("{}.messages", stack.namespace());
    declare_otherwise(&stack, &name).await;
    stack.spawn_terminators(1);
    stack.spawn_workers(1);
    // Consuming and publishing, and in a worker the same for outsiders.
    let connections = [(&stack.terminators()[0], 2), (&stack.workers()[0], 4)];
    for (program, _) in connections {
        eventually(20.s(), "it is told", async || !errors(program).is_empty()).await;
    }
    let since = Instant::now();
    let before = [&of_terminator, &of_worker].map(|count| count.load(Ordering::SeqCst));
    // Each connection comes again three times and more.
    for ((count, before), (_, connections)) in [&of_terminator, &of_worker].into_iter().zip(before).zip(connections) {
        eventually(20.s(), "it tries again", async || {
            count.load(Ordering::SeqCst) >= before + 5 * connections
        })
        .await;
    }
    let took_s = since.elapsed().as_secs_f64();
    assert!(took_s > 1.9, "five attempts of each connection in {took_s} s");
    for (program, _) in connections {
        let told = errors(program);
        assert_eq!(told.len(), 1, "each program tells once: {told:?}");
        assert!(
            told.iter().all(|line| line["reason"].as_str().unwrap().contains(&name)),
            "{told:?}"
        );
        let unready = program.is_ready().await.unwrap_err();
        assert!(unready.starts_with("503") && unready.contains(&name), "{unready}");
    }
    stack.queue().await.delete(&name).await;
    stack.terminator(0).ready().await;
    stack.worker(0).ready().await;
    let token = token_for("alice").mint();
    let answer = stack.client().await.request("echo", Some(&token), json!(1)).await;
    assert_eq!(answer["payload"], 1);
}

#[tokio::test]
async fn workers_that_disagree_on_max_deliveries_are_told_and_hinder_nobody() {
    let mut stack = Stack::builder().setting("max-deliveries", "4").start().await;
    let other = Stack::builder()
        .terminators(0)
        .workers(0)
        .setting("namespace", stack.namespace());
    let mut other = other.setting("max-deliveries", "7").start().await;
    other.spawn_workers(1);
    let retry = format!("{}.retry", stack.namespace());
    eventually(20.s(), "it is told", async || {
        errors(&other.workers()[0])
            .iter()
            .any(|line| line["reason"].as_str().unwrap_or_default().contains(&retry))
    })
    .await;
    assert!(other.workers()[0].is_ready().await.is_err());
    let token = token_for("alice").mint();
    assert_eq!(
        stack.client().await.request("echo", Some(&token), json!(1)).await["payload"],
        1
    );
    assert_eq!(errors(stack.worker(0)), Vec::<Value>::new());
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_declared_anew() {
    let stack = Stack::builder().setting("publish-timeout", "20s").start().await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    client.request("echo", Some(&token), Value::Null).await;
    stack
        .queue()
        .await
        .delete(&format!("{}.messages", stack.namespace()))
        .await;
    // What finds no queue is refused, and the client may try again.
    eventually(20.s(), "it is answered again", async || {
        let answer = client.request("echo", Some(&token), Value::Null).await;
        if answer["type"] == "reply" {
            return Ok(());
        }
        assert_eq!(answer["error"]["temporary"], true, "{answer}");
        Err(answer)
    })
    .await;
}

#[tokio::test]
async fn queues_are_declared_as_documented() {
    const FOR_EVER: Value = Value::Null;
    let stack = Stack::builder().setting("connection-events", "on").start().await;
    let listed = stack
        .broker()
        .ctl(&[
            "list_queues",
            "--silent",
            "--formatter",
            "json",
            "name",
            "durable",
            "arguments",
        ])
        .await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let arguments = |suffix: &str| -> Value {
        let prefix = format!("{}.{suffix}", stack.namespace());
        let mut ours = listed.as_array().unwrap().iter().filter(|queue| {
            let name = queue["name"].as_str().unwrap();
            name == prefix || prefix.ends_with('.') && name.starts_with(&prefix)
        });
        let queue = ours.next().unwrap_or_else(|| panic!("no queue {prefix}: {listed}"));
        assert_eq!(queue["durable"], true);
        queue["arguments"].clone()
    };
    // The name, the delivery limit, how long it keeps what, and where that goes then.
    for (suffix, limit, ttl, dead_letter) in [
        ("messages", json!(20), FOR_EVER, json!("failed")),
        ("retry", json!(3), FOR_EVER, json!("failed")),
        ("failed", json!(1_000_000), FOR_EVER, Value::Null),
        ("injected", json!(20), FOR_EVER, json!("injected-failed")),
        ("injected.retry", json!(3), FOR_EVER, json!("injected-failed")),
        ("injected.failed", json!(1_000_000), FOR_EVER, Value::Null),
        // A person looks at letters by taking them and giving them back, as often as need be.
        ("dead", json!(1_000_000), json!(3 * 24 * 3_600 * 1_000), Value::Null),
        ("undelivered", json!(20), json!(24 * 3_600 * 1_000), json!("failed")),
        ("pushes", json!(20), FOR_EVER, json!("injected-failed")),
        ("open", json!(1_000_000), FOR_EVER, Value::Null),
        ("revocations", json!(20), FOR_EVER, json!("injected-failed")),
        ("worker.", Value::Null, FOR_EVER, json!("undelivered")),
        ("return.", Value::Null, json!(60_000), json!("undelivered")),
    ] {
        let argument = |name: &str| argument(&arguments(suffix), name);
        assert_eq!(argument("x-queue-type"), "quorum", "{suffix}");
        let in_order = ["undelivered", "pushes", "open"].contains(&suffix);
        let single = if in_order { json!(true) } else { Value::Null };
        assert_eq!(argument("x-single-active-consumer"), single, "{suffix}");
        assert_eq!(argument("x-delivery-limit"), limit, "{suffix}");
        assert_eq!(argument("x-message-ttl"), ttl, "{suffix}");
        assert_eq!(argument("x-dead-letter-routing-key"), dead_letter, "{suffix}");
        // Where bodies wait that may be of any size, bytes are counted besides; where nothing may be lost, what is too much is refused.
        let of_one = suffix.ends_with('.');
        assert_eq!(argument("x-max-length-bytes").is_null(), of_one, "{suffix}");
        assert_eq!(argument("x-max-length").is_null(), of_one, "{suffix}");
        let drops = argument("x-overflow") == "drop-head";
        assert_eq!(drops, suffix == "dead", "{suffix}");
        if !dead_letter.is_null() {
            assert_eq!(
                argument("x-dead-letter-exchange"),
                format!("{}.internal", stack.namespace())
            );
            assert_eq!(argument("x-dead-letter-strategy"), "at-least-once", "{suffix}");
            assert_eq!(argument("x-overflow"), "reject-publish", "{suffix}");
        }
    }
}

/// An argument by its name. RabbitMQ 3 lists them as `[name, type, value]`, newer ones as an object.
fn argument(arguments: &Value, name: &str) -> Value {
    let listed = arguments
        .as_array()
        .into_iter()
        .flatten()
        .find(|argument| argument[0] == name);
    listed.map_or_else(|| arguments[name].clone(), |argument| argument[2].clone())
}
