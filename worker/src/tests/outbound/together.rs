//! Pushes that gather behind one of the same identity.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;
use shared::bus::Properties;

use super::Outcomes;
use crate::tests::fixture::{Fixture, settle};

const TO_ALICE: [(&str, &str); 1] = [("subject", "alice")];

/// More than go together.
const MANY: usize = 100;

fn named(name: &str) -> Properties {
    Properties {
        message_id: Some(name.to_owned()),
        ..Properties::default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_gathers_for_an_identity_is_looked_up_together_and_stays_in_its_order() {
    let mut fixture = Fixture::new();
    fixture.connect(fixture.connection(1), "alice", 300).await;
    let _worker = fixture.worker();
    settle().await;
    fixture.store.set_away(true);
    for number in 0..MANY {
        fixture.push(&TO_ALICE, "1", named(&number.to_string())).await;
    }
    settle().await;
    fixture.store.set_away(false);
    let before = fixture.store.calls.load(Ordering::SeqCst);
    for number in 0..MANY {
        assert_eq!(fixture.written().await.1, format!("p:{number}"));
    }
    settle().await;
    // The first went alone, and could not; three looks for it, and for each of two lots of what gathered meanwhile.
    let calls = fixture.store.calls.load(Ordering::SeqCst) - before;
    assert!(calls <= 9, "{calls} calls of the store for {MANY} pushes");
    assert!(fixture.is_empty(&fixture.names.pushes()).await);
}

#[tokio::test(start_paused = true)]
async fn each_of_what_gathers_has_its_own_outcome() {
    let mut fixture = Fixture::new();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.connect(fixture.connection(1), "alice", 300).await;
    let _worker = fixture.worker();
    settle().await;
    fixture.store.set_away(true);
    let alone = fixture.connection(1).to_string();
    let elsewhere = fixture.connection(9).to_string();
    for (about, body, headers) in [
        ("first", "1", vec![("subject", "alice")]),
        ("a", "1", vec![("subject", "alice")]),
        ("b", "1", vec![("subject", "alice"), ("except", alone.as_str())]),
        ("c", "1", vec![("connection", alone.as_str())]),
        ("d", "1", vec![("connection", elsewhere.as_str())]),
        // Another, and the same, under a name that was used within the same lot.
        ("a", "2", vec![("subject", "alice")]),
        ("a", "1", vec![("subject", "alice")]),
    ] {
        fixture.push(&headers, body, outcomes.wanted(about)).await;
    }
    settle().await;
    fixture.store.set_away(false);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(outcomes.next().await);
    }
    told.sort_by(|(one, _), (other, _)| one.cmp(other));
    assert_eq!(told[0].0, "about a");
    assert_eq!(told[0].1["error"]["code"], "duplicate");
    assert_eq!(told[1], ("about b".to_owned(), json!({"outcome": "no_recipient"})));
    assert_eq!(told[2], ("about d".to_owned(), json!({"outcome": "no_recipient"})));
    for name in ["first", "a", "c", "a"] {
        let (connection, key, ..) = fixture.written().await;
        assert_eq!((connection, key), (fixture.connection(1), format!("p:{name}")));
    }
    fixture.expect_no_answer().await;
}
