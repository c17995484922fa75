//! The promises that the whole makes, and the claims that hold it to them.
//!
//! | | promise | claims |
//! |---|---|---|
//! | P1 | a message that the broker confirmed is processed, held, or refused with an error that the client sees | here; `faults::kills`, `faults::broker`; `pushes::holds` |
//! | P2 | the handler sees the identity of that message's token, or of the connection's live authentication | here; `authentication::strategies` |
//! | P3 | authentication state follows the order in which the terminator received the messages | `sockets::order`; `authentication::strategies` (`…is_decided_behind_it`) |
//! | P4 | nothing is written later than 250 ms after `exp` and leeway, or 1 s after a revocation, but under `ignore` | `sockets::edge`; `authentication::revocation`; measured by `examples/lateness.rs` |
//! | P5 | each answer reaches the connection that asked, or the one that showed its `resume` key, once, and no other of the same identity | here; `sockets::answers_home`; `faults::kills`, `faults::cluster`, `hostile::injection` |
//! | P6 | what was held is released to the same identity only; messages and answers on the same connection or by its key | here; `pushes::holds`, `sockets::order` |
//! | P7 | a push reaches each live connection of its identity, or, within `hold-ttl`, the identity's next one | `pushes::delivery`; `authentication::policies` |
//! | P8 | the JWT is never in the store, a log, a trace, a metric, or a dead letter | `hostile::secrecy`; `interfaces::traces` |
//! | P9 | starting, stopping or killing workers, in any number, loses nothing and duplicates no answer | `faults::kills`; `pushes::holds` (`…outlives_every_worker`) |
//! | P10 | a failing store or key server refuses with `auth_unavailable`: it neither lets in nor logs out | here; `faults::store` |
//! | P11 | messages of one connection are handled and answered in the order in which they were received; pushes of one publisher channel arrive in theirs | `sockets::in_order`; `faults::kills`, `faults::drain`, `faults::upgrade`; `pushes::delivery` (`…arrive_in_order…`) |
//! | P12 | what was revoked never acts, whatever it was accepted by, and however long it waited | `authentication::revocation`; `authentication::authority`; `handlers::revoked_meanwhile`; `faults::vanished` |
//! | P13 | no one's slow handler, full mailbox or silence costs another their login, renewal, messages or pushes; nothing is dropped without anyone being told | `handlers::slow_is_alone`; `pushes::no_gap` |
//!
//! The policies, in both strategies and both directions, are in `authentication::policies`.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tests::{Client, Push, Span, Stack, Store, eventually, token_for};

use crate::authentication::expiry::{SOON, brief, expired_explicitly, fresh, replies};

fn builder() -> tests::stack::Builder {
    Stack::builder()
        .setting("jwt-leeway", "0s")
        .setting("messages-per-second", "off")
}

/// P1
#[tokio::test(flavor = "multi_thread")]
async fn every_message_around_an_expiry_is_answered_once_though_workers_are_killed() {
    const MESSAGES: usize = 200;
    let mut stack = builder()
        .poisoned_workers(3)
        .setting("hold-max-messages", "40")
        .start()
        .await;
    let mut alice = stack.client().await;
    let token = brief("alice");
    alice.authenticate(&token.mint()).await;
    let mut asked = Vec::new();
    for number in 0..MESSAGES {
        match number {
            50 => token.expired().await,
            80 => {
                stack.worker(0).kill();
                stack.replace_ended_workers();
            }
            // Some are beyond what is held: they are refused, not lost.
            150 => {
                let renew = json!({"id": "in", "type": "auth.authenticate", "token": fresh("alice")});
                alice.send_json(&renew).await;
            }
            _ => {}
        }
        asked.push(alice.ask("echo", None, json!(number)).await);
    }
    let mut answers = BTreeMap::<String, u32>::new();
    let mut overflowed = 0;
    while answers.len() < MESSAGES + 1 {
        let message = alice.next_json(60.s()).await;
        let Some(id) = message["id"].as_str() else { continue };
        *answers.entry(id.to_owned()).or_default() += 1;
        match message["error"]["code"].as_str() {
            None => {}
            Some("hold_overflow") => overflowed += 1,
            Some(_) => panic!("{message}"),
        }
    }
    alice.expect_nothing_shown().await;
    assert!(answers.values().all(|count| *count == 1), "{answers:?}");
    assert!(asked.iter().all(|id| answers.contains_key(id)));
    assert!(overflowed <= 60, "{overflowed} of at most a hundred were not held");
}

/// P2
#[tokio::test(flavor = "multi_thread")]
async fn the_handler_sees_the_identity_of_the_message_s_own_token_among_many() {
    let stack = builder().terminators(2).poisoned_workers(3).start().await;
    let mut people = Vec::new();
    for number in 0..12 {
        let subject = format!("person-{number}");
        let token = fresh(&subject);
        people.push((stack.client_of(number % 2).await, subject, token));
    }
    let mut asked = Vec::new();
    for round in 0..15 {
        for (person, (client, _, token)) in people.iter_mut().enumerate() {
            // With its own token, and on behalf of the connection's.
            let token = (round % 3 == 0).then_some(token.as_str());
            asked.push((person, client.ask("whoami", token, Value::Null).await));
        }
    }
    for (person, id) in asked {
        let (client, subject, _) = &mut people[person];
        let answer = client.answer_to(&id, SOON).await;
        assert_eq!(answer["payload"]["subject"], subject.as_str(), "{answer}");
    }
    let queue = stack.queue().await;
    for (_, subject, token) in &people {
        let answer = queue.request(&json!({"type": "whoami", "token": token})).await.json();
        assert_eq!(answer["payload"]["subject"], subject.as_str(), "{answer}");
    }
}

/// P5
#[tokio::test(flavor = "multi_thread")]
async fn each_answer_reaches_the_connection_that_asked_once_though_all_use_the_same_ids() {
    const ROUNDS: usize = 10;
    let stack = builder().terminators(2).poisoned_workers(3).start().await;
    let token = fresh("alice");
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(stack.client_of(number % 2).await);
    }
    let mut ids = Vec::new();
    for round in 0..ROUNDS {
        for (number, client) in clients.iter_mut().enumerate() {
            ids.push(
                client
                    .ask("echo", Some(&token), json!({"of": number, "round": round}))
                    .await,
            );
        }
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let mut answered = Vec::new();
        for round in 0..ROUNDS {
            let id = format!("q{}", round + 1);
            let answer = client.answer_to(&id, SOON).await;
            assert_eq!(answer["payload"], json!({"of": number, "round": round}));
            answered.push(id);
        }
        client.expect_nothing_shown().await;
        assert!(answered.iter().all(|id| ids.contains(id)));
    }
}

/// P6
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_for_one_is_never_shown_to_another() {
    let stack = builder().poisoned_workers(2).start().await;
    let mut backend = stack.producer().await;
    let mut held = Vec::new();
    for number in 0..5 {
        let subject = format!("owner-{number}");
        let mut client = expired_explicitly(stack.client().await, &subject).await;
        let id = client.ask("whoami", None, Value::Null).await;
        client.expect_required("expired", SOON).await;
        assert_eq!(
            backend.push(&Push::to(&subject, subject.as_str())).await["outcome"],
            "held"
        );
        held.push((subject, client, id));
    }
    let mut others: Vec<Client> = Vec::new();
    for number in 0..5 {
        let mut other = stack.client().await;
        other.authenticate(&fresh(&format!("other-{number}"))).await;
        others.push(other);
    }
    for (subject, client, id) in &mut held {
        client.authenticate(&fresh(subject)).await;
        assert_eq!(client.answer_to(id, SOON).await["payload"]["subject"], subject.as_str());
        assert_eq!(client.push(SOON).await["payload"], subject.as_str());
    }
    for client in others.iter_mut().chain(held.iter_mut().map(|(_, client, _)| client)) {
        client.expect_nothing_shown().await;
    }
}

/// P10
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_refuses_what_needs_it_and_logs_nobody_out() {
    let store = Arc::new(Store::start().await);
    let stack = builder().poisoned_workers(2).store(&store).start().await;
    let mut backend = stack.producer().await;
    let (mut alice, mut bob) = (stack.client().await, stack.client().await);
    alice.authenticate(&fresh("alice")).await;
    let mut expired = expired_explicitly(stack.client().await, "carol").await;
    store.freeze().await;
    for _ in 0..2 {
        let refused = bob.try_authenticate(&fresh("bob")).await;
        assert_eq!(refused["error"]["code"], "auth_unavailable", "{refused}");
        assert_eq!(refused["error"]["temporary"], true, "{refused}");
        let unheld = expired.request("echo", None, json!(1)).await;
        assert_eq!(unheld["error"]["code"], "auth_unavailable", "{unheld}");
        let steady = alice.request("whoami", None, Value::Null).await;
        assert_eq!(steady["payload"]["subject"], "alice", "no store is needed: {steady}");
    }
    let push = backend.send(&Push::to("alice", "waits")).await;
    store.thaw();
    eventually(30.s(), "bob is let in", async || {
        let answer = bob.try_authenticate(&token_for("bob").mint()).await;
        if answer["type"] == "auth.ok" {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
    assert_eq!(backend.outcome_of(&push, 30.s()).await["outcome"], "delivered");
    assert_eq!(alice.push(SOON).await["payload"], "waits");
    let id = expired.ask("echo", None, json!(2)).await;
    expired.authenticate(&fresh("carol")).await;
    assert_eq!(replies(&mut expired, 1).await, [id]);
}
