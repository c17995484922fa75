//! A text for several connections of one terminator, in one message: a command of the type `write` for each of them, whose
//! headers it has. It says `spread` instead, `correlation_id` is the terminator, and the body begins with a line that has
//! the numbers of the connections, in hexadecimal digits with commas between them.
//!
//! A copy for each would cost a broker, and both ends, as much as that many pushes.

use std::fmt::Write as _;

use bytes::Bytes;

use super::command::{Command, Write};
use crate::bus::Message;
use crate::wire::id::{ConnectionId, TerminatorId};

pub(super) const TYPE: &str = "spread";

/// The most connections that one message is for: their numbers take less than 300 KiB.
pub const MOST_CONNECTIONS: usize = 16_384;

/// What is to be written, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// Whose connections they are.
    pub terminator: TerminatorId,
    /// Their numbers.
    pub numbers: Vec<u64>,
    /// What stands around the text.
    pub write: Write,
    /// The text.
    pub text: Bytes,
}

impl Spread {
    /// The message that carries it.
    pub fn to_message(&self) -> Message {
        let mut body = String::with_capacity(self.numbers.len() * 8 + self.text.len());
        for (place, number) in self.numbers.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            // It is written into memory, which does not fail.
            let _ = write!(body, "{comma}{number:x}");
        }
        body.push('\n');
        let mut body = body.into_bytes();
        body.extend_from_slice(&self.text);
        self.write.to_message(TYPE, self.terminator.to_string(), body.into())
    }

    /// What it is; none if it is not of that shape.
    pub fn read(message: &Message) -> Option<Self> {
        let properties = &message.properties;
        let terminator = properties.correlation_id.as_deref()?.parse().ok()?;
        let write = Write::read(properties).ok()?;
        let end = message.body.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(message.body.get(..end)?).ok()?;
        let numbers = line.split(',').map(|number| u64::from_str_radix(number, 16));
        // One more tells that there are too many.
        let numbers: Vec<_> = numbers.take(MOST_CONNECTIONS + 1).collect::<Result<_, _>>().ok()?;
        (numbers.len() <= MOST_CONNECTIONS).then(|| Self {
            terminator,
            numbers,
            write,
            text: message.body.slice(end + 1..),
        })
    }

    /// For whom it is.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        let terminator = self.terminator;
        let numbers = self.numbers.iter().copied();
        numbers.map(move |number| ConnectionId { terminator, number })
    }

    /// The same for one of them.
    pub fn to_one(&self, connection: ConnectionId) -> Message {
        Command::Write(self.write.clone()).to_message(connection, self.text.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::service::clock::Timestamp;
    use crate::wire::envelope::Return;
    use crate::wire::tag::IdentityTag;

    fn spread(numbers: Vec<u64>, text: &[u8]) -> Spread {
        Spread {
            terminator: TerminatorId::random(),
            numbers,
            write: Write {
                key: "p:a".into(),
                identity: Some(IdentityTag::of(&[1; 32])),
                producer: None,
                connections: 0,
                alone: true,
                asked_by: None,
                released: false,
                fetched: false,
                since: Timestamp::from_secs(4),
                until: None,
            },
            text: Bytes::copy_from_slice(text),
        }
    }

    proptest! {
        #[test]
        fn it_reads_back_and_says_the_same_to_each(
            numbers in proptest::collection::vec(any::<u64>(), 1..40),
            text in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let spread = spread(numbers.clone(), &text);
            let message = spread.to_message();
            prop_assert_eq!(Return::read(&message), Some(Return::Spread(spread.clone())));
            let connections: Vec<_> = spread.connections().collect();
            prop_assert_eq!(connections.len(), numbers.len());
            for connection in connections {
                let one = spread.to_one(connection);
                prop_assert_eq!(&one.body, &spread.text);
                let command = Return::Command(connection, Command::Write(spread.write.clone()));
                prop_assert_eq!(Return::read(&one), Some(command));
            }
        }

        #[test]
        fn whatever_bytes_come_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut message = spread(vec![1], b"").to_message();
            message.body = bytes.into();
            if let Some(read) = Spread::read(&message) {
                prop_assert!(!read.numbers.is_empty());
            }
        }
    }

    #[test]
    fn what_is_for_too_many_is_none() {
        let most: Vec<_> = (0..MOST_CONNECTIONS as u64).collect();
        assert!(Spread::read(&spread(most.clone(), b"x").to_message()).is_some());
        let more = [most, vec![9]].concat();
        assert_eq!(Spread::read(&spread(more, b"x").to_message()), None);
        assert_eq!(Spread::read(&spread(Vec::new(), b"x").to_message()), None);
    }
}
