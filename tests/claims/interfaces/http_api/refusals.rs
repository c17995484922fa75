//! What is not done: each is a problem document, and has no effect.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::servers::http::{self, Answer};
use tests::{Broker, Span, Stack, Store, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ALL, PUSH, ask, builder, file_of, get, header, is_problem, keys, port, post, stack};
use crate::authentication::expiry::{SOON, fresh};

const LOOK: &str = "/v1/identities/alice/connections";

async fn raw(stack: &Stack, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let answer = http::request(port(&stack.workers()[0]), (method, path), headers, body.as_bytes()).await;
    answer.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_told_by_its_status_and_it_has_no_effect() {
    let stack = builder(&file_of(&keys()))
        .setting("api-max-body-size", "4KiB")
        .start()
        .await;
    let mut alice = stack.client().await;
    alice.authenticate(&fresh("alice")).await;
    let (bearer, json_type) = (format!("Bearer {ALL}"), ("Content-Type", "application/json"));
    let key = ("Authorization", bearer.as_str());
    let push = r#"{"subject":"alice","payload":1}"#;
    // Without a key, or with something else.
    for authorization in [None, Some("Basic YTpi"), Some("Bearer "), Some("Bearer a b")] {
        let headers: Vec<_> = authorization
            .map(|value| ("Authorization", value))
            .into_iter()
            .chain([json_type])
            .collect();
        for (method, path) in [
            ("POST", "/v1/push"),
            ("POST", "/v1/push/batch"),
            ("POST", "/v1/revoke"),
            ("GET", LOOK),
            ("GET", "/v1/connections/00000000000000aa.1f/explain"),
        ] {
            let answer = raw(&stack, method, path, &headers, push).await;
            is_problem(&answer, 401);
            assert!(header(&answer, "www-authenticate").is_some(), "{answer:?}");
        }
    }
    let twice = raw(&stack, "POST", "/v1/push", &[key, key, json_type], push).await;
    is_problem(&twice, 401);
    // What is not there.
    for path in [
        "/",
        "/v1",
        "/v1/push/",
        "/v1/pushes",
        "/v1/identities/a/b/connections",
        "/metrics",
        "//v1/push",
    ] {
        is_problem(&raw(&stack, "POST", path, &[key, json_type], push).await, 404);
    }
    for (method, path, allowed) in [
        ("GET", "/v1/push", "POST"),
        ("PUT", "/v1/push/batch", "POST"),
        ("DELETE", "/v1/revoke", "POST"),
        ("POST", LOOK, "GET, HEAD"),
        ("OPTIONS", "/v1/openapi.json", "GET, HEAD"),
    ] {
        let answer = raw(&stack, method, path, &[key, json_type], "").await;
        is_problem(&answer, 405);
        assert_eq!(header(&answer, "allow").as_deref(), Some(allowed), "{answer:?}");
    }
    // HEAD is as GET, without a body (RFC 9110, section 9.3.2).
    for (path, status) in [("/v1/openapi.json", 200), (LOOK, 200), ("/v1/push", 405)] {
        let answer = raw(&stack, "HEAD", path, &[key], "").await;
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{path}");
        let length = header(&answer, "content-length");
        assert!(length.is_some_and(|length| length != "0"), "{answer:?}");
    }
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let headers: Vec<_> = kind
            .map(|kind| ("Content-Type", kind))
            .into_iter()
            .chain([key])
            .collect();
        is_problem(&raw(&stack, "POST", "/v1/push", &headers, push).await, 415);
    }
    let packed = [key, json_type, ("Content-Encoding", "gzip")];
    is_problem(&raw(&stack, "POST", "/v1/push", &packed, push).await, 415);
    // Bodies.
    let large = json!({"subject": "alice", "payload": "x".repeat(5_000)}).to_string();
    is_problem(&raw(&stack, "POST", "/v1/push", &[key, json_type], &large).await, 413);
    for (path, body) in [
        ("/v1/push", ""),
        ("/v1/push", "{"),
        ("/v1/push", "[]"),
        ("/v1/push", r#"["alice",null,null,null,null,null,null,1]"#),
        ("/v1/push", r#"{"subject":"alice"}"#),
        ("/v1/push", r#"{"payload":1}"#),
        ("/v1/push", r#"{"subject":"alice","payload":1,"unknown":1}"#),
        ("/v1/push", r#"{"subject":"alice","subject":"alice","payload":1}"#),
        (
            "/v1/push",
            r#"{"subject":"alice","issuer":"https://stranger.example","payload":1}"#,
        ),
        ("/v1/push", r#"{"connection":"nonsense","payload":1}"#),
        ("/v1/push?wait=31", push),
        ("/v1/push?unknown=1", push),
        ("/v1/push/batch", r#"{"pushes":[]}"#),
        ("/v1/push/batch", r#"[[{"subject":"alice","payload":1}]]"#),
        (
            "/v1/push/batch",
            r#"{"pushes":[{"subject":"alice","payload":1},{"subject":"","payload":1}]}"#,
        ),
        ("/v1/revoke", "{}"),
        ("/v1/revoke", r#"{"subject":"alice","unknown":1}"#),
        ("/v1/revoke", r#"{"subject":"alice","jti":"1"}"#),
    ] {
        is_problem(&raw(&stack, "POST", path, &[key, json_type], body).await, 400);
    }
    for path in [
        "/v1/identities/%ff/connections",
        "/v1/identities/a%00/connections",
        &format!("{LOOK}?issuer=x"),
        &format!("{LOOK}?x=1"),
        "/v1/connections/x/explain",
        "/v1/openapi.json?x=1",
    ] {
        is_problem(&raw(&stack, "GET", path, &[key], "").await, 400);
    }
    // A key that may not.
    let (answer, _) = ask(&stack, PUSH, "POST", "/v1/revoke", &json!({"subject": "alice"})).await;
    is_problem(&answer, 403);
    alice.expect_nothing_shown().await;
    assert_eq!(alice.request("echo", None, json!(1)).await["payload"], 1);
    let (status, told) = post(
        &stack,
        "/v1/push?wait=30",
        json!({"subject": "alice", "payload": "good"}),
    )
    .await;
    assert_eq!((status, &told["outcome"]), (200, &json!("delivered")));
    assert_eq!(alice.push(SOON).await["payload"], "good");
    assert!(
        stack.workers()[0].errors().is_empty(),
        "{:?}",
        stack.workers()[0].errors()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dribbles_holds_nothing_up_and_one_connection_brings_many_requests() {
    let stack = stack().await;
    let addr = port(&stack.workers()[0]);
    let mut silent = TcpStream::connect(addr).await.unwrap();
    silent
        .write_all(b"POST /v1/push HTTP/1.1\r\nHost: a\r\n")
        .await
        .unwrap();
    let mut kept = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {LOOK} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ALL}\r\n\r\n");
    for _ in 0..3 {
        kept.write_all(request.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("\"held\":0}") {
            let mut chunk = [0; 1_024];
            let count = timeout(30.s(), kept.read(&mut chunk)).await.unwrap().unwrap();
            assert!(count > 0, "it ended");
            seen.extend_from_slice(&chunk[..count]);
        }
        assert!(seen.starts_with(b"HTTP/1.1 200"));
    }
    let mut rest = Vec::new();
    // Its head does not end, and so it is closed, whatever it is told.
    timeout(60.s(), silent.read_to_end(&mut rest))
        .await
        .expect("it is closed")
        .ok();
    assert!(!String::from_utf8_lossy(&rest).contains(" 20"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_broker_or_store_are_away_backends_are_told_to_come_again() {
    let (broker, store) = (Arc::new(Broker::start().await), Arc::new(Store::start().await));
    let stack = builder(&file_of(&keys())).broker(&broker).store(&store).start().await;
    let push = |payload: &str| json!({"subject": "alice", "payload": payload});
    let is_told = |answer: &Answer| {
        is_problem(answer, 503);
        assert!(
            header(answer, "retry-after").is_some_and(|wait| wait.parse::<u32>().is_ok()),
            "{answer:?}"
        );
    };
    store.kill();
    let (answer, _) = ask(&stack, ALL, "GET", LOOK, &Value::Null).await;
    is_told(&answer);
    let (answer, _) = ask(
        &stack,
        ALL,
        "GET",
        "/v1/connections/00000000000000aa.1f/explain",
        &Value::Null,
    )
    .await;
    is_told(&answer);
    // The broker keeps what is pushed meanwhile.
    assert_eq!(post(&stack, "/v1/push", push("kept")).await.0, 202);
    store.restart().await;
    eventually(SOON, "the store is asked again", async || {
        get(&stack, LOOK).await.0 == 200
    })
    .await;
    broker.kill();
    let refused = eventually(SOON, "it is noticed that the broker is away", async || {
        let (answer, _) = ask(&stack, ALL, "POST", "/v1/push", &push("refused")).await;
        if answer.status == 503 { Ok(answer) } else { Err(answer) }
    })
    .await;
    is_told(&refused);
    let (answer, _) = ask(
        &stack,
        ALL,
        "POST",
        "/v1/push/batch",
        &json!({"pushes": [push("refused"), push("refused")]}),
    )
    .await;
    is_told(&answer);
    let (answer, _) = ask(&stack, ALL, "POST", "/v1/revoke", &json!({"subject": "alice"})).await;
    is_told(&answer);
    assert_eq!(get(&stack, LOOK).await.0, 200, "the store is there");
    broker.restart().await;
    eventually(SOON, "pushes are taken again", async || {
        post(&stack, "/v1/push", push("later")).await.0 == 202
    })
    .await;
    let mut alice = eventually(SOON, "alice logs in", async || {
        let mut client = stack.client().await;
        let answer = client.try_authenticate(&fresh("alice")).await;
        if answer["type"] == "auth.ok" {
            Ok(client)
        } else {
            Err(answer)
        }
    })
    .await;
    let mut got = Vec::new();
    while !got.contains(&json!("later")) {
        got.push(alice.push(SOON).await["payload"].clone());
    }
    assert!(got.contains(&json!("kept")), "{got:?}");
}
