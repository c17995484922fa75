//! Handlers that fail, messages that come again, and what is left of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value as Json, json};
use shared::bus::topology::keys;
use shared::bus::{Message, Properties, Route, Value};
use shared::wire::envelope::{AuthSnapshot, ForwardedMessage, MessageKind};

use shared::wire::tag::ResumeSecret;

use super::fixture::{Fixture, START, json_of, message, settle, token_for};

#[tokio::test(start_paused = true)]
async fn whatever_the_handler_does_the_client_gets_one_error_and_the_worker_lives() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    for (sequence, kind, code, temporary) in [
        (1, "forbidden", "forbidden", false),
        (2, "panic", "internal", false),
        (5, "own", "app.out_of_stock", true),
        (6, "reserved", "internal", false),
        (7, "hang", "busy", true),
    ] {
        let answer = fixture
            .ask(
                fixture.message_id(1, sequence),
                message("i", kind, "alice", &Json::Null),
            )
            .await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("error"), &json!("i")));
        assert_eq!(
            (&answer["error"]["code"], &answer["error"]["temporary"]),
            (&json!(code), &json!(temporary))
        );
        assert_eq!(
            answer.get("auth").is_some(),
            sequence == 1,
            "a changed state is told with an error too"
        );
    }
    let own = fixture
        .ask(fixture.message_id(1, 9), message("i", "own", "alice", &Json::Null))
        .await;
    assert_eq!(
        (&own["error"]["message"], &own["error"]["details"]),
        (&json!("sold"), &json!({"left": 0}))
    );
    let answer = fixture
        .ask(fixture.message_id(1, 10), message("i", "echo", "alice", &json!(1)))
        .await;
    assert_eq!(answer, json!({"type": "reply", "id": "i", "payload": 1}));
    assert!(fixture.is_empty(&fixture.names.messages()).await);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_worker_had_is_processed_one_at_a_time_with_its_message_ids() {
    let mut fixture = Fixture::new();
    fixture.forward_all(1..=5, "slow").await;
    fixture.die_with(fixture.names.messages(), 5).await;
    let _worker = fixture.worker();
    for _ in 0..5 {
        assert_eq!(fixture.answer().await.1["type"], "reply");
    }
    assert_eq!(fixture.app.busiest.load(Ordering::SeqCst), 1);
    let mut message_ids: Vec<_> = fixture
        .app
        .seen()
        .into_iter()
        .map(|seen| seen.message_id.unwrap().sequence)
        .collect();
    message_ids.sort();
    assert_eq!(
        message_ids
            .into_iter()
            .map(|sequence| sequence.get())
            .collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    assert!(fixture.is_empty(&fixture.names.messages()).await);
    assert!(fixture.is_empty(&fixture.names.retries(5)[0]).await);
}

#[tokio::test(start_paused = true)]
async fn poison_ends_as_a_dead_letter_without_its_token_and_its_sender_is_told() {
    let mut fixture = Fixture::new();
    let failed = Route::new(&fixture.names.internal_exchange().name, keys::FAILED);
    let reply_to = fixture.names.return_queue(fixture.terminator).name;
    let body = message("k", "poison", "alice", &json!("p"));
    let resume = ResumeSecret::random();
    let forwarded = ForwardedMessage {
        message_id: fixture.message_id(1, 9),
        notice: MessageKind::Message,
        snapshot: AuthSnapshot {
            grant: Some("whose it is".into()),
            principal: Some("what they claim".into()),
            resume: Some(resume),
            ..AuthSnapshot::default()
        },
    };
    let mut message = forwarded.to_message(body.into(), &reply_to, START);
    message.properties.headers.push((
        shared::bus::DEATH_REASON.to_owned(),
        Value::Text("delivery_limit".to_owned()),
    ));
    message
        .properties
        .headers
        .push(("x-death-queue".to_owned(), Value::Text("test.retry".to_owned())));
    fixture.publisher.publish(failed, message).await.unwrap();
    let _worker = fixture.worker();
    let (properties, told) = fixture.answer().await;
    assert_eq!(properties.correlation_id, Some(fixture.message_id(1, 9).to_string()));
    assert_eq!((&told["id"], &told["error"]["code"]), (&json!("k"), &json!("internal")));
    let dead = fixture.next_of(fixture.names.dead()).await;
    assert_eq!(
        json_of(&dead.body),
        json!({"id": "k", "type": "poison", "payload": "p"})
    );
    for (name, value) in [
        ("reason", Value::Text("delivery_limit".to_owned())),
        ("queue", Value::Text("test.retry".to_owned())),
        ("count", Value::Integer(5)),
        ("first_seen", Value::Integer(i64::try_from(START.as_secs()).unwrap())),
    ] {
        assert_eq!(dead.properties.header(name), Some(&value));
    }
    assert_eq!(dead.properties.reply_to, None);
    let kept = format!("{:?}", dead.properties);
    for secret in ["whose it is", "what they claim", &resume.to_string()] {
        assert!(!kept.contains(secret), "{kept}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_kills_every_worker_is_given_up_after_max_deliveries() {
    let mut fixture = Fixture::new();
    let sent = fixture.message_id(1, 1);
    fixture.forward(sent, message("i", "hang", "alice", &Json::Null)).await;
    fixture.clock.advance(Duration::from_secs(60));
    fixture.limits.handler_timeout = Duration::from_secs(3_600);
    let mut lives = 0;
    while fixture.bus.depth(&fixture.names.dead().name) == (0, 0) {
        lives += 1;
        assert!(lives < 10, "it is never given up");
        let seen = fixture.app.seen().len();
        let worker = fixture.worker();
        let mut waited_s = 0;
        while fixture.app.seen().len() == seen && fixture.bus.depth(&fixture.names.dead().name) == (0, 0) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            waited_s += 1;
            assert!(waited_s < 60, "neither processed nor given up");
        }
        drop(worker);
        settle().await;
    }
    assert_eq!(fixture.app.seen().len(), 5);
    assert_eq!(fixture.answer().await.1["error"]["code"], "internal");
    let dead = fixture.next_of(fixture.names.dead()).await;
    let first_seen_s = i64::try_from(START.as_secs()).unwrap();
    assert_eq!(
        dead.properties.header("first_seen"),
        Some(&Value::Integer(first_seen_s))
    );
    assert_eq!(
        dead.properties.header("queue"),
        Some(&Value::Text("test.retry".to_owned()))
    );
}

#[tokio::test(start_paused = true)]
async fn no_token_is_at_rest_anywhere() {
    let mut fixture = Fixture::new();
    let token = token_for("alice", 300);
    let failed = Route::new(&fixture.names.internal_exchange().name, keys::FAILED);
    let properties = Properties {
        correlation_id: Some(token.chars().take(255).collect()),
        kind: Some(token.clone()),
        headers: vec![("authorization".to_owned(), Value::Text(format!("Bearer {token}")))],
        ..Properties::default()
    };
    let bodies = [
        json!({"type": "x", "token": token, "payload": {"copy": token}}).to_string(),
        format!("{{\"type\":\"x\",\"token\":\"{token}"),
        format!(
            "{{\"type\":\"x\",\"tok\\u0065n\":\"{}\"}}",
            token.replace('.', "\\u002e")
        ),
    ];
    let _worker = fixture.worker();
    for body in &bodies {
        let message = Message {
            body: body.clone().into(),
            properties: properties.clone(),
        };
        fixture.publisher.publish(failed.clone(), message).await.unwrap();
    }
    let signature = token.rsplit('.').next().unwrap();
    for _ in &bodies {
        let dead = fixture.next_of(fixture.names.dead()).await;
        let text = format!("{}{:?}", String::from_utf8_lossy(&dead.body), dead.properties);
        assert!(!text.contains(signature) && !text.contains("eyJ"), "{text}");
    }
    fixture
        .ask(
            fixture.message_id(1, 1),
            json!({"type": "echo", "token": token}).to_string(),
        )
        .await;
    let written = format!("{:?}", fixture.store.inner.snapshot());
    assert!(!written.contains(signature) && !written.contains("eyJ"), "{written}");
}
