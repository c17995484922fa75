//! Why a socket was closed reaches its client, the log and `explain` alike, under the connection's id; and a connection that is
//! gone is found by its subject.

use std::time::Duration;

use serde_json::{Value, json};
use tests::nodes::port::free_port;
use tests::nodes::program::Kind;
use tests::peers::client::Received;
use tests::{Client, Program, Stack, connection_of, eventually, test_keys, tool};

use crate::authentication::expiry::{SOON, fresh};

/// What stands in the close frame, behind whatever came before it.
async fn close_frame(client: &mut Client, limit: Duration) -> (u16, String) {
    loop {
        match client.next(limit).await {
            Some(Received::Closed(Some(frame))) => return frame,
            Some(Received::Closed(None)) | None => panic!("it is not closed by a frame"),
            Some(_) => {}
        }
    }
}

/// What the tool says of a subject, an object a line.
fn explained(stack: &Stack, subject: &str) -> (i32, Vec<Value>) {
    let store = stack.store().url();
    let flags = [
        "--issuer",
        tests::tokens::token::ISSUER,
        "--store-url",
        &store,
        "--namespace",
        stack.namespace(),
        "--json",
    ];
    let said = tool(&[&["explain", "--subject", subject], &flags[..]].concat(), "");
    let lines = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    (said.status, lines.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_is_told_alike_everywhere_and_found_by_its_subject() {
    let stack = Stack::builder().setting("jwt-leeway", "0s").start().await;
    let (mut first, mut second, mut other) = (stack.client().await, stack.client().await, stack.client().await);
    let mut ids = Vec::new();
    for client in [&mut first, &mut second] {
        ids.push(connection_of(&client.authenticate(&fresh("alice")).await));
    }
    other.authenticate(&fresh("bob")).await;
    crate::authentication::revocation::next_second().await;
    // How many it has reached is told to the one who has asked for it, and to people by the tool.
    let mut backend = stack.producer().await;
    let outcome = backend.try_revoke(&json!({"subject": "alice"})).await;
    assert_eq!(outcome, json!({"outcome": "revoked", "connections": 2}));
    for (client, id) in [&mut first, &mut second].into_iter().zip(&ids) {
        let (code, reason) = close_frame(client, SOON).await;
        assert_eq!((code, reason), (4503, format!("the authentication was revoked ({id})")));
    }
    let line = eventually(SOON, "the log says so", async || {
        let log = stack.terminators()[0].log();
        log.iter().find(|line| line["refused"] == "closed").cloned().ok_or(log)
    })
    .await;
    assert_eq!(line["reason"], "4503: the authentication was revoked", "{line}");
    assert!(ids.iter().any(|id| line["connection"] == id.as_str()), "{line}");
    let connections = eventually(SOON, "both are explained", async || {
        let (status, lines) = explained(&stack, "alice");
        let closed = |line: &Value| {
            line["decisions"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["what"] == "closed"))
        };
        match status == 0 && lines.iter().filter(|line| closed(line)).count() == 2 {
            true => Ok(lines),
            false => Err(lines),
        }
    })
    .await;
    for line in &connections {
        assert!(ids.iter().any(|id| line["connection"] == id.as_str()), "{line}");
        let decisions = line["decisions"].as_array().expect("decisions");
        let closed = decisions
            .iter()
            .find(|one| one["what"] == "closed")
            .expect("it was closed");
        assert_eq!(closed["why"], "4503: the authentication was revoked", "{line}");
    }
    // One that its own client has closed is found, too.
    other.close().await;
    let gone = eventually(SOON, "bob is gone", async || {
        let (_, lines) = explained(&stack, "bob");
        match lines.iter().all(|line| line["state"] == "closed") {
            true => Ok(lines),
            false => Err(lines),
        }
    })
    .await;
    assert_eq!(
        (gone.len(), &gone[0]["decisions"][0]["what"]),
        (1, &json!("granted")),
        "{gone:?}"
    );
    assert_eq!(explained(&stack, "nobody"), (1, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_says_how_many_connections_it_has_reached() {
    let stack = Stack::builder().setting("jwt-leeway", "0s").start().await;
    let (mut alice, mut bob) = (stack.client().await, stack.client().await);
    let id = connection_of(&alice.authenticate(&fresh("alice")).await);
    bob.authenticate(&fresh("bob")).await;
    crate::authentication::revocation::next_second().await;
    let url = stack.broker().url();
    let revoke = |flags: &[&str]| {
        let broker = ["--amqp-url", &url, "--namespace", stack.namespace()];
        let said = tool(&[&["revoke"], flags, &broker[..]].concat(), "");
        assert_eq!(said.status, 0, "{said:?}");
        said.stdout.trim().to_owned()
    };
    assert_eq!(revoke(&["--connection", &id]), "revoked; it has reached 1 connection");
    close_frame(&mut alice, SOON).await;
    assert_eq!(revoke(&["--subject", "bob"]), "revoked; it has reached 1 connection");
    close_frame(&mut bob, SOON).await;
    assert_eq!(revoke(&["--subject", "carol"]), "revoked; it has reached 0 connections");
    // No one counts by names that only tokens have.
    assert_eq!(revoke(&["--jti", "t"]), "revoked");
}

#[test]
fn what_cannot_be_checked_is_said_by_the_tool_with_its_cause_and_a_status_of_its_own() {
    let token = fresh("alice");
    for command in ["verify", "inspect"] {
        let missing = [
            "--jwt-issuer",
            tests::tokens::token::ISSUER,
            "--jwt-audience",
            "a",
            "--jwt-keys",
            "/none/keys.json",
            "--json",
        ];
        let said = tool(&[&["token", command], &missing[..]].concat(), &token);
        assert_eq!(said.status, 2, "{said:?}");
        let told: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|_| panic!("{said:?}"));
        let verdict = if command == "inspect" { &told["verdict"] } else { &told };
        assert_eq!(verdict["valid"], Value::Null, "{said:?}");
        let reason = verdict["reason"].as_str().expect("a reason");
        assert!(
            reason.starts_with("cannot be checked: ") && reason.contains("/none/keys.json"),
            "{reason}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_cannot_be_reached_is_named_with_host_and_port_and_without_its_password() {
    let at = format!("127.0.0.1:{}", free_port());
    let url = format!("amqp://u:hunter2@{at}/%2f");
    let keys = test_keys().secret_entry();
    let settings = [
        ("amqp-url", url.as_str()),
        ("admin-listen", "127.0.0.1:0"),
        ("store-url", "memory:"),
        ("jwt-keys", keys.as_str()),
        ("jwt-issuer", tests::tokens::token::ISSUER),
        ("jwt-audience", tests::tokens::token::AUDIENCE),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let program = Program::spawn(Kind::Worker, &settings);
    let reason = eventually(SOON, "it says why it is not ready", async || {
        match program.is_ready().await {
            Err(reason) if reason.contains(&at) => Ok(reason),
            other => Err(other),
        }
    })
    .await;
    assert!(!reason.contains("hunter2"), "{reason}");
    let log = program.log();
    let line = log
        .iter()
        .find(|line| line["message"] == "cannot reach the broker; will keep trying");
    assert!(
        line.expect("a line of the log")["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains(&at)),
        "{log:?}"
    );
    assert!(!program.stderr().contains("hunter2"));
}
