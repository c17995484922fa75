//! Pushes on several queues, so that several workers bring them on their way.
//!
//! With `push-shards` above 1 anyone who has `<ns>.pushes` only finds out whose a push is, and passes it on to
//! `<ns>.push.<n>`; all that is for one identity goes to one of these, in its order. Each of them has one worker at a time,
//! like `<ns>.pushes` itself.
//!
//! Every worker takes from as many as there are, whatever its own setting says: what was passed on while the number was
//! larger is brought on its way, too. It knows of them from the broker at its start, and from what others say of themselves.

use std::collections::BTreeMap;

use shared::bus::topology::{MOST_PUSH_SHARDS, Names};
use shared::bus::{Message, Route, Whole};
use shared::wire::tag::IdentityTag;

use super::Pushes;
use super::push::{Addressee, Push};
use super::subjects::Many;

/// How many there are to pass pushes on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shards(u16);

impl Shards {
    /// So many; none if nothing is passed on.
    pub(crate) fn several(count: u16) -> Option<Self> {
        (count > 1).then_some(Self(count.min(MOST_PUSH_SHARDS)))
    }

    /// The queue for all that is an identity's.
    pub(in crate::outbound) fn route(self, names: &Names, identity: IdentityTag) -> Route {
        Route::queue(&names.push_shard(identity.share_of(self.0)).name)
    }

    /// A push for many as one for each queue, with those whose pushes go there. Who cannot be anyone goes with the first.
    pub(in crate::outbound) fn split(
        self,
        names: &Names,
        mut many: Many,
        identity_of: impl Fn(&Message) -> Option<IdentityTag>,
    ) -> Vec<(Route, Message)> {
        let mut each: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        while let Some((message, place)) = many.next() {
            let shard = identity_of(&message).map_or(0, |identity| identity.share_of(self.0));
            each.entry(shard).or_default().push(place.subject);
        }
        let passed = each.into_iter().map(|(shard, subjects)| {
            let route = Route::queue(&names.push_shard(shard).name);
            (route, many.for_some(&subjects))
        });
        passed.collect()
    }
}

impl Pushes {
    /// Passes it on, and waits until it is there.
    pub(in crate::outbound) async fn pass_on(&self, route: Route, message: Message) {
        let passed = || async { Ok(self.outbound.publisher.publish(route.clone(), message.clone()).await?) };
        self.outbound.persist(passed).await;
    }

    /// Passes a push for many on: all that came before it has been, and nothing is that comes after it.
    pub(in crate::outbound) async fn pass_on_many(&self, shards: Shards, whole: Whole, many: Many) {
        let now = self.outbound.clock.now();
        let identity_of = |message: &Message| match Push::read(message, &self.issuers, now) {
            Ok(push) => match push.to {
                Addressee::Identity(identity) => Some(identity),
                Addressee::Connection(_) => None,
            },
            Err(_) => None,
        };
        for (route, message) in shards.split(&self.outbound.names, many, identity_of) {
            self.pass_on(route, message).await;
        }
        whole.finish();
    }
}

#[cfg(test)]
mod tests {
    use shared::bus::Value;

    use super::*;
    use crate::outbound::pushes::subjects::SUBJECTS;

    #[test]
    fn what_is_for_one_identity_goes_to_one_queue_and_all_queues_have_some() {
        let names = Names::new("test");
        let shards = Shards::several(4).expect("they are several");
        let mut seen = BTreeMap::new();
        for number in 0..100_u8 {
            let identity = IdentityTag::of(&[number.wrapping_mul(37); 32]);
            let route = shards.route(&names, identity);
            assert_eq!(route, shards.route(&names, identity));
            *seen.entry(route.key.to_string()).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
        assert_eq!(Shards::several(1), None);
        assert_eq!(Shards::several(u16::MAX), Some(Shards(MOST_PUSH_SHARDS)));
    }

    #[test]
    fn a_push_for_many_is_passed_on_once_to_each_queue_with_its_own() {
        let names = Names::new("test");
        let text = serde_json::to_string(&["a", "b", "c", "d", "e", "f", "g", "h"]).unwrap();
        let mut message = Message::default();
        message
            .properties
            .headers
            .push((SUBJECTS.to_owned(), Value::Text(text)));
        let many = Many::of(&message, None).unwrap().expect("it is for many");
        let of = |message: &Message| match message.properties.header("subject") {
            Some(Value::Text(name)) => Some(IdentityTag::of(&[name.as_bytes()[0]; 32])),
            _ => None,
        };
        let passed = Shards::several(2).unwrap().split(&names, many, of);
        let mut all = Vec::new();
        for (route, message) in &passed {
            assert!(message.properties.message_id.is_some());
            let mut many = Many::of(message, None).unwrap().expect("still for many");
            while let Some((one, place)) = many.next() {
                let identity = of(&one).unwrap();
                assert_eq!(Shards(2).route(&names, identity), *route);
                all.push(place.subject);
            }
        }
        all.sort_unstable();
        assert_eq!((passed.len(), all.concat()), (2, "abcdefgh".to_owned()));
    }
}
