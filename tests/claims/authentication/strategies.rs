//! How a client says who it is: by each message, by `auth.authenticate`, or both on one socket.

use serde_json::{Value, json};
use tests::{Client, Key, Span, Stack, token_for};

use super::expiry::{SOON, brief, fresh, refused};

/// How often what competing workers could disorder is tried.
const ROUNDS: usize = 30;

async fn stack(strategy: &str, on_unauthenticated: &str) -> Stack {
    Stack::builder()
        .poisoned_workers(3)
        .setting("jwt-leeway", "0s")
        .setting("messages-per-second", "off")
        .setting("strategy", strategy)
        .setting("on-unauthenticated", on_unauthenticated)
        .start()
        .await
}

async fn subject_of(client: &mut Client, token: Option<&str>) -> Value {
    let answer = client.request("whoami", token, Value::Null).await;
    answer["payload"]["subject"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn explicitly_only_auth_authenticate_authenticates() {
    let stack = stack("explicit", "ignore").await;
    let mut alice = stack.client().await;
    let token = fresh("alice");
    let with_token = alice.request("echo", Some(&token), json!(1)).await;
    assert_eq!(with_token["error"]["code"], "bad_request", "{with_token}");
    let without = alice.request("echo", None, json!(2)).await;
    assert_eq!(without["error"]["code"], "auth_required", "{without}");
    let auth = alice.authenticate(&token).await;
    assert_eq!(auth["subject"], "alice");
    assert_eq!(subject_of(&mut alice, None).await, "alice");
    let with_token = alice.request("echo", Some(&token), json!(3)).await;
    assert_eq!(with_token["error"]["code"], "bad_request", "{with_token}");
    assert_eq!(subject_of(&mut alice, None).await, "alice", "and that costs it nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_message_only_a_message_s_own_token_counts() {
    let stack = stack("per-message", "reauthenticate").await;
    let mut alice = stack.client().await;
    for live in [false, true] {
        let without = alice.request("whoami", None, Value::Null).await;
        assert_eq!(without["error"]["code"], "auth_required", "{live}: {without}");
        assert_eq!(subject_of(&mut alice, Some(&fresh("alice"))).await, "alice");
    }
    alice.expect_nothing_shown().await;
    assert_eq!(alice.waiting().count(), 0, "no token is asked for what was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn by_message_auth_authenticate_still_renews_the_connection_for_pushes() {
    let stack = stack("per-message", "close").await;
    let mut backend = stack.producer().await;
    let mut alice = stack.client().await;
    alice.authenticate(&fresh("alice")).await;
    assert_eq!(backend.push_to("alice", 1).await, "delivered");
    assert_eq!(alice.push(SOON).await["payload"], 1);
    // It does not speak for the messages.
    let id = alice.ask("echo", None, Value::Null).await;
    let before = alice.expect_close(4401, SOON).await;
    let refusal = before
        .iter()
        .find(|message| message["id"] == id.as_str())
        .expect("an answer");
    assert_eq!(refusal["error"]["code"], "auth_required", "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_strategies_work_on_one_socket() {
    let stack = stack("both", "ignore").await;
    let mut alice = stack.client().await;
    assert_eq!(subject_of(&mut alice, Some(&fresh("alice"))).await, "alice");
    assert_eq!(
        subject_of(&mut alice, None).await,
        "alice",
        "a message's token renews the connection"
    );
    alice.authenticate(&fresh("alice")).await;
    assert_eq!(subject_of(&mut alice, None).await, "alice");
    assert_eq!(subject_of(&mut alice, Some(&fresh("alice"))).await, "alice");
}

#[tokio::test(flavor = "multi_thread")]
async fn to_authenticate_again_is_answered_each_time_and_changes_nothing() {
    let stack = stack("both", "ignore").await;
    let mut alice = stack.client().await;
    let token = fresh("alice");
    let first = alice.authenticate(&token).await;
    for _ in 0..3 {
        let again = alice.authenticate(&token).await;
        assert_eq!(
            (&again["subject"], &again["resume"]),
            (&first["subject"], &first["resume"])
        );
        assert!(again["expires_in"].as_u64() <= first["expires_in"].as_u64());
    }
    alice.expect_nothing_shown().await;
    assert_eq!(alice.waiting().count(), 0, "one answer each");
}

#[tokio::test(flavor = "multi_thread")]
async fn to_authenticate_is_refused_but_never_held_and_costs_nothing() {
    let stack = stack("both", "reauthenticate").await;
    let stranger = Key::generate(tests::Algorithm::Hs256);
    let expired = token_for("alice").expired_since(60.s()).mint();
    let forged = token_for("alice").signed_with(&stranger).mint();
    for authenticated in [false, true] {
        let mut alice = stack.client().await;
        if authenticated {
            alice.authenticate(&fresh("alice")).await;
        }
        for (token, code) in [(&expired, "token_expired"), (&forged, "token_invalid")] {
            let answer = alice.try_authenticate(token).await;
            assert_eq!(answer["error"]["code"], code, "{answer}");
        }
        alice
            .send_json(&json!({"id": "none", "type": "auth.authenticate"}))
            .await;
        assert_eq!(refused(&mut alice, "none").await, "bad_request");
        if authenticated {
            assert_eq!(subject_of(&mut alice, None).await, "alice", "it is still who it was");
        } else {
            alice.authenticate(&fresh("alice")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_ends_the_connection_if_that_is_the_policy() {
    let stack = stack("both", "close").await;
    let stranger = Key::generate(tests::Algorithm::Hs256);
    let expired = token_for("alice").expired_since(60.s()).mint();
    let forged = token_for("alice").signed_with(&stranger).mint();
    for kind in ["auth.authenticate", "echo"] {
        for (token, code, close) in [(&expired, "token_expired", 4401), (&forged, "token_invalid", 4501)] {
            let mut client = stack.client().await;
            let id = client.ask(kind, Some(token), json!({})).await;
            let before = client.expect_close(close, SOON).await;
            let answer = before.iter().find(|message| message["id"] == id.as_str());
            assert_eq!(
                answer.map(|answer| &answer["error"]["code"]),
                Some(&json!(code)),
                "{kind}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_behind_auth_authenticate_is_decided_behind_it() {
    for strategy in ["explicit", "both"] {
        let stack = stack(strategy, "ignore").await;
        for _ in 0..ROUNDS {
            let mut alice = stack.client().await;
            let early = alice.ask("whoami", None, Value::Null).await;
            let authenticate = json!({"id": "in", "type": "auth.authenticate", "token": fresh("alice")});
            alice.send_json(&authenticate).await;
            let late = alice.ask("whoami", None, Value::Null).await;
            alice.send_json(&json!({"id": "out", "type": "auth.logout"})).await;
            let too_late = alice.ask("whoami", None, Value::Null).await;
            assert_eq!(
                refused(&mut alice, &early).await,
                "auth_required",
                "nobody had come yet"
            );
            assert_eq!(alice.answer_to("in", SOON).await["type"], "auth.ok");
            assert_eq!(alice.answer_to(&late, SOON).await["payload"]["subject"], "alice");
            assert_eq!(alice.answer_to("out", SOON).await["type"], "auth.ok");
            assert_eq!(refused(&mut alice, &too_late).await, "auth_required", "it had left");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_behind_a_message_with_a_token_is_decided_behind_it() {
    let stack = stack("both", "ignore").await;
    for _ in 0..ROUNDS {
        let mut alice = stack.client().await;
        let early = alice.ask("whoami", None, Value::Null).await;
        // Anyone who takes it is slow, and the others are not.
        let first = alice.ask("slow", Some(&fresh("alice")), json!(1)).await;
        let mut behind = Vec::new();
        for _ in 0..5 {
            behind.push(alice.ask("whoami", None, Value::Null).await);
        }
        assert_eq!(refused(&mut alice, &early).await, "auth_required");
        assert_eq!(alice.answer_to(&first, SOON).await["payload"], 1);
        for id in behind {
            let answer = alice.answer_to(&id, SOON).await;
            assert_eq!(answer["payload"]["subject"], "alice", "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn words_about_authentication_spelled_with_escapes_are_refused() {
    let stack = stack("both", "ignore").await;
    let mut alice = stack.client().await;
    let token = fresh("alice");
    for kind in [
        r"\u0061uth.authenticate",
        r"auth\u002eauthenticate",
        r"auth.authentic\u0061te",
    ] {
        alice
            .send_text(&format!(r#"{{"id":"e","type":"{kind}","token":"{token}"}}"#))
            .await;
        let answer = alice.answer_to("e", SOON).await;
        // The last one shows the bytes by which the terminator knows it, so it may be taken for what it says.
        let fair = kind.starts_with("auth.") && answer["type"] == "auth.ok";
        assert!(fair || answer["error"]["code"] == "bad_request", "{kind}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_token_is_asked_for_before_the_last_one_expires_and_once() {
    let stack = stack("both", "reauthenticate").await;
    let mut alice = stack.client().await;
    let token = brief("alice");
    let auth = alice.authenticate(&token.mint()).await;
    assert!(auth["refresh_in"].as_u64() <= auth["expires_in"].as_u64(), "{auth}");
    assert!(auth["expires_in"].as_u64() <= Some(3), "{auth}");
    let notice = alice.expect_required("expiring", SOON).await;
    let left = token.expires_at().duration_since(std::time::SystemTime::now());
    assert!(left.is_ok(), "it comes before the expiry");
    assert!(notice["deadline_ms"].as_u64() <= Some(3_000), "{notice}");
    assert_eq!(notice["held"], json!({"inbound": 0, "outbound": 0}));
    alice.authenticate(&fresh("alice")).await;
    token.expired().await;
    assert_eq!(subject_of(&mut alice, None).await, "alice");
    assert_eq!(alice.waiting().count(), 0, "nothing more is asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_goes_by_the_token_and_the_leeway() {
    let stack = Stack::builder()
        .setting("jwt-leeway", "3s")
        .setting("strategy", "both")
        .setting("on-unauthenticated", "ignore")
        .setting("on-expired-push", "reauthenticate")
        .start()
        .await;
    let mut backend = stack.producer().await;
    let mut alice = stack.client().await;
    let token = token_for("alice").expired_since(1.s());
    alice.authenticate(&token.mint()).await;
    assert_eq!(backend.push_to("alice", 1).await, "delivered", "within the leeway");
    assert_eq!(alice.push(SOON).await["payload"], 1);
    tests::wait::until(token.expires_at() + 3_100.ms()).await;
    assert_eq!(backend.push_to("alice", 2).await, "held", "beyond it");
    crate::authentication::expiry::asked(&mut alice, 0, 1).await;
}
