//! P7: a push reaches each live connection of its identity, or, within `hold-ttl`, the identity's next one.

use serde_json::{Value, json};
use tests::tokens::token::ISSUER;
use tests::{Client, Push, Span, Stack, connection_of, eventually, test_keys, token_for};

use crate::authentication::expiry::{SOON, brief, expired_explicitly, fresh};

async fn stack(terminators: usize, settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .terminators(terminators)
        .poisoned_workers(3)
        .setting("jwt-leeway", "0s")
        .settings(settings)
        .start()
        .await
}

async fn alice(stack: &Stack, terminator: usize) -> Client {
    let mut client = stack.client_of(terminator).await;
    client.authenticate(&fresh("alice")).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_reaches_every_connection_of_its_identity_on_every_terminator_and_no_other() {
    let stack = stack(2, &[]).await;
    let mut backend = stack.producer().await;
    let mut alices = Vec::new();
    for terminator in [0, 0, 1] {
        alices.push(alice(&stack, terminator).await);
    }
    let mut bob = stack.client_of(1).await;
    bob.authenticate(&fresh("bob")).await;
    let mut stranger = stack.client_of(0).await;
    let outcome = backend.push(&Push::to("alice", json!({"news": 1})).id("n1")).await;
    assert_eq!(outcome, json!({"outcome": "delivered", "connections": 3}));
    for client in &mut alices {
        let push = client.push(SOON).await;
        assert_eq!(push, json!({"type": "push", "id": "n1", "payload": {"news": 1}}));
    }
    assert_eq!(backend.push_to("bob", 2).await, "delivered");
    assert_eq!(bob.push(SOON).await["payload"], 2);
    for client in alices.iter_mut().chain([&mut bob, &mut stranger]) {
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_nobody_is_held_for_the_identity_s_next_connection() {
    let stack = stack(2, &[]).await;
    let mut backend = stack.producer().await;
    for number in 0..10 {
        assert_eq!(backend.push_to("alice", number).await, "held");
    }
    let mut bob = stack.client_of(0).await;
    bob.authenticate(&fresh("bob")).await;
    let mut first = alice(&stack, 1).await;
    assert_eq!(first.pushes(10).await, (0..10).map(Value::from).collect::<Vec<_>>());
    let mut second = alice(&stack, 0).await;
    assert_eq!(backend.push(&Push::to("alice", 10)).await["connections"], 2);
    for client in [&mut first, &mut second] {
        assert_eq!(client.push(SOON).await["payload"], 10);
        client.expect_nothing_shown().await;
    }
    bob.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_a_live_and_an_expired_connection_reaches_the_live_one_now_and_the_other_when_it_is_renewed() {
    let stack = stack(1, &[]).await;
    let mut backend = stack.producer().await;
    let mut expired = expired_explicitly(stack.client().await, "alice").await;
    let mut live = alice(&stack, 0).await;
    let told = backend.send(&Push::to("alice", 1).id("once")).await;
    let mut outcome = backend.outcome_of(&told, SOON).await;
    if outcome["outcome"] == "held" {
        // The expired one's copy was back before the live one's was written.
        outcome = backend.outcome_of(&told, SOON).await;
    }
    assert_eq!(outcome, json!({"outcome": "delivered", "connections": 1}));
    assert_eq!(live.push(SOON).await["id"], "once");
    expired.expect_nothing_shown().await;
    expired.authenticate(&fresh("alice")).await;
    assert_eq!(expired.push(SOON).await["id"], "once");
    live.request("echo", None, Value::Null).await;
    live.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_of_one_producer_arrive_in_order_whatever_the_number_of_workers() {
    const PUSHES: u64 = 300;
    let stack = stack(2, &[]).await;
    let mut backend = stack.producer().await;
    let mut clients = [alice(&stack, 0).await, alice(&stack, 1).await];
    let pushes: Vec<_> = (0..PUSHES).map(|number| Push::to("alice", number)).collect();
    let sent = backend.burst(&pushes).await;
    let expected: Vec<_> = (0..PUSHES).map(Value::from).collect();
    for client in &mut clients {
        assert_eq!(client.pushes(expected.len()).await, expected);
    }
    for correlation in sent {
        assert_eq!(backend.outcome_of(&correlation, SOON).await["connections"], 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_keep_their_order_across_an_expiry_and_a_renewal() {
    const PUSHES: u64 = 90;
    let stack = stack(1, &[]).await;
    let mut backend = stack.producer().await;
    let mut client = stack.client().await;
    let token = brief("alice");
    client.authenticate(&token.mint()).await;
    let mut outcomes = Vec::new();
    for number in 0..PUSHES {
        if number == PUSHES / 3 {
            token.expired().await;
        }
        if number == 2 * PUSHES / 3 {
            client.expect_required("expired", SOON).await;
            // It is not waited for: the rest comes while what is held is being fetched.
            let renew = json!({"id": "in", "type": "auth.authenticate", "token": fresh("alice")});
            client.send_json(&renew).await;
        }
        outcomes.push(backend.send(&Push::to("alice", number)).await);
    }
    let expected: Vec<_> = (0..PUSHES).map(Value::from).collect();
    assert_eq!(client.pushes(expected.len()).await, expected);
    client.answer_to("in", SOON).await;
    client.expect_nothing_shown().await;
    for correlation in outcomes {
        let outcome = backend.outcome_of(&correlation, SOON).await;
        assert!(
            ["delivered", "held"].iter().any(|word| outcome["outcome"] == *word),
            "{outcome}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pushes_outlive_the_workers_that_have_them_and_are_written_once_in_order() {
    const PUSHES: u64 = 400;
    let mut stack = stack(1, &[]).await;
    let mut backend = stack.producer().await;
    let mut client = alice(&stack, 0).await;
    let mut outcomes = Vec::new();
    for number in 0..PUSHES {
        if number % 100 == 50 {
            // All of them: one of the three has what is pushed.
            (0..3).for_each(|worker| stack.worker(worker).kill());
            stack.replace_ended_workers();
        }
        outcomes.push(backend.send(&Push::to("alice", number).id(&format!("p{number}"))).await);
    }
    let mut come = Vec::new();
    while come.len() < usize::try_from(PUSHES).expect("small") {
        come.push(client.push(60.s()).await["payload"].clone());
    }
    assert_eq!(come, (0..PUSHES).map(Value::from).collect::<Vec<_>>());
    for correlation in outcomes {
        let outcome = backend.outcome_of(&correlation, SOON).await;
        assert_eq!(outcome["outcome"], "delivered", "{outcome}");
    }
    client.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_published_twice_is_written_once() {
    let stack = stack(1, &[]).await;
    let mut backend = stack.producer().await;
    for _ in 0..3 {
        backend.push(&Push::to("carol", "held").id("same")).await;
    }
    let mut carol = stack.client().await;
    carol.authenticate(&fresh("carol")).await;
    assert_eq!(carol.push(SOON).await["id"], "same");
    for _ in 0..3 {
        backend.push(&Push::to("carol", "live").id("another")).await;
    }
    assert_eq!(carol.push(SOON).await["id"], "another");
    backend.push(&Push::to("carol", "last").id("last")).await;
    assert_eq!(carol.push(SOON).await["id"], "last");
    carol.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_producer_is_told_what_became_of_its_push() {
    let stack = stack(1, &[]).await;
    let mut backend = stack.producer().await;
    let mut client = stack.client().await;
    let auth = client.authenticate(&fresh("alice")).await;
    let connection = connection_of(&auth);
    let outcome = backend.push(&Push::to_connection(&connection, 1)).await;
    assert_eq!(outcome, json!({"outcome": "delivered", "connections": 1}));
    assert_eq!(client.push(SOON).await["payload"], 1);
    client.close().await;
    eventually(SOON, "the connection is gone for producers too", async || {
        let outcome = backend.push(&Push::to_connection(&connection, 2)).await;
        if outcome == json!({"outcome": "no_recipient"}) {
            Ok(())
        } else {
            Err(outcome)
        }
    })
    .await;
    for (push, code) in [
        (Push::to("alice", 1).raw("no JSON"), "bad_request"),
        (Push::to("alice", 1).raw(""), "bad_request"),
        (Push::to("alice", 1).id(&"i".repeat(129)), "bad_request"),
        (Push::to("", 1), "bad_request"),
        (Push::to_connection("no connection", 1), "bad_request"),
    ] {
        let outcome = backend.push(&push).await;
        assert_eq!(outcome["outcome"], "refused", "{push:?}: {outcome}");
        assert_eq!(outcome["error"]["code"], code, "{push:?}: {outcome}");
    }
    assert_eq!(backend.push_to("alice", 3).await, "held");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_issuers_may_both_have_an_alice() {
    let other = "https://other-issuer.test";
    let secret = test_keys().secret_entry();
    let keys = format!("issuer={ISSUER};{secret},issuer={other};{secret}");
    let issuers = format!("{ISSUER},{other}");
    let stack = stack(1, &[("jwt-keys", &keys), ("jwt-issuer", &issuers)]).await;
    let mut backend = stack.producer().await;
    let (mut ours, mut theirs) = (stack.client().await, stack.client().await);
    ours.authenticate(&fresh("alice")).await;
    theirs.authenticate(&token_for("alice").issuer(other).mint()).await;
    for (issuer, payload) in [(ISSUER, "ours"), (other, "theirs")] {
        let outcome = backend.push(&Push::to("alice", payload).issuer(issuer)).await;
        assert_eq!(outcome, json!({"outcome": "delivered", "connections": 1}), "{issuer}");
    }
    let ambiguous = backend.push(&Push::to("alice", "whose?")).await;
    assert_eq!(ambiguous["error"]["code"], "bad_request", "{ambiguous}");
    for (client, payload) in [(&mut ours, "ours"), (&mut theirs, "theirs")] {
        assert_eq!(client.push(SOON).await["payload"], payload);
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_terminator_s_connections_take_no_push_from_the_next() {
    let mut stack = stack(2, &[]).await;
    let mut backend = stack.producer().await;
    let mut doomed = alice(&stack, 0).await;
    assert_eq!(backend.push_to("alice", "before").await, "delivered");
    assert_eq!(doomed.push(SOON).await["payload"], "before");
    stack.terminator(0).kill();
    // No one knows yet, so it goes there, and comes back when it has lain in that queue for a minute. No one says before that
    // what has become of it.
    let first = backend.send(&Push::to("alice", 0)).await;
    let outcome = backend.outcome_of(&first, 100.s()).await;
    assert_eq!(outcome["outcome"], "held", "{outcome}");
    // By now it is known.
    assert_eq!(backend.push_to("alice", 1).await, "held");
    let mut next = alice(&stack, 1).await;
    let mut come = Vec::new();
    while come.len() < 2 {
        let push = next.push(SOON).await;
        match push["payload"].as_u64() {
            Some(number) => come.push(number),
            // Its terminator may have died before the queue knew that it was written.
            None => assert_eq!(push["payload"], "before"),
        }
    }
    come.sort_unstable();
    assert_eq!(come, [0, 1], "each, once");
    assert_eq!(backend.push(&Push::to("alice", 0)).await["connections"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_one_message_on_the_broker_for_each_terminator_whatever_the_number_of_connections() {
    const EACH: usize = 10;
    let mut stack = stack(2, &[("batch", "off")]).await;
    let mut backend = stack.producer().await;
    let (mut clients, mut of_dead) = (Vec::new(), String::new());
    for number in 0..2 * EACH {
        let mut client = stack.client_of(number % 2).await;
        let auth = client.authenticate(&fresh("alice")).await;
        if number == 0 {
            let connection = connection_of(&auth);
            of_dead = connection.split('.').next().expect("a terminator").to_owned();
        }
        clients.push(client);
    }
    stack.terminator(0).kill();
    let outcome = backend.push(&Push::to("alice", "once").id("once")).await;
    assert_eq!(outcome["outcome"], "delivered", "{outcome}");
    let queue = format!("{}.return.{of_dead}", stack.namespace());
    assert_eq!(
        stack.queue().await.count(&queue).await,
        1,
        "one for its ten connections"
    );
    for mut client in clients.into_iter().skip(1).step_by(2) {
        assert_eq!(client.push(SOON).await["id"], "once");
        client.expect_nothing_shown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminator_that_dies_takes_nobody_else_s_connections_out_of_the_index() {
    const EACH: usize = 20;
    let mut stack = Stack::builder().terminators(2).workers(2).start().await;
    let mut backend = stack.producer().await;
    let (mut clients, mut dead) = (Vec::new(), String::new());
    for number in 0..2 * EACH {
        let mut client = stack.client_of(number % 2).await;
        let auth = client.authenticate(&fresh("alice")).await;
        if number == 0 {
            let connection = connection_of(&auth);
            dead = connection.split('.').next().expect("a terminator").to_owned();
        }
        clients.push(client);
    }
    stack.terminator(0).kill();
    // As the broker does by itself after three minutes.
    let queue = format!("{}.return.{dead}", stack.namespace());
    stack.queue().await.delete(&queue).await;
    // Copies for the dead and for the living leave together, and come back or are confirmed together.
    let pushes: Vec<_> = (0..30).map(|number| Push::to("alice", number)).collect();
    backend.burst(&pushes).await;
    let living = clients.into_iter().skip(1).step_by(2);
    for mut client in living {
        assert_eq!(client.pushes(30).await.len(), 30);
    }
}
