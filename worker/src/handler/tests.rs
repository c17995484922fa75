use super::*;
use crate::auth::identity::{Issuer, Subject};

#[test]
fn an_id_names_a_message_of_somebody_and_none_of_a_stranger() {
    let alice = Identity::new(Issuer::new("i"), Subject::new("alice"));
    let nobody = Identity::anonymous();
    let forwarded_id = |sequence: u64| format!("33e39da4c14fa57c.1.{sequence}").parse().ok();
    let claims = Map::new();
    let key = |identity: &Identity, sequence| {
        let request = Request {
            identity,
            claims: &claims,
            client: None,
            kind: "pay",
            id: Some("1"),
            payload: None,
            forwarded_id: forwarded_id(sequence),
            message_id: None,
            time_left: None,
            deadline: None,
            given_up: None,
            answered_on: None,
            named: true,
        };
        request.idempotency_key()
    };
    assert_eq!(key(&alice, 1), key(&alice, 2));
    assert_ne!(key(&nobody, 1), key(&nobody, 2));
}
