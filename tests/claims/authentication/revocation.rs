//! What is revoked before its time is out of force within a second of the acknowledgement, everywhere, for good.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tests::tokens::token::Builder;
use tests::{Client, Push, Span, Stack, connection_of, token_for};
use tokio::time::Instant;

use super::expiry::{SOON, fresh, not_asked};

/// From the acknowledgement to the end of the last thing that it forbids.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(1);

/// What a busy machine may add on our side of the socket.
const BUSY: Duration = Duration::from_secs(1);

async fn stack(terminators: usize, workers: usize) -> Stack {
    let builder = Stack::builder().terminators(terminators).poisoned_workers(workers);
    builder.setting("jwt-leeway", "0s").start().await
}

/// A token that was issued after whatever is revoked by now: `iat` is in whole seconds, and may lie within the leeway of
/// no one's future.
pub(crate) async fn issued_later(subject: &str) -> String {
    next_second().await;
    fresh(subject)
}

/// Waits until the clock tells another second than now.
pub(crate) async fn next_second() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    tests::wait::until(UNIX_EPOCH + Duration::from_secs(now.as_secs() + 1)).await;
}

/// One that was issued a minute ago.
fn older(subject: &str) -> Builder<'static> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    token_for(subject).claim("iat", now.as_secs() - 60)
}

/// The connection is closed as revoked, and told so.
async fn is_ended(client: &mut Client) {
    let since = Instant::now();
    let before = client.expect_close(4503, SOON).await;
    let took = since.elapsed();
    assert!(took < IN_FORCE_WITHIN + BUSY, "it took {took:?}");
    let last = before.last().expect("an error before the close");
    assert_eq!(last["error"]["code"], "token_revoked", "{before:?}");
}

/// A token opens nothing any more, wherever it is shown.
async fn is_worthless(mut client: Client, token: &str) {
    let answer = client.try_authenticate(token).await;
    assert_eq!(answer["error"]["code"], "token_revoked", "{answer}");
    client.expect_close(4503, SOON).await;
}

async fn works(client: &mut Client, token: &str) {
    let answer = client.request("echo", Some(token), json!(1)).await;
    assert_eq!(answer["type"], "reply", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_subject_has_is_revoked_on_every_terminator_and_nobody_else_s() {
    let stack = stack(2, 2).await;
    let mut backend = stack.producer().await;
    let (mut here, mut there) = (stack.client_of(0).await, stack.client_of(1).await);
    let (first, second, bobs) = (fresh("alice"), fresh("alice"), fresh("bob"));
    here.authenticate(&first).await;
    works(&mut there, &second).await;
    let mut bob = stack.client_of(1).await;
    bob.authenticate(&bobs).await;
    backend.revoke(&json!({"subject": "alice"})).await;
    is_ended(&mut here).await;
    is_ended(&mut there).await;
    for token in [&first, &second] {
        is_worthless(stack.client_of(1).await, token).await;
    }
    let injected = json!({"id": "i", "type": "echo", "token": first});
    let answer = stack.queue().await.request(&injected).await.json();
    assert_eq!(answer["error"]["code"], "token_revoked", "{answer}");
    works(&mut bob, &bobs).await;
    let mut back = stack.client_of(0).await;
    back.authenticate(&issued_later("alice").await).await;
    assert_eq!(backend.push_to("alice", 1).await, "delivered");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_is_revoked_by_its_jti_and_no_other() {
    let stack = stack(1, 2).await;
    let mut backend = stack.producer().await;
    let (lost, kept) = (token_for("alice").claim("jti", "lost").mint(), fresh("alice"));
    let (mut thief, mut alice, mut renewed) = (stack.client().await, stack.client().await, stack.client().await);
    thief.authenticate(&lost).await;
    alice.authenticate(&kept).await;
    renewed.authenticate(&lost).await;
    renewed.authenticate(&fresh("alice")).await;
    backend.revoke(&json!({"jti": "lost"})).await;
    is_ended(&mut thief).await;
    works(&mut alice, &kept).await;
    assert_eq!(
        renewed.request("echo", None, json!(2)).await["payload"],
        2,
        "it lives by another token"
    );
    let answer = alice.request("echo", Some(&lost), json!(3)).await;
    assert_eq!(answer["error"]["code"], "token_revoked", "{answer}");
    alice.expect_close(4503, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_is_revoked_and_its_token_is_still_good_for_others() {
    let stack = stack(1, 2).await;
    let mut backend = stack.producer().await;
    let token = fresh("alice");
    let (mut doomed, mut other) = (stack.client().await, stack.client().await);
    let auth = doomed.authenticate(&token).await;
    other.authenticate(&token).await;
    backend.revoke(&json!({"connection": connection_of(&auth)})).await;
    is_ended(&mut doomed).await;
    works(&mut other, &token).await;
    works(&mut stack.client().await, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_issued_before_a_time_is_revoked_and_nothing_later() {
    let stack = stack(1, 2).await;
    let mut backend = stack.producer().await;
    let (mut old, mut new, mut nameless) = (stack.client().await, stack.client().await, stack.client().await);
    let (older, newer) = (older("alice").mint(), fresh("bob"));
    let undated = token_for("carol").without("iat").mint();
    old.authenticate(&older).await;
    new.authenticate(&newer).await;
    nameless.authenticate(&undated).await;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    backend.revoke(&json!({"issued_before": now - 30})).await;
    is_ended(&mut old).await;
    is_ended(&mut nameless).await;
    is_worthless(stack.client().await, &older).await;
    works(&mut new, &newer).await;
    works(&mut stack.client().await, &newer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_grace_a_fresh_token_is_asked_for_first() {
    let stack = stack(1, 2).await;
    let mut backend = stack.producer().await;
    let (mut obedient, mut idle) = (stack.client().await, stack.client().await);
    let token = fresh("alice");
    obedient.authenticate(&token).await;
    idle.authenticate(&token).await;
    let since = Instant::now();
    backend.revoke(&json!({"subject": "alice", "grace": "4s"})).await;
    for client in [&mut obedient, &mut idle] {
        let required = client.expect_required("revoked", SOON).await;
        assert!(
            required["deadline_ms"]
                .as_u64()
                .is_some_and(|ms| (1..=4_000).contains(&ms)),
            "{required}"
        );
    }
    assert_eq!(
        obedient.request("echo", None, json!(1)).await["payload"],
        1,
        "until then it is in force"
    );
    obedient.authenticate(&issued_later("alice").await).await;
    let before = idle.expect_close(4503, SOON).await;
    assert_eq!(before.last().expect("an error")["error"]["code"], "token_revoked");
    assert!(since.elapsed() >= 4.s(), "closed after {:?}", since.elapsed());
    assert_eq!(obedient.request("echo", None, json!(2)).await["payload"], 2);
    is_worthless(stack.client().await, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_starts_later_knows_of_it() {
    let mut stack = stack(1, 1).await;
    let mut backend = stack.producer().await;
    let token = fresh("alice");
    backend.revoke(&json!({"subject": "alice"})).await;
    stack.worker(0).kill();
    stack.replace_ended_workers();
    stack.worker(0).ready().await;
    is_worthless(stack.client().await, &token).await;
    stack.start_terminators(1).await;
    is_worthless(stack.client_of(1).await, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_while_no_worker_is_there_is_in_force_as_soon_as_one_is() {
    let mut stack = stack(1, 1).await;
    let mut alice = stack.client().await;
    let token = fresh("alice");
    alice.authenticate(&token).await;
    stack.worker(0).kill();
    let queue = stack.queue().await;
    let mut replies = queue.reply_queue().await;
    let body = json!({"subject": "alice"}).to_string();
    queue.publish("revoke", body, replies.properties()).await;
    stack.replace_ended_workers();
    assert_eq!(replies.next(30.s()).await.json()["outcome"], "revoked");
    is_ended(&mut alice).await;
    is_worthless(stack.client().await, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_whom_all_is_revoked_is_written_to_nobody_but_the_next() {
    let stack = stack(1, 2).await;
    let mut backend = stack.producer().await;
    let mut alice = stack.client().await;
    let token = fresh("alice");
    alice.authenticate(&token).await;
    backend.revoke(&json!({"subject": "alice"})).await;
    let outcome = backend.push(&Push::to("alice", "later")).await;
    assert_eq!(outcome["outcome"], "held", "{outcome}");
    let before = alice.expect_close(4503, SOON).await;
    assert!(!format!("{before:?}").contains("later"), "{before:?}");
    let mut next = stack.client().await;
    next.authenticate(&issued_later("alice").await).await;
    assert_eq!(next.push(SOON).await["payload"], "later");
    not_asked(&mut next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_revocation_is_refused_and_revokes_nothing() {
    let stack = stack(1, 1).await;
    let mut backend = stack.producer().await;
    let mut alice = stack.client().await;
    alice.authenticate(&fresh("alice")).await;
    for what in [
        json!({}),
        json!(null),
        json!([]),
        json!({"subject": 7}),
        json!({"subject": "alice", "jti": "both"}),
        json!({"subject": "alice", "grace": "long"}),
        json!({"subject": "alice", "issued_before": "yesterday"}),
        json!({"connection": "none"}),
        json!({"subjekt": "alice"}),
    ] {
        let outcome = backend.try_revoke(&what).await;
        assert_eq!(outcome["outcome"], "refused", "{what}: {outcome}");
        assert_eq!(outcome["error"]["code"], "bad_request", "{what}: {outcome}");
    }
    let answer = alice.request("whoami", None, Value::Null).await;
    assert_eq!(answer["payload"]["subject"], "alice", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_revoked_by_its_sid_and_the_subjects_others_are_not() {
    let stack = stack(2, 2).await;
    let mut backend = stack.producer().await;
    let of = |sid: &str| token_for("alice").claim("sid", sid).mint();
    let (this, also, other) = (of("s-1"), of("s-1"), of("s-2"));
    let (mut here, mut there) = (stack.client_of(0).await, stack.client_of(1).await);
    let (mut elsewhere, mut without) = (stack.client_of(1).await, stack.client_of(0).await);
    here.authenticate(&this).await;
    works(&mut there, &also).await;
    elsewhere.authenticate(&other).await;
    let plain = fresh("alice");
    without.authenticate(&plain).await;
    backend.revoke(&json!({"sid": "s-1"})).await;
    is_ended(&mut here).await;
    is_ended(&mut there).await;
    // Whatever was or is issued in that session, also by an issuer whose clock is ahead.
    let renewed = token_for("alice").claim("sid", "s-1");
    let soon = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    for token in [this, also, renewed.claim("iat", soon).mint()] {
        is_worthless(stack.client_of(1).await, &token).await;
    }
    works(&mut elsewhere, &other).await;
    works(&mut without, &plain).await;
    for (wrong, why) in [
        (json!({"sid": ""}), "sid"),
        (json!({"sid": 7}), "sid"),
        (json!({"sid": "s-2", "subject": "alice"}), "several"),
        (json!({"sid": "s-2", "issuer": "https://nobody.example"}), "issuer"),
    ] {
        let refusal = backend.try_revoke(&wrong).await;
        assert_eq!(refusal["error"]["code"], "bad_request", "{refusal}");
        assert!(refusal["error"]["message"].as_str().unwrap().contains(why), "{refusal}");
    }
    works(&mut elsewhere, &other).await;
}
