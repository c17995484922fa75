//! An application that hangs, or is down, is its askers' loss alone: logins, renewals and every other type of message go on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tests::servers::upstream::Said;
use tests::tokens::token::Builder;
use tests::{App, Client, Program, Push, Span, Stack, Upstream, eventually, token_for};
use tokio::time::{Instant, timeout};

/// What a newcomer may wait for a login, or a chat, on a slow and busy machine. It was 20 s and more.
const SOON: Duration = Duration::from_secs(4);

/// Hangs over messages of the type `hang`, and answers all others at once.
async fn moody() -> Upstream {
    Upstream::start(|asked| match asked.kind() {
        "hang" => Said::Nothing,
        _ => Said::status(200, "1"),
    })
    .await
}

async fn before(upstream: &Upstream, settings: &[(&str, &str)]) -> Stack {
    // In order, a socket asks one thing at a time: it takes many more of them to be so much.
    Stack::builder()
        .setting("handler", &upstream.handler())
        .setting("order", "none")
        .settings(settings)
        .start()
        .await
}

/// Connections of one user, each of which asks that as often as it may.
async fn crowd(stack: &Stack, sockets: usize, subject: &str, kind: &str) -> Vec<Client> {
    let token = token_for(subject).mint();
    let mut clients = Vec::new();
    for _ in 0..sockets {
        let mut client = stack.client().await;
        client.authenticate(&token).await;
        for _ in 0..64 {
            client.ask(kind, None, Value::Null).await;
        }
        clients.push(client);
    }
    clients
}

/// A newcomer logs in, and is answered.
async fn come(stack: &Stack, subject: &str, kind: &str) -> Duration {
    let started = Instant::now();
    let coming = async {
        let mut client = stack.client().await;
        client.authenticate(&token_for(subject).mint()).await;
        let answer = client.request(kind, None, Value::Null).await;
        assert_eq!(answer["type"], "reply", "{answer}");
    };
    timeout(SOON, coming).await.expect("nobody keeps a newcomer waiting");
    started.elapsed()
}

async fn breaker(worker: &Program, event: &str) -> f64 {
    let name = format!(r#"countersign_worker_breaker_total{{event="{event}"}}"#);
    worker.metrics().await.get(&name).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_hang_keep_no_newcomer_waiting() {
    let upstream = moody().await;
    let stack = before(&upstream, &[]).await;
    let _hanging = crowd(&stack, 5, "mallory", "hang").await;
    eventually(10.s(), "the application hangs", async || !upstream.asked().is_empty()).await;
    for subject in ["alice", "bob", "carol"] {
        come(&stack, subject, "quick").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_application_keeps_no_other_application_waiting() {
    let stack = Stack::builder()
        .setting("handler", "amqp")
        .setting("order", "none")
        .start()
        .await;
    let dead = App::idle(&stack, "dead").await;
    let mut chat = App::start(&stack, "chat").await;
    let _hanging = crowd(&stack, 5, "mallory", "dead").await;
    eventually(10.s(), "the dead one has been asked", async || {
        dead.waiting().await >= 64
    })
    .await;
    let chatting = async {
        loop {
            let asked = chat.next().await;
            chat.answer(&asked, "1").await;
        }
    };
    tokio::select! {
        () = chatting => {}
        _ = come(&stack, "alice", "chat") => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_move_is_told_busy_before_it_uses_up_what_a_worker_may_have() {
    let upstream = moody().await;
    let settings = [("prefetch", "40"), ("concurrency", "20"), ("max-in-flight", "64")];
    let stack = before(&upstream, &settings).await;
    let mut hanging = crowd(&stack, 2, "mallory", "hang").await;
    hanging.extend(crowd(&stack, 2, "oscar", "hang").await);
    let refused = hanging[0].next_of_type("error", 10.s()).await;
    assert_eq!(refused["error"]["code"], "busy", "{refused}");
    assert!(
        refused["error"]["retry_after_ms"]
            .as_u64()
            .is_some_and(|after| after > 0),
        "{refused}"
    );
    come(&stack, "alice", "quick").await;
    assert!(
        stack.workers()[0]
            .metric("countersign_worker_places_refused_total")
            .await
            >= 1.0
    );
}

/// Both tokens are the client's own, and the second was sent long before the first had expired.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_showed_a_good_token_in_time_does_not_expire_while_the_handler_takes_its_time() {
    let upstream = moody().await;
    let policies = [
        ("on-unauthenticated", "close"),
        ("on-expired-push", "close"),
        ("jwt-leeway", "0s"),
    ];
    let stack = before(&upstream, &policies).await;
    let brief: Builder<'_> = token_for("alice").expiring_in(3.s());
    let mut client = stack.client().await;
    client.authenticate(&brief.mint()).await;
    client.ask("hang", Some(&token_for("alice").mint()), Value::Null).await;
    brief.expired().await;
    // Neither its own messages nor what is pushed to it wait for the answer.
    let answer = client.request("quick", None, Value::Null).await;
    assert_eq!(answer["type"], "reply", "{answer}");
    let outcome = stack.producer().await.push(&Push::to("alice", 7)).await;
    assert_eq!(outcome["outcome"], "delivered", "{outcome}");
    assert_eq!(client.next_of_type("push", 10.s()).await["payload"], 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_down_is_not_asked_until_it_is_there_again() {
    let (upstream, up) = Upstream::switched().await;
    let stack = before(&upstream, &[("handler-timeout", "300ms")]).await;
    let worker = &stack.workers()[0];
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    for _ in 0..5 {
        let answer = client.request("a", None, Value::Null).await;
        assert_eq!(
            answer["error"]["message"], "the message took too long to handle",
            "{answer}"
        );
    }
    assert_eq!(breaker(worker, "down").await, 1.0);
    let asked = upstream.asked().len();
    let refused = client.request("a", None, Value::Null).await;
    assert_eq!(
        refused["error"]["message"], "the application is not answering at the moment",
        "{refused}"
    );
    assert_eq!(
        (&refused["error"]["code"], &refused["error"]["temporary"]),
        (&json!("busy"), &json!(true))
    );
    let after = refused["error"]["retry_after_ms"].as_u64().expect("when to come again");
    assert!((1..=10_000).contains(&after), "{refused}");
    assert_eq!(upstream.asked().len(), asked, "it is left alone");
    assert_eq!(worker.metric("countersign_worker_types_down").await, 1.0);
    // Another type may be another application.
    let other = client.request("b", None, Value::Null).await;
    assert_eq!(
        other["error"]["message"], "the message took too long to handle",
        "{other}"
    );

    up.store(true, Ordering::SeqCst);
    eventually(20.s(), "it is asked again", async || {
        client.request("a", None, Value::Null).await["type"] == "reply"
    })
    .await;
    let answer = client.request("a", None, Value::Null).await;
    assert_eq!(answer["type"], "reply", "one answer is enough");
    assert_eq!(breaker(worker, "up").await, 1.0);
    assert!(breaker(worker, "probed").await >= 1.0 && breaker(worker, "refused").await >= 1.0);
    assert_eq!(worker.metric("countersign_worker_types_down").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_sockets_that_ask_an_application_that_hangs_keep_nobody_else_waiting() {
    let upstream = moody().await;
    let stack = Stack::builder()
        .setting("handler", &upstream.handler())
        .setting("max-connections-per-ip", "off")
        // They could have all of it.
        .setting("concurrency", "100")
        .start()
        .await;
    let mut renewing = stack.client().await;
    renewing.authenticate(&token_for("carol").mint()).await;
    let mut hanging = Vec::new();
    for number in 0..200 {
        let mut client = stack.client().await;
        let token = token_for(&format!("user-{}", number % 20)).mint();
        client.ask("hang", Some(&token), Value::Null).await;
        hanging.push(client);
    }
    eventually(60.s(), "as many hang as may", async || {
        let asked = upstream.asked().len();
        if asked >= 50 { Ok(()) } else { Err(asked) }
    })
    .await;
    for _ in 0..10 {
        come(&stack, "alice", "chat").await;
        let token = token_for("carol").mint();
        timeout(SOON, renewing.authenticate(&token))
            .await
            .expect("nobody keeps a renewal waiting");
        let asked = renewing.request("chat", None, Value::Null);
        let answer = timeout(SOON, asked).await.expect("nor another type of message");
        assert_eq!(answer["type"], "reply", "{answer}");
    }
}
