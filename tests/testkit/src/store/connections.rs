//! Which connections an identity has.

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    connections_are_listed_until_they_leave(tested).await;
    whoever_comes_is_told_what_is_held_or_is_seen(tested).await;
    an_expired_connection_is_listed_for_a_day(tested).await;
    of_too_many_connections_the_stalest_gives_way(tested).await;
    an_entry_is_by_the_newest_message_in_whatever_order_they_are_recorded(tested).await;
    whoever_is_taken_out_by_no_message_may_come_again(tested).await;
    that_a_connection_left_is_known_for_as_long_as_older_messages_may_come(tested).await;
    who_left_lately_is_known_until_they_come_again_or_are_replaced(tested).await;
    who_has_left_is_listed_for_as_long_as_decisions_are_kept(tested).await;
}

async fn who_has_left_is_listed_for_as_long_as_decisions_are_kept(tested: &dyn Implementation) {
    let (alice, entries) = (an_identity(), [0; 3].map(|_| registered(a_connection())));
    let departed = async || {
        let mut all = tested.store().closed_lately(alice).await.expect("the store answers");
        all.sort_unstable();
        all
    };
    for entry in entries {
        register(tested, alice, entry).await;
    }
    assert_eq!(departed().await, []);
    // One says so itself, of the other its terminator has died.
    leave(tested, alice, entries[0].connection, Some(9)).await;
    leave(tested, alice, entries[1].connection, None).await;
    let mut gone = [entries[0].connection, entries[1].connection];
    gone.sort_unstable();
    assert_eq!(departed().await, gone);
    assert_eq!(connections(tested, alice).await, entries[2..]);
    pass(tested, DECISIONS_TTL - BRINK).await;
    assert_eq!(departed().await, gone);
    pass(tested, AFTERLIFE).await;
    assert_eq!(departed().await, []);
}

async fn an_expired_connection_is_listed_for_a_day(tested: &dyn Implementation) {
    let alice = an_identity();
    let expires = |seconds| Registered {
        until: tested.clock().now().saturating_add(Duration::from_secs(seconds)),
        ..registered(a_connection())
    };
    let (sooner, later) = (expires(10), expires(20));
    register(tested, alice, sooner).await;
    register(tested, alice, later).await;
    pass(tested, EXPIRED_KEPT + Duration::from_secs(9)).await;
    assert_eq!(connections(tested, alice).await.len(), 2);
    pass(tested, Duration::from_secs(1)).await;
    assert_eq!(connections(tested, alice).await, [later]);
    assert_eq!(one(tested, alice, sooner.connection).await, None);
    assert_eq!(one(tested, alice, later.connection).await, Some(later));
    assert_eq!(one(tested, an_identity(), later.connection).await, None);
    pass(tested, Duration::from_secs(10)).await;
    assert_eq!(connections(tested, alice).await, []);
}

async fn one(tested: &dyn Implementation, identity: IdentityTag, connection: ConnectionId) -> Option<Registered> {
    let one = tested.store().registered(identity, connection).await;
    one.expect("the store answers")
}

async fn of_too_many_connections_the_stalest_gives_way(tested: &dyn Implementation) {
    const AT_A_TIME: usize = 500;
    let (alice, start) = (an_identity(), tested.clock().now());
    let entries: Vec<_> = (0..=MOST_CONNECTIONS)
        .map(|number| Registered {
            until: start.saturating_add(Duration::from_millis(1 + number as u64)),
            ..registered(a_connection())
        })
        .collect();
    for some in entries.chunks(AT_A_TIME) {
        join_all(some.iter().map(|entry| register(tested, alice, *entry))).await;
    }
    let mut there = connections(tested, alice).await;
    there.sort_by_key(|entry| entry.until);
    assert!(there == entries[1..], "{} are there", there.len());
}

async fn try_register(tested: &dyn Implementation, identity: IdentityTag, entry: Registered) -> Option<u64> {
    let held = tested.store().register(identity, entry).await;
    held.expect("the store answers")
}

async fn leave(tested: &dyn Implementation, identity: IdentityTag, connection: ConnectionId, by: Option<u64>) {
    let left = tested
        .store()
        .unregister(identity, connection, by.map(Sequence::new))
        .await;
    left.expect("the store answers");
}

async fn register(tested: &dyn Implementation, identity: IdentityTag, entry: Registered) -> u64 {
    try_register(tested, identity, entry)
        .await
        .expect("nothing newer was said")
}

async fn connections_are_listed_until_they_leave(tested: &dyn Implementation) {
    let alice = an_identity();
    let (one, other) = (registered(a_connection()), registered(a_connection()));
    for entry in [one, other] {
        assert_eq!(register(tested, alice, entry).await, 0);
    }
    let renewed = Registered {
        until: one.until.saturating_add(TOKEN_LIFE),
        issued_at: None,
        token_id: Some(TokenIdTag::of(&[5; 32])),
        session: Some(SessionTag::of(&[6; 32])),
        ..one
    };
    tested
        .store()
        .register(alice, renewed)
        .await
        .expect("the store answers");
    let mut there = connections(tested, alice).await;
    there.sort_by_key(|entry| entry.until);
    assert_eq!(there, [other, renewed]);
    leave(tested, alice, one.connection, None).await;
    assert_eq!(connections(tested, alice).await, [other]);
    assert_eq!(connections(tested, an_identity()).await, []);
}

/// Write first, look second: of one that holds and one that comes at the same time, one sees the other.
async fn whoever_comes_is_told_what_is_held_or_is_seen(tested: &dyn Implementation) {
    for _ in 0..50 {
        let (alice, connection) = (an_identity(), a_connection());
        let holding = async {
            hold_write(tested, alice, &write(tested, "k", "x")).await;
            connections(tested, alice).await.len()
        };
        let coming = tested.store().register(alice, registered(connection));
        let (seen, told) = join(holding, coming).await;
        assert!(seen == 1 || told.expect("the store answers") == Some(1));
    }
}

fn registered(connection: ConnectionId) -> Registered {
    Registered {
        connection,
        by: Sequence::FIRST,
        until: START.saturating_add(TOKEN_LIFE * 1_000),
        issued_at: Some(START),
        token_id: None,
        session: None,
    }
}

async fn connections(tested: &dyn Implementation, identity: IdentityTag) -> Vec<Registered> {
    tested.store().connections(identity).await.expect("the store answers")
}

/// Of the same connection, by that message, and told from others by its end.
fn by(connection: ConnectionId, sequence: u64) -> Registered {
    let entry = registered(connection);
    Registered {
        by: Sequence::new(sequence),
        until: entry.until.saturating_add(Duration::from_secs(sequence % 100)),
        ..entry
    }
}

async fn an_entry_is_by_the_newest_message_in_whatever_order_they_are_recorded(tested: &dyn Implementation) {
    // Exact beyond 2^53, and 10 is more than 9.
    for [first, second, third] in [[1, 2, 3], [9, 10, 11], [u64::MAX - 2, u64::MAX - 1, u64::MAX]] {
        let (alice, connection) = (an_identity(), a_connection());
        register(tested, alice, by(connection, second)).await;
        assert_eq!(try_register(tested, alice, by(connection, first)).await, None);
        assert_eq!(connections(tested, alice).await, [by(connection, second)]);
        // The same message may come again, and may have changed its mind.
        register(tested, alice, by(connection, second)).await;
        leave(tested, alice, connection, Some(first)).await;
        assert_eq!(connections(tested, alice).await, [by(connection, second)]);
        leave(tested, alice, connection, Some(second)).await;
        assert_eq!(connections(tested, alice).await, []);
        for late in [first, second] {
            assert_eq!(
                try_register(tested, alice, by(connection, late)).await,
                None,
                "it has left"
            );
        }
        assert_eq!(connections(tested, alice).await, []);
        register(tested, alice, by(connection, third)).await;
        assert_eq!(connections(tested, alice).await, [by(connection, third)]);
    }
    // Who leaves before the entry has left all the same, and no older word takes that back.
    let (alice, connection) = (an_identity(), a_connection());
    leave(tested, alice, connection, Some(5)).await;
    leave(tested, alice, connection, Some(3)).await;
    assert_eq!(try_register(tested, alice, by(connection, 4)).await, None);
    // That is between the connection and one identity.
    register(tested, an_identity(), by(connection, 4)).await;
    register(tested, alice, by(a_connection(), 4)).await;
}

async fn whoever_is_taken_out_by_no_message_may_come_again(tested: &dyn Implementation) {
    let (alice, connection) = (an_identity(), a_connection());
    register(tested, alice, by(connection, 5)).await;
    leave(tested, alice, connection, None).await;
    assert_eq!(connections(tested, alice).await, []);
    register(tested, alice, by(connection, 5)).await;
    assert_eq!(connections(tested, alice).await, [by(connection, 5)]);
}

async fn that_a_connection_left_is_known_for_as_long_as_older_messages_may_come(tested: &dyn Implementation) {
    let (alice, connection) = (an_identity(), a_connection());
    leave(tested, alice, connection, Some(5)).await;
    pass(tested, AFTERLIFE - BRINK).await;
    assert_eq!(try_register(tested, alice, by(connection, 4)).await, None);
    pass(tested, BRINK).await;
    register(tested, alice, by(connection, 4)).await;

    // Of too many that left, the first is forgotten.
    let (bob, first, second) = (an_identity(), a_connection(), a_connection());
    for connection in [first, second] {
        leave(tested, bob, connection, Some(5)).await;
        pass(tested, Duration::from_millis(1)).await;
    }
    join_all((1..DROPPED_KEPT).map(|_| leave(tested, bob, a_connection(), Some(5)))).await;
    assert_eq!(try_register(tested, bob, by(second, 4)).await, None);
    register(tested, bob, by(first, 4)).await;
}

async fn who_left_lately_is_known_until_they_come_again_or_are_replaced(tested: &dyn Implementation) {
    let alice = an_identity();
    let departed = async |since: Timestamp| {
        let departed = tested.store().departed(alice, since).await.expect("the store answers");
        departed
            .into_iter()
            .map(|(connection, _)| connection)
            .collect::<Vec<_>>()
    };
    let all = [(); 4].map(|()| registered(a_connection()));
    let [first, second, third, never] = all;
    for entry in [first, second, third] {
        register(tested, alice, entry).await;
    }
    let start = tested.clock().now();
    leave(tested, alice, never.connection, Some(9)).await;
    leave(tested, alice, first.connection, Some(9)).await;
    pass(tested, Duration::from_secs(1)).await;
    leave(tested, alice, second.connection, None).await;
    pass(tested, Duration::from_secs(1)).await;
    leave(tested, alice, third.connection, Some(9)).await;
    let names = |entries: &[Registered]| entries.iter().map(|entry| entry.connection).collect::<Vec<_>>();
    assert_eq!(departed(start).await, names(&[first, second, third]));
    let later = start.saturating_add(Duration::from_secs(1));
    assert_eq!(departed(later).await, names(&[second, third]));
    register(tested, alice, second).await;
    let replaced = tested.store().replace_departed(alice, first.connection).await;
    replaced.expect("the store answers");
    assert_eq!(departed(start).await, names(&[third]));
    for _ in 0..MOST_DEPARTED {
        let entry = registered(a_connection());
        register(tested, alice, entry).await;
        pass(tested, Duration::from_millis(1)).await;
        leave(tested, alice, entry.connection, Some(9)).await;
    }
    let last = departed(start).await;
    assert_eq!(last.len(), MOST_DEPARTED);
    assert!(!last.contains(&third.connection));
}
