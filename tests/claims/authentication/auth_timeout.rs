//! A socket that never authenticates does not stay.

use serde_json::{Value, json};
use tests::{Span, Stack, eventually};

use super::expiry::{SOON, brief, fresh};

async fn stack(settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .poisoned_workers(1)
        .setting("jwt-leeway", "0s")
        .settings(settings)
        .start()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_never_authenticates_is_closed_with_4408() {
    let stack = stack(&[("auth-timeout", "1s")]).await;
    let (mut silent, mut talking, mut forged) = (stack.client().await, stack.client().await, stack.client().await);
    let mut alice = stack.client().await;
    alice.authenticate(&fresh("alice")).await;
    talking.ask("echo", None, json!(1)).await;
    forged.request("echo", Some("no.to.ken"), json!(1)).await;
    for client in [&mut silent, &mut talking, &mut forged] {
        let before = client.expect_close(4408, SOON).await;
        let last = before.last().expect("an error before the close");
        assert_eq!(last["error"]["code"], "auth_required", "{before:?}");
    }
    assert_eq!(alice.request("echo", None, json!(2)).await["payload"], 2);
    drop((silent, talking, forged));
    eventually(SOON, "only alice's connection is left", async || {
        let open = stack.terminators()[0]
            .metric("countersign_terminator_connections")
            .await;
        if open == 1.0 { Ok(()) } else { Err(open) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_authenticated_once_may_expire_and_log_out_and_stays() {
    let ignored = [("on-unauthenticated", "ignore"), ("on-expired-push", "ignore")];
    let stack = stack(&[&[("auth-timeout", "1s")], &ignored[..]].concat()).await;
    let (mut expired, mut left) = (stack.client().await, stack.client().await);
    let token = brief("alice");
    expired.authenticate(&token.mint()).await;
    left.authenticate(&token.mint()).await;
    left.forget().await;
    let mut witness = stack.client().await;
    token.expired().await;
    witness.expect_close(4408, SOON).await;
    assert_eq!(
        expired.request("whoami", None, Value::Null).await["payload"]["subject"],
        "alice"
    );
    left.authenticate(&fresh("bob")).await;
}

/// Milliseconds since 1970, so long from now.
fn in_ms(span: std::time::Duration) -> u64 {
    let moment = std::time::SystemTime::now() + span;
    let since = moment.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("a moment of this age")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_an_answer_is_not_late() {
    let stack = stack(&[("auth-timeout", "1s")]).await;
    let mut alice = stack.client().await;
    let id = alice.ask("until", Some(&fresh("alice")), json!(in_ms(3.s()))).await;
    let mut witness = stack.client().await;
    witness.expect_close(4408, SOON).await;
    assert_eq!(alice.answer_to(&id, SOON).await["type"], "reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_keeps_something_on_its_way_does_not_stay() {
    let stack = stack(&[("auth-timeout", "1s"), ("on-unauthenticated", "ignore")]).await;
    let mut client = stack.client().await;
    let mut witness = stack.client().await;
    witness.expect_close(4408, SOON).await;
    // No one is proved by a message that is injected for another; a worker has this one for longer than anyone waits here.
    let late = client.ask("until", Some(&fresh("alice")), json!(in_ms(25.s()))).await;
    let before = client.expect_close(4408, SOON).await;
    assert!(
        !before.iter().any(|message| message["id"] == late.as_str()),
        "{before:?}"
    );
}
