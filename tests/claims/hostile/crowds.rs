//! Anyone who comes in numbers, and anyone who never says who they are, takes nothing that others need.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::peers::raw::{RawClient, RawFrame, opcode};
use tests::{Client, Program, Push, Span, Stack, Store, eventually, token_for};
use tokio::time::timeout;

use crate::authentication::expiry::{SOON, fresh};

/// Another address of this machine than where honest clients come from.
const CROWD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const REFUSED: &str = "countersign_terminator_handshakes_refused_total";
const BYTES: &str = "countersign_worker_unauthenticated_held_bytes";

/// So many connections of the crowd that say nothing.
async fn silent(address: SocketAddr, count: usize) -> Vec<RawClient> {
    let mut all = Vec::with_capacity(count);
    for _ in 0..count {
        all.push(RawClient::connect_from(CROWD, address).await);
    }
    all
}

/// How long an honest handshake takes.
async fn handshake(terminator: &Program) -> Duration {
    let begun = Instant::now();
    Client::connect(terminator).await;
    begun.elapsed()
}

async fn refused(terminator: &Program, reason: &str) -> f64 {
    counted(terminator, &format!("{REFUSED}{{reason=\"{reason}\"}}")).await
}

/// What is told under this name and with these labels.
async fn counted(program: &Program, sample: &str) -> f64 {
    program.metrics().await.get(sample).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_opens_connections_and_says_nothing_keeps_no_other_out() {
    let stack = Stack::builder().workers(0).start().await;
    let terminator = &stack.terminators()[0];
    // More than may be in their handshake at a time, all addresses together.
    let crowd = silent(terminator.address(), 1_300).await;
    for _ in 0..5 {
        let took = handshake(terminator).await;
        assert!(took < 5.s(), "{took:?}");
    }
    assert!(refused(terminator, "too_many_handshakes").await >= 1_000.0);
    drop(crowd);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_too_many_handshakes_under_way_is_told_and_nobody_else_is() {
    let stack = Stack::builder()
        .workers(0)
        .setting("max-handshakes-per-ip", "2")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    let mut crowd = silent(terminator.address(), 3).await;
    let answer = crowd[2].read_head(SOON).await;
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(answer.head.contains("Retry-After: "), "{answer:?}");
    handshake(terminator).await;
    // A place that is given up is someone else's.
    crowd.pop();
    let first = crowd.remove(0).upgrade().await;
    eventually(SOON, "its place is another's", async || {
        Client::to(terminator).from("127.0.0.2").open().await.map(drop)
    })
    .await;
    drop(first);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_begins_handshakes_too_fast_is_told() {
    let stack = Stack::builder()
        .workers(0)
        .setting("handshakes-per-second-per-ip", "1")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    let mut statuses = Vec::new();
    for _ in 0..8 {
        match Client::to(terminator).from("127.0.0.2").open().await {
            Ok(client) => client.close().await,
            Err(refusal) => statuses.push(refusal.status),
        }
    }
    assert!(
        (1..=3).contains(&statuses.len()) && statuses.iter().all(|status| *status == 429),
        "{statuses:?}"
    );
    handshake(terminator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_every_place_is_taken_the_oldest_handshake_gives_way_and_is_told() {
    let stack = Stack::builder()
        .workers(0)
        .setting("max-connections-per-ip", "off")
        .setting("max-handshakes-per-ip", "off")
        .setting("handshakes-per-second-per-ip", "off")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    let mut crowd = silent(terminator.address(), 1_024).await;
    let took = handshake(terminator).await;
    assert!(took < 5.s(), "{took:?}");
    assert_eq!(crowd[0].read_head(SOON).await.status, 503);
    let last = crowd.pop().unwrap();
    last.upgrade().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_a_refusal_slowly_takes_no_place_of_those_who_shake_hands() {
    let stack = Stack::builder()
        .workers(0)
        .setting("max-connections-per-ip", "20")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    // Each is refused at once, and neither reads that nor leaves; and more come all the while.
    let address = terminator.address();
    let floods: Vec<_> = (0..3).map(|_| tokio::spawn(silent(address, 1_500))).collect();
    eventually(SOON, "a thousand are refused", async || {
        terminator.metric(REFUSED).await >= 1_000.0
    })
    .await;
    for _ in 0..5 {
        let took = handshake(terminator).await;
        assert!(took < 5.s(), "{took:?}");
    }
    for flood in floods {
        drop(flood.await);
    }
}

/// The keys of what is held of connections, and until when each is there, in milliseconds.
async fn held_keys(stack: &Stack) -> Vec<(String, i64)> {
    let mut store = stack.store().connect().await.expect("the store is there");
    let pattern = format!("{}:*:held", stack.namespace());
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut store).await.unwrap();
    let mut found = Vec::new();
    for key in keys {
        let left = redis::cmd("PTTL").arg(&key).query_async(&mut store).await.unwrap();
        found.push((key, left));
    }
    found
}

/// A connection that has never said who it is, and has something held.
async fn stranger(stack: &Stack, count: u64) -> Client {
    let mut client = stack.client().await;
    for number in 0..count {
        client.ask("echo", None, number.into()).await;
    }
    client.expect_required("missing", SOON).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_of_a_connection_that_never_said_who_it_is_goes_when_it_closes() {
    let stack = Stack::builder()
        .setting("unauthenticated-messages-per-second", "5")
        .start()
        .await;
    let (terminator, worker) = (&stack.terminators()[0], &stack.workers()[0]);
    let mut left = stranger(&stack, 3).await;
    let mut cut = stranger(&stack, 3).await;
    let mut stays = stranger(&stack, 3).await;
    eventually(SOON, "three connections have messages held", async || {
        let counted = terminator.metric("countersign_terminator_held_inbound").await;
        if held_keys(&stack).await.len() == 3 && counted == 9.0 {
            Ok(())
        } else {
            Err(counted)
        }
    })
    .await;
    for (key, left_ms) in held_keys(&stack).await {
        assert!(
            left_ms <= 90_000,
            "{key} is there for {left_ms} ms, should its terminator be killed"
        );
    }
    eventually(20.s(), "what is held is counted", async || {
        worker.metric(BYTES).await > 9.0 * 512.0
    })
    .await;
    left.ask("echo", None, Value::Null).await;
    left.close().await;
    // The rest is sent until the socket is closed for it.
    for _ in 0..10 {
        cut.ask("echo", None, Value::Null).await;
    }
    cut.expect_close(4429, SOON).await;
    eventually(SOON, "only one connection has anything held", async || {
        let keys = held_keys(&stack).await;
        if keys.len() == 1 { Ok(()) } else { Err(keys) }
    })
    .await;
    let ended = counted(
        worker,
        "countersign_worker_held_messages_completed_total{result=\"closed\"}",
    )
    .await;
    assert!(ended >= 6.0, "{ended}");
    stays.authenticate(&fresh("alice")).await;
    for number in 0..3 {
        assert_eq!(stays.next_of_type("reply", SOON).await["payload"], number);
    }
    eventually(20.s(), "nothing is counted any more", async || {
        worker.metric(BYTES).await == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_not_said_who_they_are_has_a_small_share() {
    let stack = Stack::builder()
        .setting("unauthenticated-hold-max-messages", "4")
        .start()
        .await;
    let mut client = stranger(&stack, 4).await;
    let refused = client.ask("echo", None, Value::Null).await;
    let answer = client.answer_to(&refused, SOON).await;
    assert_eq!(answer["error"]["code"], "hold_overflow", "{answer}");
    // What was held is not lost, and from now on there is more room.
    client.authenticate(&fresh("alice")).await;
    for _ in 0..4 {
        assert_eq!(client.next_of_type("reply", SOON).await["type"], "reply");
    }
    let ids = crate::pushes::holds::ask_many(&mut client, 100).await;
    for id in ids {
        assert_eq!(client.answer_to(&id, SOON).await["type"], "reply");
    }
    // And anyone who sends without end is closed, and told why.
    let mut client = stack.client().await;
    for _ in 0..40 {
        client.ask("echo", None, Value::Null).await;
    }
    let said = client.expect_close(4429, SOON).await;
    assert_eq!(said.last().unwrap()["error"]["code"], "rate_limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_not_said_who_they_are_has_few_messages_on_their_way() {
    let stack = Stack::builder().workers(0).setting("order", "none").start().await;
    let terminator = &stack.terminators()[0];
    let mut client = stack.client().await;
    for _ in 0..40 {
        client.ask("echo", None, Value::Null).await;
    }
    eventually(SOON, "a few are on their way", async || {
        terminator.metric("countersign_terminator_messages_in_flight").await == 8.0
    })
    .await;
    client.expect_silence(300.ms()).await;
    assert_eq!(
        terminator
            .metric("countersign_terminator_messages_received_total")
            .await,
        24.0,
        "sixteen more are read, so that pings are answered"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_have_not_said_who_they_are_have_few_bytes_on_their_way() {
    let mut stack = Stack::builder()
        .workers(0)
        .setting("unauthenticated-in-flight-bytes", "64KiB")
        // In order, each would have one on its way, and the rest waiting.
        .setting("order", "none")
        .start()
        .await;
    let mut strangers = Vec::new();
    for _ in 0..4 {
        let mut client = stack.client().await;
        for _ in 0..3 {
            client.ask("echo", None, "p".repeat(30_000).into()).await;
        }
        strangers.push(client);
    }
    let on_their_way = "countersign_terminator_messages_in_flight";
    eventually(SOON, "two are on their way", async || {
        stack.terminators()[0].metric(on_their_way).await == 2.0
    })
    .await;
    strangers[0].expect_silence(300.ms()).await;
    assert_eq!(stack.terminators()[0].metric(on_their_way).await, 2.0);
    // Each has its turn.
    stack.start_workers(1).await;
    for client in &mut strangers {
        client.expect_required("missing", SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_have_not_said_who_they_are_have_one_share_of_the_store() {
    let stack = Stack::builder()
        .setting("unauthenticated-hold-bytes-per-terminator", "4KiB")
        .start()
        .await;
    let worker = &stack.workers()[0];
    let first = stranger(&stack, 3).await;
    let second = stranger(&stack, 3).await;
    let mut third = stack.client().await;
    let mut refused = 0;
    for _ in 0..3 {
        let id = third.ask("echo", None, Value::Null).await;
        let said = timeout(1.s(), third.answer_to(&id, SOON)).await;
        let Ok(answer) = said else { continue };
        let error = &answer["error"];
        assert_eq!(
            (&error["code"], &error["temporary"]),
            (&json!("busy"), &json!(true)),
            "{answer}"
        );
        assert!(error["retry_after_ms"].as_u64().unwrap() > 0);
        refused += 1;
    }
    assert!(refused > 0, "all of it was held");
    let told = counted(worker, "countersign_worker_holds_total{result=\"crowded\"}").await;
    assert_eq!(told, f64::from(refused));
    // Anyone who authenticates needs no share, and gives back what was counted.
    third.authenticate(&fresh("alice")).await;
    assert_eq!(third.request("echo", None, 1.into()).await["type"], "reply");
    first.close().await;
    second.close().await;
    eventually(SOON, "others have room again", async || {
        let mut next = stack.client().await;
        next.ask("echo", None, Value::Null).await;
        next.next_json(SOON).await["type"] == "auth.required"
    })
    .await;
}

/// A connection of someone that reads nothing more.
pub(crate) async fn slow_reader(address: SocketAddr, token: &str) -> RawClient {
    let mut client = RawClient::upgraded_with_receive_buffer(address, 4_096).await;
    let message = json!({"type": "auth.authenticate", "token": token});
    client.send(&RawFrame::new(opcode::TEXT, message.to_string())).await;
    client.read_frame(SOON).await.expect("an answer");
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_together_are_closed_before_they_have_what_others_need() {
    // None of them has as much as one alone may have.
    let stack = Stack::builder()
        .setting("send-queue-bytes", "64MiB")
        .setting("send-queue-bytes-total", "8MiB")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    let mut slow = Vec::new();
    for _ in 0..6 {
        slow.push(slow_reader(terminator.address(), &fresh("alice")).await);
    }
    let mut other = stack.client().await;
    let token = fresh("bob");
    let mut backend = stack.producer().await;
    // More than the kernel keeps for each of them.
    let pushes: Vec<_> = (0..400).map(|_| Push::to("alice", "p".repeat(30_000))).collect();
    for some in pushes.chunks(25) {
        backend.burst(some).await;
        let asked = Instant::now();
        let answer = other.request("echo", Some(&token), 1.into()).await;
        assert!(
            answer["type"] == "reply" && asked.elapsed() < 5.s(),
            "{:?}",
            asked.elapsed()
        );
        let waits = terminator.metric("countersign_terminator_send_queue_bytes").await;
        assert!(waits < f64::from(16 << 20), "{waits} bytes wait");
    }
    // Sooner than each would be, whose socket takes nothing.
    eventually(SOON, "some are closed", async || {
        let closed = "countersign_terminator_connections_closed_total{code=\"4410\"}";
        counted(terminator, closed).await > 0.0
    })
    .await;
    assert_eq!(other.request("echo", Some(&token), 1.into()).await["type"], "reply");
}

/// How often a command has been called in this store.
async fn calls(store: &Store, command: &str) -> u64 {
    let mut connection = store.connect().await.expect("the store is there");
    let told: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut connection)
        .await
        .unwrap();
    let line = told
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|rest| rest.split(',').next())
        .map_or(0, |count| count.parse().unwrap())
}

const MANY: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn what_all_connections_of_an_identity_give_back_or_leave_is_looked_after_once() {
    let store = Arc::new(Store::start().await);
    let stack = Stack::builder().store(&store).setting("jwt-leeway", "0s").start().await;
    let mut backend = stack.producer().await;
    let token = token_for("alice").expiring_in(15.s());
    let mut crowd = Vec::new();
    for _ in 0..MANY {
        let mut client = stack.client().await;
        client.authenticate(&token.mint()).await;
        crowd.push(client);
    }
    token.expired().await;
    let before = calls(&store, "hgetall").await;
    assert_eq!(backend.push_to("alice", 1).await, "held");
    for client in &mut crowd {
        client.expect_required("expired", SOON).await;
    }
    eventually(SOON, "each has given it back", async || {
        let given_back = counted(
            &stack.workers()[0],
            "countersign_worker_undelivered_total{kind=\"expired\"}",
        )
        .await;
        if given_back == MANY as f64 {
            Ok(())
        } else {
            Err(given_back)
        }
    })
    .await;
    let mut last = crowd.pop().unwrap();
    drop(crowd);
    eventually(SOON, "all others have left", async || {
        let mut store = store.connect().await.unwrap();
        let pattern = format!("{}:*:connections", stack.namespace());
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut store).await.unwrap();
        let left: usize = redis::cmd("HLEN").arg(&keys[0]).query_async(&mut store).await.unwrap();
        if left == 1 { Ok(()) } else { Err(left) }
    })
    .await;
    last.authenticate(&fresh("alice")).await;
    assert_eq!(last.next_of_type("push", SOON).await["payload"], 1);
    // What is fetched comes behind all that was given back.
    let looks = calls(&store, "hgetall").await - before;
    assert!(
        (1..MANY as u64).contains(&looks),
        "{looks} looks at all connections of the identity"
    );
}
