//! What is revoked: who hears of it, and since when.

use std::time::Duration;

use serde_json::json;
use shared::bus::topology::keys;
use shared::bus::{Properties, Route, Value};
use shared::service::clock::Clock;
use shared::wire::envelope::Return;
use shared::wire::revocation::{Revocation, Target};

use super::fixture::{Fixture, HOLD_TTL, settle};
use super::outbound::{Outcomes, tag};
use crate::token::Rules;

impl Fixture {
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
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture
        .revoke(r#"{"subject":"alice","grace":"30s"}"#, outcomes.wanted("r"))
        .await;
    let told = fixture.returned().await;
    let Some(Return::Revoked(revocations)) = Return::read(&told) else {
        panic!("no revocation: {told:?}")
    };
    let revocation = revocations[0];
    assert_eq!(revocation.target, Target::Identity(tag("alice")));
    assert_eq!(
        revocation.issued_before,
        fixture.clock.now().saturating_add(Rules::LEEWAY)
    );
    assert_eq!(
        revocation.effective,
        fixture.clock.now().saturating_add(Duration::from_secs(30))
    );
    // Of a token that was issued at the last moment that is meant.
    let day = Duration::from_secs(24 * 3_600 + 5) + Rules::LEEWAY + HOLD_TTL;
    assert_eq!(revocation.until, fixture.clock.now().saturating_add(day));
    assert_eq!(fixture.store.revocations().await.unwrap(), revocations);
    assert_eq!(
        outcomes.next().await,
        ("about r".to_owned(), json!({"outcome": "revoked", "connections": 0}))
    );
    assert!(fixture.is_empty(&fixture.names.revocations()).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_revoked_is_pushed_to_no_more_by_any_worker() {
    let mut fixture = Fixture::new();
    let mut workers = vec![fixture.worker(), fixture.worker()];
    // Both have read the store, so that what comes now is only heard.
    settle().await;
    let mut outcomes = Outcomes::of(&fixture);
    fixture.connect(fixture.connection(1), "alice", 300).await;
    let name = fixture.connection(1).to_string();
    fixture
        .revoke(&json!({"connection": name}).to_string(), outcomes.wanted("r"))
        .await;
    assert_eq!(outcomes.next().await.1["outcome"], "revoked");
    fixture.returned().await;
    // Anyone who has the queue of pushes now, and anyone who has it next.
    for _ in 0..2 {
        fixture.push(&[("subject", "alice")], "1", outcomes.wanted("p")).await;
        assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
        drop(workers.remove(0));
        settle().await;
    }
    fixture.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_starts_later_knows_what_was_revoked_before() {
    let mut fixture = Fixture::new();
    fixture.connect(fixture.connection(1), "alice", 300).await;
    fixture.store.revoke(&[fixture.of_alice()]).await.unwrap();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.push(&[("subject", "alice")], "1", outcomes.wanted("p")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    fixture.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_pushed_until_all_revocations_are_known() {
    let mut fixture = Fixture::new();
    fixture.connect(fixture.connection(1), "bob", 300).await;
    fixture.store.set_away(true);
    let _worker = fixture.worker();
    fixture.push(&[("subject", "bob")], "1", Properties::default()).await;
    fixture.expect_no_answer().await;
    fixture.store.set_away(false);
    assert_eq!(fixture.written().await.0, fixture.connection(1));
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_read_from_the_store_before_long() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    settle().await;
    fixture.connect(fixture.connection(1), "alice", 300).await;
    fixture.store.revoke(&[fixture.of_alice()]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(31)).await;
    let mut outcomes = Outcomes::of(&fixture);
    fixture.push(&[("subject", "alice")], "1", outcomes.wanted("p")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_keeps_a_revocation_from_nobody_and_it_is_said_to_be_in_force_only_when_it_lasts() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    settle().await;
    fixture.store.set_away(true);
    fixture.revoke(r#"{"subject":"alice"}"#, outcomes.wanted("r")).await;
    assert!(matches!(
        Return::read(&fixture.returned().await),
        Some(Return::Revoked(_))
    ));
    let early = tokio::time::timeout(Duration::from_secs(30), outcomes.next()).await;
    assert!(early.is_err());
    fixture.store.set_away(false);
    assert_eq!(outcomes.next().await.1["outcome"], "revoked");
    assert!(matches!(
        Return::read(&fixture.returned().await),
        Some(Return::Revoked(_))
    ));
    assert_eq!(fixture.store.revocations().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_revocation_revokes_nothing_and_is_refused() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture
        .revoke(r#"{"subjct":"alice","issued_before":1}"#, outcomes.wanted("r"))
        .await;
    let (about, outcome) = outcomes.next().await;
    assert_eq!((about.as_str(), &outcome["outcome"]), ("about r", &json!("refused")));
    assert_eq!(outcome["error"]["code"], "bad_request");
    fixture.revoke("{}", Properties::default()).await;
    let letter = fixture.next_of(fixture.names.dead()).await;
    assert_eq!(
        letter.properties.header("queue"),
        Some(&Value::Text(fixture.names.revocations().name))
    );
    assert_eq!(fixture.store.revocations().await.unwrap(), []);
    fixture.expect_no_answer().await;
}
