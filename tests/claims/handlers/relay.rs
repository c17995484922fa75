//! From one identity to another, without an application in between.

use serde_json::{Value, json};
use tests::tokens::key::test_keys;
use tests::tokens::token::ISSUER;
use tests::{Span, Stack, token_for};

async fn stack(settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .workers(2)
        .setting("handler", "relay")
        .settings(settings)
        .start()
        .await
}

fn to(subject: &str, payload: impl Into<Value>) -> Value {
    json!({"to": {"subject": subject}, "payload": payload.into()})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_every_connection_of_the_other_with_the_name_that_the_token_proved() {
    let stack = stack(&[]).await;
    let (mut alice, mut one, mut other) = (stack.client().await, stack.client().await, stack.client().await);
    for bob in [&mut one, &mut other] {
        bob.authenticate(&token_for("bob").mint()).await;
    }
    let token = token_for("alice").mint();
    let answer = alice.request("relay", Some(&token), to("bob", json!({"n": 1}))).await;
    assert_eq!(
        answer["payload"],
        json!({"outcome": "delivered", "connections": 2}),
        "{answer}"
    );
    let mut ids = Vec::new();
    for bob in [&mut one, &mut other] {
        let push = bob.push(10.s()).await;
        let from = json!({"issuer": ISSUER, "subject": "alice"});
        assert_eq!(push["payload"], json!({"from": from, "payload": {"n": 1}}));
        ids.push(push["id"].clone());
    }
    assert_eq!(ids[0], ids[1], "one push, by one name");
    assert_eq!(ids[0].as_str().map(str::len), Some(32));
    alice.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_somebody_who_is_not_there_waits_in_its_order() {
    let stack = stack(&[]).await;
    let mut alice = stack.client().await;
    alice.authenticate(&token_for("alice").mint()).await;
    for number in 0..20 {
        let answer = alice.request("relay", None, to("bob", number)).await;
        assert_eq!(answer["payload"], json!({"outcome": "held"}));
    }
    let mut bob = stack.client().await;
    bob.authenticate(&token_for("bob").mint()).await;
    let payloads: Vec<_> = bob
        .pushes(20)
        .await
        .iter()
        .map(|push| push["payload"].clone())
        .collect();
    assert_eq!(payloads, (0..20).map(Value::from).collect::<Vec<_>>());
    // And so does what is sent while he is there, to anyone who waits for each reply.
    for number in 0..20 {
        alice.request("relay", None, to("bob", number)).await;
    }
    let payloads: Vec<_> = bob
        .pushes(20)
        .await
        .iter()
        .map(|push| push["payload"].clone())
        .collect();
    assert_eq!(payloads, (0..20).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_for_somebody_who_is_not_there_is_refused_to_whoever_sends_it() {
    let stack = stack(&[("relay-max-held", "2")]).await;
    let mut alice = stack.client().await;
    alice.authenticate(&token_for("alice").mint()).await;
    for _ in 0..2 {
        let answer = alice.request("relay", None, to("bob", 1)).await;
        assert_eq!(answer["payload"]["outcome"], "held");
    }
    let answer = alice.request("relay", None, to("bob", 1)).await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["temporary"]),
        (&json!("busy"), &json!(true))
    );
    // It is the sender's share alone, and for this recipient.
    let answer = alice.request("relay", None, to("carol", 1)).await;
    assert_eq!(answer["payload"]["outcome"], "held");
    let mut eve = stack.client().await;
    eve.authenticate(&token_for("eve").mint()).await;
    let answer = eve.request("relay", None, to("bob", 1)).await;
    assert_eq!(answer["payload"]["outcome"], "held");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_users_send_to_somebody_who_is_not_there_a_backend_s_push_is_held() {
    let stack = stack(&[]).await;
    let mut backend = stack.producer().await;
    let mut held = 0;
    for sender in 0..5 {
        let mut client = stack.client().await;
        client
            .authenticate(&token_for(&format!("stranger{sender}")).mint())
            .await;
        for number in 0..30 {
            let answer = client.request("relay", None, to("bob", number)).await;
            held += usize::from(answer["payload"]["outcome"] == "held");
        }
    }
    assert_eq!(held, 50, "users have half of it");
    for number in 0..50 {
        assert_eq!(backend.push_to("bob", number).await, "held", "{number}");
    }
    let mut bob = stack.client().await;
    bob.authenticate(&token_for("bob").mint()).await;
    bob.pushes(100).await;
    bob.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_learns_who_is_there_only_if_that_is_wanted() {
    let stack = stack(&[("relay-tells-presence", "off")]).await;
    let (mut alice, mut bob) = (stack.client().await, stack.client().await);
    alice.authenticate(&token_for("alice").mint()).await;
    bob.authenticate(&token_for("bob").mint()).await;
    for recipient in ["bob", "nobody"] {
        let answer = alice.request("relay", None, to(recipient, 1)).await;
        assert_eq!(answer["payload"], json!({"outcome": "accepted"}), "{recipient}");
    }
    assert_eq!(bob.push(10.s()).await["payload"]["payload"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_could_mean_somebody_else_is_refused() {
    let other = "https://other-issuer.test";
    let secret = test_keys().secret_entry();
    let keys = format!("issuer={ISSUER};{secret},issuer={other};{secret}");
    let issuers = format!("{ISSUER},{other}");
    let stack = stack(&[("jwt-keys", &keys), ("jwt-issuer", &issuers)]).await;
    let mut alice = stack.client().await;
    alice.authenticate(&token_for("alice").mint()).await;
    for payload in [
        Value::Null,
        json!({}),
        json!("bob"),
        json!({"to": {"subject": "bob"}}),
        json!({"payload": 1}),
        json!({"to": "bob", "payload": 1}),
        json!({"to": {}, "payload": 1}),
        json!({"to": {"subject": "", "issuer": ISSUER}, "payload": 1}),
        json!({"to": {"subject": "b\nob", "issuer": ISSUER}, "payload": 1}),
        json!({"to": {"subject": "bob", "isuer": ISSUER}, "payload": 1}),
        json!({"to": {"subject": "bob", "issuer": ISSUER}, "payload": 1, "from": "carol"}),
        json!({"to": {"subject": "bob", "issuer": "https://nobody.test"}, "payload": 1}),
        to("bob", 1),
    ] {
        let answer = alice.request("relay", None, payload.clone()).await;
        assert_eq!(answer["error"]["code"], "bad_request", "{payload}: {answer}");
    }
    let payload = json!({"to": {"subject": "bob", "issuer": other}, "payload": 1});
    let answer = alice.request("other", None, payload.clone()).await;
    assert_eq!(answer["error"]["code"], "bad_request", "{answer}");
    // Of the two Bobs, the one who is meant.
    let (mut ours, mut theirs) = (stack.client().await, stack.client().await);
    ours.authenticate(&token_for("bob").mint()).await;
    theirs.authenticate(&token_for("bob").issuer(other).mint()).await;
    let answer = alice.request("relay", None, payload).await;
    assert_eq!(answer["payload"], json!({"outcome": "delivered", "connections": 1}));
    assert_eq!(theirs.push(10.s()).await["payload"]["payload"], 1);
    ours.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_s_message_is_relayed_to_nobody() {
    let stack = stack(&[("public-types", "relay")]).await;
    let (mut stranger, mut bob) = (stack.client().await, stack.client().await);
    bob.authenticate(&token_for("bob").mint()).await;
    let answer = stranger.request("relay", None, to("bob", 1)).await;
    assert_eq!(answer["error"]["code"], "auth_required", "{answer}");
    bob.expect_nothing_shown().await;
}
