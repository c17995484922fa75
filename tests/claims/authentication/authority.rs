//! Whose rights a message acts with: those of the token that it brought or, if it brought none, of its connection's grant
//! at its place in the order; and never more. `docs/authority.md` is the whole table.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tests::tokens::token::Builder;
use tests::{Client, Span, Stack, connection_of, token_for};

use super::expiry::{SOON, refused};

/// How often what competing workers could disorder is tried.
const ROUNDS: usize = 10;

async fn stack(settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .poisoned_workers(3)
        .setting("jwt-leeway", "0s")
        .setting("messages-per-second", "off")
        .setting("required-scopes", "admin.#=admin")
        .settings(settings)
        .start()
        .await
}

fn now_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    now.as_secs()
}

fn scoped(scope: &str) -> Builder<'static> {
    token_for("alice").claim("scope", scope)
}

fn reader() -> String {
    scoped("read").mint()
}

fn administrator() -> String {
    scoped("read admin").mint()
}

/// One that was issued so long ago, and is good for so much longer.
fn issued_ago(scope: &str, ago: u64, left: Duration) -> Builder<'static> {
    scoped(scope).claim("iat", now_s() - ago).expiring_in(left)
}

/// What became of `admin.x`: `reply`, or the code of its refusal.
async fn fate(client: &mut Client, id: &str) -> String {
    let answer = client.answer_to(id, SOON).await;
    let code = answer["error"]["code"].as_str();
    code.or(answer["type"].as_str()).unwrap_or_default().to_owned()
}

async fn admin(client: &mut Client, token: Option<&str>) -> String {
    let id = client.ask("admin.x", token, json!(1)).await;
    fate(client, &id).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_a_token_acts_by_that_and_not_by_what_was_there_before() {
    let stack = stack(&[]).await;
    for (before, shown, expected) in [
        (administrator(), reader(), "forbidden"),
        (reader(), administrator(), "reply"),
    ] {
        for _ in 0..ROUNDS {
            let mut client = stack.client().await;
            client.authenticate(&before).await;
            // Anyone who takes it is slow, and the others are not.
            let first = client.ask("slow", Some(&shown), json!(1)).await;
            let mut behind = Vec::new();
            for _ in 0..3 {
                behind.push(client.ask("admin.x", None, json!(1)).await);
            }
            for id in behind {
                assert_eq!(fate(&mut client, &id).await, expected);
            }
            assert_eq!(client.answer_to(&first, SOON).await["type"], "reply");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_hides_its_name_is_refused() {
    let stack = stack(&[]).await;
    let mut client = stack.client().await;
    client.authenticate(&administrator()).await;
    let text = format!(r#"{{"id":"e","type":"echo","tok\u0065n":"{}"}}"#, reader());
    client.send_text(&text).await;
    assert_eq!(refused(&mut client, "e").await, "bad_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_that_is_let_in_acts_by_its_own_claims() {
    let stack = stack(&[("on-unauthenticated", "ignore")]).await;
    for (scope, expected) in [("read", "forbidden"), ("admin", "reply")] {
        let expired = scoped(scope).expired_since(60.s()).mint();
        let mut client = stack.client().await;
        assert_eq!(
            admin(&mut client, Some(&expired)).await,
            "token_expired",
            "nobody was proved"
        );
        client.authenticate(&administrator()).await;
        assert_eq!(admin(&mut client, Some(&expired)).await, expected, "{scope}");
        assert_eq!(admin(&mut client, None).await, "reply", "and that changes nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_each_message_needs_its_own_token_one_without_is_refused_whatever_the_policy() {
    for policy in ["ignore", "close", "reauthenticate"] {
        let stack = stack(&[("strategy", "per-message"), ("on-unauthenticated", policy)]).await;
        for live in [false, true] {
            let mut client = stack.client().await;
            if live {
                client.authenticate(&administrator()).await;
            }
            let id = client.ask("admin.x", None, json!(1)).await;
            if policy == "close" {
                let before = client.expect_close(4401, SOON).await;
                let answer = before.iter().find(|message| message["id"] == id.as_str());
                assert_eq!(
                    answer.map(|answer| &answer["error"]["code"]),
                    Some(&json!("auth_required"))
                );
                continue;
            }
            assert_eq!(fate(&mut client, &id).await, "auth_required", "{policy}");
            // Another application's token on the same connection is nothing to it.
            assert_eq!(admin(&mut client, Some(&administrator())).await, "reply");
            client.expect_nothing_shown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_with_a_token_of_its_own_is_handled_by_what_both_tokens_allow() {
    for strategy in ["per-message", "both"] {
        let stack = stack(&[("strategy", strategy)]).await;
        for (own, renewing, expected) in [
            ("read", "read admin", "forbidden"),
            ("read admin", "read", "forbidden"),
            ("read admin", "admin", "reply"),
        ] {
            let mut client = stack.client().await;
            let expired = scoped(own).expired_since(60.s()).mint();
            let id = client.ask("admin.x", Some(&expired), json!(1)).await;
            client.expect_required("expired", SOON).await;
            client.authenticate(&scoped(renewing).mint()).await;
            assert_eq!(fate(&mut client, &id).await, expected, "{own} and {renewing}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_issued_earlier_than_the_one_in_force_changes_nothing() {
    let stack = stack(&[("on-expired-push", "reauthenticate")]).await;
    let mut backend = stack.producer().await;
    let mut client = stack.client().await;
    client.authenticate(&administrator()).await;
    let older = issued_ago("read", 60, 2.s());
    let text = older.mint();
    assert_eq!(client.request("echo", Some(&text), json!(1)).await["payload"], 1);
    assert_eq!(
        admin(&mut client, Some(&text)).await,
        "forbidden",
        "it acts for its own message"
    );
    assert_eq!(admin(&mut client, None).await, "reply", "and for no other");
    let auth = client.try_authenticate(&text).await;
    assert_eq!(
        (&auth["type"], &auth["auth"]),
        (&json!("auth.ok"), &Value::Null),
        "{auth}"
    );
    older.expired().await;
    assert_eq!(admin(&mut client, None).await, "reply");
    assert_eq!(backend.push_to("alice", 1).await, "delivered");
    assert_eq!(client.push(SOON).await["payload"], 1);
    assert_eq!(client.waiting().count(), 0, "no fresh token is asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_tokens_that_are_under_way_the_one_issued_later_is_the_connection_s() {
    let stack = stack(&[]).await;
    for _ in 0..ROUNDS {
        let mut client = stack.client().await;
        let first = client.ask("slow", Some(&administrator()), json!(1)).await;
        let older = issued_ago("read", 60, 60.s()).mint();
        let second = client.ask("echo", Some(&older), json!(2)).await;
        let third = client.ask("admin.x", None, json!(3)).await;
        assert_eq!(fate(&mut client, &third).await, "reply");
        for id in [first, second] {
            assert_eq!(fate(&mut client, &id).await, "reply");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stronger_token_lasts_as_long_as_the_setting_says() {
    for (elevation, afterwards) in [("connection", "reply"), ("message", "forbidden")] {
        let stack = stack(&[("elevation", elevation)]).await;
        let mut client = stack.client().await;
        assert_eq!(client.request("echo", Some(&reader()), json!(1)).await["type"], "reply");
        assert_eq!(admin(&mut client, Some(&administrator())).await, "reply");
        assert_eq!(admin(&mut client, None).await, afterwards, "{elevation}");
        client.authenticate(&administrator()).await;
        assert_eq!(
            admin(&mut client, None).await,
            "reply",
            "what is shown for the connection lasts"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_revoked_when_its_time_is_over_too() {
    for policy in ["ignore", "reauthenticate"] {
        let stack = stack(&[("on-unauthenticated", policy)]).await;
        let mut backend = stack.producer().await;
        let jti = format!("expired-{policy}");
        let expired = scoped("admin").expired_since(10.s()).claim("jti", jti.as_str()).mint();
        backend.revoke(&json!({"jti": jti})).await;
        let mut client = stack.client().await;
        client.authenticate(&administrator()).await;
        let id = client.ask("admin.x", Some(&expired), json!(1)).await;
        let before = client.expect_close(4503, SOON).await;
        let answer = before.iter().find(|message| message["id"] == id.as_str());
        assert_eq!(
            answer.map(|answer| &answer["error"]["code"]),
            Some(&json!("token_revoked")),
            "{policy}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_when_its_token_is_revoked_is_refused_to_whoever_waits() {
    let stack = stack(&[]).await;
    let mut backend = stack.producer().await;
    for (target, own) in [
        ("subject", false),
        ("subject", true),
        ("jti", false),
        ("jti", true),
        ("connection", false),
    ] {
        let mut client = stack.client().await;
        let jti = format!("held-{target}-{own}");
        let subject = format!("alice-{jti}");
        let issued_at = now_s() - 60;
        let brief = token_for(&subject).claim("scope", "admin").claim("jti", jti.as_str());
        let brief = brief.claim("iat", issued_at).expiring_in(1.s());
        let text = brief.mint();
        let auth = client.authenticate(&text).await;
        brief.expired().await;
        let id = client.ask("admin.x", own.then_some(text.as_str()), json!(1)).await;
        client.expect_required("expired", SOON).await;
        let revocation = match target {
            "subject" => json!({"subject": subject, "issued_before": now_s() - 30}),
            "jti" => json!({"jti": jti}),
            _ => json!({"connection": connection_of(&auth)}),
        };
        backend.revoke(&revocation).await;
        client.expect_close(4503, SOON).await;
        // It is the identity's next connection that is told.
        let mut next = stack.client().await;
        let resume = json!({"resume": auth["resume"]});
        let fresh = token_for(&subject).claim("scope", "admin").mint();
        let again = json!({"id": "in", "type": "auth.authenticate", "token": fresh, "payload": resume});
        next.send_json(&again).await;
        assert_eq!(next.answer_to("in", SOON).await["type"], "auth.ok");
        assert_eq!(fate(&mut next, &id).await, "token_revoked", "{target}, {own}");
    }
}
