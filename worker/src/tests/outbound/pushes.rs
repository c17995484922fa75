//! What becomes of a push.

use std::time::Duration;

use serde_json::json;
use shared::bus::topology::keys;
use shared::bus::{Bus, Properties, Route, Value};
use shared::envelope::{Bounced, Errand};
use shared::grant::Policy;
use shared::id::{ConnectionId, Sequence, TerminatorId};

use super::{Outcomes, tag};
use crate::store::Store;
use crate::tests::bench::{Bench, settle};

const TO_ALICE: [(&str, &str); 1] = [("subject", "alice")];

fn elsewhere() -> ConnectionId {
    ConnectionId {
        terminator: TerminatorId::random(),
        number: 1,
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_reaches_every_live_connection_of_its_identity_and_nobody_else() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench.connect(bench.connection(1), "alice", 300).await;
    bench.connect(bench.connection(2), "alice", 300).await;
    bench.connect(bench.connection(3), "bob", 300).await;
    bench.push(&TO_ALICE, r#"{"n":1}"#, outcomes.wanted("a")).await;
    for number in [1, 2] {
        let (connection, key, released, body) = bench.written().await;
        assert_eq!((connection, released), (bench.connection(number), false));
        assert_eq!(key, "p:a");
        assert_eq!(body, json!({"type": "push", "id": "a", "payload": {"n": 1}}));
    }
    assert_eq!(
        outcomes.next().await,
        ("about a".to_owned(), json!({"outcome": "delivered", "connections": 2}))
    );
    bench.expect_no_answer().await;
    assert!(bench.is_empty(&bench.names.pushes()).await);
    assert_eq!(bench.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_push_for_nobody_waits_for_the_identity_s_next_connection() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    for name in ["a", "b"] {
        bench.push(&TO_ALICE, "1", outcomes.wanted(name)).await;
        assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    }
    assert_eq!(
        bench.connect(bench.connection(1), "alice", 300).await,
        2,
        "it is told so"
    );
    bench.fetch(bench.connection(1), "alice").await;
    for name in ["a", "b"] {
        let (connection, key, released, _) = bench.written().await;
        assert_eq!(
            (connection, key, released),
            (bench.connection(1), format!("p:{name}"), true)
        );
    }
    assert_eq!(bench.errand().await.1, Errand::Fetched { left: 0 });
    assert_eq!(bench.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn whoever_registers_while_a_push_is_put_away_is_told_of_it() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let entry = bench.entry(bench.connection(1), 300);
    *bench.store.registers_before_a_hold.lock().unwrap() = Some((tag("alice"), entry));
    bench.push(&TO_ALICE, "1", Properties::default()).await;
    let (connection, errand, _) = bench.errand().await;
    assert_eq!((connection, errand), (bench.connection(1), Errand::Wake { from: None }));
    assert_eq!(bench.held("alice").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_push_for_lapsed_connections_alone_is_held_when_it_comes_back_and_told_to_whoever_came_meanwhile() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench.connect(bench.connection(1), "alice", -1).await;
    bench.push(&TO_ALICE, "1", outcomes.wanted("a")).await;
    let came = bench.returned().await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    assert_eq!(
        bench.held("alice").await,
        [""; 0],
        "it would overtake what its terminator has still to give back"
    );
    bench.connect(bench.connection(2), "alice", 300).await;
    bench.bounce(Bounced::Lapsed, came).await;
    let (connection, errand, _) = bench.errand().await;
    assert_eq!((connection, errand), (bench.connection(2), Errand::Wake { from: None }));
    assert_eq!(bench.held("alice").await, ["p:a"]);
    bench.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn where_lapses_are_ignored_a_lapsed_connection_is_as_good_as_any() {
    let mut bench = Bench::new();
    bench.limits.on_expired_push = Policy::Ignore;
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench.connect(bench.connection(1), "alice", -1).await;
    bench.push(&TO_ALICE, "1", outcomes.wanted("a")).await;
    assert_eq!(
        outcomes.next().await.1,
        json!({"outcome": "delivered", "connections": 1})
    );
    assert_eq!(bench.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_terminator_that_does_not_listen_counts_for_nothing_and_finds_everything_when_it_is_back() {
    let bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    let dead = elsewhere();
    let queue = bench.names.return_queue(dead.terminator);
    drop(bench.bus.consumer(queue.clone(), 1));
    settle().await;
    bench.connect(dead, "alice", 300).await;
    bench.push(&TO_ALICE, "1", outcomes.wanted("a")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    assert_eq!(bench.held("alice").await, ["p:a"]);
    settle().await;
    // The push, and the word that it is held too.
    assert_eq!(bench.bus.depth(&queue.name), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_terminator_s_queue_is_gone_leaves_the_index() {
    let bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench.connect(elsewhere(), "alice", 300).await;
    bench.push(&TO_ALICE, "1", outcomes.wanted("a")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    assert_eq!(bench.store.connections(tag("alice")).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_push_for_a_connection_goes_there_in_the_name_of_whoever_it_is() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench.connect(bench.connection(1), "alice", 300).await;
    bench.connect(bench.connection(2), "alice", 300).await;
    let name = bench.connection(2).to_string();
    bench.push(&[("connection", &name)], "1", outcomes.wanted("a")).await;
    match bench.errand().await {
        (connection, Errand::Write(write), _) => {
            assert_eq!(connection, bench.connection(2));
            assert_eq!(write.identity, Some(tag("alice")));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        outcomes.next().await.1,
        json!({"outcome": "delivered", "connections": 1})
    );
    bench.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn a_push_for_a_connection_that_is_not_there_has_no_recipient() {
    let bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    let (closed, gone) = (bench.connection(1), elsewhere());
    bench.connect(closed, "alice", 300).await;
    bench.store.close(closed, Sequence::new(9)).await.unwrap();
    bench.connect(gone, "alice", 300).await;
    for name in [bench.connection(99), closed, gone].map(|connection| connection.to_string()) {
        bench.push(&[("connection", &name)], "1", outcomes.wanted("a")).await;
        assert_eq!(outcomes.next().await.1, json!({"outcome": "no_recipient"}), "{name}");
    }
    assert_eq!(bench.held("alice").await, [""; 0], "nobody else gets it");
}

#[tokio::test(start_paused = true)]
async fn a_push_for_a_lapsed_connection_is_left_to_its_terminator() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench.connect(bench.connection(1), "alice", -1).await;
    let name = bench.connection(1).to_string();
    bench.push(&[("connection", &name)], "1", outcomes.wanted("a")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    assert_eq!(bench.written().await.0, bench.connection(1));
}

#[tokio::test(start_paused = true)]
async fn a_push_that_is_none_is_refused_and_never_lost_in_silence() {
    let bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench.push(&[], "1", outcomes.wanted("a")).await;
    let (about, outcome) = outcomes.next().await;
    assert_eq!((about.as_str(), &outcome["outcome"]), ("about a", &json!("refused")));
    assert_eq!(outcome["error"]["code"], "bad_request");
    // A queue of ours is nobody who could be told.
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let ours = Properties {
        reply_to: Some(bench.names.return_queue(bench.terminator).name),
        ..Properties::default()
    };
    bench.push(&TO_ALICE, &format!("{{\"token\":\"{token}\""), ours).await;
    let letter = bench.next_of(bench.names.dead()).await;
    assert_eq!(
        letter.properties.header("reason"),
        Some(&Value::Text("bad_request".to_owned()))
    );
    assert_eq!(
        letter.properties.header("queue"),
        Some(&Value::Text(bench.names.pushes().name))
    );
    assert!(!String::from_utf8_lossy(&letter.body).contains("eyJ"));
    assert!(bench.is_empty(&bench.names.pushes()).await);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_the_hold_is_told_to_its_producer_or_goes_to_the_dead_letters() {
    let bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    for number in 0..bench.limits.hold.messages {
        bench.push(&TO_ALICE, "1", outcomes.wanted(&number.to_string())).await;
        assert_eq!(outcomes.next().await.1["outcome"], "held");
    }
    bench.push(&TO_ALICE, "1", outcomes.wanted("too many")).await;
    let (about, outcome) = outcomes.next().await;
    assert_eq!(
        (about.as_str(), &outcome["error"]["code"]),
        ("about too many", &json!("hold_overflow"))
    );
    bench.push(&TO_ALICE, "1", Properties::default()).await;
    let letter = bench.next_of(bench.names.dead()).await;
    assert_eq!(
        letter.properties.header("reason"),
        Some(&Value::Text("hold_overflow".to_owned()))
    );
}

#[tokio::test(start_paused = true)]
async fn pushes_arrive_in_their_order_whichever_worker_has_them() {
    let mut bench = Bench::new();
    bench.connect(bench.connection(1), "alice", 300).await;
    bench.connect(bench.connection(2), "bob", 300).await;
    let mut workers = vec![bench.worker(), bench.worker(), bench.worker()];
    for number in 0..90 {
        let properties = Properties {
            message_id: Some(number.to_string()),
            ..Properties::default()
        };
        let subject = if number % 3 == 0 { "bob" } else { "alice" };
        bench.push(&[("subject", subject)], "1", properties).await;
        if number % 30 == 20 {
            drop(workers.remove(0));
            workers.push(bench.worker());
        }
    }
    // What a dead worker had sent may come again, as it does to a real terminator, which knows it by its key.
    let mut seen = Vec::new();
    while seen.len() < 90 {
        let (_, key, ..) = bench.written().await;
        let number: u32 = key.trim_start_matches("p:").parse().unwrap();
        if !seen.contains(&number) {
            seen.push(number);
        }
    }
    for of_bob in [true, false] {
        let of_one: Vec<_> = seen.iter().filter(|number| (**number % 3 == 0) == of_bob).collect();
        assert!(of_one.is_sorted(), "{of_one:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_pushes_wait_in_their_order() {
    let mut bench = Bench::new();
    bench.connect(bench.connection(1), "alice", 300).await;
    let _worker = bench.worker();
    settle().await;
    bench.store.set_away(true);
    for name in ["a", "b", "c"] {
        let properties = Properties {
            message_id: Some(name.to_owned()),
            ..Properties::default()
        };
        bench.push(&TO_ALICE, "1", properties).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    bench.store.set_away(false);
    for name in ["a", "b", "c"] {
        assert_eq!(bench.written().await.1, format!("p:{name}"));
    }
    assert!(bench.is_empty(&bench.names.pushes()).await);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_gives_back_the_pushes_that_it_cannot_bring_to_an_end() {
    let mut bench = Bench::new();
    bench.connect(bench.connection(1), "alice", 300).await;
    let worker = bench.worker();
    settle().await;
    bench.store.set_away(true);
    for name in ["a", "b", "c"] {
        let properties = Properties {
            message_id: Some(name.to_owned()),
            ..Properties::default()
        };
        bench.push(&TO_ALICE, "1", properties).await;
    }
    settle().await;
    worker.shutdown();
    worker.join().await;
    settle().await;
    assert_eq!(bench.bus.depth(&bench.names.pushes().name), (3, 0));
    bench.store.set_away(false);
    let _next = bench.worker();
    for name in ["a", "b", "c"] {
        assert_eq!(bench.written().await.1, format!("p:{name}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_takes_no_outcomes_holds_up_nobody() {
    let mut bench = Bench::new();
    bench.connect(bench.connection(1), "alice", 300).await;
    let _worker = bench.worker();
    let nobody = Properties {
        reply_to: Some("nobody's".to_owned()),
        ..Properties::default()
    };
    for _ in 0..2 {
        bench.push(&TO_ALICE, "1", nobody.clone()).await;
        bench.written().await;
    }
    assert!(bench.is_empty(&bench.names.pushes()).await);
}

#[tokio::test(start_paused = true)]
async fn the_producer_of_a_push_that_failed_for_good_is_told_in_its_own_words() {
    let bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    let mut properties = outcomes.wanted("a");
    let queue = bench.names.pushes().name;
    properties
        .headers
        .push(("x-death-queue".to_owned(), Value::Text(queue)));
    let failed = Route::new(&bench.names.internal_exchange().name, keys::FAILED);
    bench.publish(failed.clone(), "1", properties.clone()).await;
    let (about, outcome) = outcomes.next().await;
    assert_eq!((about.as_str(), &outcome["outcome"]), ("about a", &json!("refused")));
    // And nobody has it written where only workers may.
    properties.reply_to = Some(bench.names.return_queue(bench.terminator).name);
    bench.publish(failed, "1", properties).await;
    settle().await;
    let queue = bench.names.return_queue(bench.terminator).name;
    assert_eq!(bench.bus.depth(&queue), (0, 0));
}
