//! In which mailboxes something is held for too long.

use super::*;

pub(super) async fn every_claim(home: &dyn Home) {
    what_waits_too_long_is_found(home).await;
    the_oldest_counts_whenever_it_came(home).await;
    what_is_held_while_others_look_is_found_all_the_same(home).await;
    what_was_held_after_a_look_is_not_forgotten_by_it(home).await;
    answers_that_wait_too_long_are_found_too(home).await;
}

async fn answers_that_wait_too_long_are_found_too(home: &dyn Home) {
    let (one, other) = (a_connection(), a_connection());
    hold_write(home, one, &write(home, "k", "x")).await;
    let later = home.clock().now().saturating_add(Duration::from_millis(1));
    assert!(is_overdue(home, one, later).await);
    assert!(!is_overdue(home, other, later).await);
    assert_eq!(drop_write(home, one, "k").await, 0);
    assert!(!is_overdue(home, one, later).await);
}

async fn is_overdue(home: &dyn Home, mailbox: impl Into<Mailbox>, since: Timestamp) -> bool {
    let found = home.store().overdue(since, 10_000).await;
    found.expect("the store answers").contains(&mailbox.into())
}

async fn drop_write(home: &dyn Home, mailbox: impl Into<Mailbox>, key: &str) -> u64 {
    let left = home.store().drop_writes(mailbox.into(), &[key.to_owned()]).await;
    left.expect("the store answers")
}

async fn the_oldest_counts_whenever_it_came(home: &dyn Home) {
    let alice = an_identity();
    let [sooner, later] = [1, 2].map(|seconds| home.clock().now().saturating_add(Duration::from_secs(seconds)));
    let end = later.saturating_add(Duration::from_millis(1));
    for (key, since) in [("late", later), ("soon", sooner)] {
        let one = HeldWrite {
            since,
            ..write(home, key, "x")
        };
        hold_write(home, alice, &one).await;
    }
    assert!(!is_overdue(home, alice, sooner).await);
    assert!(is_overdue(home, alice, later).await);
    assert_eq!(drop_write(home, alice, "soon").await, 1);
    assert!(!is_overdue(home, alice, later).await, "the other one is younger");
    assert!(is_overdue(home, alice, end).await);
    assert_eq!(drop_write(home, alice, "late").await, 0);
    assert!(!is_overdue(home, alice, end).await);
}

async fn what_is_held_while_others_look_is_found_all_the_same(home: &dyn Home) {
    let later = home.clock().now().saturating_add(Duration::from_millis(1));
    for _ in 0..50 {
        let alice = an_identity();
        hold_write(home, alice, &write(home, "gone", "x")).await;
        drop_write(home, alice, "gone").await;
        let next = write(home, "next", "x");
        let looking = async {
            is_overdue(home, alice, later).await;
        };
        join3(looking, hold_write(home, alice, &next), async {
            is_overdue(home, alice, later).await;
        })
        .await;
        assert!(is_overdue(home, alice, later).await);
        // What is left here would only be looked at by the claims that follow.
        drop_write(home, alice, "next").await;
    }
}

async fn what_waits_too_long_is_found(home: &dyn Home) {
    let alice = an_identity();
    let now = home.clock().now();
    hold_write(home, alice, &write(home, "k", "x")).await;
    let overdue = async |since| {
        let found = home.store().overdue(since, 10_000).await.expect("the store answers");
        found.contains(&alice.into())
    };
    assert!(!overdue(now).await);
    let later = now.saturating_add(Duration::from_millis(1));
    assert!(overdue(later).await);
    assert!(overdue(later).await, "as long as it waits");
    home.store()
        .drop_writes(alice.into(), &["k".to_owned()])
        .await
        .expect("the store answers");
    assert!(!overdue(later).await);
}

async fn what_was_held_after_a_look_is_not_forgotten_by_it(home: &dyn Home) {
    let alice = an_identity();
    let next = write(home, "next", "x");
    hold_write(home, alice, &next).await;
    home.end_a_look_in_vain(alice.into()).await;
    let later = next.since.saturating_add(Duration::from_millis(1));
    assert!(is_overdue(home, alice, later).await);
    drop_write(home, alice, "next").await;
}
