//! What an operator sees of all this, exactly: each test counts for itself alone.

use std::time::Duration;

use metrics::LocalRecorderGuard;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use shared::wire::envelope::{Command, Reply, Verdict};
use shared::wire::grant::Policy;
use shared::wire::protocol::Reason;

use super::fixture::*;

/// What is counted on this thread, as which a test runs with all that it starts.
struct Counted<'a> {
    handle: PrometheusHandle,
    _here: LocalRecorderGuard<'a>,
}

impl<'a> Counted<'a> {
    fn here(recorder: &'a PrometheusRecorder) -> Self {
        Self {
            handle: recorder.handle(),
            _here: metrics::set_default_local_recorder(recorder),
        }
    }

    fn of(&self, sample: &str) -> f64 {
        let name = format!("countersign_terminator_{sample} ");
        let text = self.handle.render();
        let value = text.lines().find_map(|line| line.strip_prefix(name.as_str()));
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    /// How many grants end within each of the times.
    fn expiring(&self) -> [f64; 5] {
        [10, 60, 300, 900, 3_600].map(|within| self.of(&format!("grants_expiring{{within=\"{within}s\"}}")))
    }
}

fn recorder() -> PrometheusRecorder {
    PrometheusBuilder::new().build_recorder()
}

#[tokio::test(start_paused = true)]
async fn messages_that_wait_for_a_token_are_shown_as_long_as_they_do() {
    let recorder = recorder();
    let counted = Counted::here(&recorder);
    let mut fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    for number in 1..=2 {
        client.send("bare").await;
        let (forwarded, _) = fixture.forwarded().await;
        assert_eq!(counted.of("messages_in_flight"), 1.0);
        let held = Reply {
            verdict: Verdict::Held {
                reason: Reason::Missing,
                hold_ms: 60_000,
            },
            ..Reply::ONLY
        };
        fixture.answer(forwarded.message_id, held, "").await;
        assert_eq!(counted.of("held_inbound"), f64::from(number));
        assert_eq!(counted.of("messages_in_flight"), 0.0);
    }
    client.expect_required("missing").await;
    fixture.renew(&mut client, grant(1, 60, Policy::Reauthenticate)).await;
    let (release, _) = fixture.forwarded().await;
    let settled = r#"{"settled":[1,2],"held":[]}"#;
    fixture.answer(release.message_id, Reply::ONLY, settled).await;
    assert_eq!(counted.of("held_inbound"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn what_a_connection_leaves_held_is_not_shown_as_its_own_any_more() {
    let recorder = recorder();
    let counted = Counted::here(&recorder);
    let mut fixture = Fixture::new().await;
    let (client, connection) = fixture.client_of(grant(1, 60, Policy::Reauthenticate)).await;
    fixture.command(connection, Command::Wake { from: None }, "").await;
    fixture.expect_fetch().await;
    fixture.push(connection, 1, "behind").await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(counted.of("held_outbound"), 1.0);
    assert_eq!(counted.expiring(), [0.0, 1.0, 1.0, 1.0, 1.0]);
    drop(client);
    fixture.closed().await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(counted.of("held_outbound"), 0.0);
    assert_eq!(counted.expiring(), [0.0; 5]);
    assert_eq!(counted.of("connections"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn what_waits_behind_a_fetch_is_shown_until_it_is_written() {
    let recorder = recorder();
    let counted = Counted::here(&recorder);
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 60, Policy::Reauthenticate)).await;
    fixture.command(connection, Command::Wake { from: None }, "").await;
    fixture.expect_fetch().await;
    fixture.push(connection, 1, "one").await;
    fixture.push(connection, 1, "two").await;
    assert_eq!(counted.of("held_outbound"), 2.0);
    fixture
        .command(connection, Command::Fetched { left: 0, fetch: 0 }, "")
        .await;
    assert_eq!(client.text().await, "one");
    assert_eq!(client.text().await, "two");
    assert_eq!(counted.of("held_outbound"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_cut_is_counted_as_that_and_as_nothing_else() {
    let recorder = recorder();
    let counted = Counted::here(&recorder);
    let mut fixture = Fixture::new().await;
    let client = fixture.client_with(512).await;
    let (client, connection) = fixture.authenticate(client, grant(1, 10, Policy::Reauthenticate)).await;
    pass(Duration::from_secs(9)).await;
    fixture.push(connection, 1, &"x".repeat(20_000)).await;
    pass(Duration::from_millis(1_300)).await;
    client.rest().await;
    fixture.closed().await;
    assert_eq!(counted.of("connections_closed_total{code=\"cut\"}"), 1.0);
    assert_eq!(counted.of("connections_closed_total{code=\"4401\"}"), 0.0);
    assert_eq!(counted.of("undelivered_total{reason=\"expired\"}"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_wave_of_expiries_is_seen_coming_and_is_over_when_all_are_renewed() {
    let recorder = recorder();
    let counted = Counted::here(&recorder);
    let mut fixture = Fixture::new().await;
    let mut clients = Vec::new();
    for (of, seconds) in [(1, 100), (2, 100), (3, 2_000)] {
        clients.push(fixture.client_of(grant(of, seconds, Policy::Ignore)).await.0);
    }
    pass(Duration::from_secs(2)).await;
    assert_eq!(counted.expiring(), [0.0, 0.0, 2.0, 2.0, 3.0]);
    pass(Duration::from_secs(40)).await;
    assert_eq!(counted.expiring(), [0.0, 2.0, 2.0, 2.0, 3.0], "within a minute now");
    fixture.renew(&mut clients[0], grant(1, 3_000, Policy::Ignore)).await;
    pass(Duration::from_secs(50)).await;
    assert_eq!(
        counted.expiring(),
        [1.0, 1.0, 1.0, 1.0, 3.0],
        "the one that was not renewed"
    );
    pass(Duration::from_secs(10)).await;
    assert_eq!(
        counted.expiring(),
        [0.0, 0.0, 0.0, 0.0, 2.0],
        "what has expired expires no more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_taken_back_ends_with_its_grace() {
    let recorder = recorder();
    let counted = Counted::here(&recorder);
    let mut fixture = Fixture::new().await;
    let (mut client, _) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    fixture.revoke(super::revoking::revocation(1, 30)).await;
    client.expect_required("revoked").await;
    pass(Duration::from_secs(1)).await;
    assert_eq!(counted.expiring(), [0.0, 1.0, 1.0, 1.0, 1.0]);
}
