//! What a connection misses that is gone, and who is told of it.

use std::time::Duration;

use serde_json::{Value as Json, json};
use shared::bus::{EXPIRATION, Properties, Route, Value};
use shared::wire::envelope::{Bounced, Command, MessageKind};

use super::super::connection::{Conn, authenticate};
use super::Outcomes;
use crate::config::HoldOverflow;
use crate::tests::fixture::{Fixture, HOLD_TTL, settle, token_for};

impl Fixture {
    async fn push_named(&self, subject: &str, name: &str, expiration_ms: Option<i64>) {
        let mut headers = vec![("subject".to_owned(), Value::Text(subject.to_owned()))];
        headers.extend(expiration_ms.map(|ms| (EXPIRATION.to_owned(), Value::Integer(ms))));
        let properties = Properties {
            message_id: Some(name.to_owned()),
            headers,
            ..Properties::default()
        };
        let route = Route::new(&self.names.exchange().name, "push");
        self.publish(route, json!(name).to_string(), properties).await;
        settle().await;
    }

    /// The keys of what is written to a connection until it has fetched all, and how many come otherwise.
    async fn fetched_all(&mut self, connection: shared::wire::id::ConnectionId) -> Vec<String> {
        self.fetch(connection, "alice").await;
        let mut keys = Vec::new();
        loop {
            match self.command().await {
                (to, Command::Write(write), _) => {
                    assert_eq!(to, connection);
                    keys.push(write.key);
                }
                (_, Command::Fetched { left, .. }, _) => {
                    assert_eq!(left, 0);
                    return keys;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn goes(&mut self, conn: &mut Conn) {
        let (message_id, snapshot) = (conn.message_id(), conn.snapshot.clone());
        self.forwarded(message_id, MessageKind::Closed { code: None }, snapshot, "".into())
            .await;
        settle().await;
    }

    /// A new connection that shows that key: what it is told of its authentication.
    async fn resumes(&mut self, number: u64, key: &str) -> (Conn, Json) {
        let mut next = Conn::new(self, number);
        let payload = json!({"resume": key});
        let body = json!({"type": "auth.authenticate", "token": token_for("alice", 200), "payload": payload});
        let said = self.say(&mut next, body.to_string()).await;
        (next, said.body["auth"].clone())
    }
}

/// Two connections of alice's, of which the second has gone, and its key.
async fn phone_and_laptop(fixture: &mut Fixture) -> (Conn, String) {
    let mut laptop = Conn::new(fixture, 1);
    fixture.say(&mut laptop, authenticate("alice", 300)).await;
    let mut phone = Conn::new(fixture, 2);
    let said = fixture.say(&mut phone, authenticate("alice", 300)).await;
    let key = said.body["auth"]["resume"].as_str().unwrap().to_owned();
    fixture.goes(&mut phone).await;
    (laptop, key)
}

/// What the laptop is written meanwhile.
async fn laptop_gets(fixture: &mut Fixture, name: &str) {
    fixture.push_named("alice", name, None).await;
    let (to, written, ..) = fixture.written().await;
    assert_eq!((to, written), (fixture.connection(1), format!("p:{name}")));
}

#[tokio::test(start_paused = true)]
async fn what_others_of_the_identity_got_meanwhile_comes_to_whoever_shows_the_key_and_nobody_else() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let (_laptop, key) = phone_and_laptop(&mut fixture).await;
    for name in ["a", "b"] {
        laptop_gets(&mut fixture, name).await;
    }
    let mut other = Conn::new(&fixture, 3);
    let said = fixture.say(&mut other, authenticate("alice", 200)).await;
    assert_eq!(said.body["auth"].get("recovered"), None);
    assert!(fixture.fetched_all(other.id).await.is_empty());
    fixture.goes(&mut other).await;
    let (next, auth) = fixture.resumes(4, &key).await;
    assert_eq!((&auth["recovered"], auth.get("missed")), (&json!(true), None));
    assert_eq!(fixture.replaced, [fixture.connection(2)]);
    assert_eq!(fixture.fetched_all(next.id).await, ["p:a", "p:b"]);
    assert!(fixture.fetched_all(next.id).await.is_empty(), "once");
}

#[tokio::test(start_paused = true)]
async fn the_producer_of_what_was_missed_is_told_what_becomes_of_it() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let mut outcomes = Outcomes::of(&fixture);
    let (mut laptop, key) = phone_and_laptop(&mut fixture).await;
    fixture.goes(&mut laptop).await;
    fixture.push(&[("subject", "alice")], "1", outcomes.wanted("a")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    let (next, _) = fixture.resumes(4, &key).await;
    // It comes from among what the phone has missed, and is not written in time.
    fixture.fetch(next.id, "alice").await;
    let came = fixture.returned().await;
    fixture.bounce(Bounced::Expired, came).await;
    settle().await;
    outcomes.none().await;
    fixture.clock.advance(HOLD_TTL + Duration::from_secs(1));
    assert_eq!(outcomes.next().await.1, json!({"outcome": "expired"}));
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_when_it_went_comes_in_its_place() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    let (_laptop, key) = phone_and_laptop(&mut fixture).await;
    // It was written while no one knew that the phone had gone, and comes back after the next.
    let late = fixture.write(fixture.connection(2), "alice", "a");
    tokio::time::sleep(Duration::from_millis(5)).await;
    fixture.clock.advance(Duration::from_millis(5));
    laptop_gets(&mut fixture, "b").await;
    fixture.bounce(shared::wire::envelope::Bounced::Gone, late).await;
    settle().await;
    let (_, woken, _) = fixture.command().await;
    assert_eq!(woken, Command::Wake { from: None });
    let (next, auth) = fixture.resumes(4, &key).await;
    assert_eq!(auth["recovered"], true);
    assert_eq!(fixture.fetched_all(next.id).await, ["p:a", "p:b"]);
}

#[tokio::test(start_paused = true)]
async fn who_has_been_gone_for_too_long_or_shows_no_key_of_theirs_is_told_so() {
    let mut fixture = Fixture::new();
    fixture.limits.resume_window = Some(Duration::from_secs(10));
    let _worker = fixture.worker();
    let (_laptop, key) = phone_and_laptop(&mut fixture).await;
    fixture.clock.advance(Duration::from_secs(11));
    laptop_gets(&mut fixture, "a").await;
    let (_, auth) = fixture.resumes(4, &key).await;
    assert_eq!(auth["recovered"], false);
    let guess = format!("{}.{:032x}", key.rsplit_once('.').unwrap().0, 7);
    let (_, auth) = fixture.resumes(5, &guess).await;
    assert_eq!(auth["recovered"], false);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_or_waits_too_long_is_counted_and_told_once() {
    for overflow in [HoldOverflow::Newest, HoldOverflow::Oldest] {
        let mut fixture = Fixture::new();
        fixture.limits.hold_overflow = overflow;
        let _worker = fixture.worker();
        let (mut laptop, key) = phone_and_laptop(&mut fixture).await;
        for name in ["a", "b", "c", "d", "e"] {
            laptop_gets(&mut fixture, name).await;
        }
        fixture.goes(&mut laptop).await;
        for name in ["v", "w", "x", "y", "z"] {
            fixture.push_named("alice", name, None).await;
        }
        let mut other = Conn::new(&fixture, 3);
        let said = fixture.say(&mut other, authenticate("alice", 200)).await;
        assert_eq!(said.body["auth"]["missed"], 2, "{overflow:?}");
        let kept = match overflow {
            HoldOverflow::Newest => [["p:v", "p:w", "p:x"], ["p:a", "p:b", "p:c"]],
            HoldOverflow::Oldest => [["p:x", "p:y", "p:z"], ["p:x", "p:y", "p:z"]],
        };
        assert_eq!(fixture.fetched_all(other.id).await, kept[0]);
        let (next, auth) = fixture.resumes(4, &key).await;
        assert_eq!((&auth["recovered"], &auth["missed"]), (&json!(false), &json!(7)));
        assert_eq!(fixture.fetched_all(next.id).await, kept[1]);
        let (_, auth) = fixture.resumes(5, &key).await;
        assert_eq!((&auth["recovered"], auth.get("missed")), (&json!(false), None));
    }
}

#[tokio::test(start_paused = true)]
async fn what_nobody_fetched_in_time_was_missed() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture.push_named("alice", "a", None).await;
    fixture.clock.advance(HOLD_TTL);
    let mut conn = Conn::new(&fixture, 1);
    let body = json!({"type": "auth.authenticate", "token": token_for("alice", 900)});
    let said = fixture.say(&mut conn, body.to_string()).await;
    assert_eq!(said.body["auth"]["missed"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_push_is_held_for_no_longer_than_its_producer_says() {
    let mut fixture = Fixture::new();
    let _worker = fixture.worker();
    fixture.push_named("alice", "live", Some(0)).await;
    fixture.push_named("alice", "brief", Some(5_000)).await;
    fixture.push_named("alice", "any", None).await;
    assert_eq!(fixture.held("alice").await, ["p:brief", "p:any"]);
    fixture.clock.advance(Duration::from_secs(5));
    let mut conn = Conn::new(&fixture, 1);
    let said = fixture.say(&mut conn, authenticate("alice", 200)).await;
    assert_eq!(said.body["auth"].get("missed"), None, "nobody wanted it any more");
    assert_eq!(fixture.fetched_all(conn.id).await, ["p:any"]);
    fixture.push_named("alice", "now", Some(0)).await;
    assert_eq!(fixture.written().await.1, "p:now");
}

/// More than there are milliseconds in which each may be held.
const MANY: usize = 100;

#[tokio::test(start_paused = true)]
async fn a_push_of_many_of_one_moment_may_be_held_as_long_as_one_alone() {
    let fixture = Fixture::new();
    let mut outcomes = Outcomes::of(&fixture);
    let _worker = fixture.worker();
    for number in 0..MANY {
        let properties = Properties {
            headers: vec![(EXPIRATION.to_owned(), Value::Integer(50))],
            ..outcomes.wanted(&number.to_string())
        };
        fixture.push(&[("subject", "alice")], "1", properties).await;
    }
    for _ in 0..MANY {
        let (about, outcome) = outcomes.next().await;
        assert_ne!(outcome["outcome"], "no_recipient", "{about}");
    }
}
