//! Who may: keys, which are replaced while the worker runs, and tokens with the scope.

use serde_json::{Value, json};
use tests::{Span, Stack, eventually, token_for};

use super::{ALL, INSPECT, PUSH, ask, builder, file_of, header, is_problem, keys, post, stack};
use crate::authentication::expiry::SOON;

/// The status of a look, of a push and of a revocation that are well-formed, by this key.
async fn statuses(stack: &Stack, key: &str) -> [u16; 3] {
    let look = ask(stack, key, "GET", "/v1/identities/alice/connections", &Value::Null)
        .await
        .0;
    let push = json!({"subject": "alice", "payload": 1});
    let push = ask(stack, key, "POST", "/v1/push", &push).await.0;
    let revoke = json!({"subject": "mallory"});
    let revoke = ask(stack, key, "POST", "/v1/revoke?wait=30", &revoke).await.0;
    for answer in [&look, &push, &revoke] {
        if answer.status >= 400 {
            is_problem(answer, answer.status);
            assert!(
                header(answer, "www-authenticate").is_some_and(|value| value.starts_with("Bearer ")),
                "{answer:?}"
            );
        }
    }
    [look.status, push.status, revoke.status]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_allows_what_its_line_says_and_no_other_key_anything() {
    let stack = stack().await;
    assert_eq!(statuses(&stack, ALL).await, [200, 202, 200]);
    assert_eq!(statuses(&stack, PUSH).await, [403, 202, 403]);
    assert_eq!(statuses(&stack, INSPECT).await, [200, 403, 403]);
    let digest = keys().split("sha256:").nth(1).unwrap()[..64].to_owned();
    for wrong in [
        &ALL[1..],
        &format!("{ALL}x"),
        &ALL.to_uppercase(),
        "all",
        &format!("sha256:{digest}"),
        &digest,
    ] {
        assert_eq!(statuses(&stack, wrong).await, [401; 3], "{wrong}");
    }
    // Tokens are no keys, where no scope says so.
    let token = token_for("backend").claim("scope", "countersign").mint();
    assert_eq!(statuses(&stack, &token).await, [401; 3]);
    let log: String = stack.workers()[0].log().iter().map(Value::to_string).collect();
    for secret in [ALL, PUSH, INSPECT, &digest, &token] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_replaced_while_the_worker_runs_and_a_file_that_is_wrong_changes_nothing() {
    let file = file_of(&format!("all {ALL} push,revoke,inspect\n"));
    let mut stack = builder(&file).start().await;
    assert_eq!(
        (statuses(&stack, ALL).await, statuses(&stack, PUSH).await),
        ([200, 202, 200], [401; 3])
    );
    std::fs::write(&file, format!("all {ALL} everything\n")).unwrap();
    stack.worker(0).reload();
    eventually(SOON, "the file is refused", async || {
        stack.workers()[0].logged("the new credential cannot be used; the last good one stays in force") > 0
    })
    .await;
    assert_eq!(statuses(&stack, ALL).await, [200, 202, 200]);
    std::fs::write(&file, format!("new {PUSH} push\n")).unwrap();
    stack.worker(0).reload();
    eventually(SOON, "the file is taken", async || {
        statuses(&stack, PUSH).await == [403, 202, 403]
    })
    .await;
    assert_eq!(statuses(&stack, ALL).await, [401; 3]);
    let rows = stack.workers()[0].get("/credentials").await.body;
    assert!(
        rows.contains("api-keys") && rows.contains("API keys") && !rows.contains(PUSH),
        "{rows}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_issuer_is_a_key_if_it_has_the_scope() {
    let stack = Stack::builder()
        .settings(&[("jwt-leeway", "0s"), ("api-listen", "127.0.0.1:0"), ("api-scope", "cs")])
        .start()
        .await;
    let with = |scope: &str| token_for("backend").claim("scope", scope);
    assert_eq!(statuses(&stack, &with("cs").mint()).await, [200, 202, 200]);
    assert_eq!(statuses(&stack, &with("x cs:push y").mint()).await, [403, 202, 403]);
    assert_eq!(statuses(&stack, &with("cs:inspect").mint()).await, [200, 403, 403]);
    for wrong in ["", "c", "css", "cs:", "cs:all", "CS"] {
        assert_eq!(statuses(&stack, &with(wrong).mint()).await, [403; 3], "{wrong}");
    }
    assert_eq!(statuses(&stack, &token_for("alice").mint()).await, [403; 3], "a user's");
    let expired = with("cs").claim("exp", 1_000_000_000).claim("iat", 999_999_990).mint();
    assert_eq!(statuses(&stack, &expired).await, [401; 3]);
    let forged = format!("{}x", with("cs").mint());
    for wrong in [forged.as_str(), "a.b.c", ALL] {
        assert_eq!(statuses(&stack, wrong).await, [401; 3], "{wrong}");
    }
    // What was revoked opens nothing.
    let thief = with("cs").claim("jti", "stolen").mint();
    let token = with("cs").mint();
    let revocation = json!({"jti": "stolen"});
    assert_eq!(
        ask(&stack, &token, "POST", "/v1/revoke?wait=30", &revocation)
            .await
            .0
            .status,
        200
    );
    assert_eq!(statuses(&stack, &thief).await, [401; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_again_and_no_other_is() {
    let stack = builder(&file_of(&keys()))
        .setting("api-requests-per-second", "2")
        .start()
        .await;
    let mut last = None;
    // On a slow machine some of them are due before they come.
    for _ in 0..200 {
        let (answer, _) = ask(&stack, ALL, "GET", "/v1/identities/alice/connections", &Value::Null).await;
        if answer.status != 200 {
            last = Some(answer);
            break;
        }
    }
    let refused = last.expect("one too many");
    is_problem(&refused, 429);
    assert_eq!(header(&refused, "retry-after").as_deref(), Some("1"), "{refused:?}");
    let (answer, _) = ask(&stack, INSPECT, "GET", "/v1/identities/alice/connections", &Value::Null).await;
    assert_eq!(answer.status, 200, "another key's");
    eventually(30.s(), "it may again", async || {
        post(&stack, "/v1/push", json!({"subject": "a", "payload": 1})).await.0 == 202
    })
    .await;
}
