//! A token that expires in the midst of a run: what was sent behind it is held, refused or handled as the policy has it, in
//! the order in which it was sent, and each message is told of once.

use std::sync::Arc;

use serde_json::{Value, json};
use tests::servers::upstream::{Asked, Said};
use tests::{Client, Span, Stack, Upstream, eventually, token_for};
use tokio::sync::Notify;

use crate::authentication::expiry::{SOON, fresh};

/// Which of the messages are slow: the first, so that the others gather behind it, and the one with which the token expires.
const SLOW: [usize; 2] = [0, 3];
const MESSAGES: usize = 7;

struct Scene {
    stack: Stack,
    upstream: Upstream,
    client: Client,
    resume: String,
    ids: Vec<String>,
}

/// Its messages are on their way as a run, the token has expired over the fourth of them, and the application goes on.
async fn before(policy: &str) -> Scene {
    let release = Arc::new(Notify::new());
    let held = release.clone();
    let upstream = Upstream::start(move |asked: &Asked| match asked.kind() {
        "slow" => Said::When(held.clone(), 200, "1".to_owned()),
        _ => Said::status(200, "1"),
    })
    .await;
    let policies = [("on-unauthenticated", policy), ("on-expired-push", policy)];
    let stack = Stack::builder()
        .workers(2)
        .setting("handler", &upstream.handler())
        .setting("jwt-leeway", "0s")
        .settings(&policies)
        .start()
        .await;
    let mut client = stack.client().await;
    let token = token_for("alice").expiring_in(6.s());
    let auth = client.authenticate(&token.mint()).await;
    let resume = auth["resume"].as_str().expect("a key").to_owned();
    let mut ids = Vec::new();
    for number in 0..MESSAGES {
        let kind = if SLOW.contains(&number) { "slow" } else { "step" };
        ids.push(client.ask(kind, None, json!(number)).await);
    }
    // They are all there.
    client.ping(SOON).await;
    for slow in SLOW {
        eventually(SOON, "it is its turn", async || {
            handled(&upstream) == (0..=slow as u64).collect::<Vec<_>>()
        })
        .await;
        if slow == 3 {
            token.expired().await;
        }
        release.notify_one();
    }
    Scene {
        stack,
        upstream,
        client,
        resume,
        ids,
    }
}

fn handled(upstream: &Upstream) -> Vec<u64> {
    let number = |asked: &Asked| asked.body["payload"].as_u64().expect("a number");
    upstream.asked().iter().map(number).collect()
}

/// The next answers, by what they answer; each is a reply.
async fn replies(client: &mut Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let answer = client.next_json(SOON).await;
        if answer["type"].as_str().is_some_and(|kind| !kind.starts_with("auth.")) {
            assert_eq!(answer["type"], "reply", "{answer}");
            ids.push(answer["id"].as_str().unwrap_or_default().to_owned());
        }
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_an_expiry_in_a_run_waits_for_the_fresh_token_and_is_handled_in_its_order() {
    let mut scene = before("reauthenticate").await;
    assert_eq!(replies(&mut scene.client, 3).await, scene.ids[..3]);
    // The answer of the fourth waits, and what is behind it.
    scene.client.expect_required("expired", SOON).await;
    scene.client.expect_nothing_shown().await;
    assert_eq!(handled(&scene.upstream), [0, 1, 2, 3]);
    scene.client.authenticate(&fresh("alice")).await;
    assert_eq!(replies(&mut scene.client, 4).await, scene.ids[3..]);
    assert_eq!(handled(&scene.upstream), (0..MESSAGES as u64).collect::<Vec<_>>());
    scene.client.expect_nothing_shown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_an_expiry_in_a_run_is_refused_once_if_that_closes_and_the_answer_before_it_is_kept() {
    let mut scene = before("close").await;
    let said = scene.client.expect_close(4401, SOON).await;
    let of = |id: &String| {
        said.iter()
            .filter(|message| message["id"] == json!(id))
            .collect::<Vec<_>>()
    };
    for (place, id) in scene.ids.iter().enumerate() {
        let told: Vec<_> = of(id)
            .iter()
            .map(|message| (&message["type"], &message["error"]["code"]))
            .collect();
        match place {
            0..=2 => assert_eq!(told, [(&json!("reply"), &Value::Null)], "{said:?}"),
            3 => assert!(told.is_empty(), "{said:?}"),
            _ => assert_eq!(told, [(&json!("error"), &json!("auth_required"))], "{said:?}"),
        }
    }
    let mut next = scene.stack.client().await;
    next.resume(&fresh("alice"), &scene.resume).await;
    assert_eq!(replies(&mut next, 1).await, scene.ids[3..4]);
    next.expect_nothing_shown().await;
    assert_eq!(handled(&scene.upstream), [0, 1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_an_expiry_in_a_run_goes_on_in_its_order_if_that_is_ignored() {
    let mut scene = before("ignore").await;
    assert_eq!(replies(&mut scene.client, MESSAGES).await, scene.ids);
    assert_eq!(handled(&scene.upstream), (0..MESSAGES as u64).collect::<Vec<_>>());
    scene.client.expect_nothing_shown().await;
}
