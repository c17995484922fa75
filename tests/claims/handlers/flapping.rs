//! An application that comes and goes: each time is counted, and anyone who asks is told once, whatever it was just then.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde_json::Value;
use tests::{Client, Program, Stack, Upstream, token_for};

use crate::authentication::expiry::SOON;

/// How often it goes, and comes back.
const TIMES: u32 = 3;
const CLIENTS: usize = 6;
/// How many messages each client sends at a time.
const AT_ONCE: usize = 3;

/// How the worker puts it that it does not even ask.
const NOT_ASKED: &str = "the application is not answering at the moment";

async fn breaker(worker: &Program, event: &str) -> u32 {
    let name = format!(r#"countersign_worker_breaker_total{{event="{event}"}}"#);
    worker.metrics().await.get(&name).map_or(0, |count| *count as u32)
}

/// Everyone asks, and is answered. Counts what they are told.
async fn ask(clients: &mut [Client], told: &mut BTreeMap<String, u32>) -> usize {
    let mut asked = Vec::new();
    for client in &mut *clients {
        let mut ids = Vec::new();
        for _ in 0..AT_ONCE {
            ids.push(client.ask("x", None, Value::Null).await);
        }
        asked.push(ids);
    }
    let mut answered = 0;
    for (client, ids) in clients.iter_mut().zip(asked) {
        for id in ids {
            let answer = client.answer_to(&id, SOON).await;
            let gist = match answer["type"].as_str() {
                Some("error") => answer["error"]["message"].as_str().unwrap_or_default(),
                _ => "answered",
            };
            answered += usize::from(gist == "answered");
            *told.entry(gist.to_owned()).or_default() += 1;
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_comes_and_goes_is_counted_each_time_and_each_asker_is_told_once() {
    let (upstream, up) = Upstream::switched().await;
    let stack = Stack::builder()
        .setting("handler", &upstream.handler())
        .setting("handler-timeout", "1s")
        .setting("order", "none")
        .setting("messages-per-second", "off")
        .start()
        .await;
    let worker = &stack.workers()[0];
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = stack.client().await;
        client.authenticate(&token_for(&format!("user-{number}")).mint()).await;
        clients.push(client);
    }
    let mut told = BTreeMap::new();
    let started = tokio::time::Instant::now();
    for time in 1..=TIMES {
        up.store(false, Ordering::SeqCst);
        while breaker(worker, "down").await < time {
            ask(&mut clients, &mut told).await;
            assert!(started.elapsed() < 4 * SOON, "it does not count as down: {told:?}");
        }
        assert_eq!(worker.metric("countersign_worker_types_down").await, 1.0);
        up.store(true, Ordering::SeqCst);
        while ask(&mut clients, &mut told).await == 0 {
            assert!(started.elapsed() < 4 * SOON, "it is not asked again: {told:?}");
        }
        assert_eq!(
            (breaker(worker, "down").await, breaker(worker, "up").await),
            (time, time)
        );
        assert_eq!(worker.metric("countersign_worker_types_down").await, 0.0);
    }
    for client in &mut clients {
        client.expect_nothing_shown().await;
    }
    let of = |gist: &str| told.get(gist).copied().unwrap_or_default();
    assert_eq!(of(NOT_ASKED), breaker(worker, "refused").await, "{told:?}");
    let timed_out = worker.metric("countersign_worker_handler_timeouts_total").await;
    assert_eq!(
        f64::from(of("the message took too long to handle")),
        timed_out,
        "{told:?}"
    );
    assert_eq!(told.len(), 3, "{told:?}");
}
