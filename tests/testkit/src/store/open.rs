//! Which connections terminators have open.

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    what_is_open_is_told_until_it_is_closed(tested).await;
    a_terminator_is_due_to_one_who_asks_and_then_not_for_a_while(tested).await;
}

async fn enter(tested: &dyn Implementation, terminator: TerminatorId, changes: &[(u64, Option<&str>)]) {
    let changes = changes
        .iter()
        .map(|(number, event)| (*number, event.map(str::to_owned)));
    let changes: OpenChanges = changes.collect();
    let entered = tested.store().enter_open(terminator, &changes).await;
    entered.expect("the store answers");
}

async fn open(tested: &dyn Implementation, terminator: TerminatorId) -> Vec<(u64, String)> {
    let mut open = tested
        .store()
        .open_connections(terminator, 100)
        .await
        .expect("the store answers");
    open.sort();
    open
}

async fn due(tested: &dyn Implementation, before: Timestamp) -> Vec<TerminatorId> {
    tested.store().terminators_due(before).await.expect("the store answers")
}

async fn what_is_open_is_told_until_it_is_closed(tested: &dyn Implementation) {
    let [terminator, other] = [TerminatorId::random(), TerminatorId::random()];
    assert_eq!(open(tested, terminator).await, []);
    enter(tested, terminator, &[(1, Some("a")), (2, Some("b"))]).await;
    enter(tested, other, &[(1, Some("of another"))]).await;
    enter(tested, terminator, &[(2, Some("c")), (1, None), (3, None)]).await;
    assert_eq!(open(tested, terminator).await, [(2, "c".to_owned())]);
    enter(tested, other, &[(1, None)]).await;
    let many: Vec<_> = (10..500).map(|number| (number, Some("x"))).collect();
    enter(tested, terminator, &many).await;
    // Some at a time, until there are none.
    let mut left = 491;
    while left > 0 {
        let some = tested
            .store()
            .open_connections(terminator, 50)
            .await
            .expect("the store answers");
        assert!(!some.is_empty(), "{left} are left");
        let gone: Vec<_> = some.iter().map(|(number, _)| (*number, None)).collect();
        enter(tested, terminator, &gone).await;
        left -= some.len();
    }
    assert_eq!(open(tested, terminator).await, []);
}

async fn a_terminator_is_due_to_one_who_asks_and_then_not_for_a_while(tested: &dyn Implementation) {
    let terminator = TerminatorId::random();
    let entered = tested.clock().now();
    enter(tested, terminator, &[(1, Some("a"))]).await;
    let just_before = Timestamp::from_millis(entered.as_millis() - 1);
    assert!(!due(tested, just_before).await.contains(&terminator), "it is new");
    pass(tested, Duration::from_secs(5)).await;
    // That it tells something is no look at it.
    enter(tested, terminator, &[(2, Some("b"))]).await;
    assert!(due(tested, entered).await.contains(&terminator));
    assert!(
        !due(tested, entered).await.contains(&terminator),
        "another looks at it now"
    );
    pass(tested, Duration::from_secs(5)).await;
    assert!(due(tested, tested.clock().now()).await.contains(&terminator));
    enter(tested, terminator, &[(1, None), (2, None)]).await;
    pass(tested, Duration::from_secs(5)).await;
    assert!(
        !due(tested, tested.clock().now()).await.contains(&terminator),
        "nothing of it is open"
    );
}
