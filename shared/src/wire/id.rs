//! Who is who on the wire: terminators, connections, and the order of what a connection sent.
//!
//! A connection's name holds its terminator's, so that anyone who has the one knows
//! where the other lives. All of them are short, because they cross the broker
//! with every message.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One run of one terminator: drawn at random when it starts, so that a
/// restarted terminator never takes its predecessor's answers for its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TerminatorId(u64);

impl TerminatorId {
    /// Draws a new one.
    pub fn random() -> Self {
        Self(crate::service::chance::number())
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// One client socket, from its upgrade to its close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Where the socket is.
    pub terminator: TerminatorId,
    /// Counts the terminator's sockets, from 1.
    pub number: u64,
}

/// The place of a message in the order in which its connection's terminator received them, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sequence(u64);

impl Sequence {
    /// The first message of a connection.
    pub const FIRST: Self = Self(1);

    /// The sequence with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What the terminator puts on each message that it forwards: which connection, and the how-manieth of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The connection that sent the message.
    pub connection: ConnectionId,
    /// Its place in that connection's order.
    pub sequence: Sequence,
}

/// A text that is not an id of the expected shape.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a well-formed id")]
pub struct MalformedId;

impl fmt::Display for TerminatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.terminator, self.number)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.connection, self.sequence)
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConnectionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for TerminatorId {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        if text.len() != 16 {
            return Err(MalformedId);
        }
        number(text, 16).map(Self)
    }
}

impl FromStr for ConnectionId {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        let (terminator, n) = text.split_once('.').ok_or(MalformedId)?;
        Ok(Self {
            terminator: terminator.parse()?,
            number: number(n, 16)?,
        })
    }
}

impl FromStr for MessageId {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        let (connection, n) = text.rsplit_once('.').ok_or(MalformedId)?;
        Ok(Self {
            connection: connection.parse()?,
            sequence: Sequence(number(n, 10)?),
        })
    }
}

/// Like `from_str_radix`, without the sign that it lets pass.
fn number(text: &str, radix: u32) -> Result<u64, MalformedId> {
    if !text.starts_with(|c: char| c.is_digit(radix)) {
        return Err(MalformedId);
    }
    u64::from_str_radix(text, radix).map_err(|_| MalformedId)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_message_id_reads_back_as_it_was_written(terminator: u64, n: u64, sequence: u64) {
            let connection = ConnectionId { terminator: TerminatorId(terminator), number: n };
            let message_id = MessageId { connection, sequence: Sequence(sequence) };
            prop_assert_eq!(message_id.to_string().parse::<MessageId>(), Ok(message_id));
            prop_assert_eq!(connection.to_string().parse::<ConnectionId>(), Ok(connection));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text: String) {
            let _ = text.parse::<MessageId>();
            let _ = text.parse::<ConnectionId>();
        }
    }

    #[test]
    fn a_signed_number_is_no_id() {
        assert_eq!("0000000000000001.+2.3".parse::<MessageId>(), Err(MalformedId));
        assert_eq!("0000000000000001.2.+3".parse::<MessageId>(), Err(MalformedId));
    }
}
