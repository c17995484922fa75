//! What happens to a message without valid authentication: the three policies, each with no one and with someone who has
//! expired.

use serde_json::json;
use shared::service::config::Value;
use shared::wire::envelope::Verdict;
use shared::wire::grant::Policy;
use shared::wire::protocol::Reason;
use shared::wire::revocation::{Revocation, Target};

use super::super::connection::{Conn, Said, bare, with_token};
use super::super::outbound::tag;
use crate::config::{Policies, Strategy};
use crate::tests::fixture::{Fixture, HOLD_TTL, settle, token_for};

fn bench_with(policy: Policy) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.limits.on_unauthenticated = Policies::all(policy);
    fixture
}

fn held_for(said: &Said) -> Option<Reason> {
    match said.answer.verdict {
        Verdict::Held { reason, hold_ms } => {
            assert_eq!(u128::from(hold_ms), HOLD_TTL.as_millis());
            Some(reason)
        }
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn ignore_refuses_whoever_was_never_proved_and_serves_whoever_was_once() {
    for strategy in [Strategy::Both, Strategy::Explicit, Strategy::PerMessage] {
        let mut fixture = bench_with(Policy::Ignore);
        fixture.limits.strategy = strategy;
        let _worker = fixture.worker();
        let mut nobody = Conn::new(&fixture, 1);
        let said = fixture.say(&mut nobody, bare("m")).await;
        assert_eq!((said.code(), said.close()), (&json!("auth_required"), None));
        let mut alice = fixture.expired(2, "alice").await;
        let said = fixture.say(&mut alice, bare("m")).await;
        if strategy == Strategy::PerMessage {
            assert_eq!((said.code(), said.close()), (&json!("auth_required"), None));
        } else {
            // Anyone who lets it in lets its answer out: no guard is asked.
            assert_eq!((&said.body["payload"], said.answer.identity), (&json!("m"), None));
        }
        assert_eq!(said.answer.change, None);
        if strategy != Strategy::Explicit {
            let said = fixture.say(&mut nobody, with_token("m", "alice", 300)).await;
            assert_eq!((said.code(), said.close()), (&json!("token_expired"), None));
            let said = fixture.say(&mut alice, with_token("m", "alice", 300)).await;
            assert_eq!(said.body["type"], "reply", "an expired token of who was proved");
            let said = fixture.say(&mut alice, with_token("m", "bob", 300)).await;
            assert_eq!((said.code(), said.close()), (&json!("token_expired"), None));
        }
        assert!(fixture.app.seen().iter().all(|seen| seen.subject == "alice"));
    }
}

#[tokio::test(start_paused = true)]
async fn close_refuses_and_ends_the_connection() {
    for strategy in [Strategy::Both, Strategy::Explicit, Strategy::PerMessage] {
        let mut fixture = bench_with(Policy::Close);
        fixture.limits.strategy = strategy;
        let _worker = fixture.worker();
        let mut alice = fixture.expired(2, "alice").await;
        let mut nobody = Conn::new(&fixture, 1);
        for conn in [&mut nobody, &mut alice] {
            let said = fixture.say(conn, bare("m")).await;
            assert_eq!((said.code(), said.close()), (&json!("auth_required"), Some(4401)));
            let said = fixture
                .say(
                    conn,
                    json!({"type": "auth.authenticate", "token": token_for("alice", 300)}).to_string(),
                )
                .await;
            assert_eq!((said.code(), said.close()), (&json!("token_expired"), Some(4401)));
            let said = fixture
                .say(conn, json!({"type": "auth.authenticate", "token": "no"}).to_string())
                .await;
            assert_eq!((said.code(), said.close()), (&json!("token_invalid"), Some(4501)));
            if strategy != Strategy::Explicit {
                let said = fixture.say(conn, with_token("m", "alice", 300)).await;
                assert_eq!((said.code(), said.close()), (&json!("token_expired"), Some(4401)));
                let said = fixture.say(conn, json!({"type": "x", "token": "no"}).to_string()).await;
                assert_eq!((said.code(), said.close()), (&json!("token_invalid"), Some(4501)));
            }
        }
        assert_eq!(fixture.app.seen(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn reauthenticate_holds_and_says_why_and_refuses_what_a_fresh_token_would_not_mend() {
    for strategy in [Strategy::Both, Strategy::Explicit, Strategy::PerMessage] {
        let mut fixture = bench_with(Policy::Reauthenticate);
        fixture.limits.strategy = strategy;
        let _worker = fixture.worker();
        let mut alice = fixture.expired(2, "alice").await;
        let mut nobody = Conn::new(&fixture, 1);
        let own_needed = strategy == Strategy::PerMessage;
        for (conn, reason) in [(&mut nobody, Reason::Missing), (&mut alice, Reason::Expired)] {
            let said = fixture.say(conn, bare("m")).await;
            if own_needed {
                assert_eq!((said.code(), said.close()), (&json!("auth_required"), None));
            } else {
                assert_eq!((held_for(&said), &said.body), (Some(reason), &json!(null)));
            }
        }
        if strategy != Strategy::Explicit {
            let said = fixture.say(&mut nobody, with_token("m", "alice", 300)).await;
            assert_eq!(held_for(&said), Some(Reason::Expired));
            let said = fixture
                .say(&mut nobody, json!({"type": "x", "token": "no"}).to_string())
                .await;
            assert_eq!((said.code(), said.close()), (&json!("token_invalid"), None));
            let said = fixture.say(&mut alice, with_token("m", "bob", 300)).await;
            assert_eq!((said.code(), said.close()), (&json!("token_expired"), None));
        }
        let owners: Vec<_> = [&nobody, &alice].into_iter().map(|conn| conn.id).collect();
        let of_nobody = fixture.store.held_messages(owners[0]).await.unwrap();
        let of_alice = fixture.store.held_messages(owners[1]).await.unwrap();
        let (bare, own): (Vec<_>, Vec<_>) = of_nobody.iter().partition(|held| held.allowed.is_none());
        assert_eq!(
            bare.iter().map(|held| held.owner).collect::<Vec<_>>(),
            vec![None; usize::from(!own_needed)]
        );
        assert!(own.iter().all(|held| held.owner == Some(tag("alice"))));
        assert!(
            of_alice
                .iter()
                .all(|held| held.owner == Some(tag("alice")) && held.allowed.is_none())
        );
        assert_eq!(of_alice.is_empty(), own_needed);
        assert_eq!(fixture.app.seen(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_type_may_have_a_policy_of_its_own() {
    let mut fixture = Fixture::new();
    fixture.limits.on_unauthenticated = Policies::parse("reauthenticate,typing=ignore,order=close").unwrap();
    let _worker = fixture.worker();
    let mut conn = fixture.expired(1, "alice").await;
    assert_eq!(
        fixture.say(&mut conn, r#"{"type":"typing"}"#).await.body["type"],
        "reply"
    );
    assert_eq!(fixture.say(&mut conn, r#"{"type":"order"}"#).await.close(), Some(4401));
    assert!(fixture.say(&mut conn, r#"{"type":"other"}"#).await.is_held());
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_serves_nobody_and_ends_the_connection() {
    let mut fixture = bench_with(Policy::Ignore);
    let _worker = fixture.worker();
    let mut conn = fixture.authenticated(1, "alice").await;
    let body = r#"{"subject":"alice"}"#;
    let route = shared::bus::Route::new(&fixture.names.exchange().name, shared::bus::topology::keys::REVOKE);
    fixture.publish(route, body, shared::bus::Properties::default()).await;
    // The broadcast.
    fixture.returned().await;
    settle().await;
    let mut other = Conn::new(&fixture, 2);
    for said in [
        fixture.say(&mut conn, bare("m")).await,
        fixture.say(&mut conn, with_token("m", "alice", 300)).await,
        fixture.say(&mut other, with_token("m", "alice", 400)).await,
    ] {
        assert_eq!((said.code(), said.close()), (&json!("token_revoked"), Some(4503)));
    }
    assert_eq!(
        fixture.say(&mut other, with_token("m", "bob", 300)).await.body["type"],
        "reply"
    );
}

/// The store has it, and no one is told.
async fn alice_is_revoked(fixture: &Fixture) {
    let now = shared::service::clock::Clock::now(&*fixture.clock);
    let revocation = Revocation {
        target: Target::Identity(tag("alice")),
        issued_before: now,
        effective: now,
        until: now.saturating_add(std::time::Duration::from_secs(9_999)),
    };
    fixture.store.revoke(&[revocation]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nobody_is_let_in_before_it_is_known_what_is_revoked_and_what_is_stored_counts() {
    let mut fixture = bench_with(Policy::Ignore);
    alice_is_revoked(&fixture).await;
    fixture.store.set_away(true);
    let _worker = fixture.worker();
    let mut conn = Conn::new(&fixture, 1);
    let said = fixture.say(&mut conn, with_token("m", "bob", 300)).await;
    assert_eq!((said.code(), said.close()), (&json!("auth_unavailable"), None));
    assert_ne!(said.body["error"]["retry_after_ms"], json!(null));
    fixture.store.set_away(false);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert_eq!(
        fixture.say(&mut conn, with_token("m", "bob", 300)).await.body["type"],
        "reply"
    );
    let mut alice = Conn::new(&fixture, 2);
    let said = fixture.say(&mut alice, with_token("m", "alice", 300)).await;
    assert_eq!(said.code(), "token_revoked");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_has_slept_reads_what_was_revoked_before_it_handles_what_it_has_in_hand() {
    let mut fixture = bench_with(Policy::Ignore);
    let _worker = fixture.worker();
    let mut alice = fixture.authenticated(1, "alice").await;
    // The wall clock goes on meanwhile, and what timers wait for comes no nearer.
    fixture.clock.advance(std::time::Duration::from_secs(200));
    alice_is_revoked(&fixture).await;
    let said = fixture.say(&mut alice, bare("m")).await;
    assert_eq!(said.code(), "token_revoked");
    let mut bob = Conn::new(&fixture, 2);
    let said = fixture.say(&mut bob, with_token("m", "bob", 900)).await;
    assert_eq!(said.body["type"], "reply", "{}", said.body);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_starts_waits_a_moment_to_know_what_is_revoked_rather_than_refuse() {
    let mut fixture = Fixture::new();
    let mut conn = Conn::new(&fixture, 1);
    let message_id = conn.message_id();
    let body = with_token("m", "alice", 300);
    fixture
        .forwarded(
            message_id,
            shared::wire::envelope::MessageKind::Message,
            conn.snapshot.clone(),
            body.into(),
        )
        .await;
    fixture.store.set_away(true);
    let _worker = fixture.worker();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    fixture.store.set_away(false);
    assert_eq!(fixture.said().await.body["type"], "reply");
}
