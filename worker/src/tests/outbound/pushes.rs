//! What becomes of a push.

use std::time::Duration;

use serde_json::json;
use shared::bus::topology::keys;
use shared::bus::{Bus, Properties, Route, Value};
use shared::wire::envelope::{Bounced, Command, Return};
use shared::wire::grant::Policy;
use shared::wire::id::{ConnectionId, Sequence, TerminatorId};

use super::{Outcomes, tag};
use crate::store::Store;
use crate::tests::fixture::{Fixture, HOLD_TTL, settle};

const TO_ALICE: [(&str, &str); 1] = [("subject", "alice")];

fn elsewhere() -> ConnectionId {
    ConnectionId {
        terminator: TerminatorId::random(),
        number: 1,
    }
}

#[tokio::test(start_paused = true)]
async fn a_push_reaches_every_live_connection_of_its_identity_and_nobody_else() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.connect(fixture.connection(1), "alice", 300).await;
    fixture.connect(fixture.connection(2), "alice", 300).await;
    fixture.connect(fixture.connection(3), "bob", 300).await;
    fixture.push(&TO_ALICE, r#"{"n":1}"#, outcomes.wanted("a")).await;
    for number in [1, 2] {
        let (connection, key, released, body) = fixture.written().await;
        assert_eq!((connection, released), (fixture.connection(number), false));
        assert_eq!(key, "p:a");
        assert_eq!(body, json!({"type": "push", "id": "a", "payload": {"n": 1}}));
    }
    assert_eq!(
        outcomes.next().await,
        ("about a".to_owned(), json!({"outcome": "delivered", "connections": 2}))
    );
    fixture.expect_no_answer().await;
    assert!(fixture.is_empty(&fixture.names.pushes()).await);
    assert_eq!(fixture.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_push_is_one_message_for_a_terminator_whatever_the_number_of_its_connections() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    let away = elsewhere();
    let queue = fixture.names.return_queue(away.terminator);
    let mut other = fixture.bus.consumer(queue, 10);
    for number in 1..=50 {
        fixture.connect(fixture.connection(number), "alice", 300).await;
    }
    fixture.connect(away, "alice", 300).await;
    fixture.push(&TO_ALICE, "1", outcomes.wanted("a")).await;
    let Some(Return::Spread(spread)) = Return::read(&fixture.raw().await) else {
        panic!("it is for several");
    };
    for connection in spread.connections().take(2) {
        fixture.is_written(spread.to_one(connection)).await;
    }
    assert_eq!(
        outcomes.next().await.1,
        json!({"outcome": "delivered", "connections": 51})
    );
    assert!(
        spread
            .connections()
            .eq((1..=50).map(|number| fixture.connection(number)))
    );
    fixture.expect_no_answer().await;
    let alone = other.recv().await.expect("it has one, too");
    assert!(matches!(Return::read(&alone.message), Some(Return::Command(to, Command::Write(_))) if to == away));
    // No one fetches what is for several: the broker gives it up, and it is held once.
    let mut broken = spread.to_message();
    broken.properties.headers.push(fixture.died_in_retry());
    fixture
        .publish(fixture.undelivered(), broken.body, broken.properties)
        .await;
    settle().await;
    assert_eq!(fixture.held("alice").await, ["p:a"]);
}

#[tokio::test(start_paused = true)]
async fn a_push_for_many_is_one_for_each_whose_producer_is_told_once_of_all() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.connect(fixture.connection(1), "alice", 300).await;
    let named: Vec<_> = ["alice", "bob", "", "alice"].map(str::to_owned).into();
    let subjects = json!(named).to_string();
    fixture
        .push(&[("subjects", &subjects)], "1", outcomes.wanted("a"))
        .await;
    let (about, told) = outcomes.next().await;
    assert_eq!((about.as_str(), &told["outcome"]), ("about a", &json!("of_each")));
    let each = told["outcomes"].as_array().unwrap();
    assert_eq!(each.len(), 3);
    assert_eq!(
        each[0],
        json!({"subject": "alice", "outcome": "sent", "connections": 1})
    );
    assert_eq!(each[1], json!({"subject": "bob", "outcome": "held"}));
    assert_eq!(
        (&each[2]["subject"], &each[2]["error"]["code"]),
        (&json!(""), &json!("bad_request"))
    );
    assert_eq!(fixture.written().await.1, "p:a");
    assert_eq!(fixture.held("bob").await, ["p:a"]);
    assert!(fixture.is_empty(&fixture.names.pushes()).await);
    // What becomes of one of them later is told with its name.
    let told = outcomes.next().await.1;
    assert_eq!(
        told,
        json!({"subject": "alice", "outcome": "delivered", "connections": 1})
    );
    fixture.clock.advance(HOLD_TTL + Duration::from_secs(1));
    let told = outcomes.next().await.1;
    assert_eq!(told, json!({"outcome": "expired", "subject": "bob"}));
}

#[tokio::test(start_paused = true)]
async fn a_push_for_as_many_as_may_be_is_done_and_one_for_more_or_none_is_refused() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    let list = |count: usize| json!((0..count).map(|one| format!("u{one}")).collect::<Vec<_>>()).to_string();
    fixture
        .push(&[("subjects", &list(1_000))], "1", outcomes.wanted("a"))
        .await;
    fixture.push(&TO_ALICE, "1", outcomes.wanted("b")).await;
    let (about, told) = outcomes.next().await;
    assert_eq!(
        (about.as_str(), told["outcomes"].as_array().unwrap().len()),
        ("about a", 1_000)
    );
    assert_eq!(outcomes.next().await.0, "about b");
    for wrong in [list(1_001), list(0), "alice".to_owned()] {
        fixture.push(&[("subjects", &wrong)], "1", outcomes.wanted("c")).await;
        let told = outcomes.next().await.1;
        assert_eq!(told["error"]["code"], "bad_request", "{told}");
    }
    assert!(fixture.is_empty(&fixture.names.pushes()).await);
}

#[tokio::test(start_paused = true)]
async fn a_push_for_many_whose_worker_dies_comes_again_for_all() {
    let fixture = Fixture::new();
    let mut outcomes = Outcomes::of(&fixture);
    let subjects = json!(["bob", "carol"]).to_string();
    fixture.store.set_away(true);
    let first = fixture.worker();
    fixture
        .push(&[("subjects", &subjects)], "1", outcomes.wanted("a"))
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(first);
    fixture.store.set_away(false);
    let _second = fixture.worker();
    assert_eq!(outcomes.next().await.1["outcomes"].as_array().unwrap().len(), 2);
    assert_eq!(
        (fixture.held("bob").await, fixture.held("carol").await),
        (vec!["p:a".to_owned()], vec!["p:a".to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_push_for_nobody_waits_for_the_identity_s_next_connection() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    for name in ["a", "b"] {
        fixture.push(&TO_ALICE, "1", outcomes.wanted(name)).await;
        assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    }
    assert_eq!(
        fixture.connect(fixture.connection(1), "alice", 300).await,
        2,
        "it is told so"
    );
    fixture.fetch(fixture.connection(1), "alice").await;
    for name in ["a", "b"] {
        let (connection, key, released, _) = fixture.written().await;
        assert_eq!(
            (connection, key, released),
            (fixture.connection(1), format!("p:{name}"), true)
        );
    }
    assert_eq!(fixture.command().await.1, Command::Fetched { left: 0, fetch: 0 });
    assert_eq!(fixture.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn whoever_registers_while_a_push_is_put_away_is_told_of_it() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let entry = fixture.entry(fixture.connection(1), 300);
    *fixture.store.registers_before_a_hold.lock().unwrap() = Some((tag("alice"), entry));
    fixture.push(&TO_ALICE, "1", Properties::default()).await;
    let (connection, command, _) = fixture.command().await;
    assert_eq!(
        (connection, command),
        (fixture.connection(1), Command::Wake { from: None })
    );
    assert_eq!(fixture.held("alice").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_push_for_expired_connections_alone_is_held_when_it_comes_back_and_told_to_whoever_came_meanwhile() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.connect(fixture.connection(1), "alice", -1).await;
    fixture.push(&TO_ALICE, "1", outcomes.wanted("a")).await;
    let came = fixture.returned().await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    assert_eq!(
        fixture.held("alice").await,
        [""; 0],
        "it would overtake what its terminator has still to give back"
    );
    fixture.connect(fixture.connection(2), "alice", 300).await;
    fixture.bounce(Bounced::Expired, came).await;
    let (connection, command, _) = fixture.command().await;
    assert_eq!(
        (connection, command),
        (fixture.connection(2), Command::Wake { from: None })
    );
    assert_eq!(fixture.held("alice").await, ["p:a"]);
    fixture.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn where_expires_are_ignored_an_expired_connection_is_as_good_as_any() {
    let mut fixture = Fixture::new();
    fixture.limits.on_expired_push = Policy::Ignore;
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.connect(fixture.connection(1), "alice", -1).await;
    fixture.push(&TO_ALICE, "1", outcomes.wanted("a")).await;
    fixture.written().await;
    assert_eq!(
        outcomes.next().await.1,
        json!({"outcome": "delivered", "connections": 1})
    );
    assert_eq!(fixture.held("alice").await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_terminator_that_does_not_listen_counts_for_nothing_and_finds_everything_when_it_is_back() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    let dead = elsewhere();
    let queue = fixture.names.return_queue(dead.terminator);
    drop(fixture.bus.consumer(queue.clone(), 1));
    settle().await;
    fixture.connect(dead, "alice", 300).await;
    fixture.push(&TO_ALICE, "1", outcomes.wanted("a")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    assert_eq!(fixture.held("alice").await, ["p:a"]);
    settle().await;
    // The push, and the word that it is held too.
    assert_eq!(fixture.bus.depth(&queue.name), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_terminator_s_queue_is_gone_leaves_the_index() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.connect(elsewhere(), "alice", 300).await;
    fixture.push(&TO_ALICE, "1", outcomes.wanted("a")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    assert_eq!(fixture.store.connections(tag("alice")).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_push_for_a_connection_goes_there_in_the_name_of_whoever_it_is() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.connect(fixture.connection(1), "alice", 300).await;
    fixture.connect(fixture.connection(2), "alice", 300).await;
    let name = fixture.connection(2).to_string();
    fixture.push(&[("connection", &name)], "1", outcomes.wanted("a")).await;
    let came = fixture.returned().await;
    match Return::read(&came) {
        Some(Return::Command(connection, Command::Write(write))) => {
            assert_eq!(connection, fixture.connection(2));
            assert_eq!(write.identity, Some(tag("alice")));
        }
        other => panic!("{other:?}"),
    }
    fixture.is_written(came).await;
    assert_eq!(
        outcomes.next().await.1,
        json!({"outcome": "delivered", "connections": 1})
    );
    fixture.expect_no_answer().await;
}

#[tokio::test(start_paused = true)]
async fn a_push_for_a_connection_that_is_not_there_has_no_recipient() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    let (closed, gone) = (fixture.connection(1), elsewhere());
    fixture.connect(closed, "alice", 300).await;
    fixture.store.close(closed, Sequence::new(9)).await.unwrap();
    fixture.connect(gone, "alice", 300).await;
    for name in [fixture.connection(99), closed, gone].map(|connection| connection.to_string()) {
        fixture.push(&[("connection", &name)], "1", outcomes.wanted("a")).await;
        assert_eq!(outcomes.next().await.1, json!({"outcome": "no_recipient"}), "{name}");
    }
    assert_eq!(fixture.held("alice").await, [""; 0], "nobody else gets it");
}

#[tokio::test(start_paused = true)]
async fn a_push_for_an_expired_connection_is_left_to_its_terminator() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.connect(fixture.connection(1), "alice", -1).await;
    let name = fixture.connection(1).to_string();
    fixture.push(&[("connection", &name)], "1", outcomes.wanted("a")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    assert_eq!(fixture.written().await.0, fixture.connection(1));
}

#[tokio::test(start_paused = true)]
async fn a_push_that_is_none_is_refused_and_never_lost_in_silence() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.push(&[], "1", outcomes.wanted("a")).await;
    let (about, outcome) = outcomes.next().await;
    assert_eq!((about.as_str(), &outcome["outcome"]), ("about a", &json!("refused")));
    assert_eq!(outcome["error"]["code"], "bad_request");
    // A queue of ours is no one who could be told.
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let ours = Properties {
        reply_to: Some(fixture.names.return_queue(fixture.terminator).name),
        ..Properties::default()
    };
    fixture.push(&TO_ALICE, &format!("{{\"token\":\"{token}\""), ours).await;
    let letter = fixture.next_of(fixture.names.dead()).await;
    assert_eq!(
        letter.properties.header("reason"),
        Some(&Value::Text("bad_request".to_owned()))
    );
    assert_eq!(
        letter.properties.header("queue"),
        Some(&Value::Text(fixture.names.pushes().name))
    );
    assert!(!String::from_utf8_lossy(&letter.body).contains("eyJ"));
    assert!(fixture.is_empty(&fixture.names.pushes()).await);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_the_hold_is_told_to_its_producer_or_goes_to_the_dead_letters() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    for number in 0..fixture.limits.hold.messages {
        fixture.push(&TO_ALICE, "1", outcomes.wanted(&number.to_string())).await;
        assert_eq!(outcomes.next().await.1["outcome"], "held");
    }
    fixture.push(&TO_ALICE, "1", outcomes.wanted("too many")).await;
    let (about, outcome) = outcomes.next().await;
    assert_eq!(
        (about.as_str(), &outcome["error"]["code"]),
        ("about too many", &json!("hold_overflow"))
    );
    fixture.push(&TO_ALICE, "1", Properties::default()).await;
    let letter = fixture.next_of(fixture.names.dead()).await;
    assert_eq!(
        letter.properties.header("reason"),
        Some(&Value::Text("hold_overflow".to_owned()))
    );
}

#[tokio::test(start_paused = true)]
async fn pushes_arrive_in_their_order_whichever_worker_has_them() {
    let mut fixture = Fixture::new();
    fixture.connect(fixture.connection(1), "alice", 300).await;
    fixture.connect(fixture.connection(2), "bob", 300).await;
    let mut workers = vec![fixture.worker(), fixture.worker(), fixture.worker()];
    for number in 0..90 {
        let properties = Properties {
            message_id: Some(number.to_string()),
            ..Properties::default()
        };
        let subject = if number % 3 == 0 { "bob" } else { "alice" };
        fixture.push(&[("subject", subject)], "1", properties).await;
        if number % 30 == 20 {
            drop(workers.remove(0));
            workers.push(fixture.worker());
        }
    }
    // What a dead worker had sent may come again, as it does to a real terminator, which knows it by its key.
    let mut seen = Vec::new();
    while seen.len() < 90 {
        let (_, key, ..) = fixture.written().await;
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
    let mut fixture = Fixture::new();
    fixture.connect(fixture.connection(1), "alice", 300).await;
    let _worker = fixture.worker();
    settle().await;
    fixture.store.set_away(true);
    for name in ["a", "b", "c"] {
        let properties = Properties {
            message_id: Some(name.to_owned()),
            ..Properties::default()
        };
        fixture.push(&TO_ALICE, "1", properties).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    fixture.store.set_away(false);
    for name in ["a", "b", "c"] {
        assert_eq!(fixture.written().await.1, format!("p:{name}"));
    }
    assert!(fixture.is_empty(&fixture.names.pushes()).await);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_gives_back_the_pushes_that_it_cannot_bring_to_an_end() {
    let mut fixture = Fixture::new();
    fixture.connect(fixture.connection(1), "alice", 300).await;
    let worker = fixture.worker();
    settle().await;
    fixture.store.set_away(true);
    for name in ["a", "b", "c"] {
        let properties = Properties {
            message_id: Some(name.to_owned()),
            ..Properties::default()
        };
        fixture.push(&TO_ALICE, "1", properties).await;
    }
    settle().await;
    worker.shutdown();
    worker.join().await;
    settle().await;
    assert_eq!(fixture.bus.depth(&fixture.names.pushes().name), (3, 0));
    fixture.store.set_away(false);
    let _next = fixture.worker();
    for name in ["a", "b", "c"] {
        assert_eq!(fixture.written().await.1, format!("p:{name}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_takes_no_outcomes_holds_up_nobody() {
    let mut fixture = Fixture::new();
    fixture.connect(fixture.connection(1), "alice", 300).await;
    let _worker = fixture.worker();
    let nobody = Properties {
        reply_to: Some("nobody's".to_owned()),
        ..Properties::default()
    };
    for _ in 0..2 {
        fixture.push(&TO_ALICE, "1", nobody.clone()).await;
        fixture.written().await;
    }
    assert!(fixture.is_empty(&fixture.names.pushes()).await);
}

#[tokio::test(start_paused = true)]
async fn the_producer_of_a_push_that_failed_for_good_is_told_in_its_own_words() {
    let fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    let mut properties = outcomes.wanted("a");
    let queue = fixture.names.pushes().name;
    properties
        .headers
        .push(("x-death-queue".to_owned(), Value::Text(queue)));
    let failed = Route::new(&fixture.names.internal_exchange().name, keys::FAILED);
    fixture.publish(failed.clone(), "1", properties.clone()).await;
    let (about, outcome) = outcomes.next().await;
    assert_eq!((about.as_str(), &outcome["outcome"]), ("about a", &json!("refused")));
    // And no one has it written where only workers may.
    properties.reply_to = Some(fixture.names.return_queue(fixture.terminator).name);
    fixture.publish(failed, "1", properties).await;
    settle().await;
    let queue = fixture.names.return_queue(fixture.terminator).name;
    assert_eq!(fixture.bus.depth(&queue), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_producer_is_told_once_and_only_when_it_is_written_or_never_will_be() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    fixture.connect(fixture.connection(1), "alice", 300).await;
    fixture.push(&TO_ALICE, "1", outcomes.wanted("a")).await;
    let came = fixture.returned().await;
    outcomes.none().await;
    // Its reader is too slow, and goes: it is held, and no one comes.
    for _ in 0..2 {
        fixture.bounce(Bounced::Gone, came.clone()).await;
    }
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    outcomes.none().await;
    fixture.clock.advance(HOLD_TTL + Duration::from_secs(1));
    assert_eq!(outcomes.next().await.1, json!({"outcome": "expired"}));
    // It was written all the same, and its terminator says so late.
    fixture.is_written(came).await;
    outcomes.none().await;
}
