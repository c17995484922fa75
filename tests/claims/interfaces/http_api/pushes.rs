//! What is done: pushes arrive, revocations close, and what is told of connections is true.

use serde_json::{Value, json};
use tests::{Client, Stack, connection_of, shared_broker, token_for};

use super::{builder, file_of, get, keys, post, stack};
use crate::authentication::expiry::{SOON, fresh};
use crate::hostile::permissions::documented;

async fn logged_in(stack: &Stack, subject: &str) -> (Client, String) {
    let mut client = stack.client().await;
    let auth = client.authenticate(&fresh(subject)).await;
    let connection = connection_of(&auth);
    (client, connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_by_http_arrives_as_what_is_pushed_through_the_queue() {
    let stack = stack().await;
    let ((mut alice, connection), (mut bob, _)) = (logged_in(&stack, "alice").await, logged_in(&stack, "bob").await);
    let push = json!({"subject": "alice", "message_id": "n1", "payload": {"news": 1}});
    let (status, told) = post(&stack, "/v1/push", push.clone()).await;
    assert_eq!(
        (status, told),
        (202, json!({"message_id": "n1", "outcome": "accepted"}))
    );
    let arrived = alice.push(SOON).await;
    assert_eq!(arrived, json!({"type": "push", "id": "n1", "payload": {"news": 1}}));
    // Who does not know whether it was taken repeats it; it comes once.
    assert_eq!(post(&stack, "/v1/push?wait=30", push.clone()).await.0, 200);
    // With another payload it would be taken for the first.
    let other = json!({"subject": "alice", "message_id": "n1", "payload": 2});
    let (status, told) = post(&stack, "/v1/push?wait=30", other).await;
    assert_eq!(
        (status, &told["outcome"], &told["error"]["code"]),
        (200, &json!("refused"), &json!("duplicate"))
    );
    // What has become of it is told to who waits, with the id that was drawn.
    let (status, told) = post(
        &stack,
        "/v1/push?wait=30",
        json!({"connection": connection, "payload": "two"}),
    )
    .await;
    assert_eq!(
        (status, &told["outcome"], &told["connections"]),
        (200, &json!("delivered"), &json!(1))
    );
    assert_eq!(
        alice.push(SOON).await,
        json!({"type": "push", "id": told["message_id"], "payload": "two"})
    );
    let many = json!({"subjects": ["alice", "bob", "carol"], "payload": 3});
    let (status, told) = post(&stack, "/v1/push?wait=30", many).await;
    let outcomes: Vec<_> = told["outcomes"].as_array().expect("of each").iter().collect();
    let words: Vec<_> = outcomes.iter().map(|one| (&one["subject"], &one["outcome"])).collect();
    let expected =
        [("alice", "sent"), ("bob", "sent"), ("carol", "held")].map(|(name, word)| (json!(name), json!(word)));
    assert_eq!((status, &told["outcome"]), (200, &json!("of_each")), "{told}");
    assert_eq!(
        words,
        expected.iter().map(|(name, word)| (name, word)).collect::<Vec<_>>()
    );
    assert_eq!(
        (
            alice.push(SOON).await["payload"].clone(),
            bob.push(SOON).await["payload"].clone()
        ),
        (json!(3), json!(3))
    );
    // A hundred at once come in their order, and only to whom they are for.
    let batch: Vec<_> = (0..100)
        .map(|number| json!({"subject": "bob", "payload": number}))
        .collect();
    let (status, told) = post(&stack, "/v1/push/batch", json!({"pushes": batch})).await;
    assert_eq!((status, told["pushes"].as_array().map(Vec::len)), (202, Some(100)));
    assert_eq!(bob.pushes(100).await, (0..100).map(Value::from).collect::<Vec<_>>());
    let (status, told) = post(
        &stack,
        "/v1/push/batch?wait=30",
        json!({"pushes": [
            {"subject": "bob", "payload": "b"}, {"connection": "00000000000000aa.1f", "payload": 1},
            {"subject": "dave", "payload": 1, "expiration_ms": 0},
        ]}),
    )
    .await;
    let words: Vec<_> = told["pushes"]
        .as_array()
        .expect("each")
        .iter()
        .map(|one| one["outcome"].as_str().expect("a word"))
        .collect();
    assert_eq!(
        (status, &words[..2]),
        (200, &["delivered", "no_recipient"][..]),
        "{told}"
    );
    // The broker itself drops it, if no worker is free at that moment.
    assert!(["no_recipient", "refused"].contains(&words[2]), "{told}");
    assert_eq!(bob.push(SOON).await["payload"], "b");
    alice.expect_nothing_shown().await;
    bob.expect_nothing_shown().await;
    let (mut carol, _) = logged_in(&stack, "carol").await;
    assert_eq!(carol.push(SOON).await["payload"], 3, "what was held");
    let counted = "countersign_worker_api_requests_total{route=\"push\",status=\"202\"}";
    assert_eq!(stack.workers()[0].metrics().await[counted], 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_by_http_is_in_force_when_it_is_answered() {
    let stack = stack().await;
    let older = |subject: &str| token_for(subject).claim("iat", now() - 60).mint();
    let (mut alice, mut bob) = (stack.client().await, stack.client().await);
    let token = older("alice");
    alice.authenticate(&token).await;
    bob.authenticate(&older("bob")).await;
    let (status, told) = post(&stack, "/v1/revoke?wait=30", json!({"subject": "alice"})).await;
    assert_eq!((status, told), (200, json!({"outcome": "revoked", "connections": 1})));
    let before = alice.expect_close(4503, SOON).await;
    assert_eq!(
        before.last().expect("an error")["error"]["code"],
        "token_revoked",
        "{before:?}"
    );
    let answer = stack.client().await.try_authenticate(&token).await;
    assert_eq!(answer["error"]["code"], "token_revoked", "{answer}");
    let (status, told) = post(&stack, "/v1/revoke?wait=0", json!({"subject": "carol"})).await;
    assert_eq!((status, told), (202, json!({"outcome": "accepted"})));
    assert_eq!(
        bob.request("echo", None, json!(1)).await["payload"],
        1,
        "another's goes on"
    );
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_connections_is_true() {
    let stack = stack().await;
    let of = async |subject: &str| {
        let (status, told) = get(&stack, &format!("/v1/identities/{subject}/connections")).await;
        assert_eq!(status, 200, "{told}");
        told
    };
    let nothing = of("alice%2Fat%20work").await;
    assert_eq!(
        (&nothing["subject"], &nothing["connections"], &nothing["held"]),
        (&json!("alice/at work"), &json!([]), &json!(0))
    );
    let (client, connection) = logged_in(&stack, "alice/at work").await;
    let (second, other) = logged_in(&stack, "alice/at work").await;
    let told = of("alice%2Fat%20work").await;
    let mut listed: Vec<_> = told["connections"]
        .as_array()
        .expect("some")
        .iter()
        .map(|one| one["connection"].clone())
        .collect();
    listed.sort_by_key(ToString::to_string);
    let mut expected = vec![json!(connection), json!(other)];
    expected.sort_by_key(ToString::to_string);
    assert_eq!(listed, expected);
    for one in told["connections"].as_array().expect("some") {
        assert_eq!(one["state"], "live");
        assert!(one["until"].as_u64().is_some_and(|until| until > now()), "{told}");
    }
    assert_eq!(of("bob").await["connections"], json!([]));
    let explained = async |connection: &str| {
        let (status, told) = get(&stack, &format!("/v1/connections/{connection}/explain")).await;
        assert_eq!(status, 200, "{told}");
        told
    };
    assert_eq!(explained(&connection).await["state"], "live");
    assert_eq!(
        explained("00000000000000aa.1f").await,
        json!({"connection": "00000000000000aa.1f", "state": "unknown", "decisions": []})
    );
    let revocation = json!({"connection": connection});
    assert_eq!(post(&stack, "/v1/revoke?wait=30", revocation).await.0, 200);
    let mut client = client;
    client.expect_close(4503, SOON).await;
    tests::eventually(SOON, "it is told why it was closed", async || {
        let told = explained(&connection).await;
        let decided = told["decisions"].as_array().expect("a list").clone();
        let is_told = told["state"] == "closed"
            && decided
                .iter()
                .any(|one| one["what"] == "closed" || one["what"] == "revoked");
        if is_told { Ok(()) } else { Err(told) }
    })
    .await;
    let told = of("alice%2Fat%20work").await;
    assert_eq!(told["connections"].as_array().map(Vec::len), Some(1), "{told}");
    drop(second);
    assert_eq!(
        post(&stack, "/v1/push?wait=30", json!({"subject": "zoe", "payload": 1}))
            .await
            .1["outcome"],
        "held"
    );
    assert_eq!(of("zoe").await["held"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_permissions_are_enough_for_it() {
    let broker = shared_broker().await;
    let suffix = format!("{:08x}", rand::random::<u32>());
    let name = |user: &str| format!("{user}-{suffix}");
    let (terminator, worker) = (name("terminator"), name("api-worker"));
    let builder = builder(&file_of(&keys())).terminators(0).workers(0);
    let mut stack = builder
        .users(&broker.url_of(&terminator), &broker.url_of(&worker))
        .start()
        .await;
    for (user, name) in [("terminator", terminator), ("api worker", worker)] {
        let permissions = documented().remove(user).expect("it is documented");
        let [configure, write, read] = permissions.map(|regex| regex.replace("countersign", stack.namespace()));
        broker.add_user(&name, &configure, &write, &read).await;
    }
    stack.start_terminators(1).await;
    stack.start_workers(1).await;
    let push = json!({"subject": "alice", "payload": 1});
    tests::eventually(SOON, "it is told what becomes of a push", async || {
        match post(&stack, "/v1/push?wait=2", push.clone()).await {
            (200, told) if told["outcome"] == "held" => Ok(()),
            other => Err(other),
        }
    })
    .await;
}
