//! What an auditor finds: a line for each refusal for authentication or authorisation and for each revocation, and whether
//! all workers go by the same rules.

use serde_json::{Value, json};
use tests::{Client, Span, Stack, eventually, token_for};

use crate::authentication::expiry::{SOON, fresh};

const TARGET: &str = "countersign::audit";

/// The lines of the audit log that have that member, with that value if one is given.
fn lines(stack: &Stack, member: &str, value: Option<&str>) -> Vec<Value> {
    let said: String = stack.workers().iter().map(|worker| worker.stderr()).collect();
    let lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines = lines.filter(|line| line["target"] == TARGET && !line[member].is_null());
    lines
        .filter(|line| value.is_none_or(|value| line[member] == value))
        .collect()
}

async fn has_line(stack: &Stack, member: &str, value: Option<&str>) {
    eventually(SOON, &format!("a line with {member} {value:?}"), async || {
        !lines(stack, member, value).is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_refusal_leaves_a_line_without_a_token_or_a_payload() {
    let stack = Stack::builder()
        .setting("required-scopes", "admin.#=admin")
        .setting("on-unauthenticated", "ignore")
        .start()
        .await;
    let mut backend = stack.producer().await;
    let tokens = [
        token_for("alice").expired_since(60.s()).mint(),
        token_for("alice").claim("nonce", "n").mint(),
        fresh("alice"),
        fresh("bob"),
    ];
    let [expired, invalid, alice, bob] = &tokens;
    let payload = "a payload that nobody logs";
    let mut client = stack.client().await;
    for (kind, token, code) in [
        ("echo", None, "auth_required"),
        ("echo", Some(expired), "token_expired"),
        ("echo", Some(invalid), "token_invalid"),
        ("admin.x", Some(alice), "forbidden"),
        ("echo", Some(bob), "identity_mismatch"),
    ] {
        let answer = client.request(kind, token.map(String::as_str), json!(payload)).await;
        assert_eq!(answer["error"]["code"], code, "{answer}");
        has_line(&stack, "refused", Some(code)).await;
    }
    backend.revoke(&json!({"subject": "carol"})).await;
    has_line(&stack, "revoked", None).await;
    let said: String = stack.workers().iter().map(|worker| worker.stderr()).collect();
    assert!(!said.contains(payload), "{said}");
    for segment in tokens.iter().flat_map(|token| token.split('.')) {
        assert!(!said.contains(segment), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_is_counted_rather_than_written() {
    const FLOOD: usize = 500;
    let stack = Stack::builder()
        .setting("messages-per-second", "off")
        .setting("unauthenticated-messages-per-second", "off")
        .start()
        .await;
    let mut client = stack.client().await;
    let send = async |client: &mut Client| client.request("echo", Some("no.to.ken"), json!(1)).await;
    for _ in 0..FLOOD {
        send(&mut client).await;
    }
    // Ten lines a second are written; the flood takes a few, and the next line says how many were not.
    let counted = eventually(SOON, "all are told of", async || {
        send(&mut client).await;
        let lines = lines(&stack, "refused", Some("token_invalid"));
        let unwritten = lines.iter().map(|line| line["unwritten"].as_u64().expect("a number"));
        let unwritten = usize::try_from(unwritten.sum::<u64>()).expect("it is small");
        let told = lines.len() + unwritten >= FLOOD;
        told.then_some((lines.len(), unwritten)).ok_or((lines.len(), unwritten))
    })
    .await;
    assert!(
        counted.0 < FLOOD / 2 && counted.1 > 0,
        "written, not written: {counted:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_go_by_other_rules_say_so_and_are_counted() {
    let mut stack = Stack::builder().workers(1).start().await;
    let differing = async |stack: &Stack, number: usize| {
        stack.workers()[number]
            .metric("countersign_worker_rules_differing")
            .await
    };
    stack.set_for_workers("concurrency", "7");
    stack.start_workers(1).await;
    eventually(SOON, "they have heard of each other", async || {
        stack.workers()[0]
            .stderr()
            .contains("another worker has the same authorisation settings")
    })
    .await;
    assert_eq!(differing(&stack, 0).await, 0.0);
    stack.set_for_workers("required-scopes", "admin.#=admin");
    stack.start_workers(1).await;
    eventually(SOON, "the first hears of it", async || {
        let said = stack.workers()[0]
            .stderr()
            .contains("another worker has other authorisation settings");
        said && differing(&stack, 0).await == 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_does_nothing_in_a_log() {
    let stack = Stack::builder()
        .setting("log-filter", "debug")
        .setting("log-format", "text")
        .start()
        .await;
    let mut client = stack.client().await;
    let kind = "evil\u{1b}[2J\u{9b}2J\u{202e}\nfake line\u{2066}";
    let answer = client.request(kind, Some(&fresh("a\u{202e}lice")), json!(1)).await;
    assert_eq!(answer["type"], "reply", "{answer}");
    for program in [&stack.terminators()[0], &stack.workers()[0]] {
        let said = program.stderr();
        let active = said.chars().find(|c| shared::wire::inert::is_active(*c) && *c != '\n');
        assert_eq!(active, None, "{said:?}");
        assert!(!said.lines().any(|line| line.starts_with("fake line")), "{said:?}");
    }
}
