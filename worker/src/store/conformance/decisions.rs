//! Why things were decided as they were.

use super::*;

pub(super) async fn every_claim(home: &dyn Home) {
    the_newest_decisions_are_kept(home).await;
    decisions_are_kept_for_an_hour(home).await;
}

async fn decisions_are_kept_for_an_hour(home: &dyn Home) {
    let connection = a_connection();
    let closed = Decision {
        at: home.clock().now(),
        sequence: None,
        id: None,
        what: "closed".to_owned(),
        why: "4401".to_owned(),
    };
    home.store().note(connection, &closed).await.expect("the store answers");
    let kept = async || home.store().decisions(connection).await.expect("the store answers");
    pass(home, DECISIONS_TTL - Duration::from_secs(1)).await;
    assert_eq!(kept().await, [closed]);
    pass(home, Duration::from_secs(1)).await;
    assert_eq!(kept().await, []);
}

async fn the_newest_decisions_are_kept(home: &dyn Home) {
    let connection = a_connection();
    let decision = |number: u64| Decision {
        at: START,
        sequence: Some(Sequence::new(number)),
        id: Some("i\"d".to_owned()),
        what: "held".to_owned(),
        why: "expired".to_owned(),
    };
    let most = crate::store::decision::DECISIONS_KEPT as u64;
    for number in 1..=most + 2 {
        home.store()
            .note(connection, &decision(number))
            .await
            .expect("the store answers");
    }
    let kept = home.store().decisions(connection).await.expect("the store answers");
    assert_eq!(kept, (3..=most + 2).map(decision).collect::<Vec<_>>());
}
