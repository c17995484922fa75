//! What is held, for whom, and who may have it.

use futures_util::future::{join, join_all};
use shared::envelope::errand::Producer;
use shared::tag::{IdentityTag, TokenIdTag};

use super::*;
use crate::store::{Decision, HeldMessage, HeldWrite, HoldLimits, Holding, Registered};

const LIMITS: HoldLimits = HoldLimits {
    messages: 3,
    bytes: 100,
    ttl: Duration::from_secs(300),
};

pub(super) async fn every_claim(home: &dyn Home) {
    messages_are_held_once_and_read_in_their_order(home).await;
    messages_are_held_within_limits_whoever_holds_them(home).await;
    an_heir_is_named_by_whoever_proves_the_same(home).await;
    whoever_holds_is_told_of_the_heir(home).await;
    writes_are_held_once_and_read_in_the_order_of_their_coming(home).await;
    writes_are_held_within_limits_whoever_holds_them(home).await;
    whoever_comes_is_told_what_is_held_or_is_seen(home).await;
    what_waits_too_long_is_found(home).await;
    connections_are_listed_until_they_leave(home).await;
    revocations_are_kept_until_their_last_token_has_expired(home).await;
    the_newest_decisions_are_kept(home).await;
}

async fn messages_are_held_once_and_read_in_their_order(home: &dyn Home) {
    let connection = a_connection();
    for sequence in [10, 9, 10] {
        hold(home, connection, &message(home, sequence, "1")).await;
    }
    let held = messages(home, connection).await;
    assert_eq!(held, [message(home, 9, "1"), message(home, 10, "1")]);
    let mut bare = message(home, 11, "");
    (bare.id, bare.payload, bare.owner) = (None, None, None);
    assert_eq!(hold(home, connection, &bare).await, counted(3));
    let drop = [Sequence::new(9), Sequence::new(10), Sequence::new(77)];
    let left = home.store().drop_messages(connection, &drop).await;
    assert_eq!(left.expect("the store answers"), 1);
    assert_eq!(messages(home, connection).await, [bare]);
    let left = home.store().drop_messages(connection, &[Sequence::new(11)]).await;
    assert_eq!(left.expect("the store answers"), 0);
    assert_eq!(messages(home, connection).await, []);
}

async fn messages_are_held_within_limits_whoever_holds_them(home: &dyn Home) {
    let connection = a_connection();
    let many: Vec<_> = (1..=10).map(|sequence| message(home, sequence, "1")).collect();
    let outcomes = join_all(many.iter().map(|one| hold(home, connection, one))).await;
    let held = outcomes.iter().filter(|outcome| **outcome != Holding::Overflow).count();
    assert_eq!(held as u64, LIMITS.messages);
    let there = messages(home, connection).await;
    assert_eq!(there.len(), held);
    // What is there may be told again; and room that is made is there.
    assert_eq!(hold(home, connection, &there[0]).await, counted(LIMITS.messages));
    let sequences: Vec<_> = there.iter().map(|one| one.sequence).collect();
    let left = home.store().drop_messages(connection, &sequences[..1]).await;
    assert_eq!(left.expect("the store answers"), LIMITS.messages - 1);
    assert_eq!(
        hold(home, connection, &message(home, 99, "1")).await,
        counted(LIMITS.messages)
    );

    let connection = a_connection();
    let large = "x".repeat(60);
    assert_eq!(hold(home, connection, &message(home, 1, &large)).await, counted(1));
    assert_eq!(
        hold(home, connection, &message(home, 2, &large)).await,
        Holding::Overflow
    );
    home.store()
        .drop_messages(connection, &[Sequence::FIRST])
        .await
        .expect("the store answers");
    assert_eq!(hold(home, connection, &message(home, 2, &large)).await, counted(1));
}

async fn an_heir_is_named_by_whoever_proves_the_same(home: &dyn Home) {
    let heir = a_connection();
    let resume = async |connection, secret: [u8; 32], identity: &Identity| {
        let resumed = home.store().resume(connection, &secret, identity, heir).await;
        resumed.expect("the store answers")
    };
    let connection = a_connection();
    assert!(!resume(connection, RESUME, &someone("alice")).await, "nobody knows it");
    record(home, connection, &live("alice", 1)).await;
    assert!(!resume(connection, [1; 32], &someone("alice")).await);
    assert!(!resume(connection, RESUME, &someone("bob")).await);
    assert_eq!(home.store().heir(connection).await.expect("the store answers"), None);
    assert!(resume(connection, RESUME, &someone("alice")).await);
    assert_eq!(
        home.store().heir(connection).await.expect("the store answers"),
        Some(heir)
    );
    record(home, connection, &closed(2)).await;
    assert!(
        resume(connection, RESUME, &someone("alice")).await,
        "also when it is closed"
    );

    let logged_out = a_connection();
    record(home, logged_out, &live("alice", 1)).await;
    record(home, logged_out, &Authentication::Forgotten { by: Sequence::new(2) }).await;
    assert!(!resume(logged_out, RESUME, &someone("alice")).await);
}

async fn whoever_holds_is_told_of_the_heir(home: &dyn Home) {
    let (connection, heir) = (a_connection(), a_connection());
    record(home, connection, &live("alice", 1)).await;
    assert_eq!(hold(home, connection, &message(home, 2, "1")).await, counted(1));
    let alice = someone("alice");
    let resumed = home.store().resume(connection, &RESUME, &alice, heir).await;
    assert!(resumed.expect("the store answers"));
    record(home, connection, &closed(5)).await;
    let late = hold(home, connection, &message(home, 3, "1")).await;
    let told = Holding::Held {
        count: 2,
        heir: Some(heir),
    };
    assert_eq!(late, told);
}

async fn writes_are_held_once_and_read_in_the_order_of_their_coming(home: &dyn Home) {
    let alice = an_identity();
    for key in ["b", "a", "b", "bytes", "next"].iter().take(4) {
        hold_write(home, alice, &write(home, key, "x")).await;
    }
    let (b, a, bytes) = (write(home, "b", "x"), write(home, "a", "x"), write(home, "bytes", "x"));
    assert_eq!(writes(home, alice, 10).await, [b.clone(), a, bytes.clone()]);
    assert_eq!(writes(home, alice, 1).await, [b]);
    let left = home.store().drop_writes(alice, &["b".to_owned(), "a".to_owned()]).await;
    assert_eq!(left.expect("the store answers"), 1);
    hold_write(home, alice, &write(home, "b", "x")).await;
    assert_eq!(writes(home, alice, 10).await, [bytes, write(home, "b", "x")]);
    let all = ["b".to_owned(), "bytes".to_owned(), "none".to_owned()];
    let left = home.store().drop_writes(alice, &all).await;
    assert_eq!(left.expect("the store answers"), 0);
    assert_eq!(writes(home, alice, 10).await, []);
}

async fn writes_are_held_within_limits_whoever_holds_them(home: &dyn Home) {
    let alice = an_identity();
    let many: Vec<_> = (0..10).map(|n| write(home, &format!("k{n}"), "x")).collect();
    let outcomes = join_all(many.iter().map(|one| hold_write(home, alice, one))).await;
    let held = outcomes.iter().filter(|outcome| **outcome != Holding::Overflow).count();
    assert_eq!(held as u64, LIMITS.messages);
    assert_eq!(writes(home, alice, 10).await.len(), held);

    let bob = an_identity();
    let large = "y".repeat(60);
    assert_eq!(hold_write(home, bob, &write(home, "1", &large)).await, counted(1));
    assert_eq!(
        hold_write(home, bob, &write(home, "2", &large)).await,
        Holding::Overflow
    );
    home.store()
        .drop_writes(bob, &["1".to_owned()])
        .await
        .expect("the store answers");
    assert_eq!(hold_write(home, bob, &write(home, "2", &large)).await, counted(1));
}

/// Write first, look second: of one that holds and one that comes at the same time, one sees the other.
async fn whoever_comes_is_told_what_is_held_or_is_seen(home: &dyn Home) {
    for _ in 0..50 {
        let (alice, connection) = (an_identity(), a_connection());
        let holding = async {
            hold_write(home, alice, &write(home, "k", "x")).await;
            connections(home, alice).await.len()
        };
        let coming = home.store().register(alice, registered(connection));
        let (seen, told) = join(holding, coming).await;
        assert!(seen == 1 || told.expect("the store answers") == 1);
    }
}

async fn what_waits_too_long_is_found(home: &dyn Home) {
    let alice = an_identity();
    let now = home.clock().now();
    hold_write(home, alice, &write(home, "k", "x")).await;
    let overdue = async |since| {
        let found = home.store().overdue(since, 10_000).await.expect("the store answers");
        found.contains(&alice)
    };
    assert!(!overdue(now).await);
    let later = now.saturating_add(Duration::from_millis(1));
    assert!(overdue(later).await);
    assert!(overdue(later).await, "as long as it waits");
    home.store()
        .drop_writes(alice, &["k".to_owned()])
        .await
        .expect("the store answers");
    assert!(!overdue(later).await);
}

async fn connections_are_listed_until_they_leave(home: &dyn Home) {
    let alice = an_identity();
    let (one, other) = (registered(a_connection()), registered(a_connection()));
    for entry in [one, other] {
        let held = home.store().register(alice, entry).await;
        assert_eq!(held.expect("the store answers"), 0);
    }
    let renewed = Registered {
        until: one.until.saturating_add(TOKEN_LIFE),
        issued_at: None,
        token_id: Some(TokenIdTag::of(&[5; 32])),
        ..one
    };
    home.store().register(alice, renewed).await.expect("the store answers");
    let mut there = connections(home, alice).await;
    there.sort_by_key(|entry| entry.until);
    assert_eq!(there, [other, renewed]);
    home.store()
        .unregister(alice, one.connection)
        .await
        .expect("the store answers");
    assert_eq!(connections(home, alice).await, [other]);
    assert_eq!(connections(home, an_identity()).await, []);
}

async fn revocations_are_kept_until_their_last_token_has_expired(home: &dyn Home) {
    let now = home.clock().now();
    let lasting = |target, seconds| Revocation {
        target,
        issued_before: now,
        effective: now,
        until: now.saturating_add(Duration::from_secs(seconds)),
    };
    let (alice, bob) = (Target::Identity(an_identity()), Target::Connection(a_connection()));
    let stricter = Revocation {
        issued_before: now.saturating_add(Duration::from_secs(9)),
        ..lasting(alice, 5)
    };
    for revocation in [lasting(alice, 10), stricter, lasting(bob, 20)] {
        home.store().revoke(&revocation).await.expect("the store answers");
    }
    let merged = Revocation {
        issued_before: stricter.issued_before,
        ..lasting(alice, 10)
    };
    let known = async || {
        let all = home.store().revocations().await.expect("the store answers");
        // Others use the same Redis.
        let mut ours: Vec<_> = all
            .into_iter()
            .filter(|one| [alice, bob].contains(&one.target))
            .collect();
        ours.sort_by_key(|one| one.until);
        ours
    };
    assert_eq!(known().await, [merged, lasting(bob, 20)]);
    home.clock().advance(Duration::from_secs(10));
    assert_eq!(known().await, [lasting(bob, 20)]);
    home.clock().advance(Duration::from_secs(10));
    assert_eq!(known().await, []);
}

async fn the_newest_decisions_are_kept(home: &dyn Home) {
    let connection = a_connection();
    let decision = |number: u64| Decision {
        at: START,
        sequence: Some(Sequence::new(number)),
        id: Some("i\"d".to_owned()),
        what: "held".to_owned(),
        why: "expired".to_owned(),
    };
    let most = crate::store::decision::DECISIONS_KEPT as u64;
    for number in 1..=most + 2 {
        home.store()
            .note(connection, &decision(number))
            .await
            .expect("the store answers");
    }
    let kept = home.store().decisions(connection).await.expect("the store answers");
    assert_eq!(kept, (3..=most + 2).map(decision).collect::<Vec<_>>());
}

fn message(home: &dyn Home, sequence: u64, payload: &str) -> HeldMessage {
    HeldMessage {
        sequence: Sequence::new(sequence),
        id: Some("i".to_owned()),
        kind: "k".to_owned(),
        payload: Some(payload.to_owned()),
        owner: Some(IdentityTag::of(&[1; 32])),
        since: home.clock().now(),
    }
}

fn write(home: &dyn Home, key: &str, body: &str) -> HeldWrite {
    HeldWrite {
        key: key.to_owned(),
        body: body.to_owned(),
        producer: Some(Producer {
            reply_to: "q".to_owned(),
            correlation_id: None,
        }),
        since: home.clock().now(),
    }
}

fn registered(connection: ConnectionId) -> Registered {
    Registered {
        connection,
        until: START.saturating_add(TOKEN_LIFE * 1_000),
        issued_at: Some(START),
        token_id: None,
    }
}

/// An identity that nobody else uses.
fn an_identity() -> IdentityTag {
    someone(&a_connection().to_string()).tag()
}

const fn counted(count: u64) -> Holding {
    Holding::Held { count, heir: None }
}

async fn hold(home: &dyn Home, connection: ConnectionId, message: &HeldMessage) -> Holding {
    let held = home.store().hold_message(connection, message, &LIMITS).await;
    held.expect("the store answers")
}

async fn messages(home: &dyn Home, connection: ConnectionId) -> Vec<HeldMessage> {
    home.store().held_messages(connection).await.expect("the store answers")
}

async fn hold_write(home: &dyn Home, identity: IdentityTag, write: &HeldWrite) -> Holding {
    let held = home.store().hold_write(identity, write, &LIMITS).await;
    held.expect("the store answers")
}

async fn writes(home: &dyn Home, identity: IdentityTag, most: u64) -> Vec<HeldWrite> {
    home.store()
        .held_writes(identity, most)
        .await
        .expect("the store answers")
}

async fn connections(home: &dyn Home, identity: IdentityTag) -> Vec<Registered> {
    home.store().connections(identity).await.expect("the store answers")
}
