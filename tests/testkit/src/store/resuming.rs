//! Who may take over what a connection leaves.

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    a_successor_is_named_by_whoever_proves_the_same(tested).await;
    a_successor_knows_whom_it_took_over(tested).await;
    whoever_holds_is_told_of_the_successor(tested).await;
    a_log_out_takes_the_right_to_resume_whenever_it_is_recorded(tested).await;
    a_successor_inherits_nothing_that_is_somebody_else_s(tested).await;
    it_can_be_resumed_for_as_long_as_anything_is_held(tested).await;
}

/// Each message has a secret of its own, to tell whose proof counts.
fn proved(by: u64, subject: &str) -> Authentication {
    Authentication::Live {
        identity: someone(subject),
        until: START.saturating_add(TOKEN_LIFE),
        by: Sequence::new(by),
        resume: secret(by),
    }
}

fn secret(by: u64) -> ResumeDigest {
    [u8::try_from(by).expect("a small number"); 32]
}

const fn forgotten(by: u64) -> Authentication {
    Authentication::Forgotten { by: Sequence::new(by) }
}

async fn resume(
    tested: &dyn Implementation,
    connection: ConnectionId,
    secret: ResumeDigest,
    successor: ConnectionId,
) -> bool {
    let alice = someone("alice");
    let resumed = tested.store().resume(connection, &secret, &alice, successor).await;
    resumed.expect("the store answers")
}

async fn successor(tested: &dyn Implementation, connection: ConnectionId) -> Option<ConnectionId> {
    tested.store().successor(connection).await.expect("the store answers")
}

async fn a_log_out_takes_the_right_to_resume_whenever_it_is_recorded(tested: &dyn Implementation) {
    for order in permutations(&[proved(1, "alice"), forgotten(2), closed(3)]) {
        let connection = a_connection();
        for state in &order {
            record(tested, connection, state).await;
        }
        let resumed = resume(tested, connection, secret(1), a_connection()).await;
        assert!(!resumed, "in the order {order:?}");
        assert_eq!(read(tested, connection).await, Some(closed(3)));
    }
    for order in permutations(&[proved(1, "alice"), forgotten(2), proved(3, "alice"), closed(4)]) {
        let connection = a_connection();
        for state in &order {
            record(tested, connection, state).await;
        }
        let by_the_first = resume(tested, connection, secret(1), a_connection()).await;
        let by_the_last = resume(tested, connection, secret(3), a_connection()).await;
        assert_eq!((by_the_first, by_the_last), (false, true), "in the order {order:?}");
    }
}

async fn a_successor_inherits_nothing_that_is_somebody_else_s(tested: &dyn Implementation) {
    for next in [forgotten(2), proved(2, "bob")] {
        let (connection, after) = (a_connection(), a_connection());
        record(tested, connection, &proved(1, "alice")).await;
        assert!(resume(tested, connection, secret(1), after).await);
        assert_eq!(successor(tested, connection).await, Some(after));
        record(tested, connection, &next).await;
        assert_eq!(successor(tested, connection).await, None);
        assert_eq!(hold(tested, connection, &message(tested, 9, "1")).await, counted(1));
    }
    // Anyone who is still the same keeps the successor, and no one is a successor of themselves.
    let (connection, after) = (a_connection(), a_connection());
    record(tested, connection, &live("alice", 1)).await;
    assert!(!resume(tested, connection, RESUME, connection).await);
    assert!(resume(tested, connection, RESUME, after).await);
    record(tested, connection, &live_as(someone("alice"), TOKEN_LIFE * 2, 2)).await;
    assert_eq!(successor(tested, connection).await, Some(after));
}

async fn it_can_be_resumed_for_as_long_as_anything_is_held(tested: &dyn Implementation) {
    let (connection, after) = (a_connection(), a_connection());
    let limits = HoldLimits {
        ttl: AFTERLIFE,
        ..LIMITS
    };
    record(tested, connection, &live("alice", 1)).await;
    record(tested, connection, &closed(3)).await;
    pass(tested, AFTERLIFE / 2).await;
    let late = message(tested, 2, "1");
    let held = tested.store().hold_message(connection, &late, &limits).await;
    assert_eq!(held.expect("the store answers"), counted(1));
    pass(tested, AFTERLIFE).await;
    assert!(resume(tested, connection, RESUME, after).await);
    assert_eq!(messages(tested, connection).await, [late]);
    // Something held even later must still find the successor.
    pass(tested, AFTERLIFE - BRINK).await;
    assert_eq!(successor(tested, connection).await, Some(after));
    pass(tested, BRINK).await;
    assert_eq!(successor(tested, connection).await, None);
}

async fn a_successor_is_named_by_whoever_proves_the_same(tested: &dyn Implementation) {
    let successor = a_connection();
    let resume = async |connection, secret: [u8; 32], identity: &Identity| {
        let resumed = tested.store().resume(connection, &secret, identity, successor).await;
        resumed.expect("the store answers")
    };
    let connection = a_connection();
    assert!(!resume(connection, RESUME, &someone("alice")).await, "nobody knows it");
    record(tested, connection, &live("alice", 1)).await;
    assert!(!resume(connection, [1; 32], &someone("alice")).await);
    assert!(!resume(connection, RESUME, &someone("bob")).await);
    assert_eq!(
        tested.store().successor(connection).await.expect("the store answers"),
        None
    );
    assert!(resume(connection, RESUME, &someone("alice")).await);
    assert_eq!(
        tested.store().successor(connection).await.expect("the store answers"),
        Some(successor)
    );
    record(tested, connection, &closed(2)).await;
    assert!(
        resume(connection, RESUME, &someone("alice")).await,
        "also when it is closed"
    );

    let logged_out = a_connection();
    record(tested, logged_out, &live("alice", 1)).await;
    record(tested, logged_out, &Authentication::Forgotten { by: Sequence::new(2) }).await;
    assert!(!resume(logged_out, RESUME, &someone("alice")).await);
}

async fn a_successor_knows_whom_it_took_over(tested: &dyn Implementation) {
    let (first, second, successor) = (a_connection(), a_connection(), a_connection());
    let predecessors = async |successor| tested.store().predecessors(successor).await.expect("the store answers");
    record(tested, first, &proved(1, "alice")).await;
    record(tested, second, &proved(2, "alice")).await;
    assert!(!resume(tested, first, secret(2), successor).await);
    assert_eq!(predecessors(successor).await, [], "it did not prove that it may");
    for (connection, by) in [(first, 1), (second, 2), (second, 2)] {
        pass(tested, Duration::from_millis(1)).await;
        assert!(resume(tested, connection, secret(by), successor).await);
    }
    assert_eq!(predecessors(successor).await, [first, second], "each once");
    // Who it is itself does not matter, and is recorded only later.
    record(tested, successor, &live("alice", 1)).await;
    record(tested, successor, &closed(2)).await;
    assert_eq!(predecessors(successor).await, [first, second]);
    // So many are remembered, and no more.
    let greedy = a_connection();
    let mut taken = Vec::new();
    for _ in 0..=PREDECESSORS_KEPT {
        let connection = a_connection();
        record(tested, connection, &proved(1, "alice")).await;
        pass(tested, Duration::from_millis(1)).await;
        assert!(resume(tested, connection, secret(1), greedy).await);
        taken.push(connection);
    }
    assert_eq!(predecessors(greedy).await, taken[1..]);
}

async fn whoever_holds_is_told_of_the_successor(tested: &dyn Implementation) {
    let (connection, successor) = (a_connection(), a_connection());
    record(tested, connection, &live("alice", 1)).await;
    assert_eq!(hold(tested, connection, &message(tested, 2, "1")).await, counted(1));
    let alice = someone("alice");
    let resumed = tested.store().resume(connection, &RESUME, &alice, successor).await;
    assert!(resumed.expect("the store answers"));
    record(tested, connection, &closed(5)).await;
    let late = hold(tested, connection, &message(tested, 3, "1")).await;
    let told = Holding::Held {
        count: 2,
        successor: Some(successor),
    };
    assert_eq!(late, told);
}
