//! What a handler pushes along with its answer.

use serde_json::{Value, json};
use shared::bus::Bus;
use shared::envelope::{Errand, Return};
use shared::id::ConnectionId;

use super::bench::{Bench, message, settle};

/// What came for a terminator: the parts of an answer, and what was to be written elsewhere.
#[derive(Default)]
struct Came {
    parts: Vec<Value>,
    written: Vec<(ConnectionId, String, Value)>,
}

impl Came {
    /// The next messages.
    async fn next(bench: &mut Bench, count: usize) -> Self {
        let mut came = Self::default();
        for _ in 0..count {
            let message = bench.returned().await;
            let body: Value = serde_json::from_slice(&message.body).expect("JSON");
            match Return::read(&message) {
                Some(Return::Answer(_, answer)) => {
                    assert_eq!(answer.part.index as usize, came.parts.len());
                    came.parts.push(body);
                }
                Some(Return::Errand(connection, Errand::Write(write))) => {
                    came.written.push((connection, write.key, body));
                }
                other => panic!("{other:?}"),
            }
        }
        came
    }
}

#[tokio::test(start_paused = true)]
async fn what_goes_along_is_part_of_the_answer_in_the_handler_s_order_and_the_same_when_it_comes_again() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    bench.connect(bench.connection(1), "alice", 300).await;
    bench.connect(bench.connection(2), "alice", 300).await;
    bench.connect(bench.connection(3), "bob", 300).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        bench
            .forward(bench.stamp(1, 7), message("i", "along", "alice", &json!("answer")))
            .await;
        let came = Came::next(&mut bench, 5).await;
        let told: Vec<_> = came
            .parts
            .iter()
            .map(|part| json!([part["type"], part["payload"]]))
            .collect();
        assert_eq!(
            told,
            [
                json!(["push", 1]),
                json!(["push", 2]),
                json!(["reply", "answer"]),
                json!(["push", 3])
            ]
        );
        // The other connection of hers has what is for all of them.
        let [(connection, key, body)] = came.written.try_into().expect("one");
        assert_eq!((connection, &body), (bench.connection(2), &came.parts[1]));
        assert_eq!(key, format!("p:{}", body["id"].as_str().expect("an id")));
        ids.push([0, 1, 3].map(|index: usize| came.parts[index]["id"].clone()));
    }
    assert_eq!(ids[0], ids[1]);
    bench.expect_no_answer().await;
    assert_eq!(bench.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_pushes_too_much_has_made_a_mistake_and_nothing_of_it_is_written() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let answer = bench
        .ask(bench.stamp(1, 1), message("i", "too many along", "alice", &Value::Null))
        .await;
    assert_eq!(
        (&answer["type"], &answer["error"]["code"], &answer["error"]["effect"]),
        (&json!("error"), &json!("internal"), &json!("unknown"))
    );
    bench.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn with_a_message_that_was_injected_it_is_a_push_as_any_other() {
    let mut bench = Bench::new();
    bench.limits.idempotency = None;
    let _worker = bench.worker();
    let replies = bench.names.inject_queue(7);
    let mut answers = bench.bus.consumer(replies.clone(), 1);
    settle().await;
    let properties = shared::bus::Properties {
        reply_to: Some(replies.name),
        ..Default::default()
    };
    bench
        .inject(message("i", "along to all", "alice", &json!("answer")), properties)
        .await;
    let answer = answers.recv().await.expect("the bus lives");
    assert_eq!(answer.message.body, r#"{"type":"reply","id":"i","payload":"answer"}"#);
    assert_eq!(bench.held("alice").await.len(), 1);
}
