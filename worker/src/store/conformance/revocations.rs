//! What has been taken back.

use super::*;

pub(super) async fn every_claim(home: &dyn Home) {
    revocations_are_kept_until_their_last_token_has_expired(home).await;
    a_revocation_that_is_made_to_last_is_not_forgotten_with_what_it_was(home).await;
    of_too_many_revocations_those_that_come_last_are_refused_and_none_gives_way(home).await;
}

async fn revoke(home: &dyn Home, revocation: Revocation) {
    let kept = home.store().revoke(&[revocation]).await.expect("the store answers");
    assert_eq!(kept, Kept::default());
}

async fn of_too_many_revocations_those_that_come_last_are_refused_and_none_gives_way(home: &dyn Home) {
    // What others have left.
    home.lose().await;
    let now = home.clock().now();
    let terminator = TerminatorId::random();
    let of = |number: usize, seconds| Revocation {
        target: Target::Connection(ConnectionId {
            terminator,
            number: number as u64,
        }),
        issued_before: now,
        effective: now,
        until: now.saturating_add(Duration::from_secs(seconds)),
    };
    let known = async || {
        let mut all = home.store().revocations().await.expect("the store answers");
        all.sort_by_key(|one| format!("{:?}", one.target));
        all
    };
    let mut first: Vec<_> = (0..MAX_REVOCATIONS).map(|number| of(number, 10)).collect();
    first.push(of(3, 20));
    let kept = home.store().revoke(&first).await.expect("the store answers");
    assert_eq!(kept, Kept::default());
    let before = known().await;
    assert_eq!(before.len(), MAX_REVOCATIONS);
    let (late, last) = (of(MAX_REVOCATIONS, 1_000), of(MAX_REVOCATIONS + 1, 1));
    let stricter = of(4, 20);
    let kept = home.store().revoke(&[late, stricter, last]).await;
    assert_eq!(kept.expect("the store answers").refused, [late.target, last.target]);
    let after = known().await;
    assert_eq!(after.len(), MAX_REVOCATIONS);
    assert!(
        before
            .iter()
            .all(|one| one.target == stricter.target || after.contains(one))
    );
    assert!(after.contains(&stricter), "one that is there is made stricter");
    // When some are over, there is room.
    home.clock().advance(Duration::from_secs(10));
    let kept = home.store().revoke(&[late]).await.expect("the store answers");
    assert_eq!(kept, Kept::default());
    assert_eq!(known().await.len(), 3);
    home.lose().await;
}

async fn a_revocation_that_is_made_to_last_is_not_forgotten_with_what_it_was(home: &dyn Home) {
    let now = home.clock().now();
    let of = |target, seconds| Revocation {
        target,
        issued_before: now,
        effective: now,
        until: now.saturating_add(Duration::from_secs(seconds)),
    };
    let target = Target::Identity(an_identity());
    let known = async || {
        let all = home.store().revocations().await.expect("the store answers");
        all.into_iter().filter(|one| one.target == target).collect::<Vec<_>>()
    };
    for seconds in [5, 50, 6, 0] {
        revoke(home, of(target, seconds)).await;
    }
    pass(home, Duration::from_secs(49)).await;
    assert_eq!(known().await, [of(target, 50)]);
    pass(home, Duration::from_secs(1)).await;
    assert_eq!(known().await, []);
    revoke(home, of(target, 5)).await;
    assert_eq!(known().await, [], "its last token has expired");
}

async fn revocations_are_kept_until_their_last_token_has_expired(home: &dyn Home) {
    let now = home.clock().now();
    let lasting = |target, seconds| Revocation {
        target,
        issued_before: now,
        effective: now,
        until: now.saturating_add(Duration::from_secs(seconds)),
    };
    let (alice, bob) = (Target::Identity(an_identity()), Target::Connection(a_connection()));
    let stricter = Revocation {
        issued_before: now.saturating_add(Duration::from_secs(9)),
        ..lasting(alice, 5)
    };
    for revocation in [lasting(alice, 10), stricter, lasting(bob, 20)] {
        revoke(home, revocation).await;
    }
    let merged = Revocation {
        issued_before: stricter.issued_before,
        ..lasting(alice, 10)
    };
    let known = async || {
        let all = home.store().revocations().await.expect("the store answers");
        // Others use the same Redis.
        let mut ours: Vec<_> = all
            .into_iter()
            .filter(|one| [alice, bob].contains(&one.target))
            .collect();
        ours.sort_by_key(|one| one.until);
        ours
    };
    assert_eq!(known().await, [merged, lasting(bob, 20)]);
    home.clock().advance(Duration::from_secs(10));
    assert_eq!(known().await, [lasting(bob, 20)]);
    home.clock().advance(Duration::from_secs(10));
    assert_eq!(known().await, []);
}
