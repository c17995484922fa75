//! What a handler pushes along with its answer: pure.
//!
//! A push that is published on its own has no order with the answer to the message that caused it: it goes through other
//! queues. One that goes along with the answer is written to the one who asked before what the handler said after it. It goes to
//! their connection, or to all live ones of their identity, and to no one else: for others there are pushes.

use sha2::{Digest as _, Sha256};
use shared::service::chance;

use super::answers::{Said, Whom};
use super::own::Improper;
use super::{Answers, Request};
use crate::message::MAX_BODY_BYTES;

/// The most pushes that go along with the answers to one message.
pub const MAX_PUSHES: usize = 128;

/// How large they may be, in all.
const MAX_PUSH_BYTES: usize = MAX_BODY_BYTES;

/// Whether they may go along with the answers to that message.
pub(super) fn check(answers: &Answers, request: &Request<'_>) -> Result<(), Improper> {
    if answers.pushes().count() > MAX_PUSHES {
        return Err(Improper::TooManyPushes);
    }
    if answers.pushes().map(|push| push.payload.get().len()).sum::<usize>() > MAX_PUSH_BYTES {
        return Err(Improper::PushesTooLarge);
    }
    for push in answers.pushes() {
        match push.to {
            Whom::Connection if request.forwarded_id.is_some() => {}
            Whom::Identity if !request.identity.is_anonymous() => {}
            Whom::Connection | Whom::Identity => return Err(Improper::NobodyToPushTo),
            Whom::Others => return Err(Improper::OthersPushedTo),
        }
    }
    Ok(())
}

/// Gives each its id, by the message that caused it.
pub(super) fn name(answers: &mut Answers, request: &Request<'_>) {
    if answers.pushes().next().is_none() {
        return;
    }
    // Without a name of its own a message has another each time.
    let cause = request
        .idempotency_key()
        .unwrap_or_else(|| format!("{:032x}", chance::bits()));
    let pushes = answers.0.iter_mut().filter_map(|said| match said {
        Said::Push(push) => Some(push),
        Said::Reply(_) => None,
    });
    for (index, push) in pushes.enumerate() {
        let digest = Sha256::digest(format!("along {index} {cause}"));
        push.id = hex::encode(digest).chars().take(32).collect();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use serde_json::value::RawValue;

    use super::super::answers::Along;

    use super::*;
    use crate::auth::identity::{Identity, Issuer, Subject};

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn request<'a>(
        identity: &'a Identity,
        claims: &'a Map<String, serde_json::Value>,
        forwarded_id: Option<&str>,
    ) -> Request<'a> {
        Request {
            identity,
            claims,
            client: None,
            kind: "k",
            id: None,
            payload: None,
            forwarded_id: forwarded_id.and_then(|forwarded_id| forwarded_id.parse().ok()),
            message_id: None,
            time_left: None,
            deadline: None,
            given_up: None,
            answered_on: None,
            named: false,
        }
    }

    const FORWARDED_ID: Option<&str> = Some("33e39da4c14fa57c.1.7");

    #[test]
    fn only_whoever_asked_can_be_pushed_to_and_only_so_much() {
        let (alice, nobody) = (
            Identity::new(Issuer::new("i"), Subject::new("alice")),
            Identity::anonymous(),
        );
        let claims = Map::new();
        let checked = |identity, forwarded_id, pushes: Vec<Along>| {
            let answers = pushes.into_iter().map(Answers::along);
            check(
                &answers.fold(Answers::none(), Answers::and),
                &request(identity, &claims, forwarded_id),
            )
        };
        let one = |to| vec![Along::to(to, raw("1"))];
        assert_eq!(checked(&alice, FORWARDED_ID, one(Whom::Connection)), Ok(()));
        assert_eq!(checked(&alice, None, one(Whom::Identity)), Ok(()));
        assert_eq!(checked(&nobody, FORWARDED_ID, one(Whom::Connection)), Ok(()));
        let nobody_there = Err(Improper::NobodyToPushTo);
        assert_eq!(checked(&alice, None, one(Whom::Connection)), nobody_there);
        assert_eq!(checked(&nobody, FORWARDED_ID, one(Whom::Identity)), nobody_there);
        assert_eq!(
            checked(&alice, FORWARDED_ID, one(Whom::Others)),
            Err(Improper::OthersPushedTo)
        );
        let many = |count| vec![Along::to(Whom::Connection, raw("1")); count];
        assert_eq!(checked(&alice, FORWARDED_ID, many(MAX_PUSHES)), Ok(()));
        assert_eq!(
            checked(&alice, FORWARDED_ID, many(MAX_PUSHES + 1)),
            Err(Improper::TooManyPushes)
        );
        let large = |bytes: usize| {
            let half = |bytes| Along::to(Whom::Connection, raw(&format!("\"{}\"", "x".repeat(bytes - 2))));
            vec![half(bytes / 2), half(bytes - bytes / 2)]
        };
        assert_eq!(checked(&alice, FORWARDED_ID, large(MAX_PUSH_BYTES)), Ok(()));
        assert_eq!(
            checked(&alice, FORWARDED_ID, large(MAX_PUSH_BYTES + 1)),
            Err(Improper::PushesTooLarge)
        );
    }

    #[test]
    fn each_has_a_name_of_its_own_and_the_same_when_the_message_comes_again() {
        let alice = Identity::new(Issuer::new("i"), Subject::new("alice"));
        let claims = Map::new();
        let ids = |forwarded_id| {
            let push = || Answers::along(Along::to(Whom::Identity, raw("1")));
            let mut answers = push().and(Answers::raw(None)).and(push());
            name(&mut answers, &request(&alice, &claims, forwarded_id));
            answers.pushes().map(|push| push.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(ids(FORWARDED_ID), ids(FORWARDED_ID));
        assert_ne!(ids(FORWARDED_ID), ids(Some("33e39da4c14fa57c.1.8")));
        assert_ne!(ids(None), ids(None));
        let [one, other] = ids(FORWARDED_ID).try_into().unwrap();
        assert!(one != other && one.len() == 32);
    }
}
