//! Who sent it, and what becomes of their connection.

use serde_json::{Value as Json, json};
use shared::bus::topology::keys;
use shared::bus::{Properties, Route, Value};
use shared::wire::envelope::MessageKind;
use shared::wire::grant::Policy;
use shared::wire::id::Sequence;

use super::fixture::{FOREIGN_EXCHANGE, Fixture, message, settle, token_for};
use crate::config::Policies;
use crate::store::Authentication;

#[tokio::test(start_paused = true)]
async fn the_first_answer_tells_what_the_authentication_has_become_and_the_second_does_not() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let first = fixture
        .ask(fixture.message_id(1, 1), message("a", "echo", "alice", &json!([1])))
        .await;
    let resume = first["auth"]["resume"].as_str().unwrap().to_owned();
    assert!(resume.starts_with(&format!("{}.", fixture.connection(1))), "{resume}");
    let auth = json!({"subject": "alice", "expires_in": 300, "refresh_in": 240, "resume": resume});
    assert_eq!(first, json!({"type": "reply", "id": "a", "payload": [1], "auth": auth}));
    let second = fixture
        .ask(
            fixture.message_id(1, 2),
            message("b", "echo", "alice", &json!({"x": 2})),
        )
        .await;
    assert_eq!(second, json!({"type": "reply", "id": "b", "payload": {"x": 2}}));
    assert_eq!(fixture.store.writes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_is_recorded_once_and_told() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let first = fixture
        .ask(fixture.message_id(1, 1), message("a", "echo", "alice", &Json::Null))
        .await;
    let resume = &first["auth"]["resume"];
    let body = json!({"type": "echo", "token": token_for("alice", 600)}).to_string();
    let fresh = fixture.ask(fixture.message_id(1, 2), body.clone()).await;
    let auth = json!({"subject": "alice", "expires_in": 600, "refresh_in": 480, "resume": resume});
    assert_eq!(fresh, json!({"type": "reply", "auth": auth}));
    assert_eq!(
        fixture.ask(fixture.message_id(1, 3), body).await,
        json!({"type": "reply"})
    );
    assert_eq!(fixture.store.writes(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_without_a_good_token_is_refused_and_never_handled() {
    let mut fixture = Fixture::new();
    fixture.limits.on_unauthenticated = Policies::all(Policy::Ignore);
    let _worker = fixture.worker();
    let ask = |token: Option<String>| json!({"id": "i", "type": "echo", "token": token}).to_string();
    let mut forged = token_for("alice", 300);
    forged.replace_range(forged.len() - 20..forged.len() - 10, "AAAAAAAAAA");
    for (body, code) in [
        (r#"{"id":"i","type":"echo"}"#.to_owned(), "auth_required"),
        (ask(Some(token_for("alice", -6))), "token_expired"),
        (ask(Some(forged)), "token_invalid"),
        (ask(Some("nonsense".to_owned())), "token_invalid"),
        (ask(None), "auth_required"),
    ] {
        let answer = fixture.ask(fixture.message_id(1, 1), body).await;
        assert_eq!(
            (&answer["type"], &answer["id"]),
            (&json!("error"), &json!("i")),
            "{answer}"
        );
        assert_eq!(
            (&answer["error"]["code"], &answer["error"]["temporary"]),
            (&json!(code), &json!(false))
        );
    }
    assert_eq!((fixture.app.seen().len(), fixture.store.writes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_between_two_messages_serves_only_the_first() {
    let mut fixture = Fixture::new();
    fixture.limits.on_unauthenticated = Policies::all(Policy::Close);
    let _worker = fixture.worker();
    let body = message("a", "echo", "alice", &Json::Null);
    assert_eq!(
        fixture.ask(fixture.message_id(1, 1), body.clone()).await["type"],
        "reply"
    );
    fixture.clock.advance(std::time::Duration::from_secs(306));
    assert_eq!(
        fixture.ask(fixture.message_id(1, 2), body).await["error"]["code"],
        "token_expired"
    );
}

#[tokio::test(start_paused = true)]
async fn each_message_is_handled_in_the_name_of_its_own_token() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    for (connection, subject) in [(1, "alice"), (2, "bob"), (3, "alice")] {
        fixture
            .ask(
                fixture.message_id(connection, 1),
                message("i", "echo", subject, &Json::Null),
            )
            .await;
    }
    let subjects: Vec<_> = fixture.app.seen().into_iter().map(|seen| seen.subject).collect();
    assert_eq!(subjects, ["alice", "bob", "alice"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_id_from_another_exchange_is_not_believed() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let public = Route::new(&fixture.names.exchange().name, keys::MESSAGE);
    let by_name = Route::queue(&fixture.names.messages().name);
    for route in [public, by_name, Route::new(FOREIGN_EXCHANGE, keys::FORWARD)] {
        let body = message("a", "echo", "mallory", &json!(1));
        fixture.publish(route, body, forged(&fixture)).await;
        fixture.expect_no_answer().await;
    }
    assert_eq!(fixture.app.seen().len(), 3);
    assert!(fixture.app.seen().iter().all(|seen| seen.message_id.is_none()));
    assert_eq!(fixture.store.writes(), 0);
}

/// What a terminator would write, written by someone else.
fn forged(fixture: &Fixture) -> Properties {
    Properties {
        kind: Some("message".to_owned()),
        correlation_id: Some(fixture.message_id(1, 9).to_string()),
        reply_to: Some(fixture.names.return_queue(fixture.terminator).name),
        headers: vec![("origin".to_owned(), Value::Text("forward".to_owned()))],
        ..Properties::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_forged_message_id_is_not_believed_after_a_redelivery_either() {
    let mut fixture = Fixture::new();
    fixture
        .inject(message("a", "echo", "mallory", &json!(1)), forged(&fixture))
        .await;
    fixture.die_with(fixture.names.injected(), 1).await;
    let _worker = fixture.worker();
    fixture.expect_no_answer().await;
    assert_eq!(fixture.app.seen()[0].message_id, None);
    assert_eq!(fixture.store.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_but_a_terminator_can_close_a_connection() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture
        .ask(fixture.message_id(1, 1), message("a", "echo", "alice", &Json::Null))
        .await;
    let forged = Properties {
        kind: Some("closed".to_owned()),
        correlation_id: Some(fixture.message_id(1, 2).to_string()),
        ..Properties::default()
    };
    fixture.inject("", forged).await;
    settle().await;
    let state = fixture.store.authentication(fixture.connection(1)).await.unwrap();
    assert!(matches!(state, Some(Authentication::Live { .. })), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_forgotten_and_no_late_message_brings_it_back() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture
        .ask(fixture.message_id(1, 1), message("a", "echo", "alice", &Json::Null))
        .await;
    fixture
        .notify(fixture.message_id(1, 3), MessageKind::Closed { code: None }, "".into())
        .await;
    assert!(fixture.is_empty(&fixture.names.messages()).await);
    let late = fixture
        .ask(fixture.message_id(1, 2), message("b", "echo", "alice", &Json::Null))
        .await;
    assert_eq!(late.get("auth"), None);
    let state = fixture.store.authentication(fixture.connection(1)).await.unwrap();
    assert_eq!(state, Some(Authentication::Closed { by: Sequence::new(3) }));
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_nothing_is_handled_and_afterwards_everything_is() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    settle().await;
    fixture.store.set_away(true);
    let body = message("a", "echo", "alice", &Json::Null);
    let refused = fixture.ask(fixture.message_id(1, 1), body.clone()).await;
    assert_eq!(refused["error"]["code"], "auth_unavailable");
    assert_eq!(
        (&refused["id"], &refused["error"]["temporary"]),
        (&json!("a"), &json!(true))
    );
    assert_eq!(fixture.app.seen(), []);
    fixture.store.set_away(false);
    let answered = fixture.ask(fixture.message_id(1, 2), body).await;
    assert_eq!(
        (&answered["type"], &answered["auth"]["subject"]),
        (&json!("reply"), &json!("alice"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_stops_nobody_who_was_recorded() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture
        .ask(fixture.message_id(1, 1), message("a", "echo", "alice", &Json::Null))
        .await;
    fixture.store.set_away(true);
    let answer = fixture
        .ask(fixture.message_id(1, 2), message("b", "echo", "alice", &Json::Null))
        .await;
    assert_eq!(answer["type"], "reply");
}
