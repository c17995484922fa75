//! What is held of a connection.

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    messages_are_held_once_and_read_in_their_order(tested).await;
    messages_are_held_within_limits_whoever_holds_them(tested).await;
    what_was_dropped_is_not_held_again(tested).await;
    messages_outlast_their_time_by_a_while(tested).await;
}

async fn what_was_dropped_is_not_held_again(tested: &dyn Implementation) {
    let (connection, other) = (a_connection(), a_connection());
    hold(tested, connection, &message(tested, 1, "1")).await;
    hold(tested, connection, &message(tested, 2, "1")).await;
    drop_messages(tested, connection, &[1, 3]).await;
    assert_eq!(hold(tested, connection, &message(tested, 1, "1")).await, counted(1));
    assert_eq!(messages(tested, connection).await, [message(tested, 2, "1")]);
    assert_eq!(dropped(tested, connection).await, [Sequence::new(1)]);
    drop_messages(tested, connection, &[2]).await;
    assert_eq!(hold(tested, connection, &message(tested, 2, "1")).await, counted(0));
    assert_eq!(messages(tested, connection).await, []);
    // What was never there, and what is another's, was not dropped.
    assert_eq!(hold(tested, connection, &message(tested, 3, "1")).await, counted(1));
    assert_eq!(hold(tested, other, &message(tested, 1, "1")).await, counted(1));
    for sequence in [1, 2] {
        pass(tested, AFTERLIFE / 2).await;
        assert_ne!(
            hold(tested, connection, &message(tested, sequence, "1")).await,
            Holding::Overflow
        );
    }
    let held = messages(tested, connection).await;
    assert_eq!(held, [message(tested, 2, "1")], "after a while it is another's number");
}

async fn messages_outlast_their_time_by_a_while(tested: &dyn Implementation) {
    let connection = a_connection();
    let (early, late) = (message(tested, 1, "1"), Duration::from_secs(10));
    hold(tested, connection, &early).await;
    pass(tested, LIMITS.ttl + HOLD_GRACE - late).await;
    assert_eq!(messages(tested, connection).await, std::slice::from_ref(&early));
    let next = message(tested, 2, "1");
    assert_eq!(hold(tested, connection, &next).await, counted(2));
    pass(tested, LIMITS.ttl + HOLD_GRACE - late).await;
    assert_eq!(messages(tested, connection).await, [early, next]);
    pass(tested, late).await;
    assert_eq!(messages(tested, connection).await, []);
    assert_eq!(hold(tested, connection, &message(tested, 3, "1")).await, counted(1));
}

async fn dropped(tested: &dyn Implementation, connection: ConnectionId) -> Vec<Sequence> {
    let dropped = tested.store().dropped_messages(connection).await;
    dropped.expect("the store answers")
}

async fn drop_messages(tested: &dyn Implementation, connection: ConnectionId, sequences: &[u64]) -> u64 {
    let sequences: Vec<_> = sequences.iter().copied().map(Sequence::new).collect();
    let left = tested.store().drop_messages(connection, &sequences).await;
    left.expect("the store answers")
}

async fn messages_are_held_once_and_read_in_their_order(tested: &dyn Implementation) {
    let connection = a_connection();
    for sequence in [10, 9, 10] {
        hold(tested, connection, &message(tested, sequence, "1")).await;
    }
    let held = messages(tested, connection).await;
    assert_eq!(held, [message(tested, 9, "1"), message(tested, 10, "1")]);
    let mut bare = message(tested, 11, "");
    (bare.id, bare.payload, bare.owner) = (None, None, None);
    assert_eq!(hold(tested, connection, &bare).await, counted(3));
    let drop = [Sequence::new(9), Sequence::new(10), Sequence::new(77)];
    let left = tested.store().drop_messages(connection, &drop).await;
    assert_eq!(left.expect("the store answers"), 1);
    assert_eq!(messages(tested, connection).await, [bare]);
    let left = tested.store().drop_messages(connection, &[Sequence::new(11)]).await;
    assert_eq!(left.expect("the store answers"), 0);
    assert_eq!(messages(tested, connection).await, []);
}

async fn messages_are_held_within_limits_whoever_holds_them(tested: &dyn Implementation) {
    let connection = a_connection();
    let many: Vec<_> = (1..=10).map(|sequence| message(tested, sequence, "1")).collect();
    let outcomes = join_all(many.iter().map(|one| hold(tested, connection, one))).await;
    let held = outcomes.iter().filter(|outcome| **outcome != Holding::Overflow).count();
    assert_eq!(held as u64, LIMITS.messages);
    let there = messages(tested, connection).await;
    assert_eq!(there.len(), held);
    // What is there may be told again; and room that is made is there.
    assert_eq!(hold(tested, connection, &there[0]).await, counted(LIMITS.messages));
    let sequences: Vec<_> = there.iter().map(|one| one.sequence).collect();
    let left = tested.store().drop_messages(connection, &sequences[..1]).await;
    assert_eq!(left.expect("the store answers"), LIMITS.messages - 1);
    assert_eq!(
        hold(tested, connection, &message(tested, 99, "1")).await,
        counted(LIMITS.messages)
    );

    let connection = a_connection();
    let large = "x".repeat(60);
    hold(tested, connection, &message(tested, 1, "1")).await;
    assert_eq!(hold(tested, connection, &message(tested, 2, &large)).await, counted(2));
    let next = message(tested, 3, &large);
    assert_eq!(hold(tested, connection, &next).await, Holding::Overflow);
    assert_eq!(drop_messages(tested, connection, &[2]).await, 1);
    assert_eq!(hold(tested, connection, &next).await, counted(2));
}
