//! The messages of one connection that have no answer yet.

use std::collections::VecDeque;
use std::time::Instant;

/// Messages are numbered from 0 without gaps, and answered in any order.
#[derive(Debug, Default)]
pub(super) struct Window {
    first: u64,
    /// When each was sent, or due; nothing once it is answered.
    sent: VecDeque<Option<Instant>>,
    waiting: usize,
}

impl Window {
    /// The number of the next message, which counts as on its way since `since`.
    pub(super) fn send(&mut self, since: Instant) -> u64 {
        self.sent.push_back(Some(since));
        self.waiting += 1;
        self.first + self.sent.len() as u64 - 1
    }

    /// An answer: since when its message was on its way, or none if none is waiting under that number.
    pub(super) fn answer(&mut self, number: u64) -> Option<Instant> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let since = self.sent.get_mut(index)?.take()?;
        self.waiting -= 1;
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.first += 1;
        }
        Some(since)
    }

    /// How many have no answer.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_answered_once() {
        let mut window = Window::default();
        let now = Instant::now();
        assert_eq!([window.send(now), window.send(now), window.send(now)], [0, 1, 2]);
        assert_eq!(window.answer(1), Some(now));
        assert_eq!(window.answer(1), None);
        assert_eq!(window.answer(0), Some(now));
        assert_eq!(window.answer(0), None);
        assert_eq!(window.answer(9), None);
        assert_eq!(window.waiting(), 1);
        assert_eq!(window.send(now), 3);
    }
}
