//! No client takes more than its share, and those that try are told so.

use std::time::Duration;

use serde_json::{Value, json};
use tests::peers::raw::{RawClient, RawFrame, opcode};
use tests::servers::upstream::{Asked, Said};
use tests::{Client, Program, Span, Stack, Upstream, eventually, token_for};
use tokio::time::timeout;

async fn closed_with(terminator: &Program, code: &str) -> f64 {
    let sample = format!("countersign_terminator_connections_closed_total{{code=\"{code}\"}}");
    terminator.metrics().await.get(&sample).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_too_fast_is_told_so_and_closed() {
    let stack = Stack::builder().setting("messages-per-second", "5").start().await;
    let terminator = &stack.terminators()[0];
    let mut client = stack.client().await;
    let token = token_for("alice").mint();
    for _ in 0..20 {
        client.ask("echo", Some(&token), 1.into()).await;
    }
    let said = client.expect_close(4429, 10.s()).await;
    let last = &said.last().unwrap()["error"];
    assert_eq!(
        (&last["code"], &last["temporary"]),
        (&json!("rate_limited"), &json!(true))
    );
    eventually(10.s(), "the close is counted", async || {
        closed_with(terminator, "4429").await == 1.0
    })
    .await;
    // Empty frames and pings cost something too.
    for kind in [opcode::PING, opcode::PONG] {
        let mut client = RawClient::upgraded(terminator.address()).await;
        for _ in 0..20 {
            client.send(&RawFrame::new(kind, "")).await;
        }
        let mut code = None;
        while let Some(frame) = client.read_frame(10.s()).await {
            code = code.or(frame.close_code());
        }
        assert_eq!(code, Some(4429), "{kind}");
    }
    // And the next connection starts anew.
    let mut client = stack.client().await;
    for number in 0..5 {
        assert_eq!(
            client.request("echo", Some(&token), number.into()).await["type"],
            "reply"
        );
    }
}

/// Sends messages with large payloads and reads nothing, until the server takes no more.
async fn stuff(client: &mut RawClient, token: &str) {
    let message = json!({"id": "x", "type": "echo", "token": token, "payload": "p".repeat(30_000)});
    let frame = RawFrame::new(opcode::TEXT, message.to_string()).bytes();
    // It stops taking them when its own writing stands still; the bound is far above all buffers between.
    for _ in 0..1_000 {
        if timeout(300.ms(), client.write(&frame)).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_too_slowly_is_closed_and_others_are_served_meanwhile() {
    let stack = Stack::builder()
        .setting("send-queue-bytes", "64KiB")
        .setting("messages-per-second", "off")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    let token = token_for("alice").mint();
    let mut slow = RawClient::upgraded_with_receive_buffer(terminator.address(), 4_096).await;
    let mut other = stack.client().await;
    let (mut served, mut slowest) = (0, Duration::ZERO);
    let closed = eventually(20.s(), "the slow reader is closed", async || {
        stuff(&mut slow, &token).await;
        let asked = std::time::Instant::now();
        assert_eq!(other.request("echo", Some(&token), 1.into()).await["type"], "reply");
        slowest = slowest.max(asked.elapsed());
        served += 1;
        closed_with(terminator, "4410").await == 1.0
    });
    closed.await;
    assert!(
        served > 0 && slowest < 3.s(),
        "{served} served, the slowest in {slowest:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_that_reads_on_finds_out_why_it_was_closed() {
    let stack = Stack::builder()
        .setting("send-queue-bytes", "64KiB")
        .setting("messages-per-second", "off")
        // In order, it is read no faster than it is answered.
        .setting("order", "none")
        .start()
        .await;
    let mut slow = RawClient::upgraded_with_receive_buffer(stack.terminators()[0].address(), 4_096).await;
    stuff(&mut slow, &token_for("alice").mint()).await;
    let mut code = None;
    while let Some(frame) = slow.read_frame(10.s()).await {
        code = code.or(frame.close_code());
    }
    assert_eq!(code, Some(4410));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_silent_are_closed_and_whoever_answers_pings_lives() {
    let stack = Stack::builder().setting("idle-timeout", "1s").start().await;
    let terminator = &stack.terminators()[0];
    let mut silent = RawClient::upgraded(terminator.address()).await;
    let mut alive = stack.client().await;
    let mut seen = Vec::new();
    let fall_silent = async {
        while let Some(frame) = silent.read_frame(10.s()).await {
            seen.push((frame.opcode, frame.close_code()));
        }
    };
    // To read is to answer pings.
    tokio::join!(fall_silent, alive.expect_silence(3.s()));
    assert_eq!(seen, [(opcode::PING, None), (opcode::CLOSE, Some(1001))]);
    let token = token_for("alice").mint();
    assert_eq!(alive.request("echo", Some(&token), 1.into()).await["type"], "reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_sockets_and_messages_is_counted() {
    // Else what has no good token would be held.
    let stack = Stack::builder().setting("on-unauthenticated", "ignore").start().await;
    let (terminator, worker) = (&stack.terminators()[0], &stack.workers()[0]);
    let good = token_for("alice").mint();
    let expired = token_for("alice").expired_since(60.s()).mint();
    let mut client = Client::connect(terminator).await;
    for token in [
        Some(expired.as_str()),
        Some("no.to.ken"),
        None,
        Some(&good),
        Some(&good),
    ] {
        client.request("echo", token, Value::Null).await;
    }
    client.send_text("no message").await;
    client.next_json(10.s()).await;
    client.close().await;
    let mut binary = RawClient::upgraded(terminator.address()).await;
    binary.send(&RawFrame::new(opcode::BINARY, "")).await;
    binary.read_until_close(10.s()).await;

    let expected = [
        ("countersign_terminator_connections", 0.0),
        ("countersign_terminator_connections_opened_total", 2.0),
        (r#"countersign_terminator_connections_closed_total{code="client"}"#, 1.0),
        (r#"countersign_terminator_connections_closed_total{code="1003"}"#, 1.0),
        ("countersign_terminator_messages_received_total", 6.0),
        ("countersign_terminator_messages_in_flight", 0.0),
        (r#"countersign_terminator_replies_total{outcome="delivered"}"#, 6.0),
    ];
    expect_metrics(terminator, &expected).await;
    let expected = [
        (r#"countersign_worker_token_verifications_total{kind="valid"}"#, 2.0),
        (r#"countersign_worker_token_verifications_total{kind="expired"}"#, 1.0),
        (r#"countersign_worker_token_verifications_total{kind="invalid"}"#, 1.0),
        (r#"countersign_worker_token_verifications_total{kind="none"}"#, 1.0),
        (r#"countersign_worker_token_cache_total{result="hit"}"#, 1.0),
        (r#"countersign_worker_token_cache_total{result="miss"}"#, 3.0),
        (r#"countersign_worker_messages_total{outcome="handled"}"#, 2.0),
        (r#"countersign_worker_messages_total{outcome="token_expired"}"#, 1.0),
        (r#"countersign_worker_messages_total{outcome="token_invalid"}"#, 1.0),
        (r#"countersign_worker_messages_total{outcome="auth_required"}"#, 1.0),
        (r#"countersign_worker_messages_total{outcome="bad_request"}"#, 1.0),
        (r#"countersign_worker_messages_total{outcome="closed"}"#, 1.0),
        ("countersign_worker_in_flight", 0.0),
    ];
    expect_metrics(worker, &expected).await;
}

async fn expect_metrics(program: &Program, expected: &[(&str, f64)]) {
    eventually(10.s(), "everything is counted", async || {
        let metrics = program.metrics().await;
        let wrong = |(name, value): &&(&str, f64)| metrics.get(*name) != Some(value);
        match expected.iter().find(wrong) {
            None => Ok(()),
            Some((name, value)) => Err(format!("{name} is {:?}, not {value}", metrics.get(*name))),
        }
    })
    .await;
}

/// More than may be on their way through a terminator at once (1,024 that wait and 1,000 unconfirmed).
const CROWD: usize = 4_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_sends_at_the_same_moment_is_answered_one_and_all() {
    let stack = Stack::builder()
        .setting("max-connections-per-ip", "10000")
        .setting("handshakes-per-second-per-ip", "off")
        .start()
        .await;
    let mut crowd = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        crowd.push(stack.client().await);
    }
    let token = token_for("alice").mint();
    for client in &mut crowd {
        client.ask("echo", Some(&token), Value::Null).await;
    }
    for client in &mut crowd {
        let answer = client.next_of_type("reply", 60.s()).await;
        assert_eq!(answer["type"], "reply");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_as_large_as_the_setting_allows_is_handled() {
    let upstream = Upstream::start(|asked: &Asked| {
        let length = asked.body["payload"].as_str().map_or(0, str::len);
        Said::status(200, length.to_string())
    })
    .await;
    let stack = Stack::builder()
        .setting("handler", &upstream.handler())
        .setting("max-message-size", "16MiB")
        .start()
        .await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    // Its first message is larger than all that strangers may have on their way.
    for mebibytes in [2, 12] {
        let payload = "p".repeat(mebibytes << 20);
        let id = client.ask("measure", Some(&token), json!(payload)).await;
        let answer = client.answer_to(&id, 60.s()).await;
        assert_eq!(answer["payload"], payload.len(), "{answer}");
    }
    assert_eq!(client.request("measure", None, json!("p")).await["payload"], 1);
}
