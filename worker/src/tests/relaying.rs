//! What is relayed, on the embedded bus.

use serde_json::{Value as Json, json};
use shared::wire::envelope::{Command, Return};

use super::fixture::{Fixture, json_of, message};
use crate::handler::builtin::Application;

/// The next thing to be written to a connection: its key, and the text.
async fn written(fixture: &mut Fixture) -> (String, Json) {
    loop {
        let message = fixture.returned().await;
        if let Some(Return::Command(_, Command::Write(write))) = Return::read(&message) {
            return (write.key, json_of(&message.body));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_handled_again_makes_the_same_push_again() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker_of(Application::Relay);
    // Someone to relay to.
    let payload = json!({"to": {"subject": "carol"}, "payload": 0});
    fixture
        .ask(fixture.message_id(2, 1), message("i", "relay", "bob", &payload))
        .await;
    let mut keys = Vec::new();
    for sequence in [1, 1, 2] {
        let body = message(
            "i",
            "relay",
            "alice",
            &json!({"to": {"subject": "bob"}, "payload": "x"}),
        );
        fixture.forward(fixture.message_id(1, sequence), body).await;
        let (key, push) = written(&mut fixture).await;
        assert_eq!(push["payload"]["from"]["subject"], "alice");
        assert!(
            key.starts_with("u:") && key.ends_with(push["id"].as_str().unwrap()),
            "{key}"
        );
        keys.push(key);
    }
    assert_eq!(keys[0], keys[1]);
    assert_ne!(keys[0], keys[2]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_looked_up_just_now_is_refused_and_leaves_no_trace() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker_of(Application::Relay);
    let body = |payload: &str| {
        message(
            "i",
            "relay",
            "alice",
            &json!({"to": {"subject": "bob"}, "payload": payload}),
        )
    };
    assert_eq!(
        fixture.ask(fixture.message_id(1, 1), body("a")).await["payload"],
        json!({"outcome": "held"})
    );
    fixture.store.set_away(true);
    let answer = fixture.ask(fixture.message_id(1, 2), body("b")).await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["temporary"]),
        (&json!("busy"), &json!(true))
    );
}
