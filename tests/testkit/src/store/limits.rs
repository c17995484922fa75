//! How much one identity may have and do.

use worker::store::limits::{Admission, ConnectionLimit, ConnectionSlot, MOST_NAMED, OnConnectionLimit};

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    one_more_than_there_are_places_is_refused_until_one_is_free(tested).await;
    what_is_authenticated_already_is_not_refused(tested).await;
    some_of_many_are_named_others_each_time(tested).await;
    the_oldest_give_way_and_are_named_until_they_have_gone(tested).await;
    of_far_too_many_some_are_named_at_a_time(tested).await;
    a_successor_has_the_place_of_the_one_before_it(tested).await;
    an_identity_sends_so_many_in_a_second_and_costs_no_other_any(tested).await;
    places_are_not_given_twice_at_the_same_moment(tested).await;
}

const MINUTE: Duration = Duration::from_secs(60);

fn place(tested: &dyn Implementation, connection: ConnectionId, on_more: OnConnectionLimit) -> ConnectionSlot {
    ConnectionSlot {
        connection,
        until: tested.clock().now().saturating_add(MINUTE),
        is_renewal: false,
        replaces: None,
        limit: ConnectionLimit { most: 2, on_more },
    }
}

async fn admit(tested: &dyn Implementation, identity: IdentityTag, place: ConnectionSlot) -> Admission {
    tested.store().admit(identity, place).await.expect("the store answers")
}

async fn unregister(tested: &dyn Implementation, identity: IdentityTag, connection: ConnectionId) {
    let left = tested.store().unregister(identity, connection, None).await;
    left.expect("the store answers");
}

fn admitted() -> Admission {
    Admission::Admitted(Vec::new())
}

/// Who has a place, as one is told that gets none; no one if it gets one.
fn holders(told: Admission) -> Vec<ConnectionId> {
    let mut holders = match told {
        Admission::Refused(holders) => holders,
        Admission::Admitted(_) => Vec::new(),
    };
    holders.sort_by_key(ToString::to_string);
    holders
}

fn sorted<const N: usize>(mut connections: [ConnectionId; N]) -> Vec<ConnectionId> {
    connections.sort_by_key(ToString::to_string);
    connections.into()
}

async fn one_more_than_there_are_places_is_refused_until_one_is_free(tested: &dyn Implementation) {
    let (identity, [one, two, three]) = (an_identity(), [(); 3].map(|()| a_connection()));
    let ask = async |connection| admit(tested, identity, place(tested, connection, OnConnectionLimit::Refuse)).await;
    assert_eq!((ask(one).await, ask(two).await), (admitted(), admitted()));
    assert_eq!(holders(ask(three).await), sorted([one, two]));
    assert_eq!(ask(one).await, admitted(), "it has one");
    let other = admit(tested, an_identity(), place(tested, three, OnConnectionLimit::Refuse)).await;
    assert_eq!(other, admitted(), "another identity has its own");
    unregister(tested, identity, one).await;
    assert_eq!(ask(three).await, admitted());
    assert_eq!(holders(ask(one).await), sorted([two, three]));
    pass(tested, MINUTE / 2).await;
    assert_eq!(ask(three).await, admitted(), "it is wanted anew");
    pass(tested, MINUTE / 2).await;
    assert_eq!(ask(one).await, admitted(), "the time of two is over");
    assert_eq!(holders(ask(two).await), sorted([one, three]));
}

async fn what_is_authenticated_already_is_not_refused(tested: &dyn Implementation) {
    let (identity, [one, two, three, four]) = (an_identity(), [(); 4].map(|()| a_connection()));
    for connection in [one, two] {
        admit(tested, identity, place(tested, connection, OnConnectionLimit::Refuse)).await;
    }
    let renewal = ConnectionSlot {
        is_renewal: true,
        ..place(tested, three, OnConnectionLimit::Refuse)
    };
    assert_eq!(admit(tested, identity, renewal).await, admitted());
    // And counts.
    unregister(tested, identity, one).await;
    let more = admit(tested, identity, place(tested, four, OnConnectionLimit::Refuse)).await;
    assert_eq!(holders(more), sorted([two, three]));
}

async fn some_of_many_are_named_others_each_time(tested: &dyn Implementation) {
    let (identity, most) = (an_identity(), 2 * MOST_NAMED as u64 + 1);
    let wanted = |connection| {
        let mut place = place(tested, connection, OnConnectionLimit::Refuse);
        place.limit.most = most;
        place
    };
    for _ in 0..most {
        assert_eq!(admit(tested, identity, wanted(a_connection())).await, admitted());
    }
    let mut named = Vec::new();
    for _ in 0..3 {
        let holders = holders(admit(tested, identity, wanted(a_connection())).await);
        assert!((1..=MOST_NAMED).contains(&holders.len()));
        named.extend(holders);
        pass(tested, Duration::from_millis(1)).await;
    }
    named.sort_by_key(ToString::to_string);
    named.dedup();
    assert_eq!(named.len() as u64, most);
}

async fn the_oldest_give_way_and_are_named_until_they_have_gone(tested: &dyn Implementation) {
    let (identity, all) = (an_identity(), [(); 4].map(|()| a_connection()));
    let mut told = Vec::new();
    for connection in all {
        told.push(
            admit(
                tested,
                identity,
                place(tested, connection, OnConnectionLimit::CloseOldest),
            )
            .await,
        );
        pass(tested, Duration::from_secs(1)).await;
    }
    let named = |connections: &[ConnectionId]| Admission::Admitted(connections.to_vec());
    assert_eq!(told, [admitted(), admitted(), named(&all[..1]), named(&all[..2])]);
    unregister(tested, identity, all[0]).await;
    let again = admit(tested, identity, place(tested, all[2], OnConnectionLimit::CloseOldest)).await;
    assert_eq!(again, named(&all[1..2]));
    // What is about to go names no other in its place.
    let leaving = admit(tested, identity, place(tested, all[1], OnConnectionLimit::CloseOldest)).await;
    assert_eq!(leaving, admitted());
}

async fn of_far_too_many_some_are_named_at_a_time(tested: &dyn Implementation) {
    let identity = an_identity();
    for _ in 0..MOST_NAMED + 4 {
        let renewal = ConnectionSlot {
            is_renewal: true,
            ..place(tested, a_connection(), OnConnectionLimit::Refuse)
        };
        admit(tested, identity, renewal).await;
    }
    pass(tested, Duration::from_secs(1)).await;
    let told = admit(
        tested,
        identity,
        place(tested, a_connection(), OnConnectionLimit::CloseOldest),
    )
    .await;
    assert!(matches!(told, Admission::Admitted(oldest) if oldest.len() == MOST_NAMED));
}

async fn a_successor_has_the_place_of_the_one_before_it(tested: &dyn Implementation) {
    let (identity, [one, two, three]) = (an_identity(), [(); 3].map(|()| a_connection()));
    for connection in [one, two] {
        admit(tested, identity, place(tested, connection, OnConnectionLimit::Refuse)).await;
    }
    let successor = ConnectionSlot {
        replaces: Some(one),
        ..place(tested, three, OnConnectionLimit::Refuse)
    };
    assert_eq!(admit(tested, identity, successor).await, admitted());
    let again = admit(tested, identity, place(tested, one, OnConnectionLimit::Refuse)).await;
    assert_eq!(holders(again), sorted([two, three]));
}

async fn an_identity_sends_so_many_in_a_second_and_costs_no_other_any(tested: &dyn Implementation) {
    let (identity, other) = (an_identity(), an_identity());
    let pace = async |identity, rate| tested.store().pace(identity, rate).await.expect("the store answers");
    for _ in 0..4 {
        assert_eq!(pace(identity, 4).await, None);
    }
    let wait = Duration::from_millis(250);
    assert_eq!(pace(identity, 4).await, Some(wait));
    assert_eq!(pace(identity, 4).await, Some(wait), "what is refused costs nothing");
    assert_eq!(pace(other, 4).await, None);
    pass(tested, wait).await;
    assert_eq!((pace(identity, 4).await, pace(identity, 4).await), (None, Some(wait)));
    pass(tested, Duration::from_secs(10)).await;
    for _ in 0..4 {
        assert_eq!(pace(identity, 4).await, None, "and no more than that is saved up");
    }
    assert!(pace(identity, 4).await.is_some());
    for _ in 0..1_000 {
        assert_eq!(pace(other, 1_000_000).await, None);
    }
}

async fn places_are_not_given_twice_at_the_same_moment(tested: &dyn Implementation) {
    let identity = an_identity();
    let asking = (0..20).map(|_| {
        admit(
            tested,
            identity,
            place(tested, a_connection(), OnConnectionLimit::Refuse),
        )
    });
    let told = join_all(asking).await;
    let admissions = told.iter().filter(|told| **told == admitted());
    assert_eq!(admissions.count(), 2);
}
