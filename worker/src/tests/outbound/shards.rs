//! Pushes that are passed on to several queues.

use std::collections::BTreeMap;

use serde_json::json;
use shared::bus::{Bus as _, Properties, Route, Value};

use super::Outcomes;
use crate::tests::fixture::{Fixture, settle};

#[tokio::test(start_paused = true)]
async fn what_is_passed_on_is_brought_on_its_way_in_the_order_of_each_identity_and_told() {
    const EACH: usize = 20;
    let mut fixture = Fixture::new();
    fixture.limits.push_shards = 3;
    let _workers = [fixture.worker(), fixture.worker()];
    let mut outcomes = Outcomes::of(&fixture);
    let subjects = ["alice", "bob", "carol", "dave"];
    for (number, subject) in (1..).zip(subjects) {
        fixture.connect(fixture.connection(number), subject, 300).await;
    }
    for number in 0..EACH {
        for subject in subjects {
            let headers = [("subject", subject)];
            fixture.push(&headers, &number.to_string(), Properties::default()).await;
        }
        if number == EACH / 2 {
            let all = json!(["alice", "bob", "carol", "dave", "erin"]).to_string();
            fixture
                .push(&[("subjects", &all)], r#""all""#, outcomes.wanted("all"))
                .await;
        }
    }
    let mut seen: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for _ in 0..subjects.len() * (EACH + 1) {
        let (connection, _, _, body) = fixture.written().await;
        seen.entry(connection).or_default().push(body["payload"].clone());
    }
    let mut expected: Vec<_> = (0..EACH).map(|number| json!(number)).collect();
    expected.insert(EACH / 2 + 1, json!("all"));
    for number in 1..=4 {
        assert_eq!(seen[&fixture.connection(number)], expected);
    }
    let mut told = Vec::new();
    while told.len() < 5 {
        let (about, outcome) = outcomes.next().await;
        assert_eq!((about.as_str(), &outcome["outcome"]), ("about all", &json!("of_each")));
        told.extend(outcome["outcomes"].as_array().unwrap().clone());
    }
    told.sort_by_key(|one| one["subject"].to_string());
    let words: Vec<_> = told.iter().map(|one| one["outcome"].clone()).collect();
    assert_eq!(words, ["sent", "sent", "sent", "sent", "held"]);
    assert!(fixture.is_empty(&fixture.names.pushes()).await);
}

#[tokio::test(start_paused = true)]
async fn what_was_passed_on_while_there_were_more_queues_is_brought_on_its_way_by_workers_that_know_of_fewer() {
    let fixture = Fixture::new();
    for shard in 0..4 {
        // As a worker of that setting leaves them.
        drop(fixture.bus.consumer(fixture.names.push_shard(shard), 1));
        settle().await;
        let properties = Properties {
            message_id: Some(format!("from {shard}")),
            headers: vec![("subject".to_owned(), Value::Text("alice".to_owned()))],
            ..Properties::default()
        };
        let route = Route::queue(&fixture.names.push_shard(shard).name);
        fixture.publish(route, "1", properties).await;
    }
    let _worker = fixture.worker();
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(fixture.held("alice").await.len(), 3, "as many as may be held");
    assert!(fixture.is_empty(&fixture.names.push_shard(3)).await);
}
