//! Connections that never prove who they are.

use super::*;

pub(super) async fn every_claim(home: &dyn Home) {
    what_is_held_of_a_connection_that_was_nobodys_goes_when_it_closes(home).await;
    what_is_held_of_a_connection_that_was_somebodys_stays(home).await;
    what_is_held_can_be_kept_for_longer(home).await;
    so_much_is_reserved_and_no_more(home).await;
    what_is_reserved_is_given_back_in_time(home).await;
}

async fn discard(home: &dyn Home, connection: ConnectionId) -> u64 {
    home.store()
        .discard_messages(connection)
        .await
        .expect("the store answers")
}

async fn what_is_held_of_a_connection_that_was_nobodys_goes_when_it_closes(home: &dyn Home) {
    let connection = a_connection();
    hold(home, connection, &message(home, 1, "1")).await;
    hold(home, connection, &message(home, 2, "1")).await;
    record(home, connection, &closed(3)).await;
    assert_eq!(discard(home, connection).await, 2);
    assert_eq!(messages(home, connection).await, []);
    assert_eq!(discard(home, connection).await, 0);
    // What comes late is not held any more, whoever was late.
    assert_eq!(hold(home, connection, &message(home, 2, "1")).await, Holding::Deserted);
    assert_eq!(messages(home, connection).await, []);
    assert_eq!(read(home, connection).await, Some(closed(3)));
    // Of one that is not known to have closed, something may be held again.
    let connection = a_connection();
    hold(home, connection, &message(home, 1, "1")).await;
    assert_eq!(discard(home, connection).await, 1);
    assert_eq!(hold(home, connection, &message(home, 2, "1")).await, counted(1));
    assert_eq!(record(home, connection, &live("alice", 1)).await, Recorded::Changed);
    // One that has logged out cannot be resumed either.
    let connection = a_connection();
    record(home, connection, &live("alice", 1)).await;
    record(home, connection, &Authentication::Forgotten { by: Sequence::new(2) }).await;
    hold(home, connection, &message(home, 3, "1")).await;
    record(home, connection, &closed(4)).await;
    assert_eq!(discard(home, connection).await, 1);
}

async fn what_is_held_of_a_connection_that_was_somebodys_stays(home: &dyn Home) {
    let connection = a_connection();
    record(home, connection, &live("alice", 1)).await;
    hold(home, connection, &message(home, 2, "1")).await;
    record(home, connection, &closed(3)).await;
    assert_eq!(discard(home, connection).await, 0);
    assert_eq!(messages(home, connection).await, [message(home, 2, "1")]);
    assert_eq!(hold(home, connection, &message(home, 3, "1")).await, counted(2));
    // Somebody whose proof is heard of late has it as it was from then on.
    let connection = a_connection();
    record(home, connection, &closed(3)).await;
    assert_eq!(discard(home, connection).await, 0);
    record(home, connection, &live("alice", 1)).await;
    assert_eq!(hold(home, connection, &message(home, 2, "1")).await, counted(1));
}

async fn what_is_held_can_be_kept_for_longer(home: &dyn Home) {
    let (connection, other) = (a_connection(), a_connection());
    let one = message(home, 1, "1");
    hold(home, connection, &one).await;
    let keep = LIMITS.ttl + HOLD_GRACE;
    pass(home, keep / 2).await;
    for (kept, time) in [(connection, keep), (other, keep), (connection, keep / 4)] {
        home.store().keep_messages(kept, time).await.expect("the store answers");
    }
    pass(home, keep / 4 * 3).await;
    assert_eq!(messages(home, connection).await, [one]);
    assert_eq!(messages(home, other).await, []);
    pass(home, keep / 2).await;
    assert_eq!(messages(home, connection).await, []);
}

async fn reserve(home: &dyn Home, connection: ConnectionId, bytes: u64) -> bool {
    let reservation = Reservation {
        bytes,
        most_of_terminator: 100,
        most_of_all: 150,
        until: home.clock().now().saturating_add(Duration::from_secs(60)),
    };
    let reserved = home.store().reserve(connection, &reservation).await;
    reserved.expect("the store answers")
}

async fn unreserve(home: &dyn Home, connection: ConnectionId) {
    home.store().unreserve(connection).await.expect("the store answers");
}

async fn reserved(home: &dyn Home) -> u64 {
    home.store().reserved().await.expect("the store answers")
}

async fn so_much_is_reserved_and_no_more(home: &dyn Home) {
    let one = a_connection();
    let its_neighbour = ConnectionId { number: 2, ..one };
    let other = a_connection();
    assert!(reserve(home, one, 60).await);
    assert!(
        !reserve(home, its_neighbour, 41).await,
        "more than its terminator may have"
    );
    assert!(reserve(home, its_neighbour, 40).await);
    assert!(!reserve(home, other, 51).await, "more than all may have");
    assert!(reserve(home, other, 50).await);
    assert_eq!(reserved(home).await, 150);
    unreserve(home, one).await;
    unreserve(home, one).await;
    assert_eq!(reserved(home).await, 90);
    assert!(reserve(home, one, 30).await && reserve(home, one, 30).await);
    unreserve(home, one).await;
    assert_eq!(reserved(home).await, 90);
    unreserve(home, its_neighbour).await;
    unreserve(home, other).await;
    assert_eq!(reserved(home).await, 0);
}

async fn what_is_reserved_is_given_back_in_time(home: &dyn Home) {
    let (early, late) = (a_connection(), a_connection());
    assert!(reserve(home, early, 70).await);
    pass(home, Duration::from_secs(30)).await;
    assert!(reserve(home, late, 70).await);
    assert!(!reserve(home, late, 20).await);
    pass(home, Duration::from_secs(31)).await;
    assert_eq!(reserved(home).await, 70);
    assert!(reserve(home, late, 20).await);
    pass(home, Duration::from_secs(61)).await;
    assert_eq!(reserved(home).await, 0);
}
