//! What is known of the store's own losses.

use super::*;

pub(super) async fn every_claim(tested: &dyn Implementation) {
    a_store_that_has_lost_everything_has_another_epoch_that_nobody_was_told_of(tested).await;
}

async fn a_store_that_has_lost_everything_has_another_epoch_that_nobody_was_told_of(tested: &dyn Implementation) {
    let epoch = async || tested.store().epoch().await.expect("the store answers");
    let announce = async |epoch: Epoch| tested.store().announced(epoch).await.expect("the store answers");
    let first = epoch().await;
    announce(first).await;
    let told = Epoch {
        announced: true,
        ..first
    };
    assert_eq!(epoch().await, told);
    pass(tested, AFTERLIFE).await;
    assert_eq!(epoch().await, told, "time alone begins none");
    let connection = a_connection();
    hold(tested, connection, &message(tested, 1, "1")).await;
    tested.lose().await;
    assert_eq!(messages(tested, connection).await, []);
    let second = epoch().await;
    assert_ne!(second.id, first.id);
    assert!(!second.announced);
    announce(first).await;
    assert_eq!(epoch().await, second, "nobody was told of that one");
    announce(second).await;
    assert!(epoch().await.announced);
}
