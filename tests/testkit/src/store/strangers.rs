//! Connections that never prove who they are.

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    what_is_held_of_a_connection_that_was_nobodys_goes_when_it_closes(tested).await;
    what_is_held_of_a_connection_that_was_somebodys_stays(tested).await;
    what_is_held_can_be_kept_for_longer(tested).await;
    so_much_is_reserved_and_no_more(tested).await;
    what_is_reserved_is_given_back_in_time(tested).await;
}

async fn discard(tested: &dyn Implementation, connection: ConnectionId) -> u64 {
    tested
        .store()
        .discard_messages(connection)
        .await
        .expect("the store answers")
}

async fn what_is_held_of_a_connection_that_was_nobodys_goes_when_it_closes(tested: &dyn Implementation) {
    let connection = a_connection();
    hold(tested, connection, &message(tested, 1, "1")).await;
    hold(tested, connection, &message(tested, 2, "1")).await;
    record(tested, connection, &closed(3)).await;
    assert_eq!(discard(tested, connection).await, 2);
    assert_eq!(messages(tested, connection).await, []);
    assert_eq!(discard(tested, connection).await, 0);
    // What comes late is not held any more, the one who was late.
    assert_eq!(
        hold(tested, connection, &message(tested, 2, "1")).await,
        Holding::Deserted
    );
    assert_eq!(messages(tested, connection).await, []);
    assert_eq!(read(tested, connection).await, Some(closed(3)));
    // Of one that is not known to have closed, something may be held again.
    let connection = a_connection();
    hold(tested, connection, &message(tested, 1, "1")).await;
    assert_eq!(discard(tested, connection).await, 1);
    assert_eq!(hold(tested, connection, &message(tested, 2, "1")).await, counted(1));
    assert_eq!(record(tested, connection, &live("alice", 1)).await, Recorded::Changed);
    // One that has logged out cannot be resumed either.
    let connection = a_connection();
    record(tested, connection, &live("alice", 1)).await;
    record(tested, connection, &Authentication::Forgotten { by: Sequence::new(2) }).await;
    hold(tested, connection, &message(tested, 3, "1")).await;
    record(tested, connection, &closed(4)).await;
    assert_eq!(discard(tested, connection).await, 1);
}

async fn what_is_held_of_a_connection_that_was_somebodys_stays(tested: &dyn Implementation) {
    let connection = a_connection();
    record(tested, connection, &live("alice", 1)).await;
    hold(tested, connection, &message(tested, 2, "1")).await;
    record(tested, connection, &closed(3)).await;
    assert_eq!(discard(tested, connection).await, 0);
    assert_eq!(messages(tested, connection).await, [message(tested, 2, "1")]);
    assert_eq!(hold(tested, connection, &message(tested, 3, "1")).await, counted(2));
    // Someone whose proof is heard of late has it as it was from then on.
    let connection = a_connection();
    record(tested, connection, &closed(3)).await;
    assert_eq!(discard(tested, connection).await, 0);
    record(tested, connection, &live("alice", 1)).await;
    assert_eq!(hold(tested, connection, &message(tested, 2, "1")).await, counted(1));
}

async fn what_is_held_can_be_kept_for_longer(tested: &dyn Implementation) {
    let (connection, other) = (a_connection(), a_connection());
    let one = message(tested, 1, "1");
    hold(tested, connection, &one).await;
    let keep = LIMITS.ttl + HOLD_GRACE;
    pass(tested, keep / 2).await;
    for (kept, time) in [(connection, keep), (other, keep), (connection, keep / 4)] {
        tested
            .store()
            .keep_messages(kept, time)
            .await
            .expect("the store answers");
    }
    pass(tested, keep / 4 * 3).await;
    assert_eq!(messages(tested, connection).await, [one]);
    assert_eq!(messages(tested, other).await, []);
    pass(tested, keep / 2).await;
    assert_eq!(messages(tested, connection).await, []);
}

async fn reserve(tested: &dyn Implementation, connection: ConnectionId, bytes: u64) -> bool {
    let reservation = Reservation {
        bytes,
        most_of_terminator: 100,
        most_of_all: 150,
        until: tested.clock().now().saturating_add(Duration::from_secs(60)),
    };
    let reserved = tested.store().reserve(connection, &reservation).await;
    reserved.expect("the store answers")
}

async fn unreserve(tested: &dyn Implementation, connection: ConnectionId) {
    tested.store().unreserve(connection).await.expect("the store answers");
}

async fn reserved(tested: &dyn Implementation) -> u64 {
    tested.store().reserved().await.expect("the store answers")
}

async fn so_much_is_reserved_and_no_more(tested: &dyn Implementation) {
    let one = a_connection();
    let its_neighbour = ConnectionId { number: 2, ..one };
    let other = a_connection();
    assert!(reserve(tested, one, 60).await);
    assert!(
        !reserve(tested, its_neighbour, 41).await,
        "more than its terminator may have"
    );
    assert!(reserve(tested, its_neighbour, 40).await);
    assert!(!reserve(tested, other, 51).await, "more than all may have");
    assert!(reserve(tested, other, 50).await);
    assert_eq!(reserved(tested).await, 150);
    unreserve(tested, one).await;
    unreserve(tested, one).await;
    assert_eq!(reserved(tested).await, 90);
    assert!(reserve(tested, one, 30).await && reserve(tested, one, 30).await);
    unreserve(tested, one).await;
    assert_eq!(reserved(tested).await, 90);
    unreserve(tested, its_neighbour).await;
    unreserve(tested, other).await;
    assert_eq!(reserved(tested).await, 0);
}

async fn what_is_reserved_is_given_back_in_time(tested: &dyn Implementation) {
    let (early, late) = (a_connection(), a_connection());
    assert!(reserve(tested, early, 70).await);
    pass(tested, Duration::from_secs(30)).await;
    assert!(reserve(tested, late, 70).await);
    assert!(!reserve(tested, late, 20).await);
    pass(tested, Duration::from_secs(31)).await;
    assert_eq!(reserved(tested).await, 70);
    assert!(reserve(tested, late, 20).await);
    pass(tested, Duration::from_secs(61)).await;
    assert_eq!(reserved(tested).await, 0);
}
