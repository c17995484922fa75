//! What clients send is sealed on the broker: no one who has no key reads a token or a payload there, or puts it elsewhere.

use std::fs;

use lapin::types::AMQPValue;
use serde_json::{Value, json};
use tests::peers::queue::Message;
use tests::{Client, Load, Queue, Span, Stack, eventually, test_keys, token_for, tool};

use crate::authentication::expiry::SOON;
use crate::hostile::poison::dead_letter_over_the_dead;
use crate::operating::rotation::traffic::Traffic;

/// A file with a new seal key in it.
fn seal_key(name: &str) -> String {
    let folder = test_keys().folder().join(format!("seal-{:08x}", rand::random::<u32>()));
    fs::create_dir(&folder).unwrap();
    let path = folder.join(name).to_str().unwrap().to_owned();
    renew(&path);
    path
}

/// Puts another key in its place.
fn renew(path: &str) -> String {
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 32]>());
    put(path, &key);
    key
}

fn put(path: &str, key: &str) {
    fs::write(format!("{path}.new"), format!("{key}\n")).unwrap();
    fs::rename(format!("{path}.new"), path).unwrap();
}

/// The next message that rests in that queue.
async fn resting(stack: &Stack, queue: &Queue, name: &str) -> Message {
    let name = format!("{}.{name}", stack.namespace());
    eventually(SOON, "a message rests there", async || queue.get(&name).await).await
}

/// Publishes it as a terminator does.
async fn forward(stack: &Stack, queue: &Queue, body: &[u8], of: &Message) {
    let exchange = format!("{}.internal", stack.namespace());
    queue
        .publish_to(&exchange, "forward", body, of.properties.clone())
        .await;
}

fn reason(dead: &Message) -> String {
    match dead.header("reason") {
        Some(AMQPValue::LongString(reason)) => reason.to_string(),
        other => panic!("no reason, but {other:?}"),
    }
}

async fn asks(client: &mut Client, token: &str, secret: &str) -> String {
    client.ask("echo", Some(token), json!(secret)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rests_on_the_broker_is_sealed_and_opened_by_a_worker_at_its_own_place_alone() {
    let key = seal_key("one");
    let mut stack = Stack::builder()
        .setting("seal-keys", &key)
        .setting("seal", "required")
        .setting("log-filter", "info")
        .workers(0)
        .start()
        .await;
    let queue = stack.queue().await;
    let token = token_for("alice").mint();
    let (mut alice, mut other) = (stack.client().await, stack.client().await);
    let secret = "h4sh-h4sh-h4sh";
    // One that goes alone, and a run of those that wait for it.
    let first = asks(&mut alice, &token, secret).await;
    let of_alice = resting(&stack, &queue, "messages").await;
    let second = asks(&mut other, &token, secret).await;
    let of_other = resting(&stack, &queue, "messages").await;
    for message in [&of_alice, &of_other] {
        let all = message.everything();
        assert!(
            !all.contains(secret) && !all.contains(&token) && !all.contains("echo"),
            "{all}"
        );
        assert!(message.body.starts_with(&[0xff, b'c', b's', 1]));
    }
    stack.start_workers(1).await;

    // Changed, cut, moved to another connection, with a key that is no one's, and not sealed at all.
    let mut changed = of_alice.body.clone();
    *changed.last_mut().unwrap() ^= 1;
    let mut foreign = of_alice.body.clone();
    foreign[5] ^= 1;
    let open = json!({"id": "open", "type": "echo", "token": token, "payload": 1}).to_string();
    for (body, of, why) in [
        (changed.as_slice(), &of_alice, "changed"),
        (&of_alice.body[..40], &of_alice, "cut"),
        (&of_other.body, &of_alice, "another message"),
        (&foreign, &of_alice, "not among seal-keys"),
        (open.as_bytes(), &of_alice, "not sealed"),
    ] {
        forward(&stack, &queue, body, of).await;
        let dead = queue.dead_letter(SOON).await;
        assert!(reason(&dead).contains(why), "{why}: {}", reason(&dead));
        assert!(!dead.everything().contains(&token), "{why}");
    }
    // The first of these was told its client; all else came to a request that was answered.
    let told = alice.next_json(SOON).await;
    assert_eq!(
        (&told["type"], &told["error"]["code"]),
        (&json!("error"), &json!("internal")),
        "{told}"
    );
    forward(&stack, &queue, &of_other.body, &of_other).await;
    let answer = other.answer_to(&second, SOON).await;
    assert_eq!((&answer["type"], &answer["payload"]), (&json!("reply"), &json!(secret)));
    // One line a minute for each cause.
    let told = "a message cannot be opened, and is dead-lettered";
    assert_eq!(stack.workers()[0].logged(told), 4);
    assert_eq!(
        stack.workers()[0]
            .metric("countersign_worker_messages_unsealable_total")
            .await,
        5.0
    );
    forward(&stack, &queue, &changed, &of_alice).await;
    queue.dead_letter(SOON).await;
    assert_eq!(stack.workers()[0].logged(told), 4);

    // What is injected is never sealed, and is taken.
    let injected = queue
        .request(&json!({"id": "i", "type": "echo", "token": token, "payload": 2}))
        .await;
    assert_eq!(injected.json()["payload"], 2);
    let _ = first;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_holds_and_what_is_sent_back_are_sealed_and_keep_their_order() {
    let stack = Stack::builder()
        .setting("seal-keys", &seal_key("one"))
        .setting("seal", "required")
        .setting("jwt-leeway", "0s")
        .workers(2)
        .start()
        .await;
    // A crowd, in order, most of it in runs.
    let load = Load::on(stack.terminators(), &token_for("alice").mint())
        .connections(4)
        .messages(100)
        .in_flight(30);
    load.run(60.s()).await.assert_each_replied_once();
    // What waits for a fresh token is held, and what comes with it is sent back and sent again.
    let mut client = stack.client().await;
    let expired = token_for("bob").expired_since(60.s()).mint();
    let held = client.ask("echo", Some(&expired), json!("held")).await;
    client.next_of_type("auth.required", SOON).await;
    let fresh = client.ask("echo", Some(&token_for("bob").mint()), json!("fresh")).await;
    for (id, payload) in [(held, "held"), (fresh, "fresh")] {
        let answer = client.answer_to(&id, SOON).await;
        assert_eq!(
            (&answer["type"], &answer["payload"]),
            (&json!("reply"), &json!(payload)),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_key_is_replaced_under_load_and_nothing_is_lost() {
    let (old, second, new) = (seal_key("old"), seal_key("second"), seal_key("new"));
    let first_key = fs::read_to_string(&old).unwrap();
    put(&second, first_key.trim());
    // Terminators seal with `old`; workers open with that, and with whatever is in `second`.
    let mut stack = Stack::builder().setting("seal-keys", &old).workers(0).start().await;
    stack.set_for_workers("seal-keys", &format!("{old}.worker,{second}"));
    put(&format!("{old}.worker"), first_key.trim());
    stack.set_for_workers("seal", "required");
    stack.start_workers(1).await;
    let traffic = Traffic::on(&stack, &token_for("alice").mint()).await;
    let replaced = async |of_worker: usize, of_terminator: usize| {
        eventually(SOON, "the key is replaced", async || {
            let logged = |program: &tests::Program| program.logged("a credential is replaced");
            logged(&stack.workers()[0]) >= of_worker && logged(&stack.terminators()[0]) >= of_terminator
        })
        .await;
        traffic.goes_on().await;
    };
    // Workers have the new one first; then terminators seal with it; then the old one goes.
    let new_key = renew(&new);
    put(&second, &new_key);
    replaced(1, 0).await;
    put(&old, &new_key);
    replaced(1, 1).await;
    put(&format!("{old}.worker"), &new_key);
    replaced(2, 1).await;
    traffic.lost_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_opened_without_its_token_and_one_that_could_not_be_opened_is_opened_by_hand() {
    let key = seal_key("one");
    let mut stack = Stack::builder()
        .poisoned_workers(1)
        .setting("max-deliveries", "2")
        .setting("seal-keys", &key)
        .start()
        .await;
    let queue = stack.queue().await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    let id = client.ask("abort", Some(&token), json!("poison")).await;
    let (dead, _) = dead_letter_over_the_dead(&mut stack, &queue).await;
    assert_eq!(dead.json(), json!({"id": id, "type": "abort", "payload": "poison"}));
    assert!(!dead.everything().contains(&token));
    let told = client.answer_to(&id, SOON).await;
    assert_eq!(told["error"]["code"], "internal", "{told}");
    stack.outlive_poison().await;

    // The terminator seals with a key that no worker has.
    let workers_key = fs::read_to_string(&key).unwrap();
    let other = seal_key("other");
    let settings = [("seal-keys", other.as_str())];
    let stack = Stack::builder().workers(0).settings(&settings).start().await;
    let mut stack = stack;
    put(&format!("{other}.worker"), workers_key.trim());
    stack.set_for_workers("seal-keys", &format!("{other}.worker"));
    stack.start_workers(1).await;
    let mut client = stack.client().await;
    client.ask("echo", Some(&token), json!("by hand")).await;
    let told = client.next_json(SOON).await;
    assert_eq!(told["error"]["code"], "internal", "{told}");
    let broker = stack.broker().url();
    let run = |arguments: &[&str]| {
        let own = ["--amqp-url", &broker, "--namespace", stack.namespace()];
        tool(&[&["inspect", "dead"], arguments, &own].concat(), "")
    };
    let show = |arguments: &[&str]| {
        let said = run(&[&["show", "1", "--json"], arguments].concat());
        assert_eq!(said.status, 0, "{said:?}");
        assert!(!said.stdout.contains(&token), "{said:?}");
        serde_json::from_str::<Value>(&said.stdout).unwrap()["body"].clone()
    };
    eventually(SOON, "the letter is there", async || {
        queue.count(&format!("{}.dead", stack.namespace())).await == 1
    })
    .await;
    assert_eq!(show(&[]), json!("sealed: --seal-keys opens it"));
    assert_eq!(show(&["--seal-keys", &other])["payload"], "by hand");
    let requeue = ["requeue", "1", "--token", &token];
    let said = run(&requeue);
    assert!(said.status == 1 && said.stderr.contains("it is sealed"), "{said:?}");
    let said = run(&[&requeue[..], &["--seal-keys", &other]].concat());
    assert!(said.status == 0 && said.stdout.contains("by hand"), "{said:?}");
}
