//! Whatever comes out of the queue, a worker lives, says what was wrong to anyone who can hear it, and goes on.

use lapin::{
    BasicProperties,
    types::{AMQPValue, DecimalValue, FieldArray, FieldTable},
};
use serde_json::{Value, json};
use tests::peers::queue::amqp_tool;
use tests::{Queue, Span, Stack, eventually, token_for};

fn echo() -> Value {
    json!({"id": "i", "type": "echo", "token": token_for("alice").mint()})
}

async fn assert_next_is_answered(queue: &Queue, after: &str) {
    assert_eq!(queue.request(&echo()).await.json()["type"], "reply", "after {after}");
}

fn reason(header: Option<AMQPValue>) -> String {
    match header {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        other => panic!("no reason, but {other:?}"),
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_told_or_buried_and_the_next_is_answered() {
    let stack = Stack::builder().terminators(0).start().await;
    let queue = stack.queue().await;
    let mut replies = queue.reply_queue().await;
    let huge = vec![b'['; 16 * 1_024 * 1_024];
    let deep = "[".repeat(100_000);
    let bodies: [(&str, &[u8], &str); 8] = [
        ("nothing", b"", "bad_request"),
        ("16 MiB", &huge, "too_large"),
        ("no UTF-8", b"{\"type\":\"\xff\xfe\"}", "bad_request"),
        ("no JSON", b"\x00\x01\x02", "bad_request"),
        ("no object", b"[1,2,3]", "bad_request"),
        ("a deep nest", deep.as_bytes(), "bad_request"),
        ("no type", br#"{"id":"i"}"#, "bad_request"),
        (
            "a type of the protocol's own",
            br#"{"type":"auth.everything"}"#,
            "bad_request",
        ),
    ];
    for (name, body, code) in bodies {
        queue.publish("message", body, replies.properties()).await;
        let answer = replies.next(10.s()).await.json();
        assert_eq!(
            (&answer["type"], &answer["error"]["code"]),
            (&json!("error"), &json!(code)),
            "{name}"
        );
        queue.publish("message", body, BasicProperties::default()).await;
        let dead = queue.dead_letter(10.s()).await;
        assert_eq!(reason(dead.header("reason")), code, "{name}");
        assert!(body.starts_with(&dead.body), "{name}");
        assert_next_is_answered(&queue, name).await;
    }
    eventually(5.s(), "each is counted", async || {
        let metrics = stack.workers()[0].metrics().await;
        let outcome = |name: &str| {
            metrics
                .get(&format!("countersign_worker_messages_total{{outcome=\"{name}\"}}"))
                .copied()
        };
        let seen = (
            outcome("bad_request"),
            outcome("too_large"),
            outcome("handled"),
            metrics.get("countersign_worker_dead_letters_total").copied(),
        );
        if seen == (Some(14.0), Some(2.0), Some(8.0), Some(8.0)) {
            Ok(())
        } else {
            Err(seen)
        }
    })
    .await;
}

/// Headers of every type that AMQP has, of many names, nested, and long.
fn odd_headers() -> Vec<(&'static str, FieldTable)> {
    let mut nested = FieldTable::default();
    nested.insert("deeper".into(), AMQPValue::LongString("x".into()));
    let mut array = FieldArray::default();
    array.push(AMQPValue::FieldTable(nested.clone()));
    let values = [
        AMQPValue::Boolean(true),
        AMQPValue::ShortShortInt(-1),
        AMQPValue::ShortShortUInt(1),
        AMQPValue::ShortInt(-1),
        AMQPValue::ShortUInt(1),
        AMQPValue::LongInt(-1),
        AMQPValue::LongUInt(1),
        AMQPValue::LongLongInt(i64::MIN),
        AMQPValue::Float(1.5),
        AMQPValue::Double(1e300),
        AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 1 }),
        AMQPValue::LongString("a".into()),
        AMQPValue::LongString(vec![0xff, 0xfe, 0x00].into()),
        AMQPValue::FieldArray(array),
        AMQPValue::Timestamp(u64::MAX),
        AMQPValue::FieldTable(nested),
        AMQPValue::ByteArray(vec![0xff; 3].into()),
        AMQPValue::Void,
    ];
    // Those are the names that we read ourselves, so each of them gets each type.
    let ours = [
        "index",
        "more",
        "origin",
        "first_seen",
        "reason",
        "x-first-death-reason",
        "x-death",
        "x-delivery-count",
    ];
    let mut cases: Vec<_> = values
        .into_iter()
        .map(|value| {
            let mut headers = FieldTable::default();
            for name in ours {
                headers.insert(name.into(), value.clone());
            }
            ("each type under our own names", headers)
        })
        .collect();
    let mut names = FieldTable::default();
    for number in 0..300 {
        names.insert(format!("name-{number}").as_str().into(), AMQPValue::LongLongInt(number));
    }
    cases.push(("300 names", names));
    let mut long = FieldTable::default();
    long.insert(
        "n".repeat(255).as_str().into(),
        AMQPValue::LongString("v".repeat(100_000).into()),
    );
    cases.push(("a header of 100 kB", long));
    cases
}

#[tokio::test]
async fn no_header_of_whatever_type_or_size_hinders_an_answer_or_a_dead_letter() {
    let stack = Stack::builder().terminators(0).start().await;
    let queue = stack.queue().await;
    let mut replies = queue.reply_queue().await;
    for (name, headers) in odd_headers() {
        let name = format!("{name}: {:.200}", format!("{headers:?}"));
        let (wanted, unwanted) = (replies.properties(), BasicProperties::default());
        queue
            .publish("message", echo().to_string(), wanted.with_headers(headers.clone()))
            .await;
        assert_eq!(replies.next(10.s()).await.json()["type"], "reply", "{name}");
        queue.publish("message", "bad", unwanted.with_headers(headers)).await;
        let dead = queue.dead_letter(10.s()).await;
        assert_eq!(reason(dead.header("reason")), "bad_request", "{name}");
    }
    let dead = format!("{}.dead", stack.namespace());
    queue
        .publish("message", echo().to_string(), BasicProperties::default())
        .await;
    assert_next_is_answered(&queue, "a good message that wants no answer").await;
    assert_eq!(queue.count(&dead).await, 0);
}

/// AMQP lets a client write any bytes into a short string (AMQP 0-9-1 §4.2.5.3), and Debian's tools do.
#[tokio::test]
async fn a_property_that_is_not_utf_8_hinders_nobody() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let stack = Stack::builder().terminators(0).start().await;
    let queue = stack.queue().await;
    let body = echo().to_string();
    let url = format!("--url={}", stack.broker().url());
    for option in ["-t", "-C", "-E"] {
        let mut command = std::process::Command::new("amqp-publish");
        command.args([&url, "-e", stack.namespace(), "-r", "message", "-b", &body, option]);
        assert!(command.arg(OsStr::from_bytes(b"\xff\xfe")).status().unwrap().success());
        assert_next_is_answered(&queue, option).await;
        let dead = queue.dead_letter(10.s()).await;
        assert_eq!(reason(dead.header("reason")), "bad_request", "{option}");
    }
    let published = amqp_tool(
        "amqp-publish",
        &stack.broker().url(),
        &["-e", stack.namespace(), "-r", "message", "-b", "x"],
    )
    .await;
    assert!(published.status.success());
    assert_next_is_answered(&queue, "a bad body by hand").await;
}
