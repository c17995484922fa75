//! Why things were decided as they were.

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    the_newest_decisions_are_kept(tested).await;
    decisions_are_kept_for_an_hour(tested).await;
}

async fn decisions_are_kept_for_an_hour(tested: &dyn Implementation) {
    let connection = a_connection();
    let closed = Decision {
        at: tested.clock().now(),
        sequence: None,
        id: None,
        what: "closed".to_owned(),
        why: "4401".to_owned(),
    };
    tested
        .store()
        .note(connection, &closed)
        .await
        .expect("the store answers");
    let kept = async || tested.store().decisions(connection).await.expect("the store answers");
    pass(tested, DECISIONS_TTL - BRINK).await;
    assert_eq!(kept().await, [closed]);
    pass(tested, BRINK).await;
    assert_eq!(kept().await, []);
}

async fn the_newest_decisions_are_kept(tested: &dyn Implementation) {
    let connection = a_connection();
    let decision = |number: u64| Decision {
        at: START,
        sequence: Some(Sequence::new(number)),
        id: Some("i\"d".to_owned()),
        what: "held".to_owned(),
        why: "expired".to_owned(),
    };
    let most = worker::store::decision::DECISIONS_KEPT as u64;
    for number in 1..=most + 2 {
        tested
            .store()
            .note(connection, &decision(number))
            .await
            .expect("the store answers");
    }
    let kept = tested.store().decisions(connection).await.expect("the store answers");
    assert_eq!(kept, (3..=most + 2).map(decision).collect::<Vec<_>>());
}
