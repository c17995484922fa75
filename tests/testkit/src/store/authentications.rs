//! Who is on a connection: the newest message says so, in whatever order they come.

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    what_was_recorded_is_read_back(tested).await;
    a_newer_message_wins_and_an_older_one_is_stale(tested).await;
    every_order_of_arrival_ends_in_the_same_state(tested).await;
    the_same_verdict_again_is_no_change(tested).await;
    a_repeated_write_is_answered_like_the_first(tested).await;
    sequences_are_compared_exactly(tested).await;
    a_closed_connection_is_not_brought_back(tested).await;
    nothing_is_kept_long_after_its_expiry(tested).await;
    a_tombstone_is_not_kept_for_ever(tested).await;
    two_connections_do_not_touch_each_other(tested).await;
    concurrent_writers_converge_on_the_newest(tested).await;
}

async fn what_was_recorded_is_read_back(tested: &dyn Implementation) {
    let connection = a_connection();
    assert_eq!(read(tested, connection).await, None);
    let names = [
        ("https://issuer.example", "alice"),
        ("", "\"quoted\\ \u{1F511} :{}"),
        ("a:b", "c"),
        ("a", "b:c"),
    ];
    for (number, (issuer, subject)) in (1..).zip(names) {
        let identity = proved(issuer, subject);
        let state = live_as(identity, TOKEN_LIFE, number);
        assert_eq!(record(tested, connection, &state).await, Recorded::Changed);
        assert_eq!(read(tested, connection).await, Some(state));
    }
}

async fn a_newer_message_wins_and_an_older_one_is_stale(tested: &dyn Implementation) {
    let connection = a_connection();
    assert_eq!(record(tested, connection, &live("alice", 5)).await, Recorded::Changed);
    assert_eq!(record(tested, connection, &live("bob", 4)).await, Recorded::Stale);
    assert_eq!(read(tested, connection).await, Some(live("alice", 5)));
    assert_eq!(record(tested, connection, &live("bob", 6)).await, Recorded::Changed);
    assert_eq!(record(tested, connection, &live("alice", 5)).await, Recorded::Stale);
    assert_eq!(read(tested, connection).await, Some(live("bob", 6)));
}

async fn every_order_of_arrival_ends_in_the_same_state(tested: &dyn Implementation) {
    let history = [
        live("alice", 1),
        live("alice", 2),
        live("bob", 9),
        live("alice", 10),
        closed(11),
    ];
    for length in 1..=history.len() {
        let (told, last) = (&history[..length], &history[length - 1]);
        for order in permutations(told) {
            let connection = a_connection();
            for state in &order {
                record(tested, connection, state).await;
            }
            assert_eq!(
                read(tested, connection).await.as_ref(),
                Some(last),
                "in the order {order:?}"
            );
        }
    }
}

async fn the_same_verdict_again_is_no_change(tested: &dyn Implementation) {
    let connection = a_connection();
    assert_eq!(record(tested, connection, &live("alice", 1)).await, Recorded::Changed);
    assert_eq!(record(tested, connection, &live("alice", 2)).await, Recorded::Unchanged);
    assert_eq!(
        read(tested, connection).await,
        Some(live("alice", 2)),
        "the sequence advances nevertheless"
    );

    let renewed = live_as(someone("alice"), TOKEN_LIFE * 2, 3);
    assert_eq!(record(tested, connection, &renewed).await, Recorded::Changed);
    let of_another_issuer = proved("https://other.example", "alice");
    let other = live_as(of_another_issuer, TOKEN_LIFE * 2, 4);
    assert_eq!(record(tested, connection, &other).await, Recorded::Changed);
    assert_eq!(record(tested, connection, &closed(5)).await, Recorded::Changed);
    assert_eq!(record(tested, connection, &closed(6)).await, Recorded::Unchanged);
}

async fn a_repeated_write_is_answered_like_the_first(tested: &dyn Implementation) {
    let connection = a_connection();
    assert_eq!(record(tested, connection, &live("alice", 3)).await, Recorded::Changed);
    assert_eq!(record(tested, connection, &live("alice", 3)).await, Recorded::Changed);
    assert_eq!(record(tested, connection, &live("bob", 3)).await, Recorded::Stale);
    assert_eq!(read(tested, connection).await, Some(live("alice", 3)));
}

async fn sequences_are_compared_exactly(tested: &dyn Implementation) {
    // Text would put 10 before 9; a double cannot tell 2^53 from 2^53 + 1.
    let exact_in_a_double = 1_u64 << 53;
    for (older, newer) in [
        (9, 10),
        (exact_in_a_double, exact_in_a_double + 1),
        (u64::MAX - 1, u64::MAX),
    ] {
        let connection = a_connection();
        assert_eq!(
            record(tested, connection, &live("alice", older)).await,
            Recorded::Changed
        );
        assert_eq!(record(tested, connection, &live("bob", newer)).await, Recorded::Changed);
        assert_eq!(record(tested, connection, &live("alice", older)).await, Recorded::Stale);
        assert_eq!(read(tested, connection).await, Some(live("bob", newer)));
    }
}

async fn a_closed_connection_is_not_brought_back(tested: &dyn Implementation) {
    for seen_before in [true, false] {
        let connection = a_connection();
        if seen_before {
            record(tested, connection, &live("alice", 1)).await;
        }
        let outcome = tested.store().close(connection, Sequence::new(3)).await;
        assert_eq!(outcome.expect("the store answers"), Recorded::Changed);
        pass(tested, AFTERLIFE / 2).await;
        assert_eq!(record(tested, connection, &live("alice", 2)).await, Recorded::Stale);
        assert_eq!(read(tested, connection).await, Some(closed(3)));
    }
}

async fn nothing_is_kept_long_after_its_expiry(tested: &dyn Implementation) {
    let connection = a_connection();
    let state = live_as_of(tested, "alice", 1);
    record(tested, connection, &state).await;
    pass(tested, TOKEN_LIFE + AFTERLIFE + LEEWAY / 2).await;
    assert_eq!(read(tested, connection).await, Some(state), "a late write must find it");
    pass(tested, LEEWAY / 2).await;
    assert_eq!(read(tested, connection).await, None);
    let next = live_as_of(tested, "bob", 2);
    assert_eq!(record(tested, connection, &next).await, Recorded::Changed);
}

async fn a_tombstone_is_not_kept_for_ever(tested: &dyn Implementation) {
    let connection = a_connection();
    record(tested, connection, &live_as_of(tested, "alice", 1)).await;
    record(tested, connection, &closed(2)).await;
    pass(tested, AFTERLIFE).await;
    assert_eq!(read(tested, connection).await, None);
}

async fn two_connections_do_not_touch_each_other(tested: &dyn Implementation) {
    let terminator = TerminatorId::random();
    let [one, other] = [1, 2].map(|number| ConnectionId { terminator, number });
    record(tested, one, &live("alice", 7)).await;
    assert_eq!(read(tested, other).await, None);
    assert_eq!(record(tested, other, &live("bob", 1)).await, Recorded::Changed);
    assert_eq!(record(tested, other, &closed(2)).await, Recorded::Changed);
    assert_eq!(read(tested, one).await, Some(live("alice", 7)));
}

async fn concurrent_writers_converge_on_the_newest(tested: &dyn Implementation) {
    const WRITES: u64 = 64;
    let connection = a_connection();
    // A stride that shares no factor with the number of writes visits each once, out of order.
    let states: Vec<_> = (0..WRITES)
        .map(|n| n * 37 % WRITES + 1)
        .map(|sequence| live(&format!("subject-{sequence}"), sequence))
        .collect();
    let outcomes = join_all(states.iter().map(|state| record(tested, connection, state))).await;
    let newest = live(&format!("subject-{WRITES}"), WRITES);
    assert_eq!(read(tested, connection).await.as_ref(), Some(&newest));
    for (state, outcome) in states.iter().zip(outcomes) {
        assert_ne!(outcome, Recorded::Unchanged, "no two said the same");
        assert!(*state != newest || outcome == Recorded::Changed);
    }
}

/// By a token that lives from the implementation's present moment.
fn live_as_of(tested: &dyn Implementation, subject: &str, by: u64) -> Authentication {
    let age = tested.clock().now().saturating_since(START);
    live_as(someone(subject), age + TOKEN_LIFE, by)
}
