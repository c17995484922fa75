//! Who sent it, and what becomes of their connection.

use serde_json::{Value as Json, json};
use shared::bus::topology::keys;
use shared::bus::{Properties, Route, Value};
use shared::envelope::Notice;
use shared::grant::Policy;
use shared::id::Sequence;

use super::bench::{Bench, FOREIGN_EXCHANGE, message, settle, token_for};
use crate::config::Policies;
use crate::store::{Authentication, Store};

#[tokio::test(start_paused = true)]
async fn the_first_answer_tells_what_the_authentication_has_become_and_the_second_does_not() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let first = bench
        .ask(bench.stamp(1, 1), message("a", "echo", "alice", &json!([1])))
        .await;
    let resume = first["auth"]["resume"].as_str().unwrap().to_owned();
    assert!(resume.starts_with(&format!("{}.", bench.connection(1))), "{resume}");
    let auth = json!({"subject": "alice", "expires_in": 300, "refresh_in": 240, "resume": resume});
    assert_eq!(first, json!({"type": "reply", "id": "a", "payload": [1], "auth": auth}));
    let second = bench
        .ask(bench.stamp(1, 2), message("b", "echo", "alice", &json!({"x": 2})))
        .await;
    assert_eq!(second, json!({"type": "reply", "id": "b", "payload": {"x": 2}}));
    assert_eq!(bench.store.writes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_token_is_recorded_once_and_told() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let first = bench
        .ask(bench.stamp(1, 1), message("a", "echo", "alice", &Json::Null))
        .await;
    let resume = &first["auth"]["resume"];
    let body = json!({"type": "echo", "token": token_for("alice", 600)}).to_string();
    let fresh = bench.ask(bench.stamp(1, 2), body.clone()).await;
    let auth = json!({"subject": "alice", "expires_in": 600, "refresh_in": 480, "resume": resume});
    assert_eq!(fresh, json!({"type": "reply", "auth": auth}));
    assert_eq!(bench.ask(bench.stamp(1, 3), body).await, json!({"type": "reply"}));
    assert_eq!(bench.store.writes(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_message_without_a_good_token_is_refused_and_never_handled() {
    let mut bench = Bench::new();
    bench.limits.on_unauthenticated = Policies::all(Policy::Ignore);
    let _worker = bench.worker();
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
        let answer = bench.ask(bench.stamp(1, 1), body).await;
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
    assert_eq!((bench.app.seen().len(), bench.store.writes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_between_two_messages_serves_only_the_first() {
    let mut bench = Bench::new();
    bench.limits.on_unauthenticated = Policies::all(Policy::Close);
    let _worker = bench.worker();
    let body = message("a", "echo", "alice", &Json::Null);
    assert_eq!(bench.ask(bench.stamp(1, 1), body.clone()).await["type"], "reply");
    bench.clock.advance(std::time::Duration::from_secs(306));
    assert_eq!(
        bench.ask(bench.stamp(1, 2), body).await["error"]["code"],
        "token_expired"
    );
}

#[tokio::test(start_paused = true)]
async fn each_message_is_handled_in_the_name_of_its_own_token() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    for (connection, subject) in [(1, "alice"), (2, "bob"), (3, "alice")] {
        bench
            .ask(bench.stamp(connection, 1), message("i", "echo", subject, &Json::Null))
            .await;
    }
    let subjects: Vec<_> = bench.app.seen().into_iter().map(|seen| seen.subject).collect();
    assert_eq!(subjects, ["alice", "bob", "alice"]);
}

#[tokio::test(start_paused = true)]
async fn a_stamp_from_another_exchange_is_not_believed() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let public = Route::new(&bench.names.exchange().name, keys::MESSAGE);
    let by_name = Route::queue(&bench.names.messages().name);
    for route in [public, by_name, Route::new(FOREIGN_EXCHANGE, keys::FORWARD)] {
        let body = message("a", "echo", "mallory", &json!(1));
        bench.publish(route, body, forged(&bench)).await;
        bench.expect_no_answer().await;
    }
    assert_eq!(bench.app.seen().len(), 3);
    assert!(bench.app.seen().iter().all(|seen| seen.stamp.is_none()));
    assert_eq!(bench.store.writes(), 0);
}

/// What a terminator would write, written by somebody else.
fn forged(bench: &Bench) -> Properties {
    Properties {
        kind: Some("message".to_owned()),
        correlation_id: Some(bench.stamp(1, 9).to_string()),
        reply_to: Some(bench.names.return_queue(bench.terminator).name),
        headers: vec![("origin".to_owned(), Value::Text("forward".to_owned()))],
        ..Properties::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_forged_stamp_is_not_believed_after_a_redelivery_either() {
    let mut bench = Bench::new();
    bench
        .inject(message("a", "echo", "mallory", &json!(1)), forged(&bench))
        .await;
    bench.die_with(bench.names.injected(), 1).await;
    let _worker = bench.worker();
    bench.expect_no_answer().await;
    assert_eq!(bench.app.seen()[0].stamp, None);
    assert_eq!(bench.store.writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_but_a_terminator_can_close_a_connection() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    bench
        .ask(bench.stamp(1, 1), message("a", "echo", "alice", &Json::Null))
        .await;
    let forged = Properties {
        kind: Some("closed".to_owned()),
        correlation_id: Some(bench.stamp(1, 2).to_string()),
        ..Properties::default()
    };
    bench.inject("", forged).await;
    settle().await;
    let state = bench.store.authentication(bench.connection(1)).await.unwrap();
    assert!(matches!(state, Some(Authentication::Live { .. })), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_connection_is_forgotten_and_no_late_message_brings_it_back() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    bench
        .ask(bench.stamp(1, 1), message("a", "echo", "alice", &Json::Null))
        .await;
    bench
        .notify(bench.stamp(1, 3), Notice::Closed { code: None }, "".into())
        .await;
    assert!(bench.is_empty(&bench.names.messages()).await);
    let late = bench
        .ask(bench.stamp(1, 2), message("b", "echo", "alice", &Json::Null))
        .await;
    assert_eq!(late.get("auth"), None);
    let state = bench.store.authentication(bench.connection(1)).await.unwrap();
    assert_eq!(state, Some(Authentication::Closed { by: Sequence::new(3) }));
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_nothing_is_handled_and_afterwards_everything_is() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    settle().await;
    bench.store.set_away(true);
    let body = message("a", "echo", "alice", &Json::Null);
    let refused = bench.ask(bench.stamp(1, 1), body.clone()).await;
    assert_eq!(refused["error"]["code"], "auth_unavailable");
    assert_eq!(
        (&refused["id"], &refused["error"]["temporary"]),
        (&json!("a"), &json!(true))
    );
    assert_eq!(bench.app.seen(), []);
    bench.store.set_away(false);
    let answered = bench.ask(bench.stamp(1, 2), body).await;
    assert_eq!(
        (&answered["type"], &answered["auth"]["subject"]),
        (&json!("reply"), &json!("alice"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_stops_nobody_who_was_recorded() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    bench
        .ask(bench.stamp(1, 1), message("a", "echo", "alice", &Json::Null))
        .await;
    bench.store.set_away(true);
    let answer = bench
        .ask(bench.stamp(1, 2), message("b", "echo", "alice", &Json::Null))
        .await;
    assert_eq!(answer["type"], "reply");
}
