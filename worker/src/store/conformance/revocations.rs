//! What has been taken back.

use super::*;

pub(super) async fn every_claim(home: &dyn Home) {
    revocations_are_kept_until_their_last_token_has_expired(home).await;
    a_revocation_that_is_made_to_last_is_not_forgotten_with_what_it_was(home).await;
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
        home.store()
            .revoke(&of(target, seconds))
            .await
            .expect("the store answers");
    }
    pass(home, Duration::from_secs(49)).await;
    assert_eq!(known().await, [of(target, 50)]);
    pass(home, Duration::from_secs(1)).await;
    assert_eq!(known().await, []);
    home.store().revoke(&of(target, 5)).await.expect("the store answers");
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
        home.store().revoke(&revocation).await.expect("the store answers");
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
