//! P4: nothing is written to a socket after its authentication has expired or was revoked, whatever is on its way, and
//! anyone who is away.
//!
//! How late the latest write was at most is measured by `examples/lateness.rs`; here it is only told apart from a write
//! that should not have been.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tests::lateness::{Reader, Seen};
use tests::peers::raw::{RawClient, RawFrame, opcode};
use tests::tokens::token::Builder;
use tests::wait::until;
use tests::{Broker, Producer, Push, Span, Stack, Store, eventually};

use crate::authentication::expiry::{SOON, brief, fresh};

/// P4 allows 250 ms; the rest is for this side of the socket, on a busy machine.
const LATE: Duration = Duration::from_millis(250 + 500);

/// For how long pushes go on after what they must not outlive: far beyond [`LATE`].
const FLOOD_AFTER: Duration = Duration::from_secs(3);

fn builder() -> tests::stack::Builder {
    Stack::builder().poisoned_workers(2).setting("jwt-leeway", "0s")
}

/// A stack that holds whatever a flood brings.
fn roomy() -> tests::stack::Builder {
    builder()
        .setting("hold-max-messages", "10000")
        .setting("hold-max-bytes", "64MiB")
}

/// Pushes to alice as fast as the broker confirms, until that moment. Returns how many.
async fn flood(backend: &mut Producer, end: SystemTime) -> u64 {
    let mut count = 0;
    while SystemTime::now() < end {
        backend.send(&Push::to("alice", count)).await;
        count += 1;
    }
    count
}

fn assert_in_time(seen: &Seen, end: SystemTime) {
    let lateness = seen.lateness(end);
    println!("{} pushes in time, the last {lateness:?} after it", seen.in_time(end));
    assert!(lateness < LATE, "a push was written {lateness:?} after its time");
}

/// Each of the pushes, once, in order: those that were in time, and those that came after the renewal.
async fn all_come(reader: Reader, end: SystemTime, count: u64) {
    let (mut client, seen) = reader.stop().await;
    assert_in_time(&seen, end);
    assert!(seen.asked.is_some(), "a fresh token is asked for");
    client.authenticate(&fresh("alice")).await;
    let mut numbers: Vec<_> = seen.pushes.iter().map(|(_, payload)| payload.clone()).collect();
    while numbers.len() < usize::try_from(count).expect("small") {
        numbers.push(client.push(30.s()).await["payload"].clone());
    }
    each_once_in_order(&numbers, count);
}

/// Asserts that these are the numbers from 0, and says what is wrong in less than all of them.
fn each_once_in_order(numbers: &[Value], count: u64) {
    let numbers: Vec<_> = numbers
        .iter()
        .map(|number| number.as_u64().expect("a number"))
        .collect();
    let wrong = (0..).zip(&numbers).position(|(expected, number)| expected != *number);
    let around = wrong.map(|place| &numbers[place.saturating_sub(3)..numbers.len().min(place + 8)]);
    let missing: Vec<_> = (0..count).filter(|number| !numbers.contains(number)).collect();
    assert_eq!((wrong, around), (None, None), "of {count}, missing {missing:?}");
}

async fn reading(stack: &Stack, token: &Builder<'_>) -> Reader {
    let mut client = stack.client().await;
    client.authenticate(&token.mint()).await;
    Reader::start(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_flood_of_pushes_none_is_written_after_the_expiry_and_none_is_lost() {
    let stack = roomy().start().await;
    let mut backend = stack.producer().await;
    let token = brief("alice");
    let reader = reading(&stack, &token).await;
    let count = flood(&mut backend, token.expires_at() + FLOOD_AFTER).await;
    all_come(reader, token.expires_at(), count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_flood_of_pushes_none_is_written_after_a_revocation_was_acknowledged() {
    let stack = builder().start().await;
    let (mut backend, mut operator) = (stack.producer().await, stack.producer().await);
    let reader = reading(&stack, &tests::token_for("alice")).await;
    let end = SystemTime::now() + FLOOD_AFTER;
    let flood = tokio::spawn(async move { flood(&mut backend, end).await });
    operator.revoke(&json!({"subject": "alice"})).await;
    let acknowledged = SystemTime::now();
    eventually(SOON, "the connection ends", async || reader.is_over()).await;
    let (_, seen) = reader.stop().await;
    let lateness = seen.lateness(acknowledged);
    assert!(lateness < 1.s() + 500.ms(), "a push was written {lateness:?} after it");
    assert_eq!(seen.closed.and_then(|(_, code)| code), Some(4503));
    flood.await.expect("the flood ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_frozen_broker_gives_out_after_the_expiry_is_not_written_and_not_lost() {
    let broker = Arc::new(Broker::start().await);
    let stack = roomy().broker(&broker).start().await;
    let mut backend = stack.producer().await;
    let token = tests::token_for("alice").expiring_in(4.s());
    let reader = reading(&stack, &token).await;
    let mut count = flood(&mut backend, token.expires_at() - 1.s()).await;
    broker.freeze().await;
    until(token.expires_at() + 1.s()).await;
    let frozen = SystemTime::now();
    broker.thaw();
    eventually(30.s(), "the backend is served again", async || {
        backend.send(&Push::to("alice", count)).await;
        count += 1;
        true
    })
    .await;
    until(frozen + FLOOD_AFTER).await;
    all_come(reader, token.expires_at(), count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_held_up_by_a_dead_broker_is_not_written_after_the_expiry_and_not_lost() {
    let broker = Arc::new(Broker::start().await);
    let stack = builder().broker(&broker).start().await;
    let mut client = stack.client().await;
    let token = tests::token_for("alice").expiring_in(3.s());
    client.authenticate(&token.mint()).await;
    let moment = token.expires_at() - 500.ms();
    let moment_ms = moment
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970")
        .as_millis();
    let id = client
        .ask("until", None, json!(u64::try_from(moment_ms).expect("of this age")))
        .await;
    crate::faults::kills::in_flight(&stack.terminators()[0], 1.0).await;
    broker.kill();
    token.expired().await;
    broker.restart().await;
    client.expect_required("expired", 60.s()).await;
    client.expect_nothing_shown().await;
    client.authenticate(&fresh("alice")).await;
    assert_eq!(client.answer_to(&id, 30.s()).await["type"], "reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_expires_in_time_while_the_broker_is_away() {
    let broker = Arc::new(Broker::start().await);
    let stack = builder().broker(&broker).setting("publish-timeout", "2s").start().await;
    let mut client = stack.client().await;
    let token = tests::token_for("alice").expiring_in(4.s());
    client.authenticate(&token.mint()).await;
    broker.kill();
    client.expect_required("expiring", SOON).await;
    token.expired().await;
    let busy = client.request("echo", Some(&fresh("alice")), json!(1)).await;
    assert_eq!(busy["error"]["code"], "busy", "{busy}");
    broker.restart().await;
    eventually(
        30.s(),
        "the connection is served, and is asked or held to nothing old",
        async || {
            let answer = client.request("echo", Some(&fresh("alice")), json!(2)).await;
            if answer["type"] == "reply" { Ok(()) } else { Err(answer) }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_store_away_nothing_is_written_after_the_expiry_and_nothing_is_lost() {
    let store = Arc::new(Store::start().await);
    let stack = builder().store(&store).start().await;
    let mut backend = stack.producer().await;
    let token = tests::token_for("alice").expiring_in(4.s());
    let reader = reading(&stack, &token).await;
    let before = backend.push(&Push::to("alice", 0)).await;
    assert_eq!(before["outcome"], "delivered", "{before}");
    store.freeze().await;
    let mut count = 1;
    while count < 90 && SystemTime::now() < token.expires_at() + FLOOD_AFTER {
        backend.send(&Push::to("alice", count)).await;
        count += 1;
    }
    until(token.expires_at() + FLOOD_AFTER).await;
    store.thaw();
    let last = backend.push(&Push::to("alice", count)).await;
    assert_eq!(last["outcome"], "held", "{last}");
    all_come(reader, token.expires_at(), count + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_off_when_it_expires() {
    let stack = roomy().setting("send-queue-bytes", "64MiB").start().await;
    let terminator = &stack.terminators()[0];
    let mut backend = stack.producer().await;
    let mut mute = RawClient::upgraded(terminator.address()).await;
    let token = brief("alice");
    let message = json!({"id": "in", "type": "auth.authenticate", "token": token.mint()}).to_string();
    mute.send(&RawFrame::new(opcode::TEXT, message)).await;
    let answer = mute.read_frame(SOON).await.expect("an answer");
    assert!(String::from_utf8_lossy(&answer.payload).contains("auth.ok"));
    // More than the sockets on both sides take in.
    let half_a_megabyte = "m".repeat(1 << 19);
    for _ in 0..32 {
        backend.send(&Push::to("alice", half_a_megabyte.as_str())).await;
    }
    until(token.expires_at()).await;
    eventually(LATE + 1.s(), "the terminator has cut it off", async || {
        let open = terminator.metric("countersign_terminator_connections").await;
        if open == 0.0 { Ok(()) } else { Err(open) }
    })
    .await;
    let mut next = stack.client().await;
    next.authenticate(&fresh("alice")).await;
    backend.send(&Push::to("alice", "last")).await;
    eventually(30.s(), "the rest comes to the next connection", async || {
        next.push(30.s()).await["payload"] == "last"
    })
    .await;
}
