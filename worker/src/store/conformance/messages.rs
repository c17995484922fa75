//! What is held of a connection.

use super::*;

pub(super) async fn every_claim(home: &dyn Home) {
    messages_are_held_once_and_read_in_their_order(home).await;
    messages_are_held_within_limits_whoever_holds_them(home).await;
    what_was_dropped_is_not_held_again(home).await;
    messages_outlast_their_time_by_a_while(home).await;
}

async fn what_was_dropped_is_not_held_again(home: &dyn Home) {
    let (connection, other) = (a_connection(), a_connection());
    hold(home, connection, &message(home, 1, "1")).await;
    hold(home, connection, &message(home, 2, "1")).await;
    drop_messages(home, connection, &[1, 3]).await;
    assert_eq!(hold(home, connection, &message(home, 1, "1")).await, counted(1));
    assert_eq!(messages(home, connection).await, [message(home, 2, "1")]);
    assert_eq!(dropped(home, connection).await, [Sequence::new(1)]);
    drop_messages(home, connection, &[2]).await;
    assert_eq!(hold(home, connection, &message(home, 2, "1")).await, counted(0));
    assert_eq!(messages(home, connection).await, []);
    // What was never there, and what is another's, was not dropped.
    assert_eq!(hold(home, connection, &message(home, 3, "1")).await, counted(1));
    assert_eq!(hold(home, other, &message(home, 1, "1")).await, counted(1));
    for sequence in [1, 2] {
        pass(home, AFTERLIFE / 2).await;
        assert_ne!(
            hold(home, connection, &message(home, sequence, "1")).await,
            Holding::Overflow
        );
    }
    let held = messages(home, connection).await;
    assert_eq!(held, [message(home, 2, "1")], "after a while it is another's number");
}

async fn messages_outlast_their_time_by_a_while(home: &dyn Home) {
    let connection = a_connection();
    let (early, late) = (message(home, 1, "1"), Duration::from_secs(10));
    hold(home, connection, &early).await;
    pass(home, LIMITS.ttl + HOLD_GRACE - late).await;
    assert_eq!(messages(home, connection).await, std::slice::from_ref(&early));
    let next = message(home, 2, "1");
    assert_eq!(hold(home, connection, &next).await, counted(2));
    pass(home, LIMITS.ttl + HOLD_GRACE - late).await;
    assert_eq!(messages(home, connection).await, [early, next]);
    pass(home, late).await;
    assert_eq!(messages(home, connection).await, []);
    assert_eq!(hold(home, connection, &message(home, 3, "1")).await, counted(1));
}

async fn dropped(home: &dyn Home, connection: ConnectionId) -> Vec<Sequence> {
    let dropped = home.store().dropped_messages(connection).await;
    dropped.expect("the store answers")
}

async fn drop_messages(home: &dyn Home, connection: ConnectionId, sequences: &[u64]) -> u64 {
    let sequences: Vec<_> = sequences.iter().copied().map(Sequence::new).collect();
    let left = home.store().drop_messages(connection, &sequences).await;
    left.expect("the store answers")
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
    hold(home, connection, &message(home, 1, "1")).await;
    assert_eq!(hold(home, connection, &message(home, 2, &large)).await, counted(2));
    let next = message(home, 3, &large);
    assert_eq!(hold(home, connection, &next).await, Holding::Overflow);
    assert_eq!(drop_messages(home, connection, &[2]).await, 1);
    assert_eq!(hold(home, connection, &next).await, counted(2));
}
