//! What is held leaves the hold, for a connection that asks for it.
//!
//! It is sent and confirmed, and only then forgotten: a worker that dies in between
//! sends it once more, and the terminator knows it by its key.

use std::collections::HashSet;

use bytes::Bytes;
use shared::wire::envelope::command::Write;
use shared::wire::envelope::{Command, Fetch};
use shared::wire::tag::IdentityTag;

use super::metrics::GaveUp;
use super::{Arrival, Outbound, OutboundError, confirmed, write};
use crate::admin::event::Event;
use crate::store::{HeldWrite, Mailbox};

/// How many are sent at a time, before the terminator asks for more.
const MOST_AT_A_TIME: usize = 256;

impl Outbound {
    /// Sends what is held, in the order of each mailbox, and tells how many there are left.
    pub(super) async fn fetch(&self, fetch: Fetch) -> Result<(), OutboundError> {
        let Fetch {
            connection,
            identity,
            number,
        } = fetch;
        let (mut room, mut left) = (MOST_AT_A_TIME, 0);
        for mailboxes in self.owed_to(fetch).await? {
            let mut owed = self.in_one_order(&mailboxes, identity).await?;
            let beyond = owed.split_off(owed.len().min(room));
            let mut known = HashSet::new();
            let once: Vec<_> = owed
                .iter()
                .map(|(_, write)| write)
                .filter(|write| known.insert(write.key.as_str()))
                .collect();
            if !self.release(fetch, &once).await? {
                // It stays where it is, for anyone who asks next.
                return Ok(());
            }
            room -= owed.len();
            for mailbox in mailboxes {
                let good: Vec<_> = of(mailbox, &owed).cloned().collect();
                let still_there = match mailbox {
                    Mailbox::Answers(_) | Mailbox::Missed(_) if good.is_empty() => 0,
                    _ => self.forget(mailbox, &good).await?,
                };
                left += match mailbox {
                    Mailbox::Pushes(_) => still_there,
                    // Not all of it need be for anyone who is there now.
                    Mailbox::Answers(_) | Mailbox::Missed(_) => of(mailbox, &beyond).count() as u64,
                };
                let count = good.len();
                self.observer.tell(connection, Event::Fetched { mailbox, count, left });
                if matches!(mailbox, Mailbox::Answers(_)) {
                    for answer in &good {
                        self.note_write(answer, Event::ReplyFetched { to: connection }).await;
                    }
                }
            }
        }
        let sent = self
            .submit(connection, &Command::Fetched { left, fetch: number }, Bytes::new())
            .await;
        confirmed(sent).await?;
        Ok(())
    }

    /// What is held in these for that identity, in the order in which it was first given to us, if there are several.
    async fn in_one_order(
        &self,
        mailboxes: &[Mailbox],
        identity: IdentityTag,
    ) -> Result<Vec<(Mailbox, HeldWrite)>, OutboundError> {
        let mut all = Vec::new();
        for mailbox in mailboxes {
            let mut good = self.expire(*mailbox).await?;
            // What was asked, or missed, in another's name on the same connection waits on.
            good.retain(|write| write.asker.is_none_or(|asker| asker == identity));
            all.extend(good.into_iter().map(|write| (*mailbox, write)));
        }
        if all.iter().any(|(mailbox, _)| matches!(mailbox, Mailbox::Missed(_))) {
            all.sort_by_key(|(_, write)| write.since);
        }
        Ok(all)
    }

    /// Gives up what is held in a mailbox and past its time, and tells what else is held.
    pub(super) async fn expire(&self, mailbox: Mailbox) -> Result<Vec<HeldWrite>, OutboundError> {
        let most = match mailbox {
            Mailbox::Pushes(_) => MOST_AT_A_TIME as u64,
            // Not all of it need be for anyone who is there now.
            Mailbox::Answers(_) | Mailbox::Missed(_) => self.hold.messages,
        };
        let held = self.store.held_writes(mailbox, most).await?;
        let (late, good): (Vec<_>, Vec<_>) = held.into_iter().partition(|write| self.is_over(write));
        for write in &late {
            self.give_up(write, mailbox, GaveUp::Expired, None).await?;
        }
        if !late.is_empty() {
            // Anyone who did not want it to wait any longer does not miss it.
            let missed = late.iter().filter(|write| !write.is_past(self.clock.now())).count();
            if missed > 0 && !matches!(mailbox, Mailbox::Answers(_)) {
                self.store.miss(mailbox, missed as u64).await?;
            }
            self.forget(mailbox, &late).await?;
        }
        Ok(good)
    }

    /// Whether all of it arrived.
    async fn release(&self, fetch: Fetch, held: &[&HeldWrite]) -> Result<bool, OutboundError> {
        let Fetch {
            connection, identity, ..
        } = fetch;
        let mut sent = Vec::with_capacity(held.len());
        for one in held {
            let command = Command::Write(Write {
                released: true,
                fetched: true,
                ..write(one, Some(identity))
            });
            let body = Bytes::copy_from_slice(one.body.as_bytes());
            sent.push(self.submit(connection, &command, body).await);
        }
        let mut all = true;
        for sending in sent {
            all &= self.arrival(identity, connection, sending).await? == Arrival::Arrived;
        }
        Ok(all)
    }

    async fn forget(&self, mailbox: Mailbox, writes: &[HeldWrite]) -> Result<u64, OutboundError> {
        let keys: Vec<_> = writes.iter().map(|write| write.key.clone()).collect();
        Ok(self.store.drop_writes(mailbox, &keys).await?)
    }
}

fn of(mailbox: Mailbox, writes: &[(Mailbox, HeldWrite)]) -> impl Iterator<Item = &HeldWrite> {
    writes
        .iter()
        .filter(move |(other, _)| *other == mailbox)
        .map(|(_, write)| write)
}
