//! A push on its way to its connections: one message for each of their terminators.

use std::collections::BTreeMap;

use bytes::Bytes;
use shared::bus::{Confirm, Message};
use shared::wire::envelope::command::Write;
use shared::wire::envelope::spread::MOST_CONNECTIONS;
use shared::wire::envelope::{Command, Spread};
use shared::wire::id::TerminatorId;
use shared::wire::tag::IdentityTag;

use super::Pushes;
use super::push::Push;
use crate::outbound::audience::Recipient;
use crate::outbound::{Arrival, OutboundError, confirmed, write};

/// A push that is under way: to whom, and what tells whether it has arrived.
pub(super) struct Sending(Vec<(Vec<Recipient>, Confirm)>);

impl Pushes {
    /// Begins to write it to the recipients, those that have expired too: their terminators know what to do about that.
    pub(super) async fn begin_write(&self, push: &Push, identity: IdentityTag, recipients: &[Recipient]) -> Sending {
        let write = Write {
            connections: recipients.iter().filter(|recipient| recipient.is_live()).count() as u64,
            alone: push.except.is_none() && !recipients.iter().any(Recipient::is_live),
            ..write(&push.to_hold(), Some(identity))
        };
        let mut sent = Vec::new();
        for (terminator, recipients) in by_terminator(recipients) {
            for some in recipients.chunks(MOST_CONNECTIONS) {
                let message = to_some(terminator, some, &write, push.bytes());
                let queue = self.outbound.names.return_queue(terminator).name;
                sent.push((some.to_vec(), self.outbound.publish(&queue, message).await));
            }
        }
        Sending(sent)
    }

    /// Waits until it is known at whose it arrived.
    pub(super) async fn written(
        &self,
        identity: IdentityTag,
        Sending(sent): Sending,
    ) -> Result<Vec<Recipient>, OutboundError> {
        let mut arrived = Vec::new();
        for (some, sending) in sent {
            match confirmed(sending).await? {
                Arrival::Arrived if arrived.is_empty() => arrived = some,
                Arrival::Arrived => arrived.extend(some),
                Arrival::Refused => {}
                Arrival::Gone => {
                    for recipient in some {
                        self.outbound.unregister(identity, recipient.connection).await;
                    }
                }
            }
        }
        self.outbound.counters.wrote(arrived.len());
        Ok(arrived)
    }
}

/// The recipients of each terminator, in their order.
fn by_terminator(recipients: &[Recipient]) -> BTreeMap<TerminatorId, Vec<Recipient>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for recipient in recipients {
        all.entry(recipient.connection.terminator).or_default().push(*recipient);
    }
    all
}

/// One message, whatever the number of connections.
fn to_some(terminator: TerminatorId, recipients: &[Recipient], write: &Write, text: Bytes) -> Message {
    match recipients {
        [one] => Command::Write(write.clone()).to_message(one.connection, text),
        _ => {
            let numbers = recipients.iter().map(|one| one.connection.number).collect();
            let write = write.clone();
            Spread {
                terminator,
                numbers,
                write,
                text,
            }
            .to_message()
        }
    }
}
