//! Which events of issuers were told.

use super::*;

const KEPT: Duration = Duration::from_secs(60);

pub(super) async fn every_claim(tested: &dyn Implementation) {
    an_event_is_known_once_it_was_told_and_for_as_long_as_was_said(tested).await;
}

async fn an_event_is_known_once_it_was_told_and_for_as_long_as_was_said(tested: &dyn Implementation) {
    let [event, other] = [0, 1].map(|_| identity::token_id_tag(&Issuer::new("i"), &a_connection().to_string()));
    let know = async |event, keep| tested.store().know_event(event, keep).await.expect("the store answers");
    assert!(!know(event, None).await);
    assert!(!know(event, None).await, "to look tells nothing");
    assert!(!know(event, Some(KEPT)).await, "it is told now");
    assert!(know(event, None).await);
    assert!(know(event, Some(KEPT * 2)).await);
    assert!(!know(other, None).await);
    pass(tested, KEPT - BRINK).await;
    assert!(know(event, None).await);
    pass(tested, BRINK).await;
    assert!(!know(event, None).await, "it is over, whoever asked again");
}
