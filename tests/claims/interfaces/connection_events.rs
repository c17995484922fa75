//! What happens to connections is told on `<namespace>.events`: each of it, in order, at least once, to anyone who has bound a
//! queue, also of a terminator that was killed; and nothing where that is off.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use shared::wire::connection_event::EventKind;
use tests::peers::audience::{Audience, Heard};
use tests::tokens::token::ISSUER;
use tests::{Broker, Client, Program, Queue, Span, Stack, connection_of, eventually, token_for};

use crate::authentication::expiry::{SOON, brief, fresh};
use crate::authentication::revocation::issued_later;

async fn with_events() -> (Stack, Audience) {
    let builder = Stack::builder().setting("jwt-leeway", "0s");
    let stack = builder.setting("connection-events", "on").start().await;
    let audience = Audience::on(stack.queue().await, stack.namespace()).await;
    (stack, audience)
}

fn keys(heard: &[Heard]) -> Vec<&str> {
    heard.iter().map(|one| one.key.as_str()).collect()
}

/// Whether each has a larger number than the one before it, from 1 on. Those between may have been told again.
fn are_in_order(heard: &[Heard]) -> bool {
    let all = heard.iter().map(|one| one.event["sequence"].as_u64());
    let numbers: Vec<_> = all.map(|sequence| sequence.expect("a number")).collect();
    numbers.first() == Some(&1) && numbers.is_sorted_by(|one, next| one < next)
}

/// The next event of that kind, of whatever connection.
async fn next_of(audience: &Audience, kind: EventKind) -> Value {
    loop {
        let heard = audience.next(SOON).await;
        if heard.key == kind.key() {
            return heard.event;
        }
    }
}

async fn count(terminator: &Program, outcome: &str) -> f64 {
    let name = format!(r#"countersign_terminator_connection_events_total{{outcome="{outcome}"}}"#);
    terminator.metrics().await[&name]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_thing_that_happens_to_a_connection_is_told_in_its_order_under_its_key() {
    let (stack, audience) = with_events().await;
    let mut client = stack.client().await;
    let first = brief("alice");
    let auth = client.authenticate(&first.claim("sid", "s-1").mint()).await;
    let connection = connection_of(&auth);
    let mut heard = vec![audience.next(SOON).await, audience.next(SOON).await];
    // It is told without anything else that would have it looked at.
    heard.push(audience.next(SOON).await);
    let token = token_for("alice").claim("secret", "of-the-token");
    client.authenticate(&token.mint()).await;
    client.forget().await;
    client.close().await;
    heard.extend(audience.until_closed(&connection, SOON).await);
    assert_eq!(
        keys(&heard),
        [
            "connection.opened",
            "connection.authenticated",
            "connection.expired",
            "connection.renewed",
            "connection.logged-out",
            "connection.closed",
        ]
    );
    assert!(are_in_order(&heard), "{heard:?}");
    let alice = json!({"issuer": ISSUER, "subject": "alice"});
    let identities: Vec<_> = heard.iter().map(|one| one.event["identity"].clone()).collect();
    let nobody = Value::Null;
    assert_eq!(
        identities,
        [&nobody, &alice, &alice, &alice, &alice, &nobody].map(Clone::clone)
    );
    assert_eq!(heard[1].event["sid"], "s-1");
    let until = |at: usize| heard[at].event["expires_at_ms"].as_u64();
    assert!(
        until(1) < until(3) && heard[2].event["at_ms"].as_u64() >= until(1),
        "{heard:?}"
    );
    let end = &heard[5].event;
    assert_eq!(
        (&end["reason"], &end["code"]),
        (&json!("closed by its client"), &Value::Null)
    );
    for one in &heard {
        assert_eq!(
            (&one.event["event"], &one.event["connection"]),
            (&json!(one.key), &json!(connection))
        );
        assert!(connection.starts_with(one.event["terminator"].as_str().expect("a terminator")));
        let said = one.message.everything();
        // Nor is any claim but the names.
        assert!(!said.contains("eyJ") && !said.contains("of-the-token"), "{said}");
        let properties = &one.message.properties;
        let kind = properties.kind().as_ref().map(ToString::to_string);
        assert_eq!((kind, *properties.delivery_mode()), (Some(one.key.clone()), Some(2)));
    }
    assert_eq!(count(&stack.terminators()[0], "dropped").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn batched_events_come_as_arrays_and_those_of_a_connection_in_its_order() {
    let stack = Stack::builder().setting("connection-events", "batched").start().await;
    let audience = Audience::on(stack.queue().await, stack.namespace()).await;
    let token = fresh("alice");
    let lives = (0..40).map(|_| async {
        let mut client = stack.client().await;
        let connection = connection_of(&client.authenticate(&token).await);
        client.close().await;
        connection
    });
    let mut connections = join_all(lives).await;
    connections.sort_unstable();
    let mut heard: BTreeMap<String, Vec<Heard>> = BTreeMap::new();
    while heard.len() < connections.len() || !heard.values().all(|all| keys(all).contains(&"connection.closed")) {
        let one = audience.next(SOON).await;
        let events = one.message.json();
        let events = events.as_array().unwrap_or_else(|| panic!("no array: {events}"));
        assert!(events.contains(&one.event) && events.iter().all(|event| event["event"] == one.key));
        let connection = one.event["connection"].as_str().expect("a connection").to_owned();
        heard.entry(connection).or_default().push(one);
    }
    let told: Vec<_> = heard.keys().cloned().collect();
    assert_eq!(told, connections);
    for all in heard.values() {
        let expected = ["connection.opened", "connection.authenticated", "connection.closed"];
        assert_eq!(keys(all), expected);
        assert!(are_in_order(all), "{all:?}");
    }
    let terminator = &stack.terminators()[0];
    eventually(SOON, "all of it is confirmed", async || {
        let confirmed = count(terminator, "confirmed").await;
        if confirmed >= 120.0 { Ok(()) } else { Err(confirmed) }
    })
    .await;
    let waiting = "countersign_terminator_connection_events_waiting";
    assert_eq!(terminator.metric(waiting).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_is_told_and_then_with_which_code_the_connection_was_closed() {
    let (stack, audience) = with_events().await;
    let mut client = stack.client().await;
    let auth = client.authenticate(&fresh("alice")).await;
    stack.producer().await.revoke(&json!({"subject": "alice"})).await;
    client.expect_close(4503, SOON).await;
    let heard = audience.until_closed(&connection_of(&auth), SOON).await;
    let expected = [
        "connection.opened",
        "connection.authenticated",
        "connection.revoked",
        "connection.closed",
    ];
    assert_eq!(keys(&heard), expected);
    assert_eq!(heard[3].event["code"], 4503);
    assert_eq!(heard[3].event["identity"]["subject"], "alice");
    // And anyone who comes back is told as someone new.
    let mut next = stack.client().await;
    let auth = next.authenticate(&issued_later("alice").await).await;
    next.close().await;
    let heard = audience.until_closed(&connection_of(&auth), SOON).await;
    assert_eq!(keys(&heard).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_while_the_broker_is_away_delays_no_socket_and_is_told_when_it_is_back() {
    let broker = Arc::new(Broker::start().await);
    let builder = Stack::builder().broker(&broker).setting("connection-events", "on");
    let stack = builder.start().await;
    let audience = Audience::on(stack.queue().await, stack.namespace()).await;
    broker.settle().await;
    let (mut before, mut lasting) = (stack.client().await, stack.client().await);
    let [before_id, lasting_id] = [
        connection_of(&before.authenticate(&fresh("before")).await),
        connection_of(&lasting.authenticate(&fresh("lasting")).await),
    ];
    broker.kill();
    before.close().await;
    let mut meanwhile = stack.client().await;
    meanwhile.ping(5.s()).await;
    meanwhile.close().await;
    let terminator = &stack.terminators()[0];
    eventually(SOON, "all three are there to be told", async || {
        let waiting = terminator
            .metric("countersign_terminator_connection_events_waiting")
            .await;
        if waiting >= 3.0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    broker.restart().await;
    let again = Queue::connect(&broker.url(), stack.namespace()).await;
    let audience = audience.by(again);
    let heard = audience.until_closed(&before_id, SOON).await;
    assert_eq!(
        keys(&heard),
        ["connection.opened", "connection.authenticated", "connection.closed"]
    );
    // By its own terminator, which has kept it, and not by a worker that finds that gone.
    assert_eq!(heard[2].event["reason"], "closed by its client");
    let opened = next_of(&audience, EventKind::Opened).await;
    let connection = opened["connection"].as_str().expect("a connection").to_owned();
    assert!(connection != before_id && connection != lasting_id);
    let rest = audience.until_closed(&connection, SOON).await;
    assert_eq!(keys(&rest), ["connection.closed"]);
    assert_eq!(rest[0].event["reason"], "closed by its client");
    assert!(
        rest[0].event["sequence"].as_u64() > opened["sequence"].as_u64(),
        "{rest:?}"
    );
    eventually(SOON, "nothing waits any more", async || {
        let waiting = terminator
            .metric("countersign_terminator_connection_events_waiting")
            .await;
        if waiting == 0.0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    lasting.close().await;
    audience.until_closed(&lasting_id, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_of_a_killed_terminator_are_told_as_closed() {
    let (mut stack, audience) = with_events().await;
    stack.start_terminators(1).await;
    let mut alice = stack.client().await;
    let auth = alice.authenticate(&fresh("alice")).await;
    let _stranger = stack.client().await;
    let mut gone = stack.client().await;
    let gone_id = connection_of(&gone.authenticate(&fresh("gone")).await);
    gone.close().await;
    let mut other = Client::connect(&stack.terminators()[1]).await;
    let other_id = connection_of(&other.authenticate(&fresh("other")).await);
    audience.until_closed(&gone_id, SOON).await;
    // Of each that is open, workers know: otherwise there is no one left who could tell.
    eventually(SOON, "workers have all of it", async || {
        stack.queue().await.count(&format!("{}.open", stack.namespace())).await == 0
            && stack.workers()[0].metric("countersign_worker_open_events_total").await >= 8.0
    })
    .await;
    let connection = connection_of(&auth);
    let terminator = connection.split('.').next().expect("a terminator").to_owned();
    stack.terminator(0).kill();
    // The broker does that three minutes after its last consumer.
    let queue = format!("{}.return.{terminator}", stack.namespace());
    stack.queue().await.delete(&queue).await;
    let mut ends = Vec::new();
    for _ in 0..2 {
        ends.push(next_of(&audience, EventKind::Closed).await);
    }
    for end in &ends {
        assert_eq!(
            (&end["reason"], &end["code"]),
            (&json!("terminator lost"), &Value::Null),
            "{end}"
        );
        assert_eq!(end["terminator"], terminator.as_str());
        assert!(end["connection"] != gone_id && end["connection"] != other_id, "{end}");
    }
    let of_alice = ends.iter().find(|end| end["connection"] == connection);
    let of_alice = of_alice.unwrap_or_else(|| panic!("{ends:?}"));
    assert_eq!(
        (&of_alice["identity"]["subject"], &of_alice["sequence"]),
        (&json!("alice"), &json!(3))
    );
    // The other one's are open, and their end is told by itself.
    other.close().await;
    let heard = audience.until_closed(&other_id, SOON).await;
    assert_eq!(
        heard.last().map(|end| end.event["reason"].clone()),
        Some(json!("closed by its client"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nobody_bound_all_is_dropped_by_the_broker_and_nothing_waits() {
    let stack = Stack::builder().setting("connection-events", "on").start().await;
    let mut client = stack.client().await;
    client.authenticate(&fresh("alice")).await;
    client.close().await;
    let terminator = &stack.terminators()[0];
    eventually(SOON, "all of it is confirmed", async || {
        let confirmed = count(terminator, "confirmed").await;
        if confirmed >= 3.0 { Ok(()) } else { Err(confirmed) }
    })
    .await;
    for outcome in ["refused", "dropped", "unregistered"] {
        assert_eq!(count(terminator, outcome).await, 0.0, "{outcome}");
    }
    let waiting = "countersign_terminator_connection_events_waiting";
    assert_eq!(terminator.metric(waiting).await, 0.0);
    // Workers forget what is closed.
    let queue = stack.queue().await;
    eventually(SOON, "no queue keeps any", async || {
        queue.count(&format!("{}.open", stack.namespace())).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_off_there_is_no_exchange_and_nothing_is_published() {
    let stack = Stack::start().await;
    let mut client = stack.client().await;
    client.authenticate(&fresh("alice")).await;
    client.close().await;
    let exchanges = stack.broker().ctl(&["list_exchanges", "--silent", "name"]).await;
    let ours = |name: &&str| name.starts_with(stack.namespace());
    let mut names: Vec<_> = exchanges.lines().map(str::trim).filter(ours).collect();
    names.sort_unstable();
    assert_eq!(names, [stack.namespace(), &format!("{}.internal", stack.namespace())]);
    let queues = stack.broker().list_queues().await;
    let open = format!("{}.open", stack.namespace());
    assert!(queues.iter().all(|(name, _)| *name != open), "{queues:?}");
    for outcome in ["confirmed", "refused", "dropped", "unregistered"] {
        assert_eq!(count(&stack.terminators()[0], outcome).await, 0.0, "{outcome}");
    }
}
