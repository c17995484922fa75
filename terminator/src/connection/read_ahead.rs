//! What was read from a socket and may not be forwarded yet.
//!
//! A connection whose share in flight is used up is held back by TCP, but not at
//! once: were its socket not read at all, no ping behind its messages would be answered,
//! and no one would see that its client has left. So a little is read ahead, in order.

use std::collections::VecDeque;

use bytes::Bytes;
use shared::service::clock::Timestamp;

use super::looks::Looks;

/// Nothing more is read while so many messages wait.
const MOST_MESSAGES: usize = 64;
/// Nothing more is read while so many bytes wait. The message that reaches it may be as large as a message may be.
const MOST_BYTES: usize = 16 * 1_024;
/// The same for a connection that has never authenticated.
const MOST_EARLY: (usize, usize) = (4, 1_024);

/// What a client has sent.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) text: Bytes,
    /// When, by the own clock.
    pub(crate) at: Timestamp,
    pub(crate) looks: Looks,
}

/// Messages that wait to be forwarded, in the order in which they came. Most connections never have any, and it is
/// small then.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    texts: VecDeque<Received>,
    bytes: usize,
}

impl ReadAhead {
    /// Whether more may be read.
    pub(crate) fn has_room(&self, authenticated: impl FnOnce() -> bool) -> bool {
        self.0.as_deref().is_none_or(|waiting| {
            let (messages, bytes) = match authenticated() {
                true => (MOST_MESSAGES, MOST_BYTES),
                false => MOST_EARLY,
            };
            waiting.texts.len() < messages && waiting.bytes < bytes
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.as_deref().map_or(0, |waiting| waiting.texts.len())
    }

    pub(crate) fn push(&mut self, message: Received) {
        let waiting = self.0.get_or_insert_default();
        waiting.bytes += message.text.len();
        waiting.texts.push_back(message);
    }

    /// The message that came first.
    pub(crate) fn first(&self) -> Option<&Received> {
        self.0.as_deref()?.texts.front()
    }

    /// The place of the first that looks like that, unless it is behind a log-out.
    pub(crate) fn position(&self, looks: impl FnMut(Looks) -> bool) -> Option<usize> {
        let texts = &self.0.as_deref()?.texts;
        let of_one_session = texts
            .iter()
            .take_while(|message| !message.looks.barrier || message.looks.proves);
        of_one_session.map(|message| message.looks).position(looks)
    }

    /// Puts back what was taken last.
    pub(crate) fn push_front(&mut self, message: Received) {
        let waiting = self.0.get_or_insert_default();
        waiting.bytes += message.text.len();
        waiting.texts.push_front(message);
    }

    /// Takes it.
    pub(crate) fn pop(&mut self) -> Option<Received> {
        let waiting = self.0.as_deref_mut()?;
        let message = waiting.texts.pop_front()?;
        waiting.bytes -= message.text.len();
        if waiting.texts.is_empty() {
            self.0 = None;
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(text: impl Into<Bytes>) -> Received {
        Received {
            text: text.into(),
            at: Timestamp::default(),
            looks: Looks {
                acknowledges: false,
                logs_out: false,
                barrier: false,
                proves: false,
                mark: None,
                cancels: false,
            },
        }
    }

    #[test]
    fn it_is_bounded_in_messages_and_in_bytes_and_gives_back_what_came_first() {
        let mut ahead = ReadAhead::default();
        for number in 0..MOST_MESSAGES {
            assert!(ahead.has_room(|| true));
            ahead.push(received(number.to_string()));
        }
        assert!(!ahead.has_room(|| true));
        assert_eq!(ahead.first().unwrap().text, "0");
        assert_eq!(ahead.pop().unwrap().text, "0");
        assert!(ahead.has_room(|| true));
        while ahead.pop().is_some() {}
        ahead.push(received(vec![b'x'; MOST_BYTES - 1]));
        assert!(ahead.has_room(|| true));
        ahead.push(received("x"));
        assert!(!ahead.has_room(|| true));
        ahead.pop();
        assert!(ahead.has_room(|| true));
        assert_eq!(ahead.len(), 1);
        ahead.pop();
        for _ in 0..MOST_EARLY.0 {
            assert!(ahead.has_room(|| false));
            ahead.push(received("x"));
        }
        assert!(!ahead.has_room(|| false));
        assert!(ahead.has_room(|| true));
    }
}
