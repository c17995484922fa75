//! Answers, their queues, and who injects.

use std::sync::atomic::Ordering;

use serde_json::{Value as Json, json};
use shared::bus::{Bus, Properties, Route, UNREADABLE, Value};
use shared::wire::envelope::{Part, Reply};

use super::fixture::{Fixture, json_of, message, settle};

#[tokio::test(start_paused = true)]
async fn an_answer_goes_to_whoever_asked_with_the_correlation_as_it_came() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let (one, other) = (fixture.names.inject_queue(1), fixture.names.inject_queue(2));
    let mut waiting = [&one, &other].map(|queue| fixture.bus.consumer(queue.clone(), 1));
    for (queue, correlation) in [(&other, "…not a message_id…"), (&one, "")] {
        let properties = Properties {
            correlation_id: Some(correlation.to_owned()),
            reply_to: Some(queue.name.clone()),
            ..Properties::default()
        };
        fixture
            .inject(message("i", "echo", "alice", &json!(queue.name)), properties)
            .await;
    }
    for (consumer, (queue, correlation)) in waiting.iter_mut().zip([(&one, ""), (&other, "…not a message_id…")]) {
        let delivery = consumer.recv().await.unwrap();
        assert_eq!(json_of(&delivery.message.body)["payload"], json!(queue.name));
        assert_eq!(delivery.message.properties.correlation_id.as_deref(), Some(correlation));
        delivery.ack();
    }
}

#[tokio::test(start_paused = true)]
async fn several_answers_come_in_order_and_the_last_settles() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let asked = fixture.message_id(1, 1);
    fixture
        .forward(asked, message("i", "three", "alice", &Json::Null))
        .await;
    for index in 0..3_u32 {
        let (properties, answer) = fixture.answer().await;
        let (message_id, told) = Reply::read(&properties).unwrap();
        assert_eq!((message_id, told.part), (asked, Part { index, more: index < 2 }));
        assert_eq!((&answer["payload"], &answer["id"]), (&json!(index), &json!("i")));
        assert_eq!(answer.get("auth").is_some(), index == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_without_an_answer_still_settles_the_message() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let first = fixture
        .ask(fixture.message_id(1, 1), message("i", "none", "alice", &Json::Null))
        .await;
    assert_eq!((&first["type"], &first["id"]), (&json!("auth.ok"), &json!("i")));
    assert_eq!(
        fixture
            .ask(fixture.message_id(1, 2), message("i", "none", "alice", &Json::Null))
            .await,
        Json::Null
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_waits_for_any_more_does_not_come_again() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let properties = Properties {
        reply_to: Some("gone".to_owned()),
        ..Properties::default()
    };
    fixture
        .inject(message("i", "echo", "alice", &Json::Null), properties)
        .await;
    assert!(fixture.is_empty(&fixture.names.injected()).await);
    assert_eq!(fixture.app.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_injected_message_is_handled_even_if_no_answer_is_wanted() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture
        .inject(message("i", "echo", "alice", &Json::Null), Properties::default())
        .await;
    assert!(fixture.is_empty(&fixture.names.injected()).await);
    assert_eq!(fixture.app.seen().len(), 1);
    assert!(fixture.is_empty(&fixture.names.dead()).await);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_and_wants_no_answer_is_a_dead_letter_with_the_reason() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let body = message("i", "echo", "alice", &Json::Null).replace("\"type\"", "\"typo\"");
    fixture.inject(body, Properties::default()).await;
    let dead = fixture.next_of(fixture.names.dead()).await;
    assert_eq!(
        dead.properties.header("reason"),
        Some(&Value::Text("bad_request".to_owned()))
    );
    assert_eq!(json_of(&dead.body), json!({"id": "i", "typo": "echo", "payload": null}));
    assert!(fixture.is_empty(&fixture.names.injected()).await);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_more_than_16_mib_is_too_large_and_hurts_nobody() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let answer = fixture
        .ask(fixture.message_id(1, 1), vec![b'['; 16 * 1_024 * 1_024 + 1])
        .await;
    assert_eq!(answer["error"]["code"], "too_large");
    let answer = fixture
        .ask(fixture.message_id(1, 2), message("i", "echo", "alice", &Json::Null))
        .await;
    assert_eq!(answer["type"], "reply");
}

#[tokio::test(start_paused = true)]
async fn no_more_messages_are_handled_at_a_time_than_concurrency_says() {
    let mut fixture = Fixture::new();
    fixture.limits.concurrency = 3;
    let _worker = fixture.worker();
    fixture.forward_all(1..=10, "slow").await;
    for _ in 0..10 {
        fixture.answer().await;
    }
    assert_eq!(fixture.app.busiest.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn no_more_messages_are_in_flight_than_prefetch_says() {
    let mut fixture = Fixture::new();
    fixture.limits.prefetch = 4;
    let _worker = fixture.worker();
    fixture.forward_all(1..=6, "wait").await;
    settle().await;
    assert_eq!(fixture.bus.depth(&fixture.names.messages().name), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn what_outsiders_publish_takes_half_of_what_a_worker_handles_at_a_time_and_keeps_no_client_waiting() {
    let mut fixture = Fixture::new();
    fixture.limits.concurrency = 4;
    let _worker = fixture.worker();
    for _ in 0..50 {
        fixture
            .inject(message("i", "hang", "mallory", &Json::Null), Properties::default())
            .await;
    }
    settle().await;
    assert_eq!(fixture.app.busiest.load(Ordering::SeqCst), 2);
    let answer = fixture
        .ask(fixture.message_id(1, 1), message("i", "echo", "alice", &Json::Null))
        .await;
    assert_eq!(answer["type"], "reply");
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_version_put_among_clients_messages_is_handled_there_and_tried_again_apart() {
    let fixture = Fixture::new();
    let by_name = Route::queue(&fixture.names.messages().name);
    for _ in 0..2 {
        fixture
            .publish(
                by_name.clone(),
                message("i", "echo", "alice", &Json::Null),
                Properties::default(),
            )
            .await;
    }
    fixture.die_with(fixture.names.messages(), 1).await;
    let [_, retry] = fixture.names.retries(fixture.limits.max_deliveries);
    let worker = fixture.worker();
    settle().await;
    assert_eq!(fixture.app.seen().len(), 2);
    assert!(fixture.is_empty(&retry).await && fixture.is_empty(&fixture.names.messages()).await);
    drop(worker);
}

#[tokio::test(start_paused = true)]
async fn a_message_around_which_something_is_unreadable_is_refused_or_buried() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let unreadable = |reply_to: Option<String>| Properties {
        reply_to,
        headers: vec![(UNREADABLE.to_owned(), Value::Flag(true))],
        ..Properties::default()
    };
    let queue = fixture.names.inject_queue(1);
    let mut answers = fixture.bus.consumer(queue.clone(), 1);
    let body = message("i", "echo", "alice", &Json::Null);
    fixture.inject(body.clone(), unreadable(Some(queue.name))).await;
    let mut answer = answers.recv().await.unwrap();
    assert_eq!(json_of(&answer.take_message().body)["error"]["code"], "bad_request");
    fixture.inject(body, unreadable(None)).await;
    let dead = fixture.next_of(fixture.names.dead()).await;
    assert_eq!(
        dead.properties.header("queue"),
        Some(&Value::Text("test.injected".to_owned()))
    );
    assert_eq!(fixture.app.seen().len(), 0);
}
