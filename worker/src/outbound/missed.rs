//! What connections miss that are gone, so that a client that comes back has no gap, or knows of it.
//!
//! A push is kept besides for each connection of its identity that has gone lately and may be resumed, anyone else who has got
//! it: anyone who shows the connection's key fetches that before anything newer, each once, by its key. It is kept first, and
//! successors are looked for second; anyone who takes over is recorded first, and fetches second. One of the two sees the other.
//!
//! What is not kept, because there is too much of it or it waits for too long, is counted, and told with the next grant: of
//! an identity's pushes to whichever of its connections comes first, of those of a connection to its successor.

use bytes::Bytes;
use shared::service::clock::Timestamp;
use shared::wire::envelope::Command;
use shared::wire::id::ConnectionId;
use shared::wire::tag::IdentityTag;
use tracing::debug;

use super::audience::Recipient;
use super::metrics::GaveUp;
use super::pushes::push::{Addressee, Push};
use super::{Outbound, OutboundError, confirmed};
use crate::auth::successors;
use crate::config::HoldOverflow;
use crate::store::{HeldWrite, Holding, Mailbox};

/// What has become of what a connection missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recovery {
    /// Whether all of it comes.
    pub(crate) is_whole: bool,
    /// How many are known not to come.
    pub(crate) missed: u64,
}

impl Recovery {
    /// No one knows.
    pub(crate) const UNKNOWN: Self = Self {
        is_whole: false,
        missed: 0,
    };
}

/// A push, and at whose it arrived.
pub(super) struct Sent<'a> {
    pub(super) push: &'a Push,
    pub(super) arrived: Vec<Recipient>,
}

impl Sent<'_> {
    fn is_to_identity(&self) -> bool {
        matches!(self.push.to, Addressee::Identity(_))
    }
}

impl Outbound {
    /// Which connections of an identity have gone lately, and may be resumed.
    ///
    /// # Errors
    /// If the store is away.
    pub(super) async fn departed(&self, identity: IdentityTag) -> Result<Vec<ConnectionId>, OutboundError> {
        let Some(since) = self.window_begins() else {
            return Ok(Vec::new());
        };
        let departed = self.store.departed(identity, since).await?;
        Ok(departed.into_iter().map(|(connection, _)| connection).collect())
    }

    /// Keeps pushes to an identity for the connections of it that are gone, if no one who has them has taken over from these; and
    /// for those whose terminator does not listen, and may be gone. Those to one connection are no one else's.
    ///
    /// Gone are those that had gone `before` it was looked up whom the pushes go to, since one of them may have been resumed
    /// meanwhile, by a connection that is not among these; and those that are gone now.
    pub(super) async fn keep_for_departed(
        &self,
        identity: IdentityTag,
        pushes: &[Sent<'_>],
        before: &[ConnectionId],
    ) -> Result<(), OutboundError> {
        if self.resume_window.is_none() || !pushes.iter().any(Sent::is_to_identity) {
            return Ok(());
        }
        let mut departed = self.departed(identity).await?;
        let resumed: Vec<_> = before.iter().filter(|gone| !departed.contains(gone)).copied().collect();
        departed.extend(resumed);
        for sent in pushes {
            if !sent.is_to_identity() {
                continue;
            }
            let (there, deaf): (Vec<&Recipient>, Vec<&Recipient>) =
                sent.arrived.iter().partition(|recipient| recipient.listening);
            let is_there = |connection| there.iter().any(|recipient| recipient.connection == connection);
            let departed = departed.iter().copied();
            for gone in departed.chain(deaf.iter().map(|recipient| recipient.connection)) {
                // What it was sent a moment ago, and is not written, comes back.
                if Some(gone) == sent.push.except || is_there(gone) {
                    continue;
                }
                if is_there(successors::last_successor(&*self.store, gone).await?) {
                    self.store.replace_departed(identity, gone).await?;
                    continue;
                }
                self.keep_for_successor(gone, identity, &sent.push.to_hold()).await?;
            }
        }
        Ok(())
    }

    /// Keeps a push for anyone who shows the key of a connection that is gone, and tells them if they have done so.
    pub(super) async fn keep_for_successor(
        &self,
        gone: ConnectionId,
        identity: IdentityTag,
        push: &HeldWrite,
    ) -> Result<(), OutboundError> {
        if self.resume_window.is_none() || push.is_past(self.clock.now()) {
            return Ok(());
        }
        let kept = HeldWrite {
            // Anyone who it is then may be another by now.
            asker: Some(identity),
            ..push.clone()
        };
        let mailbox = Mailbox::Missed(gone);
        if self.put_away(mailbox, &kept).await? == Holding::Overflow {
            self.note_given_up(&kept, mailbox, GaveUp::Overflow).await;
            self.store.miss(mailbox, 1).await?;
        }
        let successor = successors::last_successor(&*self.store, gone).await?;
        if successor != gone {
            let sent = self
                .submit(successor, &Command::Wake { from: None }, Bytes::new())
                .await;
            self.counters.woke();
            confirmed(sent).await?;
        }
        Ok(())
    }

    /// Whether all that was pushed to an identity since one of its connections was lost comes to anyone who has just taken over from it.
    pub(crate) async fn recovery(&self, identity: IdentityTag, lost: ConnectionId) -> Recovery {
        let looked = async {
            let Some(since) = self.window_begins() else {
                return Ok(Recovery::UNKNOWN);
            };
            let departed = self.store.departed(identity, since).await?;
            // It is not known yet that it is gone, or it has gone lately enough.
            let is_known = departed.iter().any(|(connection, _)| *connection == lost)
                || self.store.registered(identity, lost).await?.is_some();
            self.expire(Mailbox::Missed(lost)).await?;
            let missed = self.store.take_missed(Mailbox::Missed(lost)).await?;
            // From now on its successor gets all itself.
            self.store.replace_departed(identity, lost).await?;
            Ok::<_, OutboundError>(Recovery {
                is_whole: is_known && missed == 0,
                missed,
            })
        };
        looked.await.unwrap_or_else(|reason| {
            debug!(%reason, %lost, "it cannot be said what a connection has missed");
            Recovery::UNKNOWN
        })
    }

    /// How many pushes of an identity are known not to come to anyone, which is told once.
    pub(crate) async fn take_missed(&self, identity: IdentityTag, waiting: u64) -> u64 {
        let looked = async {
            if waiting > 0 {
                self.expire(identity.into()).await?;
            }
            Ok::<_, OutboundError>(self.store.take_missed(identity.into()).await?)
        };
        looked.await.unwrap_or_else(|reason| {
            debug!(%reason, %identity, "what was missed is temporarily unknown");
            0
        })
    }

    /// Gives up the oldest that is held in a mailbox of pushes, if these give way to newer ones. A user's part of it is bounded
    /// besides, for which no other's gives way.
    pub(super) async fn makes_room(&self, mailbox: Mailbox, write: &HeldWrite) -> Result<bool, OutboundError> {
        let of_pushes = matches!(mailbox, Mailbox::Pushes(_) | Mailbox::Missed(_));
        let fits = write.bytes() <= self.hold.bytes;
        if self.hold_overflow == HoldOverflow::Newest || !of_pushes || !fits || write.sender().is_some() {
            return Ok(false);
        }
        let oldest = self.store.held_writes(mailbox, 1).await?;
        let Some(oldest) = oldest.first() else {
            return Ok(false);
        };
        self.give_up(oldest, mailbox, GaveUp::Overflow, None).await?;
        self.store.miss(mailbox, 1).await?;
        self.store
            .drop_writes(mailbox, std::slice::from_ref(&oldest.key))
            .await?;
        Ok(true)
    }

    /// From when on a connection has gone lately; none if nothing is kept for any.
    fn window_begins(&self) -> Option<Timestamp> {
        let window_ms = u64::try_from(self.resume_window?.as_millis()).unwrap_or(u64::MAX);
        Some(Timestamp::from_millis(
            self.clock.now().as_millis().saturating_sub(window_ms),
        ))
    }
}
