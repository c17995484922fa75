//! Whether all is well with the broker, put together from all who know a part of it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::bus::Link;

/// Where each connection and consumer says how it is.
#[derive(Clone)]
pub(super) struct BrokerStatus(Arc<Inner>);

struct Inner {
    slots: Mutex<Vec<Option<Link>>>,
    whole: watch::Sender<Link>,
}

/// One place on the board; it is wiped when dropped.
pub(super) struct Slot {
    board: BrokerStatus,
    place: usize,
}

impl BrokerStatus {
    pub(super) fn new() -> Self {
        let whole = watch::Sender::new(Link::Away("not yet connected".into()));
        Self(Arc::new(Inner {
            slots: Mutex::default(),
            whole,
        }))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Link> {
        self.0.whole.subscribe()
    }

    /// A new place, whose holder is away for `reason` until it says otherwise.
    pub(super) fn slot(&self, reason: String) -> Slot {
        let place = {
            let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.push(None);
            slots.len() - 1
        };
        let slot = Slot {
            board: self.clone(),
            place,
        };
        slot.set(Link::Away(reason.into()));
        slot
    }

    fn set(&self, place: usize, link: Option<Link>) {
        let mut slots = self.0.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get_mut(place) {
            *slot = link;
        }
        // Of the worst, the first: a connection tells why, and the consumers that wait for it do not know.
        let worst = slots
            .iter()
            .flatten()
            .rev()
            .max_by_key(|link| severity(link))
            .cloned()
            .unwrap_or(Link::Up);
        self.0.whole.send_if_modified(|whole| {
            let changed = *whole != worst;
            *whole = worst;
            changed
        });
    }
}

impl Slot {
    pub(super) fn set(&self, link: Link) {
        self.board.set(self.place, Some(link));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.board.set(self.place, None);
    }
}

fn severity(link: &Link) -> u8 {
    match link {
        Link::Up => 0,
        Link::Blocked => 1,
        Link::Away(_) => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_as_well_as_its_worst_part() {
        let board = BrokerStatus::new();
        let whole = board.subscribe();
        let (one, other) = (board.slot("a".into()), board.slot("b".into()));
        one.set(Link::Up);
        assert!(!whole.borrow().is_up());
        one.set(Link::Away("the cause".into()));
        assert_eq!(
            *whole.borrow(),
            Link::Away("the cause".into()),
            "the first of the worst is told"
        );
        one.set(Link::Up);
        other.set(Link::Up);
        assert!(whole.borrow().is_up());
        one.set(Link::Blocked);
        assert_eq!(*whole.borrow(), Link::Blocked);
        drop(one);
        assert!(whole.borrow().is_up());
    }
}
