//! What a handler pushes along with its answer.

use serde_json::{Value, json};
use shared::bus::Bus;
use shared::wire::envelope::{Command, Return};
use shared::wire::id::ConnectionId;

use super::fixture::{Fixture, message, settle};

/// What came for a terminator: the parts of an answer, and what was to be written elsewhere.
#[derive(Default)]
struct Came {
    parts: Vec<Value>,
    written: Vec<(ConnectionId, String, Value)>,
}

impl Came {
    /// The next messages.
    async fn next(fixture: &mut Fixture, count: usize) -> Self {
        let mut came = Self::default();
        for _ in 0..count {
            let message = fixture.returned().await;
            let body: Value = serde_json::from_slice(&message.body).expect("JSON");
            match Return::read(&message) {
                Some(Return::Reply(_, answer)) => {
                    assert_eq!(answer.part.index as usize, came.parts.len());
                    came.parts.push(body);
                }
                Some(Return::Command(connection, Command::Write(write))) => {
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
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture.connect(fixture.connection(1), "alice", 300).await;
    fixture.connect(fixture.connection(2), "alice", 300).await;
    fixture.connect(fixture.connection(3), "bob", 300).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        fixture
            .forward(
                fixture.message_id(1, 7),
                message("i", "along", "alice", &json!("answer")),
            )
            .await;
        let came = Came::next(&mut fixture, 5).await;
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
        assert_eq!((connection, &body), (fixture.connection(2), &came.parts[1]));
        assert_eq!(key, format!("p:{}", body["id"].as_str().expect("an id")));
        ids.push([0, 1, 3].map(|index: usize| came.parts[index]["id"].clone()));
    }
    assert_eq!(ids[0], ids[1]);
    fixture.expect_no_answer().await;
    assert_eq!(fixture.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_pushes_too_much_has_made_a_mistake_and_nothing_of_it_is_written() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let answer = fixture
        .ask(
            fixture.message_id(1, 1),
            message("i", "too many along", "alice", &Value::Null),
        )
        .await;
    assert_eq!(
        (&answer["type"], &answer["error"]["code"], &answer["error"]["effect"]),
        (&json!("error"), &json!("internal"), &json!("unknown"))
    );
    fixture.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn with_a_message_that_was_injected_it_is_a_push_as_any_other() {
    let mut fixture = Fixture::new();
    fixture.limits.idempotency = None;
    let _worker = fixture.worker();
    let replies = fixture.names.inject_queue(7);
    let mut answers = fixture.bus.consumer(replies.clone(), 1);
    settle().await;
    let properties = shared::bus::Properties {
        reply_to: Some(replies.name),
        ..Default::default()
    };
    fixture
        .inject(message("i", "along to all", "alice", &json!("answer")), properties)
        .await;
    let answer = answers.recv().await.expect("the bus lives");
    assert_eq!(answer.message.body, r#"{"type":"reply","id":"i","payload":"answer"}"#);
    assert_eq!(fixture.held("alice").await.len(), 1);
}
