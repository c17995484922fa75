//! In which mailboxes something is held for too long.

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    what_waits_too_long_is_found(tested).await;
    the_oldest_counts_whenever_it_came(tested).await;
    what_is_held_while_others_look_is_found_all_the_same(tested).await;
    what_was_held_after_a_look_is_not_forgotten_by_it(tested).await;
    answers_that_wait_too_long_are_found_too(tested).await;
}

async fn answers_that_wait_too_long_are_found_too(tested: &dyn Implementation) {
    let (one, other) = (a_connection(), a_connection());
    hold_write(tested, one, &write(tested, "k", "x")).await;
    let later = tested.clock().now().saturating_add(Duration::from_millis(1));
    assert!(is_overdue(tested, one, later).await);
    assert!(!is_overdue(tested, other, later).await);
    assert_eq!(drop_write(tested, one, "k").await, 0);
    assert!(!is_overdue(tested, one, later).await);
}

async fn is_overdue(tested: &dyn Implementation, mailbox: impl Into<Mailbox>, since: Timestamp) -> bool {
    let found = tested.store().overdue(since, 10_000).await;
    found.expect("the store answers").contains(&mailbox.into())
}

async fn drop_write(tested: &dyn Implementation, mailbox: impl Into<Mailbox>, key: &str) -> u64 {
    let left = tested.store().drop_writes(mailbox.into(), &[key.to_owned()]).await;
    left.expect("the store answers")
}

async fn the_oldest_counts_whenever_it_came(tested: &dyn Implementation) {
    let alice = an_identity();
    let [sooner, later] = [1, 2].map(|seconds| tested.clock().now().saturating_add(Duration::from_secs(seconds)));
    let end = later.saturating_add(Duration::from_millis(1));
    for (key, since) in [("late", later), ("soon", sooner)] {
        let one = HeldWrite {
            since,
            ..write(tested, key, "x")
        };
        hold_write(tested, alice, &one).await;
    }
    assert!(!is_overdue(tested, alice, sooner).await);
    assert!(is_overdue(tested, alice, later).await);
    assert_eq!(drop_write(tested, alice, "soon").await, 1);
    assert!(!is_overdue(tested, alice, later).await, "the other one is younger");
    assert!(is_overdue(tested, alice, end).await);
    assert_eq!(drop_write(tested, alice, "late").await, 0);
    assert!(!is_overdue(tested, alice, end).await);
}

async fn what_is_held_while_others_look_is_found_all_the_same(tested: &dyn Implementation) {
    let later = tested.clock().now().saturating_add(Duration::from_millis(1));
    for _ in 0..50 {
        let alice = an_identity();
        hold_write(tested, alice, &write(tested, "gone", "x")).await;
        drop_write(tested, alice, "gone").await;
        let next = write(tested, "next", "x");
        let looking = async {
            is_overdue(tested, alice, later).await;
        };
        join3(looking, hold_write(tested, alice, &next), async {
            is_overdue(tested, alice, later).await;
        })
        .await;
        assert!(is_overdue(tested, alice, later).await);
        // What is left here would only be looked at by the claims that follow.
        drop_write(tested, alice, "next").await;
    }
}

async fn what_waits_too_long_is_found(tested: &dyn Implementation) {
    let alice = an_identity();
    let now = tested.clock().now();
    hold_write(tested, alice, &write(tested, "k", "x")).await;
    let overdue = async |since| {
        let found = tested.store().overdue(since, 10_000).await.expect("the store answers");
        found.contains(&alice.into())
    };
    assert!(!overdue(now).await);
    let later = now.saturating_add(Duration::from_millis(1));
    assert!(overdue(later).await);
    assert!(overdue(later).await, "as long as it waits");
    tested
        .store()
        .drop_writes(alice.into(), &["k".to_owned()])
        .await
        .expect("the store answers");
    assert!(!overdue(later).await);
}

async fn what_was_held_after_a_look_is_not_forgotten_by_it(tested: &dyn Implementation) {
    let alice = an_identity();
    let next = write(tested, "next", "x");
    hold_write(tested, alice, &next).await;
    tested.end_a_look_in_vain(alice.into()).await;
    let later = next.since.saturating_add(Duration::from_millis(1));
    assert!(is_overdue(tested, alice, later).await);
    drop_write(tested, alice, "next").await;
}
