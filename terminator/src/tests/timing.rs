//! What happens because a moment has come; and that all is counted.

use std::sync::Arc;
use std::time::Duration;

use shared::wire::envelope::{Change, Part, Reply};
use shared::wire::grant::{Grant, Policy};
use shared::wire::id::TerminatorId;
use tokio::time::Instant;

use super::common;
use super::fixture::*;
use crate::connection::registry::Registry;

#[tokio::test(start_paused = true)]
async fn who_never_authenticates_is_closed_but_not_while_something_is_on_its_way() {
    let mut fixture = Fixture::with(&[("auth-timeout", "15s")]).await;
    let mut idle = fixture.client().await;
    let mut busy = fixture.client().await;
    busy.send("forwarded").await;
    let (forwarded, _) = fixture.forwarded().await;
    let (mut alice, _) = fixture.client_of(grant(1, 600, Policy::Close)).await;
    pass(Duration::from_secs(14)).await;
    idle.expect_nothing().await;
    pass(Duration::from_secs(1)).await;
    idle.expect_error("auth_required").await;
    assert_eq!(idle.close_code().await, 4408);
    busy.expect_nothing().await;
    fixture.answer(forwarded.message_id, Reply::ONLY, "answer").await;
    assert_eq!(busy.text().await, "answer");
    busy.expect_error("auth_required").await;
    assert_eq!(busy.close_code().await, 4408);
    alice.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_too_late_does_not_put_off_the_end_but_what_was_in_time_is_waited_for() {
    let mut fixture = Fixture::with(&[("auth-timeout", "2s")]).await;
    let mut client = fixture.client().await;
    client.send("in time").await;
    let (in_time, _) = fixture.forwarded().await;
    pass(Duration::from_secs(2)).await;
    client.send("too late").await;
    let (late, _) = fixture.forwarded().await;
    pass(Duration::from_secs(3)).await;
    client.expect_nothing().await;
    fixture.answer(in_time.message_id, Reply::ONLY, "answer").await;
    assert_eq!(client.text().await, "answer");
    pass(Duration::from_secs(1)).await;
    client.expect_error("auth_required").await;
    assert_eq!(client.close_code().await, 4408);
    fixture.answer(late.message_id, Reply::ONLY, "").await;
}

#[tokio::test(start_paused = true)]
async fn who_has_logged_out_has_authenticated_once() {
    let mut fixture = Fixture::with(&[("auth-timeout", "1s")]).await;
    let (mut client, _) = fixture.client_of(grant(1, 600, Policy::Close)).await;
    client.send("auth.logout").await;
    let (forget, _) = fixture.forwarded().await;
    let forgotten = Reply {
        change: Some(Change::Forgotten),
        ..Reply::ONLY
    };
    fixture.answer(forget.message_id, forgotten, "out").await;
    assert_eq!(client.text().await, "out");
    pass(Duration::from_secs(10)).await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_once_for_each_grant_that_it_will_end() {
    let mut fixture = Fixture::new().await;
    let expiring = |seconds, refresh| Grant {
        refresh_at: START.saturating_add(Duration::from_secs(refresh)),
        ..grant(1, seconds, Policy::Reauthenticate)
    };
    let (mut client, _) = fixture.client_of(expiring(100, 80)).await;
    pass(Duration::from_secs(79)).await;
    client.expect_nothing().await;
    let told = client.expect_required("expiring").await;
    assert!(
        (19_000..=20_000).contains(&told["deadline_ms"].as_u64().unwrap()),
        "{told}"
    );
    client.expect_nothing().await;
    fixture.renew(&mut client, expiring(200, 180)).await;
    pass(Duration::from_secs(95)).await;
    client.expect_required("expiring").await;
}

/// All counters of this process together, as other tests count at the same time: only what grows is certain.
async fn sample(name: &str) -> f64 {
    let rendered = shared::service::telemetry::metrics().unwrap().render();
    let line = rendered
        .lines()
        .find(|line| line.starts_with(name) && line[name.len()..].starts_with(' '));
    line.and_then(|line| line.rsplit(' ').next())
        .map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn all_of_it_is_counted() {
    const NAMES: [&str; 8] = [
        r#"countersign_terminator_undelivered_total{reason="expired"}"#,
        r#"countersign_terminator_undelivered_total{reason="gone"}"#,
        r#"countersign_terminator_reauth_requests_total{reason="expired"}"#,
        "countersign_terminator_hold_fetch_requests_total",
        "countersign_terminator_hold_release_requests_total",
        "countersign_terminator_messages_resent_total",
        "countersign_terminator_auth_expirations_total",
        "countersign_terminator_revocations_total",
    ];
    let mut fixture = Fixture::new().await;
    let mut before = Vec::new();
    for name in NAMES {
        before.push(sample(name).await);
    }
    let (mut client, connection) = fixture.client_of(grant(1, 10, Policy::Reauthenticate)).await;
    client.send("sent back").await;
    let (forwarded, body) = fixture.forwarded().await;
    let again = Reply {
        verdict: shared::wire::envelope::Verdict::Again,
        ..Reply::ONLY
    };
    fixture.answer(forwarded.message_id, again, &body).await;
    let (forwarded, _) = fixture.forwarded().await;
    let held = Reply {
        verdict: shared::wire::envelope::Verdict::Held {
            reason: shared::wire::protocol::Reason::Expired,
            hold_ms: 60_000,
        },
        second: true,
        ..Reply::ONLY
    };
    fixture.answer(forwarded.message_id, held, "").await;
    client.expect_required("expired").await;
    pass(Duration::from_secs(11)).await;
    fixture.push(connection, 1, "expired").await;
    fixture.push(connection, 2, "gone").await;
    fixture.renew(&mut client, grant(1, 60, Policy::Reauthenticate)).await;
    let (release, _) = fixture.forwarded().await;
    fixture
        .answer(
            release.message_id,
            Reply {
                part: Part::ONLY,
                ..Reply::ONLY
            },
            "",
        )
        .await;
    fixture
        .revoke(shared::wire::revocation::Revocation {
            target: shared::wire::revocation::Target::Identity(identity(9)),
            issued_before: START,
            effective: START,
            until: START,
        })
        .await;
    for (name, before) in NAMES.iter().zip(before) {
        assert!(sample(name).await > before, "{name}");
    }
}

/// One hundred thousand connections whose grants end within a minute cost less than 2 % of a core: 1.2 s of that minute.
/// As this runs beside other tests and without optimization, it is measured only when asked for:
/// `cargo test --release -p terminator --lib -- --ignored --nocapture a_hundred_thousand`.
#[tokio::test]
#[ignore = "a measurement"]
async fn a_hundred_thousand_connections_that_expire_within_a_minute_cost_little() {
    const CONNECTIONS: u32 = 100_000;
    let registry = Arc::new(Registry::new(TerminatorId::random(), common()));
    let start = registry.common().now();
    let entries: Vec<_> = (0..CONNECTIONS).map(|_| registry.admit()).collect();
    for (number, entry) in entries.iter().enumerate() {
        let ends = start
            .wall
            .saturating_add(Duration::from_millis(number as u64 * 60_000 / u64::from(CONNECTIONS)));
        let refreshes = start
            .wall
            .saturating_add(Duration::from_millis(number as u64 * 48_000 / u64::from(CONNECTIONS)));
        let grant = Grant {
            until: ends,
            refresh_at: refreshes,
            ..crate::session::auth_state::tests::grant(1, 1)
        };
        entry.peer.change(|session, _| session.bind(grant, start));
    }
    let mut spent = Duration::ZERO;
    let mut fired = 0;
    for tick in 1..=600_u32 {
        let now = start.instant + Duration::from_millis(100) * tick;
        let began = Instant::now();
        for (tick, connection) in registry.common().wheel.due(now) {
            if let Some(peer) = registry.numbered(connection) {
                peer.change(|session, _| session.fire(tick, now, true));
                fired += 1;
            }
        }
        spent += began.elapsed();
    }
    println!(
        "{fired} moments of {CONNECTIONS} connections within a minute: {spent:?}, {:.3} % of a core",
        spent.as_secs_f64() / 0.6
    );
    assert!(spent < Duration::from_millis(1_200), "{spent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_requests_are_lost_is_closed_so_that_its_client_asks_again() {
    for order in ["connection", "none"] {
        let mut fixture = Fixture::with(&[("answer-timeout", "5m"), ("order", order)]).await;
        let (mut lost, mut served) = (fixture.client().await, fixture.client().await);
        lost.send("lost").await;
        let _nobody_answers = fixture.forwarded().await;
        lost.send("behind").await;
        for _ in 0..4 {
            served.send("asked").await;
            let (forwarded, _) = bench_request_of(&mut fixture, "asked").await;
            pass(Duration::from_secs(70)).await;
            fixture.answer(forwarded.message_id, Reply::ONLY, "answer").await;
            assert_eq!(served.text().await, "answer");
        }
        lost.expect_nothing().await;
        pass(Duration::from_secs(21)).await;
        if order == "connection" {
            // What was behind it was never forwarded.
            lost.expect_error("busy").await;
        }
        assert_eq!(lost.close_code().await, 1011);
        // Anyone who asks nothing waits for nothing.
        pass(Duration::from_secs(600)).await;
        served.expect_nothing().await;
    }
}

/// The request with that text, whatever comes before it.
async fn bench_request_of(fixture: &mut Fixture, text: &str) -> (shared::wire::envelope::ForwardedMessage, String) {
    loop {
        let (forwarded, body) = fixture.forwarded().await;
        if body == text {
            return (forwarded, body);
        }
    }
}
