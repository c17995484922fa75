//! What has been revoked.

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    revocations_are_kept_until_their_last_token_has_expired(tested).await;
    a_revocation_that_is_made_to_last_is_not_forgotten_with_what_it_was(tested).await;
    of_too_many_revocations_those_that_come_last_are_refused_and_none_gives_way(tested).await;
}

/// One from now on, for so many seconds.
fn lasting(now: Timestamp, target: Target, seconds: u64) -> Revocation {
    Revocation {
        target,
        issued_before: now,
        effective: now,
        until: now.saturating_add(Duration::from_secs(seconds)),
    }
}

async fn revoke(tested: &dyn Implementation, revocation: Revocation) {
    let kept = tested.store().revoke(&[revocation]).await.expect("the store answers");
    assert_eq!(kept, Kept::default());
}

async fn of_too_many_revocations_those_that_come_last_are_refused_and_none_gives_way(tested: &dyn Implementation) {
    // What others have left.
    tested.lose().await;
    let now = tested.clock().now();
    let terminator = TerminatorId::random();
    let of = |number: usize, seconds| {
        let number = number as u64;
        lasting(now, Target::Connection(ConnectionId { terminator, number }), seconds)
    };
    let known = async || {
        let mut all = tested.store().revocations().await.expect("the store answers");
        all.sort_by_key(|one| format!("{:?}", one.target));
        all
    };
    let mut first: Vec<_> = (0..MAX_REVOCATIONS).map(|number| of(number, 10)).collect();
    first.push(of(3, 20));
    let kept = tested.store().revoke(&first).await.expect("the store answers");
    assert_eq!(kept, Kept::default());
    let before = known().await;
    assert_eq!(before.len(), MAX_REVOCATIONS);
    let (late, last) = (of(MAX_REVOCATIONS, 1_000), of(MAX_REVOCATIONS + 1, 1));
    let stricter = of(4, 20);
    let kept = tested.store().revoke(&[late, stricter, last]).await;
    assert_eq!(kept.expect("the store answers").refused, [late.target, last.target]);
    let after = known().await;
    assert_eq!(after.len(), MAX_REVOCATIONS);
    assert!(
        before
            .iter()
            .all(|one| one.target == stricter.target || after.contains(one))
    );
    assert!(after.contains(&stricter), "one that is there is made stricter");
    let everyone = Revocation {
        target: Target::Everyone,
        ..of(0, 5)
    };
    revoke(tested, everyone).await;
    assert!(
        known().await.contains(&everyone),
        "that of all has a place whenever it comes"
    );
    // When some are over, there is room.
    tested.clock().advance(Duration::from_secs(10));
    let kept = tested.store().revoke(&[late]).await.expect("the store answers");
    assert_eq!(kept, Kept::default());
    assert_eq!(known().await.len(), 3);
    tested.lose().await;
}

async fn a_revocation_that_is_made_to_last_is_not_forgotten_with_what_it_was(tested: &dyn Implementation) {
    let now = tested.clock().now();
    let of = |target, seconds| lasting(now, target, seconds);
    let target = Target::Identity(an_identity());
    let known = async || {
        let all = tested.store().revocations().await.expect("the store answers");
        all.into_iter().filter(|one| one.target == target).collect::<Vec<_>>()
    };
    for seconds in [5, 50, 6, 0] {
        revoke(tested, of(target, seconds)).await;
    }
    pass(tested, Duration::from_secs(49)).await;
    assert_eq!(known().await, [of(target, 50)]);
    pass(tested, Duration::from_secs(1)).await;
    assert_eq!(known().await, []);
    revoke(tested, of(target, 5)).await;
    assert_eq!(known().await, [], "its last token has expired");
}

async fn revocations_are_kept_until_their_last_token_has_expired(tested: &dyn Implementation) {
    let now = tested.clock().now();
    let lasting = |target, seconds| lasting(now, target, seconds);
    let (alice, bob) = (Target::Identity(an_identity()), Target::Connection(a_connection()));
    let stricter = Revocation {
        issued_before: now.saturating_add(Duration::from_secs(9)),
        ..lasting(alice, 5)
    };
    for revocation in [lasting(alice, 10), stricter, lasting(bob, 20)] {
        revoke(tested, revocation).await;
    }
    let merged = Revocation {
        issued_before: stricter.issued_before,
        ..lasting(alice, 10)
    };
    let known = async || {
        let all = tested.store().revocations().await.expect("the store answers");
        // Others use the same Redis.
        let mut ours: Vec<_> = all
            .into_iter()
            .filter(|one| [alice, bob].contains(&one.target))
            .collect();
        ours.sort_by_key(|one| one.until);
        ours
    };
    assert_eq!(known().await, [merged, lasting(bob, 20)]);
    tested.clock().advance(Duration::from_secs(10));
    assert_eq!(known().await, [lasting(bob, 20)]);
    tested.clock().advance(Duration::from_secs(10));
    assert_eq!(known().await, []);
}
