//! Many messages in one AMQP message.
//!
//! The price of a message is the AMQP message, not its bytes. So what a publisher has for one of our own queues at one
//! moment leaves as one AMQP message, a *batch*, and a burst of one leaves as it is. There is no timer: a bounded number of
//! AMQP messages is unconfirmed at a time, and what comes meanwhile gathers.
//!
//! - A publisher packs (`packer`), and a consumer takes apart (`open`), in either implementation of the bus, so that no one else knows.
//!   Only what ends at consumers of our own is packed ([`Names::takes_batches`](super::topology::Names::takes_batches)).
//! - Each entry is settled by itself. What is given back is published again alone, and the batch is acknowledged when that is
//!   confirmed: nothing that was finished is done again for the sake of a neighbour. Only a death or a lost channel brings a
//!   whole batch again, each entry of it with the count of the whole.
//! - A batch that the broker would not take is taken apart, and its entries leave alone.
//! - What cannot be read as a batch (`codec`) is delivered as it came, with a header [`UNREADABLE_BATCH`] that says why.

mod codec;
mod open;
mod packer;

pub(super) use self::codec::count;
pub use self::open::{Returning, Unpacking};
pub use self::packer::Packer;

use bytes::Bytes;

pub use super::message::{BATCH_CONTENT_TYPE as CONTENT_TYPE, UNREADABLE_BATCH};
use super::{Message, Value};

/// How many AMQP messages of a publisher that packs are unconfirmed at a time: enough to keep the broker busy over its
/// way to the disk and back, and so few that under load the next ones gather. Of 4, 8 and 16 this was measured to be the best,
/// by a tenth.
pub(super) const WINDOW: usize = 8;

/// Why a message that calls itself a batch cannot be read as one.
pub fn why_unreadable(message: &Message) -> Option<&str> {
    match message.properties.header(UNREADABLE_BATCH)? {
        Value::Text(reason) => Some(reason),
        _ => None,
    }
}

/// The messages of a batch, for anyone who tries what bytes come to (`tests/fuzz`).
///
/// # Errors
/// Why it is none.
pub fn read(batch: &Bytes) -> Result<Vec<Message>, String> {
    let entries = codec::decode(batch).map_err(|broken| broken.to_string())?;
    Ok(entries.into_iter().map(|entry| entry.message).collect())
}
