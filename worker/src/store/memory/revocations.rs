//! What has been taken back.

use shared::clock::Timestamp;
use shared::revocation::{CAPACITY, Revocation, Target};

use super::expiring::Expiring;

#[derive(Default)]
pub(super) struct Revocations {
    by_target: Expiring<Target, Revocation>,
}

impl Revocations {
    pub(super) fn add(&mut self, revocation: &Revocation, now: Timestamp) {
        if revocation.until <= now {
            return;
        }
        self.by_target
            .enter(revocation.target, now, revocation.until, || *revocation)
            .merge(revocation);
        if self.by_target.len() > CAPACITY {
            self.make_room(now);
        }
    }

    pub(super) fn all(&self, now: Timestamp) -> Vec<Revocation> {
        self.by_target.iter(now).map(|(_, revocation)| *revocation).collect()
    }

    fn make_room(&mut self, now: Timestamp) {
        self.by_target.drop_ended(now);
        if self.by_target.len() > CAPACITY
            && let Some(first) = self.all(now).iter().min_by_key(|one| one.until).map(|one| one.target)
        {
            self.by_target.remove(&first);
        }
    }
}
