//! What is taken back: who hears of it, and since when.

use std::time::Duration;

use serde_json::json;
use shared::bus::topology::keys;
use shared::bus::{Properties, Route, Value};
use shared::clock::Clock;
use shared::envelope::Return;
use shared::revocation::{Revocation, Target};

use super::bench::{Bench, HOLD_TTL, settle};
use super::outbound::{Outcomes, tag};
use crate::store::Store;
use crate::token::Rules;

impl Bench {
    async fn revoke(&self, body: &str, properties: Properties) {
        let route = Route::new(&self.names.exchange().name, keys::REVOKE);
        self.publish(route, body.to_owned(), properties).await;
    }

    /// A revocation of all that alice has, now in force.
    fn of_alice(&self) -> Revocation {
        let now = self.clock.now().saturating_add(Duration::from_secs(1));
        Revocation {
            target: Target::Identity(tag("alice")),
            issued_before: now,
            effective: self.clock.now(),
            until: now.saturating_add(Duration::from_secs(3_600)),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_stored_then_broadcast_then_told() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench
        .revoke(r#"{"subject":"alice","grace":"30s"}"#, outcomes.wanted("r"))
        .await;
    let told = bench.returned().await;
    let Some(Return::Revoked(revocations)) = Return::read(&told) else {
        panic!("no revocation: {told:?}")
    };
    let revocation = revocations[0];
    assert_eq!(revocation.target, Target::Identity(tag("alice")));
    assert_eq!(
        revocation.issued_before,
        bench.clock.now().saturating_add(Rules::LEEWAY)
    );
    assert_eq!(
        revocation.effective,
        bench.clock.now().saturating_add(Duration::from_secs(30))
    );
    // Of a token that was issued at the last moment that is meant.
    let day = Duration::from_secs(24 * 3_600 + 5) + Rules::LEEWAY + HOLD_TTL;
    assert_eq!(revocation.until, bench.clock.now().saturating_add(day));
    assert_eq!(bench.store.revocations().await.unwrap(), revocations);
    assert_eq!(
        outcomes.next().await,
        ("about r".to_owned(), json!({"outcome": "revoked"}))
    );
    assert!(bench.is_empty(&bench.names.revocations()).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_is_pushed_to_no_more_by_any_worker() {
    let mut bench = Bench::new();
    let mut workers = vec![bench.worker(), bench.worker()];
    // Both have read the store, so that what comes now is only heard.
    settle().await;
    let mut outcomes = Outcomes::of(&bench);
    bench.connect(bench.connection(1), "alice", 300).await;
    let name = bench.connection(1).to_string();
    bench
        .revoke(&json!({"connection": name}).to_string(), outcomes.wanted("r"))
        .await;
    assert_eq!(outcomes.next().await.1["outcome"], "revoked");
    bench.returned().await;
    // Whoever has the queue of pushes now, and whoever has it next.
    for _ in 0..2 {
        bench.push(&[("subject", "alice")], "1", outcomes.wanted("p")).await;
        assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
        drop(workers.remove(0));
        settle().await;
    }
    bench.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_starts_later_knows_what_was_revoked_before() {
    let mut bench = Bench::new();
    bench.connect(bench.connection(1), "alice", 300).await;
    bench.store.revoke(&[bench.of_alice()]).await.unwrap();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench.push(&[("subject", "alice")], "1", outcomes.wanted("p")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    bench.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_pushed_until_all_revocations_are_known() {
    let mut bench = Bench::new();
    bench.connect(bench.connection(1), "bob", 300).await;
    bench.store.set_away(true);
    let _worker = bench.worker();
    bench.push(&[("subject", "bob")], "1", Properties::default()).await;
    bench.expect_no_answer().await;
    bench.store.set_away(false);
    assert_eq!(bench.written().await.0, bench.connection(1));
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_read_from_the_store_before_long() {
    let bench = Bench::new();
    let _worker = bench.worker();
    settle().await;
    bench.connect(bench.connection(1), "alice", 300).await;
    bench.store.revoke(&[bench.of_alice()]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    let mut outcomes = Outcomes::of(&bench);
    bench.push(&[("subject", "alice")], "1", outcomes.wanted("p")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_keeps_a_revocation_from_nobody_and_it_is_said_to_be_in_force_only_when_it_lasts() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    settle().await;
    bench.store.set_away(true);
    bench.revoke(r#"{"subject":"alice"}"#, outcomes.wanted("r")).await;
    assert!(matches!(
        Return::read(&bench.returned().await),
        Some(Return::Revoked(_))
    ));
    let early = tokio::time::timeout(Duration::from_secs(30), outcomes.next()).await;
    assert!(early.is_err());
    bench.store.set_away(false);
    assert_eq!(outcomes.next().await.1["outcome"], "revoked");
    assert!(matches!(
        Return::read(&bench.returned().await),
        Some(Return::Revoked(_))
    ));
    assert_eq!(bench.store.revocations().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_revocation_revokes_nothing_and_is_refused() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench
        .revoke(r#"{"subjct":"alice","issued_before":1}"#, outcomes.wanted("r"))
        .await;
    let (about, outcome) = outcomes.next().await;
    assert_eq!((about.as_str(), &outcome["outcome"]), ("about r", &json!("refused")));
    assert_eq!(outcome["error"]["code"], "bad_request");
    bench.revoke("{}", Properties::default()).await;
    let letter = bench.next_of(bench.names.dead()).await;
    assert_eq!(
        letter.properties.header("queue"),
        Some(&Value::Text(bench.names.revocations().name))
    );
    assert_eq!(bench.store.revocations().await.unwrap(), []);
    bench.expect_no_answer().await;
}
