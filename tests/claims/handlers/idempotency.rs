//! With `idempotency-window`, a message that comes twice has its effect once, whatever happens between; without, it has two.

use std::sync::Arc;

use lapin::{BasicProperties, types::AMQPValue};
use serde_json::{Value, json};
use tests::effect::Effects;
use tests::stack::Builder;
use tests::tokens::token::ISSUER;
use tests::{Client, Queue, Span, Stack, Store, eventually, test_keys, token_for};

use crate::authentication::expiry::{SOON, brief, fresh};

fn builder() -> Builder {
    Stack::builder()
        .poisoned_workers(2)
        .setting("idempotency-window", "10m")
}

/// A message that has an effect, by the name `once`.
fn once(effects: &Effects, then: &str, token: Option<&str>) -> Value {
    let mut message = json!({"id": "once", "type": "effect", "payload": effects.payload(then)});
    if let Some(token) = token {
        message["token"] = token.into();
    }
    message
}

/// Sends it, and returns its two answers without what they say of the connection.
async fn say(client: &mut Client, message: &Value) -> [Value; 2] {
    client.send_json(message).await;
    both(client).await
}

async fn both(client: &mut Client) -> [Value; 2] {
    let mut next = async || {
        let mut answer = client.answer_to("once", SOON).await;
        answer.as_object_mut().expect("an object").remove("auth");
        answer
    };
    [next().await, next().await]
}

/// The answers of the how-manieth effect.
fn answers(number: u64) -> [Value; 2] {
    [
        json!({"type": "reply", "id": "once", "payload": number}),
        json!({"type": "reply", "id": "once"}),
    ]
}

async fn refused(client: &mut Client, message: &Value) -> Value {
    client.send_json(message).await;
    error(client).await
}

async fn error(client: &mut Client) -> Value {
    let answer = client.answer_to("once", SOON).await;
    assert_eq!(answer["type"], "error", "{answer}");
    answer["error"].clone()
}

/// How often the workers have known that of a message.
async fn known(stack: &Stack, result: &str) -> f64 {
    let name = format!(r#"countersign_worker_idempotency_total{{result="{result}"}}"#);
    let mut sum = 0.0;
    for worker in stack.workers().iter().filter(|worker| worker.is_alive()) {
        sum += worker.metrics().await.get(&name).copied().unwrap_or_default();
    }
    sum
}

async fn effects_are(effects: &Effects, count: usize) {
    eventually(SOON, &format!("{count} effects"), async || {
        let seen = effects.count();
        if seen == count { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_message_gets_the_first_answer_on_whatever_connection_and_worker() {
    let stack = builder().terminators(2).start().await;
    let effects = Effects::default();
    let mut alice = stack.client().await;
    assert_eq!(
        say(&mut alice, &once(&effects, "", Some(&fresh("alice")))).await,
        answers(1)
    );
    for round in 0..6 {
        // With a renewed token, with the connection's, and on another socket of another terminator.
        assert_eq!(
            say(&mut alice, &once(&effects, "", Some(&fresh("alice")))).await,
            answers(1)
        );
        assert_eq!(say(&mut alice, &once(&effects, "", None)).await, answers(1));
        let mut next = stack.client_of(round % 2).await;
        next.authenticate(&fresh("alice")).await;
        assert_eq!(say(&mut next, &once(&effects, "", None)).await, answers(1));
        next.close().await;
    }
    assert_eq!(effects.count(), 1);
    for worker in stack.workers() {
        let again = r#"countersign_worker_idempotency_total{result="again"}"#;
        assert!(
            worker.metrics().await.get(again).is_some_and(|count| *count > 0.0),
            "both answered"
        );
    }
    // What has no name is another message each time.
    let nameless = json!({"type": "effect", "payload": effects.payload(""), "token": fresh("alice")});
    alice.send_json(&nameless).await;
    alice.send_json(&nameless).await;
    effects_are(&effects, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_message_still_renews_its_connection() {
    let stack = builder().start().await;
    let effects = Effects::default();
    let (mut first, mut next) = (stack.client().await, stack.client().await);
    let token = fresh("alice");
    for client in [&mut first, &mut next] {
        client.send_json(&once(&effects, "", Some(&token))).await;
        let answer = client.answer_to("once", SOON).await;
        assert_eq!(
            (&answer["payload"], &answer["auth"]["subject"]),
            (&json!(1), &json!("alice"))
        );
        // Its own, and no one else's.
        let key = answer["auth"]["resume"].as_str().expect("a key").to_owned();
        let secret = key.rsplit_once('.').expect("a secret").1;
        assert!(!stack.store().dump().await.contains(secret));
    }
    for segment in token.split('.') {
        assert!(!stack.store().dump().await.contains(segment));
    }
    let answer = next.request("whoami", None, Value::Null).await;
    assert_eq!(answer["payload"]["subject"], "alice", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_message_by_the_same_name_is_a_duplicate() {
    let stack = builder().start().await;
    let (effects, others) = (Effects::default(), Effects::default());
    let mut alice = stack.client().await;
    let token = fresh("alice");
    assert_eq!(say(&mut alice, &once(&effects, "", Some(&token))).await, answers(1));
    let mut another_type = once(&effects, "", Some(&token));
    another_type["type"] = "echo".into();
    for other in [once(&others, "", Some(&token)), another_type] {
        let error = refused(&mut alice, &other).await;
        assert_eq!(
            (&error["code"], &error["temporary"]),
            (&json!("duplicate"), &json!(false))
        );
    }
    assert_eq!(others.count(), 0);
    assert_eq!(say(&mut alice, &once(&effects, "", Some(&token))).await, answers(1));
    assert_eq!((effects.count(), known(&stack, "conflict").await), (1, 2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_its_identity_s_own_and_so_is_the_answer() {
    const OTHER: &str = "https://other.test";
    let keys = test_keys();
    let of_each = format!(
        "issuer={ISSUER};{},issuer={OTHER};{}",
        keys.pem_file(&keys.rs256).display(),
        keys.pem_file(&keys.es256).display()
    );
    let stack = builder()
        .setting("jwt-keys", &of_each)
        .setting("jwt-issuer", &format!("{ISSUER},{OTHER}"))
        .setting("jwt-algorithms", "")
        .start()
        .await;
    let effects = Effects::default();
    let token = |subject: &str, issuer: &str, key| {
        let token = token_for(subject).issuer(issuer).signed_with(key);
        token.without_header("kid").mint()
    };
    let tokens = [
        token("alice", ISSUER, &keys.rs256),
        token("bob", ISSUER, &keys.rs256),
        token("alice", OTHER, &keys.es256),
    ];
    for (number, token) in (1..).zip(&tokens) {
        let mut client = stack.client().await;
        assert_eq!(
            say(&mut client, &once(&effects, "", Some(token))).await,
            answers(number)
        );
    }
    for (number, token) in (1..).zip(&tokens) {
        let mut client = stack.client().await;
        assert_eq!(
            say(&mut client, &once(&effects, "", Some(token))).await,
            answers(number)
        );
    }
    assert_eq!(effects.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_while_the_first_lasts_is_told_to_try_again() {
    let stack = builder().start().await;
    let effects = Effects::default();
    let (mut first, mut next) = (stack.client().await, stack.client().await);
    let token = fresh("alice");
    let message = once(&effects, "wait", Some(&token));
    first.send_json(&message).await;
    effects_are(&effects, 1).await;
    for _ in 0..4 {
        let error = refused(&mut next, &message).await;
        assert_eq!((&error["code"], &error["temporary"]), (&json!("busy"), &json!(true)));
        assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{error}");
    }
    // Another message is a duplicate already.
    assert_eq!(
        refused(&mut next, &once(&effects, "", Some(&token))).await["code"],
        "duplicate"
    );
    effects.go_on();
    assert_eq!(both(&mut first).await, answers(1));
    assert_eq!(say(&mut next, &message).await, answers(1));
    assert_eq!((effects.count(), known(&stack, "running").await), (1, 4.0));
}

/// A terminator that has lost a confirm publishes the message again, and two workers have a copy each.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_its_terminator_has_published_twice_has_its_effect_once() {
    let mut stack = builder().workers(0).start().await;
    let effects = Effects::default();
    let (queue, messages) = (stack.queue().await, format!("{}.messages", stack.namespace()));
    let mut alice = stack.client().await;
    alice.send_json(&once(&effects, "wait", Some(&fresh("alice")))).await;
    let request = eventually(SOON, "the request", async || queue.get(&messages).await).await;
    let internal = format!("{}.internal", stack.namespace());
    for _ in 0..2 {
        queue
            .publish_to(&internal, "forward", &request.body, request.properties.clone())
            .await;
    }
    stack.start_workers(2).await;
    eventually(SOON, "nobody has a copy that is not in hand", async || {
        let left = queue.count(&messages).await;
        if left == 0 && effects.count() > 0 {
            Ok(())
        } else {
            Err(left)
        }
    })
    .await;
    effects.go_on();
    assert_eq!(both(&mut alice).await, answers(1));
    eventually(SOON, "the other copy is answered from memory", async || {
        let again = known(&stack, "again").await;
        if again >= 1.0 { Ok(()) } else { Err(again) }
    })
    .await;
    assert_eq!(effects.count(), 1);
    alice.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_after_the_effect_costs_one_more_and_then_there_is_one_answer() {
    let mut stack = builder().poisoned_workers(1).start().await;
    let effects = Effects::default();
    let mut alice = stack.client().await;
    let message = once(&effects, "die", Some(&fresh("alice")));
    alice.send_json(&message).await;
    eventually(SOON, "the worker dies of it", async || stack.worker(0).has_ended()).await;
    stack.replace_ended_workers();
    assert_eq!(
        both(&mut alice).await,
        answers(2),
        "the same message takes over at once"
    );
    for _ in 0..3 {
        assert_eq!(say(&mut alice, &message).await, answers(2));
    }
    assert_eq!(effects.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_handled_and_comes_again_from_the_queue_has_no_second_effect() {
    let mut stack = builder().workers(0).setting("concurrency", "1").start().await;
    let effects = Effects::default();
    let (queue, messages) = (stack.queue().await, format!("{}.messages", stack.namespace()));
    let mut alice = stack.client().await;
    alice.send_json(&once(&effects, "", Some(&fresh("alice")))).await;
    // What was not acknowledged comes again: here at once.
    let request = eventually(SOON, "the request", async || queue.get(&messages).await).await;
    let internal = format!("{}.internal", stack.namespace());
    for _ in 0..3 {
        queue
            .publish_to(&internal, "forward", &request.body, request.properties.clone())
            .await;
    }
    stack.start_workers(1).await;
    assert_eq!(both(&mut alice).await, answers(1));
    eventually(SOON, "all of them are answered", async || {
        let again = known(&stack, "again").await;
        if again == 2.0 { Ok(()) } else { Err(again) }
    })
    .await;
    assert_eq!(effects.count(), 1);
    alice.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_forgotten_when_the_window_is_over() {
    let stack = builder().setting("idempotency-window", "2s").start().await;
    let effects = Effects::default();
    let mut alice = stack.client().await;
    let message = once(&effects, "", Some(&fresh("alice")));
    assert_eq!(say(&mut alice, &message).await, answers(1));
    assert_eq!(say(&mut alice, &message).await, answers(1));
    eventually(SOON, "the message has its effect anew", async || {
        let answered = say(&mut alice, &message).await;
        if answered == answers(2) { Ok(()) } else { Err(answered) }
    })
    .await;
    assert_eq!(effects.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_given_again_unless_it_is_temporary() {
    let stack = builder().start().await;
    let (temporary, lasting) = (Effects::default(), Effects::default());
    let (mut alice, mut bob) = (stack.client().await, stack.client().await);
    let message = once(&temporary, "busy", Some(&fresh("alice")));
    assert_eq!(refused(&mut alice, &message).await["code"], "busy");
    for _ in 0..2 {
        assert_eq!(say(&mut alice, &message).await, answers(2));
    }
    let message = once(&lasting, "fail", Some(&fresh("bob")));
    for _ in 0..3 {
        let error = refused(&mut bob, &message).await;
        assert_eq!(
            (&error["code"], &error["message"]),
            (&json!("bad_request"), &json!("effect 1"))
        );
    }
    assert_eq!((temporary.count(), lasting.count()), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_to_be_kept_is_not_given_again_and_has_no_second_effect() {
    let stack = builder().start().await;
    let effects = Effects::default();
    let mut alice = stack.client().await;
    let message = once(&effects, "long", Some(&fresh("alice")));
    alice.send_json(&message).await;
    let answer = alice.answer_to("once", SOON).await;
    assert_eq!(
        answer["payload"].as_str().map(str::len),
        Some(tests::effect::LONG_BYTES)
    );
    for _ in 0..2 {
        assert_eq!(refused(&mut alice, &message).await["code"], "duplicate");
    }
    assert_eq!((effects.count(), known(&stack, "not_kept").await), (1, 2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_has_everybody_wait_and_nothing_done() {
    let store = Arc::new(Store::start().await);
    let stack = builder().store(&store).start().await;
    let effects = Effects::default();
    let mut alice = stack.client().await;
    alice.authenticate(&fresh("alice")).await;
    store.kill();
    for _ in 0..2 {
        let error = refused(&mut alice, &once(&effects, "", None)).await;
        assert_eq!((&error["code"], &error["temporary"]), (&json!("busy"), &json!(true)));
        assert!(error["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{error}");
    }
    assert_eq!(effects.count(), 0);
    // What has no name needs no store.
    alice
        .send_json(&json!({"type": "effect", "payload": effects.payload("")}))
        .await;
    effects_are(&effects, 1).await;
    store.restart().await;
    eventually(30.s(), "the message is handled", async || {
        alice.send_json(&once(&effects, "", None)).await;
        let answer = alice.answer_to("once", SOON).await;
        if answer["payload"] == 2 { Ok(()) } else { Err(answer) }
    })
    .await;
    assert_eq!(effects.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_held_has_its_effect_once_when_it_is_let_go() {
    let stack = builder().setting("jwt-leeway", "0s").start().await;
    let effects = Effects::default();
    let mut alice = stack.client().await;
    let token = brief("alice");
    alice.authenticate(&token.mint()).await;
    token.expired().await;
    alice.send_json(&once(&effects, "", None)).await;
    alice.expect_required("expired", SOON).await;
    // Its sender does not wait, and asks anew elsewhere.
    let mut next = stack.client().await;
    assert_eq!(
        say(&mut next, &once(&effects, "", Some(&fresh("alice")))).await,
        answers(1)
    );
    alice.authenticate(&fresh("alice")).await;
    assert_eq!(both(&mut alice).await, answers(1));
    assert_eq!(say(&mut alice, &once(&effects, "", None)).await, answers(1));
    assert_eq!(effects.count(), 1);
}

async fn inject(queue: &Queue, message: &Value) -> Value {
    queue.request(message).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_injected_has_its_effect_once_by_whichever_way_it_comes_again() {
    let stack = builder().start().await;
    let effects = Effects::default();
    let queue = stack.queue().await;
    let message = once(&effects, "", Some(&fresh("alice")));
    let [first, _] = answers(1);
    for _ in 0..3 {
        assert_eq!(inject(&queue, &message).await, first);
    }
    let mut alice = stack.client().await;
    assert_eq!(say(&mut alice, &message).await, answers(1));
    let mut another = message.clone();
    another["payload"]["then"] = "fail".into();
    assert_eq!(inject(&queue, &another).await["error"]["code"], "duplicate");
    // Whom no one would tell that is a dead letter.
    queue
        .publish("message", another.to_string(), BasicProperties::default())
        .await;
    let letter = queue.dead_letter(SOON).await;
    assert_eq!(letter.json()["id"], "once");
    assert_eq!(letter.header("reason"), Some(AMQPValue::LongString("duplicate".into())));
    assert_eq!(effects.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_idempotency_a_message_has_its_effect_as_often_as_it_comes() {
    let stack = Stack::builder().poisoned_workers(2).start().await;
    let effects = Effects::default();
    let mut alice = stack.client().await;
    let message = once(&effects, "", Some(&fresh("alice")));
    for number in 1..=3 {
        assert_eq!(say(&mut alice, &message).await, answers(number));
    }
    assert_eq!((effects.count(), known(&stack, "first").await), (3, 0.0));
    let dump = stack.store().dump().await;
    let ours = dump.lines().filter(|line| line.starts_with(stack.namespace()));
    assert!(
        !ours.into_iter().any(|line| line.contains(":claims")),
        "the store is not even asked"
    );
}

/// A token of alice's by that client, which may do that.
fn by(client: &str, scope: &str) -> String {
    token_for("alice").claim("azp", client).claim("scope", scope).mint()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_one_subject_have_names_and_answers_of_their_own() {
    let stack = builder().start().await;
    let effects = Effects::default();
    for (number, client) in (1..).zip(["bank", "game"]) {
        let mut socket = stack.client().await;
        let message = once(&effects, "", Some(&by(client, "a")));
        assert_eq!(say(&mut socket, &message).await, answers(number), "{client}");
        // On another connection, and without a token of the message's own.
        let mut next = stack.client().await;
        next.authenticate(&by(client, "a")).await;
        assert_eq!(
            say(&mut next, &once(&effects, "", None)).await,
            answers(number),
            "{client}"
        );
    }
    assert_eq!(effects.count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_a_message_is_told_to_nobody_who_could_not_have_caused_it() {
    let stack = builder().start().await;
    let effects = Effects::default();
    let mut alice = stack.client().await;
    assert_eq!(
        say(&mut alice, &once(&effects, "", Some(&by("app", "read pay")))).await,
        answers(1)
    );
    for (scope, told) in [("pay read more", true), ("read", false), ("pay", false)] {
        let mut next = stack.client().await;
        let message = once(&effects, "", Some(&by("app", scope)));
        if told {
            assert_eq!(say(&mut next, &message).await, answers(1), "{scope}");
        } else {
            let error = refused(&mut next, &message).await;
            assert_eq!(
                (&error["code"], &error["temporary"]),
                (&json!("duplicate"), &json!(false)),
                "{scope}"
            );
        }
    }
    assert_eq!((effects.count(), known(&stack, "not_told").await), (1, 2.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_revocation_nothing_is_answered_from_memory() {
    let stack = builder().setting("jwt-leeway", "0s").start().await;
    let mut backend = stack.producer().await;
    for (subject, target) in [("anne", json!({"subject": "anne"})), ("jack", json!({"jti": "lost"}))] {
        let effects = Effects::default();
        let lost = token_for(subject).claim("jti", "lost").mint();
        let mut client = stack.client().await;
        assert_eq!(say(&mut client, &once(&effects, "", Some(&lost))).await, answers(1));
        backend.revoke(&target).await;
        client.expect_close(4503, SOON).await;
        let mut next = stack.client().await;
        next.authenticate(&crate::authentication::revocation::issued_later(subject).await)
            .await;
        let error = refused(&mut next, &once(&effects, "", None)).await;
        assert_eq!(error["code"], "duplicate", "{subject}: {error}");
        assert_eq!(effects.count(), 1, "and it has no second effect");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_something_was_forbidden_is_not_remembered() {
    let stack = builder().start().await;
    let effects = Effects::default();
    let mut alice = stack.client().await;
    let message = once(&effects, "forbid", Some(&by("app", "a")));
    assert_eq!(refused(&mut alice, &message).await["code"], "forbidden");
    assert_eq!(
        say(&mut alice, &message).await,
        answers(2),
        "the application was asked again"
    );
}
