//! What is held in each mailbox.

use std::collections::VecDeque;

use shared::service::clock::Timestamp;
use shared::wire::tag::IdentityTag;

use super::MemoryStore;
use super::expiring::Expiring;
use crate::store::{
    CONCLUDED_KEPT, Call, HeldWrite, HoldLimits, Holding, MISSED_KEPT, MOST_CONCLUDED, Mailbox, WriteStore,
};

fn has_room_for_user(held: &[HeldWrite], sender: &str, bytes: u64, limits: &HoldLimits) -> bool {
    let of_users: Vec<_> = held.iter().filter(|write| write.sender().is_some()).collect();
    let of_sender = of_users.iter().filter(|write| write.sender() == Some(sender)).count();
    let bytes_of_users: u64 = of_users.iter().map(|write| write.bytes()).sum();
    (of_users.len() as u64) < limits.messages_of_users()
        && (of_sender as u64) < limits.of_sender
        && bytes_of_users + bytes <= limits.bytes_of_users()
}

impl WriteStore for MemoryStore {
    fn hold_write<'a>(&'a self, mailbox: Mailbox, write: &'a HeldWrite, limits: &'a HoldLimits) -> Call<'a, Holding> {
        self.step(move |state, now| state.writes.hold(mailbox, write, limits, now))
    }

    fn held_writes(&self, mailbox: Mailbox, most: u64) -> Call<'_, Vec<HeldWrite>> {
        self.step(move |state, now| state.writes.of(mailbox, most, now))
    }

    fn drop_writes<'a>(&'a self, mailbox: Mailbox, keys: &'a [String]) -> Call<'a, u64> {
        self.step(move |state, now| state.writes.drop(mailbox, keys, now))
    }

    fn miss(&self, mailbox: Mailbox, count: u64) -> Call<'_, ()> {
        self.step(move |state, now| state.writes.miss(mailbox, count, now))
    }

    fn take_missed(&self, mailbox: Mailbox) -> Call<'_, u64> {
        self.step(move |state, now| state.writes.take_missed(mailbox, now))
    }

    fn conclude(&self, identity: IdentityTag, key: u64, held: bool) -> Call<'_, bool> {
        self.step(move |state, now| state.writes.conclude(identity, key, held, now))
    }

    fn overdue(&self, since: Timestamp, most: u64) -> Call<'_, Vec<Mailbox>> {
        self.step(move |state, now| state.writes.overdue(since, most, now))
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Writes {
    by_mailbox: Expiring<Mailbox, Vec<HeldWrite>>,
    /// How many are not held that belong there.
    missed: Expiring<Mailbox, u64>,
    /// By which keys it is known that producers were told.
    concluded: Expiring<IdentityTag, VecDeque<(u64, bool)>>,
}

impl Writes {
    pub(super) fn hold(&mut self, mailbox: Mailbox, write: &HeldWrite, limits: &HoldLimits, now: Timestamp) -> Holding {
        let held = self.by_mailbox.get(&mailbox, now).map_or(&[][..], Vec::as_slice);
        let is_new = !held.iter().any(|other| other.key == write.key);
        if is_new {
            let bytes: u64 = held.iter().map(HeldWrite::bytes).sum();
            if held.len() as u64 >= limits.messages || bytes + write.bytes() > limits.bytes {
                return Holding::Overflow;
            }
            if let Some(sender) = write.sender()
                && !has_room_for_user(held, sender, write.bytes(), limits)
            {
                return Holding::Overflow;
            }
        }
        let gone_at = limits.gone_at(write.since, now);
        let held = self.by_mailbox.enter(mailbox, now, gone_at, Vec::new);
        if is_new {
            held.push(write.clone());
        }
        Holding::Held {
            count: held.len() as u64,
            successor: None,
        }
    }

    pub(super) fn conclude(&mut self, identity: IdentityTag, key: u64, held: bool, now: Timestamp) -> bool {
        let until = now.saturating_add(CONCLUDED_KEPT);
        let concluded = self.concluded.enter(identity, now, until, VecDeque::new);
        let is_told = |stage: bool| concluded.contains(&(key, stage));
        let is_new = !(is_told(false) || held && is_told(true));
        if is_new {
            concluded.push_back((key, held));
        }
        if concluded.len() > MOST_CONCLUDED {
            concluded.pop_front();
        }
        is_new
    }

    pub(super) fn miss(&mut self, mailbox: Mailbox, count: u64, now: Timestamp) {
        *self
            .missed
            .enter(mailbox, now, now.saturating_add(MISSED_KEPT), u64::default) += count;
    }

    pub(super) fn take_missed(&mut self, mailbox: Mailbox, now: Timestamp) -> u64 {
        self.missed.take(&mailbox, now).map_or(0, |(count, _)| count)
    }

    pub(super) fn count(&self, mailbox: Mailbox, now: Timestamp) -> u64 {
        self.by_mailbox.get(&mailbox, now).map_or(0, |held| held.len() as u64)
    }

    pub(super) fn of(&self, mailbox: Mailbox, most: u64, now: Timestamp) -> Vec<HeldWrite> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let held = self.by_mailbox.get(&mailbox, now);
        held.map(|held| held.iter().take(most).cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn drop(&mut self, mailbox: Mailbox, keys: &[String], now: Timestamp) -> u64 {
        let Some(held) = self.by_mailbox.get_mut(&mailbox, now) else {
            return 0;
        };
        held.retain(|write| !keys.contains(&write.key));
        let left = held.len() as u64;
        if left == 0 {
            self.by_mailbox.remove(&mailbox);
        }
        left
    }

    pub(super) fn overdue(&self, since: Timestamp, most: u64, now: Timestamp) -> Vec<Mailbox> {
        let is_overdue = |held: &Vec<HeldWrite>| held.iter().any(|write| write.since < since);
        let mut overdue: Vec<_> = self
            .by_mailbox
            .iter(now)
            .filter(|(_, held)| is_overdue(held))
            .map(|(mailbox, _)| *mailbox)
            .collect();
        // A map's order is no one's: the same state must give the same answer.
        overdue.sort_unstable();
        overdue.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        overdue
    }
}
