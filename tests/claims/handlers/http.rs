//! An application behind a URL, in whatever language: it is asked with all that it may know, and whatever it does, its
//! client is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lapin::BasicProperties;
use serde_json::{Value, json};
use tests::servers::upstream::{Asked, Said};
use tests::tokens::token::ISSUER;
use tests::{Program, Span, Stack, Upstream, eventually, token_for};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// What the application makes of a message of that type.
fn as_its_type_says(asked: &Asked) -> Said {
    let with = |status, name, value: &str, body: &str| Said::Response(status, vec![(name, value.into())], body.into());
    match asked.kind() {
        "echo" => Said::status(200, asked.body.to_string()),
        "created" => Said::status(201, r#" {"n": 1} "#),
        "nothing" => Said::status(204, ""),
        "empty" => Said::status(200, ""),
        "refused" => Said::status(404, r#"{"code": "forbidden", "message": "not yours"}"#),
        "wrong" => Said::status(422, r#"{"message": "no such order"}"#),
        "unauthorized" => Said::status(401, r#"{"message": "who?"}"#),
        "reserved" => Said::status(422, r#"{"code": "token_expired", "message": "who?"}"#),
        "overlong" => {
            let details = "x".repeat(32 << 10);
            Said::status(
                422,
                json!({"code": "out_of_stock", "message": "m", "details": details}).to_string(),
            )
        }
        "own" => Said::status(422, sold().to_string()),
        "conflict" => Said::status(409, sold().to_string()),
        "broken own" => Said::status(500, sold().to_string()),
        "broken" => Said::status(500, "<html>at db.rs:1</html>"),
        "busy" => with(503, "Retry-After", "60", ""),
        // A minute by its own clock, which is not right.
        "busy until" => Said::Response(
            503,
            vec![
                ("Date", "Fri, 31 Dec 1999 23:58:59 GMT".into()),
                ("Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT".into()),
            ],
            String::new(),
        ),
        "gateway" => Said::status(504, ""),
        "garbage" => Said::status(200, "<html>"),
        "huge" => Said::status(200, format!("\"{}\"", "x".repeat(2 << 20))),
        "redirect" => with(307, "Location", "http://127.0.0.1:1/", ""),
        "half" => Said::Half,
        _ => Said::Nothing,
    }
}

/// What an application of its own says.
fn sold() -> Value {
    json!({"code": "out_of_stock", "message": "the last one is sold", "details": {"sku": "a-1", "left": 0}})
}

async fn stack_before(upstream: &Upstream, settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .setting("handler", &upstream.handler())
        .settings(settings)
        .start()
        .await
}

/// How many calls of the application ended so.
async fn calls(worker: &Program, outcome: &str) -> f64 {
    let metrics = worker.metrics().await;
    let name = format!(r#"countersign_worker_upstream_calls_total{{outcome="{outcome}"}}"#);
    metrics.get(&name).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gets_the_message_and_who_sent_it_and_never_the_token() {
    let upstream = Upstream::start(as_its_type_says).await;
    let stack = stack_before(&upstream, &[]).await;
    let token = token_for("alice").claim("scope", "orders").mint();
    let mut client = stack.client().await;
    let answer = client.request("echo", Some(&token), json!({"n": 1.50})).await;
    assert_eq!(answer["type"], "reply", "{answer}");
    let seen = &answer["payload"];
    assert_eq!((&seen["type"], &seen["id"]), (&json!("echo"), &answer["id"]));
    assert_eq!(seen["identity"], json!({"issuer": ISSUER, "subject": "alice"}));
    assert_eq!(
        (&seen["claims"]["scope"], &seen["claims"]["sub"]),
        (&json!("orders"), &json!("alice"))
    );
    assert_eq!(seen["payload"], json!({"n": 1.5}));
    let connection = seen["connection"].as_str().expect("the connection");

    let asked = upstream.asked().remove(0);
    assert_eq!(asked.line, "POST /messages?from=worker HTTP/1.1");
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert_eq!(asked.header("idempotency-key"), Some(&*format!("{connection}.1")));
    let everything = format!("{asked:?}");
    for part in token.split('.') {
        assert!(!everything.contains(part), "{everything}");
    }
    // A message without a token is the connection's, and says as much.
    let answer = client.request("echo", None, Value::Null).await;
    assert_eq!(answer["payload"]["identity"]["subject"], "alice");
    assert_eq!(answer["payload"]["claims"]["scope"], "orders");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_injected_is_known_again_only_by_a_message_id() {
    let upstream = Upstream::start(as_its_type_says).await;
    let stack = stack_before(&upstream, &[]).await;
    let queue = stack.queue().await;
    let mut replies = queue.reply_queue().await;
    let mut keys = Vec::new();
    for (subject, id) in [
        ("alice", None),
        ("alice", Some("1")),
        ("alice", Some("1")),
        ("alice", Some("2")),
        ("bob", Some("1")),
    ] {
        let body = json!({"type": "echo", "token": token_for(subject).mint()}).to_string();
        let mut properties: BasicProperties = replies.properties();
        if let Some(id) = id {
            properties = properties.with_message_id(id.into());
        }
        queue.publish("message", body, properties).await;
        let answer = replies.next(10.s()).await.json();
        assert_eq!(answer["payload"]["identity"]["subject"], subject);
        assert_eq!(answer["payload"].get("connection"), None);
        let asked = upstream.asked().pop().expect("it was asked");
        keys.push(asked.header("idempotency-key").map(str::to_owned));
    }
    assert_eq!(keys[0], None);
    assert!(keys[1].is_some() && keys[1] == keys[2]);
    assert!(keys[3].is_some() && keys[3] != keys[1] && keys[4] != keys[1] && keys[4].is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_errors_reach_the_client_whole() {
    let upstream = Upstream::start(as_its_type_says).await;
    let stack = stack_before(&upstream, &[("idempotency-window", "1m")]).await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    for kind in ["own", "conflict"] {
        let answer = client.request(kind, None, Value::Null).await;
        let told = json!({
            "code": "app.out_of_stock",
            "message": "the last one is sold",
            "temporary": false,
            "details": {"sku": "a-1", "left": 0},
        });
        assert_eq!(answer["error"], told);
        // The same when it is remembered.
        let again = json!({"id": answer["id"], "type": kind, "payload": null});
        client.send_json(&again).await;
        let id = answer["id"].as_str().expect("its name");
        assert_eq!(client.answer_to(id, 10.s()).await["error"], told);
    }
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_it_says_is_one_answer_to_one_client() {
    let upstream = Upstream::start(as_its_type_says).await;
    let stack = stack_before(&upstream, &[]).await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    client.authenticate(&token).await;
    let answer = client.request("created", None, Value::Null).await;
    assert_eq!(
        (&answer["type"], &answer["payload"]),
        (&json!("reply"), &json!({"n": 1}))
    );
    for kind in ["nothing", "empty"] {
        let answer = client.request(kind, None, Value::Null).await;
        assert_eq!(answer["type"], "reply", "{answer}");
        assert_eq!(answer.get("payload"), None, "{answer}");
        // Anyone who gives no id wants no answer.
        client.send_json(&json!({"type": kind})).await;
    }
    for (kind, code, message, temporary) in [
        ("refused", "forbidden", "not yours", false),
        ("wrong", "bad_request", "no such order", false),
        ("unauthorized", "forbidden", "who?", false),
        ("reserved", "internal", "internal error", false),
        ("overlong", "internal", "internal error", false),
        (
            "broken own",
            "internal",
            "the application answered with status 500",
            true,
        ),
        ("broken", "internal", "the application answered with status 500", true),
        ("busy", "busy", "the application answered with status 503", true),
        ("busy until", "busy", "the application answered with status 503", true),
        ("gateway", "busy", "the application answered with status 504", true),
        (
            "garbage",
            "internal",
            "the application's answer is not JSON, or is too large",
            false,
        ),
        (
            "huge",
            "internal",
            "the application's answer is not JSON, or is too large",
            false,
        ),
        (
            "redirect",
            "internal",
            "the application answered with status 307",
            false,
        ),
        ("half", "busy", "the application cannot be reached at the moment", true),
    ] {
        let answer = client.request(kind, None, Value::Null).await;
        let error = &answer["error"];
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!(code), &json!(message)),
            "{kind}"
        );
        assert_eq!(error["temporary"], temporary, "{kind}");
        let after = if kind.starts_with("busy") {
            json!(60_000)
        } else {
            Value::Null
        };
        assert_eq!(error["retry_after_ms"], after, "{kind}");
    }
    client.expect_nothing_shown().await;
    let worker = &stack.workers()[0];
    for (outcome, count) in [
        ("answered", 5.0),
        ("refused", 5.0),
        ("failed", 6.0),
        ("invalid_response", 2.0),
        ("unreachable", 1.0),
    ] {
        assert_eq!(calls(worker, outcome).await, count, "{outcome}");
    }
    assert_eq!(worker.metric("countersign_worker_upstream_retries_total").await, 0.0);
    assert_eq!(worker.metric("countersign_worker_upstream_seconds_count").await, 19.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_costs_its_client_the_time_limit_and_others_nothing() {
    let upstream = Upstream::start(as_its_type_says).await;
    let stack = stack_before(&upstream, &[("handler-timeout", "700ms")]).await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    let since = Instant::now();
    let hanging = client.ask("hang", Some(&token), Value::Null).await;
    assert_eq!(
        client.request("created", Some(&token), Value::Null).await["type"],
        "reply"
    );
    let answer = client.answer_to(&hanging, 10.s()).await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["temporary"]),
        (&json!("busy"), &json!(true))
    );
    assert!(since.elapsed() >= 700.ms());
    assert_eq!(calls(&stack.workers()[0], "timeout").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_there_is_tried_and_then_told_of() {
    let mut upstream = Upstream::away(as_its_type_says);
    let stack = stack_before(&upstream, &[]).await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    let answer = client.request("created", Some(&token), Value::Null).await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["temporary"]),
        (&json!("busy"), &json!(true))
    );
    let worker = &stack.workers()[0];
    assert_eq!(worker.metric("countersign_worker_upstream_retries_total").await, 2.0);
    assert_eq!(calls(worker, "unreachable").await, 1.0);
    // It comes while it is being tried.
    let asked = client.ask("created", Some(&token), Value::Null).await;
    eventually(10.s(), "it is tried again", async || {
        worker.metric("countersign_worker_upstream_retries_total").await > 2.0
    })
    .await;
    upstream.come().await;
    assert_eq!(client.answer_to(&asked, 10.s()).await["type"], "reply");
    let told: Vec<_> = worker
        .log()
        .into_iter()
        .filter(|line| line["target"] == "worker::handler::http")
        .collect();
    let texts: Vec<_> = told.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(
        texts,
        [
            "cannot connect to the application; clients are told `busy`",
            "connected to the application again"
        ]
    );
    assert!(told[0]["reason"].as_str().unwrap().contains("refused"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_says_when_is_asked_again_with_the_same_key_and_never_without() {
    let times = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| match times.fetch_add(1, Ordering::SeqCst) {
        0 | 2 => Said::Response(503, vec![("Retry-After", "0".into())], String::new()),
        _ => Said::status(200, "1"),
    })
    .await;
    let stack = stack_before(&upstream, &[]).await;
    let token = token_for("alice").mint();
    let answer = stack.client().await.request("x", Some(&token), Value::Null).await;
    assert_eq!(answer["payload"], 1);
    let keys: Vec<_> = upstream
        .asked()
        .iter()
        .map(|asked| asked.header("idempotency-key").map(str::to_owned))
        .collect();
    assert_eq!(keys.len(), 2);
    assert!(keys[0].is_some() && keys[0] == keys[1]);
    let answer = stack
        .queue()
        .await
        .request(&json!({"type": "x", "token": token}))
        .await
        .json();
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["retry_after_ms"]),
        (&json!("busy"), &json!(0))
    );
    assert_eq!(upstream.asked().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_meanwhile_leaves_a_message_that_comes_again_under_its_key_and_is_answered_once() {
    let times = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| match times.fetch_add(1, Ordering::SeqCst) {
        0 => Said::Nothing,
        _ => Said::status(200, "1"),
    })
    .await;
    let mut stack = stack_before(&upstream, &[]).await;
    let mut client = stack.client().await;
    let asked = client.ask("x", Some(&token_for("alice").mint()), Value::Null).await;
    eventually(10.s(), "the application is at work", async || {
        upstream.asked().len() == 1
    })
    .await;
    stack.worker(0).kill();
    stack.start_workers(1).await;
    assert_eq!(client.answer_to(&asked, 30.s()).await["payload"], 1);
    let keys: Vec<_> = upstream
        .asked()
        .iter()
        .map(|asked| asked.header("idempotency-key").map(str::to_owned))
        .collect();
    assert!(keys.len() == 2 && keys[0].is_some() && keys[0] == keys[1], "{keys:?}");
    client.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_no_more_at_a_time_than_concurrency_says_and_the_rest_waits_in_the_queue() {
    let upstream = Upstream::start(as_its_type_says).await;
    // What waits moves on before anyone would be told that it does not.
    let settings = [
        ("concurrency", "2"),
        ("concurrency-per-type-percent", "100"),
        ("concurrency-per-identity-percent", "100"),
        ("prefetch", "4"),
        // What comes together is given to one worker, and what of it has no room goes back, but not at once.
        ("batch", "off"),
        ("order", "none"),
        ("handler-timeout", "800ms"),
    ];
    let stack = stack_before(&upstream, &settings).await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    let mut asked = Vec::new();
    for _ in 0..6 {
        asked.push(client.ask("hang", Some(&token), Value::Null).await);
    }
    let messages = format!("{}.messages", stack.namespace());
    let queue = stack.queue().await;
    eventually(10.s(), "two are asked, two are ready, two wait", async || {
        let (waiting, asked) = (queue.count(&messages).await, upstream.asked().len());
        if (waiting, asked) == (2, 2) {
            Ok(())
        } else {
            Err((waiting, asked))
        }
    })
    .await;
    for id in &asked {
        assert_eq!(client.answer_to(id, 20.s()).await["error"]["code"], "busy");
    }
    assert_eq!(upstream.asked().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_in_the_url_reach_the_application_and_no_log() {
    let upstream = Upstream::start(as_its_type_says).await;
    let handler = upstream.handler().replace("http://", "http://worker:hunter2@");
    let stack = Stack::builder()
        .setting("handler", &handler)
        .setting("log-filter", "trace");
    let stack = stack.start().await;
    let token = token_for("alice").mint();
    let answer = stack.client().await.request("created", Some(&token), Value::Null).await;
    assert_eq!(answer["type"], "reply");
    let asked = upstream.asked().remove(0);
    assert_eq!(asked.header("authorization"), Some("Basic d29ya2VyOmh1bnRlcjI="));
    let log = stack.workers()[0].stderr();
    assert!(
        !log.contains("hunter2") && !log.contains("d29ya2VyOmh1bnRlcjI"),
        "{log}"
    );
    assert!(!log.contains(&token), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_told_that_a_public_message_is_nobody_s() {
    let upstream = Upstream::start(as_its_type_says).await;
    let stack = stack_before(&upstream, &[("public-types", "echo")]).await;
    let mut client = stack.client().await;
    let answer = client.request("echo", None, json!(1)).await;
    let asked = &answer["payload"];
    assert_eq!(
        (&asked["identity"], &asked["claims"]),
        (&json!(null), &json!({})),
        "{answer}"
    );
    assert!(
        asked.get("identity").is_some(),
        "it is said, and not left out: {answer}"
    );
}

/// Answers one request on each connection, and ends it when the next one comes: as anyone who closes right after each answer, where
/// the next one was on its way already. Returns how many requests were answered.
async fn closing_after_each_answer(listener: TcpListener, answered: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let answered = answered.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if length == 0 || stream.read_exact(&mut body).await.is_err() {
                return;
            }
            answered.fetch_add(1, Ordering::SeqCst);
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.read_u8().await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_closes_its_connection_after_each_answer_costs_nobody_a_busy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http:http://{}/", listener.local_addr().unwrap());
    let answered = Arc::new(AtomicUsize::new(0));
    let application = tokio::spawn(closing_after_each_answer(listener, answered.clone()));
    let stack = Stack::builder().setting("handler", &url).start().await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    for number in 0..20 {
        let answer = client.request("order", Some(&token), json!(number)).await;
        assert_eq!(answer["type"], "reply", "{number}: {answer}");
    }
    assert_eq!(answered.load(Ordering::SeqCst), 20, "each message has its effect once");
    application.abort();
}
