//! Which connections an identity has.

use super::*;

pub(super) async fn every_claim(home: &dyn Home) {
    connections_are_listed_until_they_leave(home).await;
    whoever_comes_is_told_what_is_held_or_is_seen(home).await;
    a_lapsed_connection_is_listed_for_a_day(home).await;
    of_too_many_connections_the_stalest_gives_way(home).await;
}

async fn a_lapsed_connection_is_listed_for_a_day(home: &dyn Home) {
    let alice = an_identity();
    let lapses = |seconds| Registered {
        until: home.clock().now().saturating_add(Duration::from_secs(seconds)),
        ..registered(a_connection())
    };
    let (sooner, later) = (lapses(10), lapses(20));
    register(home, alice, sooner).await;
    register(home, alice, later).await;
    pass(home, LAPSED_KEPT + Duration::from_secs(9)).await;
    assert_eq!(connections(home, alice).await.len(), 2);
    pass(home, Duration::from_secs(1)).await;
    assert_eq!(connections(home, alice).await, [later]);
    pass(home, Duration::from_secs(10)).await;
    assert_eq!(connections(home, alice).await, []);
}

async fn of_too_many_connections_the_stalest_gives_way(home: &dyn Home) {
    const AT_A_TIME: usize = 500;
    let (alice, start) = (an_identity(), home.clock().now());
    let entries: Vec<_> = (0..=MOST_CONNECTIONS)
        .map(|number| Registered {
            until: start.saturating_add(Duration::from_millis(1 + number as u64)),
            ..registered(a_connection())
        })
        .collect();
    for some in entries.chunks(AT_A_TIME) {
        join_all(some.iter().map(|entry| register(home, alice, *entry))).await;
    }
    let mut there = connections(home, alice).await;
    there.sort_by_key(|entry| entry.until);
    assert!(there == entries[1..], "{} are there", there.len());
}

async fn register(home: &dyn Home, identity: IdentityTag, entry: Registered) -> u64 {
    let held = home.store().register(identity, entry).await;
    held.expect("the store answers")
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

fn registered(connection: ConnectionId) -> Registered {
    Registered {
        connection,
        until: START.saturating_add(TOKEN_LIFE * 1_000),
        issued_at: Some(START),
        token_id: None,
    }
}

async fn connections(home: &dyn Home, identity: IdentityTag) -> Vec<Registered> {
    home.store().connections(identity).await.expect("the store answers")
}
