//! What is relayed, on the embedded bus.

use serde_json::{Value as Json, json};
use shared::envelope::{Errand, Return};

use super::bench::{Bench, json_of, message};
use crate::handler::builtin::Application;

/// The next thing to be written to a connection: its key, and the text.
async fn written(bench: &mut Bench) -> (String, Json) {
    loop {
        let message = bench.returned().await;
        if let Some(Return::Errand(_, Errand::Write(write))) = Return::read(&message) {
            return (write.key, json_of(&message.body));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_handled_again_makes_the_same_push_again() {
    let mut bench = Bench::new();
    let _worker = bench.worker_of(Application::Relay);
    // Somebody to relay to.
    let payload = json!({"to": {"subject": "carol"}, "payload": 0});
    bench
        .ask(bench.stamp(2, 1), message("i", "relay", "bob", &payload))
        .await;
    let mut keys = Vec::new();
    for sequence in [1, 1, 2] {
        let body = message(
            "i",
            "relay",
            "alice",
            &json!({"to": {"subject": "bob"}, "payload": "x"}),
        );
        bench.forward(bench.stamp(1, sequence), body).await;
        let (key, push) = written(&mut bench).await;
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
    let mut bench = Bench::new();
    let _worker = bench.worker_of(Application::Relay);
    let body = |payload: &str| {
        message(
            "i",
            "relay",
            "alice",
            &json!({"to": {"subject": "bob"}, "payload": payload}),
        )
    };
    assert_eq!(
        bench.ask(bench.stamp(1, 1), body("a")).await["payload"],
        json!({"outcome": "held"})
    );
    bench.store.set_away(true);
    let answer = bench.ask(bench.stamp(1, 2), body("b")).await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["temporary"]),
        (&json!("busy"), &json!(true))
    );
}
