//! A publisher's burst, in as few AMQP messages as may be.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::codec::{self, MOST_BYTES, MOST_ENTRIES};
use super::{CONTENT_TYPE, WINDOW};
use crate::bus::topology::Names;
use crate::bus::{Message, Properties, Publication, PublishError, Receipt, Route};

/// What a publisher packs by. Without names it packs nothing.
pub struct Packer {
    names: Option<Names>,
    apart: Apart,
}

/// What left in a batch that the broker would not take, and now leaves alone.
#[derive(Clone, Default)]
struct Apart(Arc<Mutex<VecDeque<Publication>>>);

impl Apart {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Publication>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has gathered for one route.
struct Group {
    route: Route,
    publications: Vec<Publication>,
    bytes: usize,
}

impl Packer {
    /// One that packs for the queues under `names`.
    pub fn new(names: Option<Names>) -> Self {
        Self {
            names,
            apart: Apart::default(),
        }
    }

    /// Whether it packs at all.
    pub const fn is_on(&self) -> bool {
        self.names.is_some()
    }

    /// How many publications to take at once when so many of at most `window` AMQP messages are unconfirmed, and at most
    /// `burst` are taken of those that are not packed.
    pub(in crate::bus) fn places(&self, unconfirmed: usize, window: usize, burst: usize) -> usize {
        match self.names {
            Some(_) => WINDOW.saturating_sub(unconfirmed) * MOST_ENTRIES,
            None => window.saturating_sub(unconfirmed).min(burst),
        }
    }

    /// What is to leave for a burst, in its order as far as each queue is concerned.
    pub fn pack(&self, burst: &mut Vec<Publication>, mut leave: impl FnMut(Publication)) {
        let Some(names) = self.names.as_ref().filter(|_| burst.len() > 1) else {
            return burst.drain(..).for_each(leave);
        };
        let mut groups: Vec<Group> = Vec::new();
        let mut left = burst.len();
        for publication in burst.drain(..) {
            let most = left.min(MOST_ENTRIES);
            left -= 1;
            let packed = names
                .takes_batches(&publication.route)
                .then(|| codec::size(&publication.message));
            let Some(Some(size)) = packed else {
                // It may lead to the same queue as what came before it.
                groups.drain(..).for_each(|group| leave(self.seal(group)));
                leave(publication);
                continue;
            };
            let group = groups.iter_mut().find(|group| group.route == publication.route);
            match group {
                Some(group) if group.has_room(size) => group.add(publication, size),
                Some(group) => {
                    let full = std::mem::replace(group, Group::of(publication, size, most));
                    leave(self.seal(full));
                }
                None => groups.push(Group::of(publication, size, most)),
            }
        }
        groups.into_iter().for_each(|group| leave(self.seal(group)));
    }

    /// What is to leave alone, because the broker would not take it with others.
    pub(in crate::bus) fn apart(&self) -> Option<Publication> {
        self.apart.lock().pop_front()
    }

    /// What was packed, each by itself and in its order.
    pub fn take_apart(&self, batch: Publication) -> Vec<Publication> {
        batch.settle(Err(PublishError::Malformed));
        std::iter::from_fn(|| self.apart()).collect()
    }

    fn seal(&self, group: Group) -> Publication {
        let Group {
            route,
            mut publications,
            bytes,
        } = group;
        if publications.len() == 1
            && let Some(alone) = publications.pop()
        {
            return alone;
        }
        let message = batch_of(publications.iter().map(|publication| (&publication.message, 0)), bytes);
        let receipts = publications
            .into_iter()
            .map(|publication| publication.receipt)
            .collect();
        let (apart, batch, to) = (self.apart.clone(), message.body.clone(), route.clone());
        let receipt = Box::new(move |outcome| match outcome {
            Err(PublishError::Malformed) => take_apart(&batch, &to, receipts, &apart),
            outcome => settle(receipts, outcome),
        });
        Publication {
            route,
            message,
            receipt,
        }
    }
}

impl Group {
    /// One that begins with this publication, and gets `most` at the most.
    fn of(publication: Publication, size: usize, most: usize) -> Self {
        let route = publication.route.clone();
        let mut publications = Vec::with_capacity(most);
        publications.push(publication);
        Self {
            route,
            publications,
            bytes: size,
        }
    }

    fn has_room(&self, size: usize) -> bool {
        self.publications.len() < MOST_ENTRIES && self.bytes + size <= MOST_BYTES
    }

    fn add(&mut self, publication: Publication, size: usize) {
        self.publications.push(publication);
        self.bytes += size;
    }
}

/// A batch as a message.
pub(super) fn batch_of<'a>(entries: impl Iterator<Item = (&'a Message, u32)>, bytes: usize) -> Message {
    Message {
        body: codec::encode(entries, bytes),
        properties: Properties {
            content_type: Some(CONTENT_TYPE.to_owned()),
            ..Properties::default()
        },
    }
}

fn settle(receipts: Vec<Receipt>, outcome: Result<(), PublishError>) {
    for receipt in receipts {
        receipt(outcome);
    }
}

fn take_apart(batch: &bytes::Bytes, route: &Route, receipts: Vec<Receipt>, apart: &Apart) {
    let Ok(entries) = codec::decode(batch) else {
        return settle(receipts, Err(PublishError::Malformed));
    };
    let alone = entries.into_iter().zip(receipts).map(|(entry, receipt)| Publication {
        route: route.clone(),
        message: entry.message,
        receipt,
    });
    apart.lock().extend(alone);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::bus::topology::keys;

    type Settled = Arc<Mutex<Vec<(usize, Result<(), PublishError>)>>>;

    fn publication(number: usize, route: Route, bytes: usize, settled: &Settled) -> Publication {
        let settled = settled.clone();
        let mut body = number.to_string().into_bytes();
        body.resize(body.len().max(bytes), b' ');
        Publication {
            route,
            message: Message {
                body: body.into(),
                properties: Properties::default(),
            },
            receipt: Box::new(move |outcome| settled.lock().unwrap().push((number, outcome))),
        }
    }

    fn routes() -> [Route; 4] {
        [
            Route::new("n.internal", keys::FORWARD),
            Route::queue("n.return.0123456789abcdef"),
            Route::new("n.internal", keys::RETRY),
            Route::new("n.app", "shop.order"),
        ]
    }

    fn number(body: &Bytes) -> usize {
        str::from_utf8(body).unwrap().trim_end().parse().unwrap()
    }

    fn numbers(message: &Message) -> Vec<usize> {
        match message.properties.content_type.as_deref() {
            Some(CONTENT_TYPE) => {
                let entries = codec::decode(&message.body).unwrap();
                assert!((2..=MOST_ENTRIES).contains(&entries.len()) && message.body.len() <= MOST_BYTES + 2);
                entries.iter().map(|entry| number(&entry.message.body)).collect()
            }
            _ => vec![number(&message.body)],
        }
    }

    proptest! {
        #[test]
        fn each_queue_gets_all_of_it_in_order_and_each_receipt_is_told_once(
            burst in proptest::collection::vec((0_usize..4, prop_oneof![Just(0_usize), Just(9_000), Just(70_000)]), 0..150),
        ) {
            let settled = Settled::default();
            let packer = Packer::new(Some(Names::new("n")));
            let mut publications: Vec<_> = burst.iter().enumerate()
                .map(|(at, (route, bytes))| publication(at, routes()[*route].clone(), *bytes, &settled))
                .collect();
            let mut left = Vec::new();
            packer.pack(&mut publications, |publication| left.push(publication));
            for route in routes() {
                let of_route = left.iter().filter(|publication| publication.route == route);
                let got: Vec<_> = of_route.flat_map(|publication| numbers(&publication.message)).collect();
                let sent: Vec<_> = (0..burst.len()).filter(|at| routes()[burst[*at].0] == route).collect();
                prop_assert_eq!(got, sent);
            }
            left.into_iter().for_each(|publication| publication.settle(Err(PublishError::Refused)));
            let mut settled = std::mem::take(&mut *settled.lock().unwrap());
            settled.sort_unstable_by_key(|(at, _)| *at);
            prop_assert_eq!(settled, (0..burst.len()).map(|at| (at, Err(PublishError::Refused))).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_burst_of_one_is_today_s_message_and_a_larger_one_is_one_message() {
        let (settled, packer) = (Settled::default(), Packer::new(Some(Names::new("n"))));
        for count in [1, 2, 64, 65] {
            let mut burst: Vec<_> = (0..count)
                .map(|at| publication(at, routes()[0].clone(), 0, &settled))
                .collect();
            let mut left = Vec::new();
            packer.pack(&mut burst, |publication| left.push(publication.message));
            assert_eq!(left.len(), count.div_ceil(MOST_ENTRIES), "{count}");
            let alone = left.last().unwrap().properties == Properties::default();
            assert_eq!(alone, count % MOST_ENTRIES == 1, "{count}");
        }
    }

    #[test]
    fn what_others_read_is_never_packed() {
        let (settled, packer) = (Settled::default(), Packer::new(Some(Names::new("n"))));
        for route in [&routes()[2], &routes()[3], &Route::queue("amq.rabbitmq.reply-to.x")] {
            let mut burst: Vec<_> = (0..3).map(|at| publication(at, route.clone(), 0, &settled)).collect();
            let mut left = 0;
            packer.pack(&mut burst, |_| left += 1);
            assert_eq!(left, 3, "{route:?}");
        }
    }

    #[test]
    fn a_batch_that_the_broker_does_not_take_is_taken_apart() {
        let (settled, packer) = (Settled::default(), Packer::new(Some(Names::new("n"))));
        let mut burst: Vec<_> = (0..3)
            .map(|at| publication(at, routes()[1].clone(), 0, &settled))
            .collect();
        packer.pack(&mut burst, |batch| batch.settle(Err(PublishError::Malformed)));
        assert!(settled.lock().unwrap().is_empty(), "nobody is told yet");
        for at in 0..3 {
            let alone = packer.apart().unwrap();
            assert_eq!((number(&alone.message.body), &alone.route), (at, &routes()[1]));
            alone.settle(Ok(()));
        }
        assert!(packer.apart().is_none());
        assert_eq!(*settled.lock().unwrap(), [(0, Ok(())), (1, Ok(())), (2, Ok(()))]);
    }
}
