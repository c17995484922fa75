//! What a connection sends is handled in the order in which it was sent, on any number of workers (P11).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tests::peers::client::Received;
use tests::servers::upstream::{Asked, Said};
use tests::{Client, Event, History, Load, Span, Stack, Upstream, eventually, token_for};

use crate::authentication::expiry::SOON;
use crate::faults::kills::kill_workers;
use crate::hostile::poison::dead_letter_over_the_dead;

/// How many connections have sixteen messages under way while workers are killed, one each second: the promise was made for
/// 200, for which unoptimised programs on two cores take a minute.
const CONNECTIONS: &str = "COUNTERSIGN_TEST_ORDER_CONNECTIONS";
const CONNECTIONS_DEFAULT: usize = 50;

async fn before(upstream: &Upstream, workers: usize, settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .workers(workers)
        .setting("handler", &upstream.handler())
        .settings(settings)
        .start()
        .await
}

/// An application that takes longer over the earlier ones of a few messages than over the later.
async fn uneven() -> Upstream {
    let turn = Arc::new(AtomicUsize::new(0));
    Upstream::start(move |_| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        Said::Late((3 * (4 - turn as u64 % 5)).ms(), 200, "1".to_owned())
    })
    .await
}

/// The payloads of its messages, each when it came for the first time, by who sent them.
fn handled(upstream: &Upstream) -> BTreeMap<String, Vec<u64>> {
    let mut by_subject: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for asked in upstream.asked() {
        let subject = asked.body["identity"]["subject"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let number = asked.body["payload"].as_u64().expect("a number");
        let of_subject = by_subject.entry(subject).or_default();
        if !of_subject.contains(&number) {
            of_subject.push(number);
        }
    }
    by_subject
}

async fn send(client: &mut Client, token: Option<&str>, range: std::ops::Range<u64>) -> Vec<String> {
    let mut ids = Vec::new();
    for number in range {
        ids.push(client.ask("step", token, json!(number)).await);
    }
    ids
}

/// Its next answers, by what they answer.
async fn answers(client: &mut Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let answer = client.next_json(SOON).await;
        if answer["type"] != "auth.required" {
            assert_eq!(answer["type"], "reply", "{answer}");
            ids.push(answer["id"].as_str().unwrap_or_default().to_owned());
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_connection_are_handled_and_answered_in_their_order_by_any_number_of_workers() {
    let upstream = uneven().await;
    let stack = before(&upstream, 3, &[]).await;
    let mut clients = Vec::new();
    for number in 0..5 {
        let mut client = stack.client().await;
        let token = token_for(&format!("user-{number}")).mint();
        client.authenticate(&token).await;
        // Of some each message has its token, and of others none has.
        clients.push((client, (number % 2 == 0).then_some(token)));
    }
    let mut asked = Vec::new();
    for round in 0..3 {
        for (client, token) in &mut clients {
            asked.push(send(client, token.as_deref(), 10 * round..10 * round + 10).await);
        }
    }
    for (number, (client, _)) in clients.iter_mut().enumerate() {
        let ids: Vec<_> = asked.iter().skip(number).step_by(5).flatten().cloned().collect();
        assert_eq!(answers(client, 30).await, ids);
    }
    let in_order: Vec<u64> = (0..30).collect();
    let handled = handled(&upstream);
    assert_eq!(handled.len(), 5);
    for (subject, numbers) in handled {
        assert_eq!(numbers, in_order, "{subject}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wants_no_order_waits_for_no_other_message() {
    let upstream = Upstream::start(|asked: &Asked| match asked.kind() {
        "hang" => Said::Nothing,
        _ => Said::status(200, "1"),
    })
    .await;
    let stack = before(&upstream, 1, &[("order", "none")]).await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    client.ask("hang", None, Value::Null).await;
    assert_eq!(client.request("step", None, json!(1)).await["type"], "reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_message_keeps_only_its_own_connection_waiting_and_only_until_its_time_is_over() {
    let upstream = Upstream::start(|asked: &Asked| match asked.kind() {
        "hang" => Said::Nothing,
        _ => Said::status(200, "1"),
    })
    .await;
    let stack = before(&upstream, 1, &[("handler-timeout", "3s")]).await;
    let token = token_for("alice").mint();
    let (mut slow, mut other) = (stack.client().await, stack.client().await);
    slow.authenticate(&token).await;
    other.authenticate(&token).await;
    let hang = slow.ask("hang", None, Value::Null).await;
    let behind = slow.ask("step", None, json!(1)).await;
    assert_eq!(other.request("step", None, json!(2)).await["type"], "reply");
    slow.ping(SOON).await;
    let first = slow.next_json(SOON).await;
    assert_eq!((&first["id"], &first["error"]["code"]), (&json!(hang), &json!("busy")));
    let second = slow.next_json(SOON).await;
    assert_eq!((&second["id"], &second["type"]), (&json!(behind), &json!("reply")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_is_handled_before_what_brought_the_fresh_token() {
    let upstream = uneven().await;
    let stack = before(&upstream, 2, &[("jwt-leeway", "0s")]).await;
    let mut client = stack.client().await;
    let short = token_for("alice").expiring_in(2.s());
    client.authenticate(&short.mint()).await;
    short.expired().await;
    let mut ids = send(&mut client, None, 0..5).await;
    client.expect_required("expired", SOON).await;
    let fresh = token_for("alice").mint();
    ids.extend(send(&mut client, Some(&fresh), 5..8).await);
    ids.extend(send(&mut client, None, 8..12).await);
    assert_eq!(answers(&mut client, 12).await, ids);
    assert_eq!(handled(&upstream)["alice"], (0..12).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_token_counts_although_a_slow_message_is_before_it() {
    let release = Arc::new(tokio::sync::Notify::new());
    let held = release.clone();
    let upstream = Upstream::start(move |asked: &Asked| match asked.kind() {
        "slow" => Said::When(held.clone(), 200, "1".to_owned()),
        _ => Said::status(200, "1"),
    })
    .await;
    let stack = before(&upstream, 1, &[("jwt-leeway", "0s")]).await;
    for by_message in [false, true] {
        let mut client = stack.client().await;
        let short = token_for("alice").expiring_in(4.s());
        client.authenticate(&short.mint()).await;
        let slow = client.ask("slow", None, Value::Null).await;
        let fresh = token_for("alice").mint();
        let renewal = match by_message {
            true => client.ask("step", Some(&fresh), json!(1)).await,
            false => {
                client.authenticate(&fresh).await;
                String::new()
            }
        };
        short.expired().await;
        let outcome = stack.producer().await.push_to("alice", json!("now")).await;
        assert_eq!(outcome, "delivered");
        assert_eq!(client.push(SOON).await["payload"], "now");
        release.notify_one();
        let answers = answers(&mut client, if by_message { 2 } else { 1 }).await;
        assert_eq!(answers.first(), Some(&slow));
        assert_eq!(answers.get(1), by_message.then_some(&renewal));
    }
}

/// As the judge of histories says, who knows of each message when its application was given it first, and who heard what.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_holds_while_workers_are_killed() {
    let wanted = std::env::var(CONNECTIONS).ok();
    let connections = wanted.map_or(CONNECTIONS_DEFAULT, |count| count.parse().expect("a number"));
    let history = History::in_memory();
    let (noted, turn) = (history.clone(), AtomicUsize::new(0));
    let upstream = Upstream::start(move |asked: &Asked| {
        let of_payload = |member: &str| asked.body["payload"][member].as_str().unwrap_or_default().to_owned();
        noted.note(Event::Handled {
            connection: of_payload("of"),
            id: of_payload("id"),
        });
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        Said::Late((3 * (4 - turn as u64 % 5)).ms(), 200, "1".to_owned())
    })
    .await;
    let settings = [("messages-per-second", "off"), ("max-connections-per-ip", "off")];
    let mut stack = before(&upstream, 3, &settings).await;
    let load = Load::on(stack.terminators(), &token_for("alice").expiring_in(3_600.s()).mint())
        .connections(connections)
        .messages(usize::MAX)
        .in_flight(16)
        .noted_in(&history)
        .start(300.s());
    load.until_answered(connections).await;
    let killed = kill_workers(&mut stack, &load, (connections / 10).max(3)).await;
    load.enough();
    let tally = load.finish().await;
    tally.assert_each_replied_once();
    println!(
        "{connections} connections, {killed} workers killed, {} messages",
        tally.sent
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_in_the_middle_of_a_run_is_buried_and_what_is_behind_it_goes_on_in_order() {
    let stack = Stack::builder().poisoned_workers(2).setting("max-deliveries", "2");
    let mut stack = stack.start().await;
    let queue = stack.queue().await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    let mut ids = Vec::new();
    for number in 0..9 {
        let kind = if number == 4 { "abort" } else { "echo" };
        ids.push(client.ask(kind, None, json!(number)).await);
    }
    dead_letter_over_the_dead(&mut stack, &queue).await;
    stack.outlive_poison().await;
    for (number, id) in ids.iter().enumerate() {
        let answer = client.next_json(SOON).await;
        assert_eq!(answer["id"], json!(id), "{answer}");
        let expected = if number == 4 { "error" } else { "reply" };
        assert_eq!(answer["type"], expected, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_a_slow_message_waits_for_it_no_more() {
    let upstream = Upstream::start(|asked: &Asked| match asked.kind() {
        "hang" => Said::Nothing,
        _ => Said::status(200, "1"),
    })
    .await;
    let stack = before(&upstream, 2, &[("handler-timeout", "5m")]).await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    let hang = client.ask("hang", None, Value::Null).await;
    let behind = client.ask("step", None, json!(1)).await;
    eventually(SOON, "it hangs", async || !upstream.asked().is_empty()).await;
    client.send_json(&json!({"cancel": hang})).await;
    let first = client.next_json(SOON).await;
    assert_eq!(
        (&first["id"], &first["error"]["code"]),
        (&json!(hang), &json!("cancelled"))
    );
    assert_eq!(answers(&mut client, 1).await, [behind]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_message_the_broker_has_lost_is_told_and_can_ask_again() {
    let stack = Stack::builder().workers(0).setting("answer-timeout", "2s");
    let mut stack = stack.start().await;
    let queue = stack.queue().await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    client.ask("echo", Some(&token), json!(1)).await;
    let behind = client.ask("echo", Some(&token), json!(2)).await;
    let messages = format!("{}.messages", stack.namespace());
    eventually(SOON, "it is lost", async || queue.get(&messages).await).await;
    let told = client.expect_close(1011, SOON).await;
    assert!(
        told.iter()
            .any(|error| error["id"] == json!(behind) && error["error"]["temporary"] == true),
        "{told:?}"
    );
    stack.start_workers(1).await;
    assert_eq!(
        stack.client().await.request("echo", Some(&token), json!(1)).await["payload"],
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_out_behind_a_slow_message_ends_pushes_at_once() {
    let release = Arc::new(tokio::sync::Notify::new());
    let held = release.clone();
    let upstream = Upstream::start(move |_: &Asked| Said::When(held.clone(), 200, "1".to_owned())).await;
    let stack = before(&upstream, 1, &[]).await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    let slow = client.ask("slow", None, Value::Null).await;
    client.send_json(&json!({"id": "out", "type": "auth.logout"})).await;
    // It was read before this ping.
    client.ping(SOON).await;
    let mut backend = stack.producer().await;
    assert_eq!(backend.push_to("alice", json!("private")).await, "held");
    client.expect_nothing_shown().await;
    release.notify_one();
    assert_eq!(answers(&mut client, 1).await, [slow]);
    assert_eq!(client.next_json(SOON).await, json!({"type": "auth.ok", "id": "out"}));
    client.expect_nothing_shown().await;
    let mut next = stack.client().await;
    next.authenticate(&token_for("alice").mint()).await;
    assert_eq!(next.pushes(1).await, ["private"]);
}

/// It brings the token for which another waits, so that it is handled after that one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_back_is_waited_for_since_it_was_received() {
    let release = Arc::new(tokio::sync::Notify::new());
    let held = release.clone();
    let upstream = Upstream::start(move |asked: &Asked| match asked.kind() {
        "slow" => Said::When(held.clone(), 200, "1".to_owned()),
        _ => Said::status(200, "1"),
    })
    .await;
    let stack = before(&upstream, 1, &[("jwt-leeway", "0s")]).await;
    let mut client = stack.client().await;
    let short = token_for("alice").expiring_in(2.s());
    client.authenticate(&short.mint()).await;
    short.expired().await;
    let slow = client.ask("slow", None, Value::Null).await;
    client.expect_required("expired", SOON).await;
    let fresh = token_for("alice").mint();
    client
        .send_json(&json!({"id": "late", "type": "step", "token": fresh, "timeout_ms": 1_500}))
        .await;
    eventually(SOON, "what waited is handled", async || upstream.asked().len() == 1).await;
    // For longer than anyone waits for the other.
    while let Some(Received::Json(message)) = client.next(2.s()).await {
        assert_eq!(message["type"], "auth.required", "{message}");
    }
    release.notify_one();
    assert_eq!(client.answer_to(&slow, SOON).await["type"], "reply");
    let late = client.answer_to("late", SOON).await;
    assert_eq!(
        (&late["error"]["code"], &late["error"]["effect"]),
        (&json!("deadline_exceeded"), &json!("none")),
        "{late}"
    );
    assert_eq!(upstream.asked().len(), 1);
}
