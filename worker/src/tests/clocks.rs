//! Terminators whose clock is another than the worker's.

use std::time::Duration;

use serde_json::json;
use shared::wire::envelope::{AuthSnapshot, Clocks, MessageKind};

use super::connection::stranger;
use super::fixture::{Fixture, message};

#[tokio::test(start_paused = true)]
async fn nothing_depends_on_when_a_terminator_that_does_not_know_the_time_received_a_message() {
    for (unsure, expected) in [(true, json!(null)), (false, json!("deadline_exceeded"))] {
        let mut fixture = Fixture::new();
        let mut asked: serde_json::Value =
            serde_json::from_str(&message("1", "echo", "alice", &json!(1))).expect("it is JSON");
        asked["timeout_ms"] = json!(60_000);
        let snapshot = AuthSnapshot { unsure, ..stranger() };
        fixture
            .forwarded(
                fixture.message_id(1, 1),
                MessageKind::Message,
                snapshot,
                asked.to_string().into(),
            )
            .await;
        // As if the terminator's clock were two minutes behind.
        fixture.clock.advance(Duration::from_secs(120));
        let _worker = fixture.worker();
        let (_, answer) = fixture.answer().await;
        assert_eq!(answer["error"]["code"], expected, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_brings_a_grant_tells_what_time_it_is() {
    let mut fixture = Fixture::new();
    let received = shared::service::clock::Clock::now(&*fixture.clock);
    fixture
        .forward(fixture.message_id(1, 2), message("1", "echo", "alice", &json!(1)))
        .await;
    fixture.clock.advance(Duration::from_secs(3));
    let _worker = fixture.worker();
    let (properties, _) = fixture.answer().await;
    let clocks = Clocks::read(&properties).expect("it tells");
    assert_eq!(clocks.asked, received);
    assert_eq!(clocks.answered, received.saturating_add(Duration::from_secs(3)));
    fixture
        .forward(fixture.message_id(1, 3), r#"{"id":"2","type":"echo"}"#)
        .await;
    let (properties, _) = fixture.answer().await;
    assert_eq!(Clocks::read(&properties), None, "not with each");
}
