//! What is brought back when a store or a queue has lost something.

use bytes::Bytes;
use serde_json::json;
use shared::bus::Route;
use shared::bus::topology::keys;
use shared::envelope::release::to_be_released;
use shared::envelope::{Errand, Notice, Return, Standing};
use shared::id::{Sequence, Stamp};
use shared::revocation::Revocation;

use super::bench::{Bench, MAX_REVOCATIONS, settle};
use super::connection::{Conn, authenticate, bare};
use super::outbound::{Outcomes, tag};
use crate::store::{Authentication, Store};

/// How a connection of alice's stands on a bench whose store is another's.
async fn standing_elsewhere() -> Standing {
    let mut elsewhere = Bench::new();
    let _worker = elsewhere.worker();
    let mut conn = Conn::new(&elsewhere, 1);
    elsewhere.say(&mut conn, authenticate("alice", 300)).await;
    assert!(conn.standing.grant.is_some());
    conn.standing
}

fn stamp(bench: &Bench, sequence: u64) -> Stamp {
    Stamp {
        connection: bench.connection(1),
        sequence: Sequence::new(sequence),
    }
}

impl Bench {
    async fn announce(&self, standing: &Standing) {
        let by = standing.by.expect("it is somebody's");
        let stamp = stamp(self, by.get());
        self.question(stamp, Notice::Announced, standing.clone(), Bytes::new())
            .await;
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_announced_is_pushed_to_by_a_store_that_knew_nothing_of_it() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut outcomes = Outcomes::of(&bench);
    bench.push(&[("subject", "alice")], "1", outcomes.wanted("p")).await;
    assert_eq!(outcomes.next().await.1, json!({"outcome": "held"}));
    let standing = standing_elsewhere().await;
    bench.announce(&standing).await;
    let state = bench.store.authentication(bench.connection(1)).await.unwrap();
    assert!(matches!(state, Some(Authentication::Live { by, .. }) if Some(by) == standing.by));
    // It is told of what is held, as nobody else would ask.
    let (connection, errand, _) = bench.errand().await;
    assert_eq!((connection, errand), (bench.connection(1), Errand::Wake { from: None }));
    let entered = bench.store.connections(tag("alice")).await.unwrap();
    assert_eq!(
        entered.iter().map(|one| one.connection).collect::<Vec<_>>(),
        [bench.connection(1)]
    );
    // Once more changes nothing.
    bench.announce(&standing).await;
    assert_eq!(bench.store.connections(tag("alice")).await.unwrap(), entered);
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_late_undoes_nothing_that_came_after_it() {
    let bench = Bench::new();
    let _worker = bench.worker();
    let standing = standing_elsewhere().await;
    let closed = stamp(&bench, 9);
    bench
        .question(closed, Notice::Closed { code: None }, standing.clone(), Bytes::new())
        .await;
    settle().await;
    bench.announce(&standing).await;
    let state = bench.store.authentication(bench.connection(1)).await.unwrap();
    assert_eq!(state, Some(Authentication::Closed { by: Sequence::new(9) }));
    assert_eq!(bench.store.connections(tag("alice")).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_no_grant_or_a_revoked_one_is_not_entered() {
    let bench = Bench::new();
    let _worker = bench.worker();
    settle().await;
    let revoke = Route::new(&bench.names.exchange().name, keys::REVOKE);
    let body = r#"{"subject":"alice"}"#.to_owned();
    bench.publish(revoke, body, Default::default()).await;
    settle().await;
    let standing = standing_elsewhere().await;
    bench.announce(&standing).await;
    let nobody = Standing {
        grant: None,
        principal: None,
        ..standing
    };
    bench.announce(&nobody).await;
    assert_eq!(bench.store.connections(tag("alice")).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_terminator_that_is_back_is_told_all_that_is_revoked() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    settle().await;
    let mut outcomes = Outcomes::of(&bench);
    for subject in ["alice", "bob"] {
        let revoke = Route::new(&bench.names.exchange().name, keys::REVOKE);
        let body = json!({"subject": subject}).to_string();
        bench.publish(revoke, body, outcomes.wanted(subject)).await;
        assert_eq!(outcomes.next().await.1["outcome"], "revoked");
        bench.returned().await;
    }
    bench
        .question(stamp(&bench, 1), Notice::Back, Standing::default(), Bytes::new())
        .await;
    assert_eq!(revoked(&mut bench).await.len(), 2);
    bench.expect_no_answer().await;
}

async fn revoked(bench: &mut Bench) -> Vec<Revocation> {
    match Return::read(&bench.returned().await) {
        Some(Return::Revoked(revocations)) => revocations,
        other => panic!("no revocation: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_come_meanwhile_is_revoked_together_and_what_is_too_many_refused() {
    let mut bench = Bench::new();
    let mut outcomes = Outcomes::of(&bench);
    let many = MAX_REVOCATIONS + 2;
    for number in 0..many {
        let revoke = Route::new(&bench.names.exchange().name, keys::REVOKE);
        let body = json!({"jti": number.to_string()}).to_string();
        bench.publish(revoke, body, outcomes.wanted(&number.to_string())).await;
    }
    let _worker = bench.worker();
    let mut told = Vec::new();
    for _ in 0..many {
        let (_, outcome) = outcomes.next().await;
        told.push(outcome["outcome"].as_str().unwrap().to_owned());
    }
    told.sort();
    assert_eq!(told, ["refused", "refused", "revoked", "revoked", "revoked"]);
    let mut heard = 0;
    while heard < MAX_REVOCATIONS {
        heard += revoked(&mut bench).await.len();
    }
    assert_eq!(heard, MAX_REVOCATIONS);
    bench.expect_no_answer().await;
    assert_eq!(bench.store.revocations().await.unwrap().len(), MAX_REVOCATIONS);
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_to_the_hold_although_it_was_answered_is_not_handled_again() {
    let mut bench = Bench::new();
    let _worker = bench.worker();
    let mut conn = bench.lapsed(1, "alice").await;
    let (answered, waiting) = (
        bench.say(&mut conn, bare("answered")).await.stamp,
        bench.say(&mut conn, bare("waiting")).await.stamp,
    );
    bench.renew(&mut conn, "alice").await;
    let stamp = conn.stamp();
    let known = to_be_released(&[waiting.sequence]);
    bench
        .question(stamp, Notice::Release { from: None }, conn.standing.clone(), known)
        .await;
    assert_eq!(bench.errand_to_write().await.2["id"], "waiting");
    let (left, release) = bench.came_to(stamp).await;
    assert_eq!(left, 0);
    assert!(release.expect("it came to an end").held.is_empty());
    assert_eq!(bench.store.held_messages(answered.connection).await.unwrap(), []);
    assert_eq!(bench.app.seen().len(), 1);
}
