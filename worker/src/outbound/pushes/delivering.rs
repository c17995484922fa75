//! What waits for one identity, to return queues or into the hold.
//!
//! All that has gathered goes together: those that it is for are looked up once, all of it is published before the first
//! confirm is waited for, and so leaves in few AMQP messages. There is no timer: a push for whom nothing is under way goes at
//! once, and what comes meanwhile gathers.
//!
//! The look comes after all of it was taken out of the queue, so that each push reaches the one who was there when it was pushed.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use shared::wire::id::ConnectionId;
use shared::wire::protocol::{ErrorBody, ErrorCode};
use shared::wire::tag::IdentityTag;

use super::push::{Addressee, Push};
use super::{Addressed, Concluded, Pushes};
use crate::outbound::OutboundError;
use crate::outbound::audience::Recipient;
use crate::outbound::given_up::overflow;
use crate::outbound::metrics::GaveUp;
use crate::outbound::missed::Sent;
use crate::outbound::outcome::Outcome;
use crate::store::Holding;

impl Pushes {
    /// Brings those of one identity on their way, in their order.
    pub(super) async fn deliver(self: Arc<Self>, of_one: Vec<Addressed>) -> Vec<Concluded> {
        let mut concluded = Vec::with_capacity(of_one.len());
        let mut waiting = VecDeque::from(of_one);
        while !waiting.is_empty() {
            // Whether one has the name of another is known when that is delivered.
            let count = {
                let mut names = HashSet::new();
                waiting
                    .iter()
                    .take_while(|one| names.insert(one.push.id.as_str()))
                    .count()
            };
            let together: Vec<_> = waiting.drain(..count).collect();
            concluded.extend(self.deliver_together(together).await);
        }
        concluded
    }

    /// The same with some of which each has a name of its own.
    async fn deliver_together(&self, mut together: Vec<Addressed>) -> Vec<Concluded> {
        let Some(identity) = together.first().map(|one| one.identity) else {
            return Vec::new();
        };
        for one in &mut together {
            let is_live_only = one.push.is_live_only();
            // By it they are sorted where some come out of several holds.
            one.push.since = self.known.in_turn(identity, one.push.since);
            if !is_live_only {
                // What was moved on in time may be held as before.
                let after = one.push.since.saturating_add(Duration::from_millis(1));
                one.push.until = one.push.until.map(|until| until.max(after));
            }
        }
        let pushes: Vec<&Push> = together
            .iter()
            .map(|one| &one.push)
            .filter(|push| !self.known.has_another(push, identity))
            .collect();
        let outcomes = match pushes.is_empty() {
            true => Vec::new(),
            false => self.persist(&pushes, identity).await,
        };
        for (push, outcome) in pushes.iter().zip(&outcomes) {
            if matches!(outcome, Outcome::Delivered { .. } | Outcome::Held) {
                self.known.taken(push, identity);
            }
        }
        let mut outcomes: HashMap<String, Outcome> = pushes.iter().map(|push| push.id.clone()).zip(outcomes).collect();
        let concluded = together.into_iter().map(|one| Concluded {
            outcome: outcomes.remove(&one.push.id).unwrap_or_else(another),
            delivery: one.delivery,
            place: one.place,
            id: Some(one.push.id),
            identity: Some(identity),
            producer: one.push.producer,
        });
        concluded.collect()
    }

    /// Delivers them, however often that takes, and tells what became of each. What is done is not done again because
    /// something behind it fails.
    async fn persist(&self, pushes: &[&Push], identity: IdentityTag) -> Vec<Outcome> {
        let outbound = &self.outbound;
        let (gone, sent) = outbound.persist(|| self.try_send(pushes, identity)).await;
        outbound
            .persist(|| outbound.keep_for_departed(identity, &sent, &gone))
            .await;
        let mut outcomes = Vec::with_capacity(sent.len());
        for Sent { push, arrived } in &sent {
            outcomes.push(outbound.persist(|| self.outcome(push, identity, arrived)).await);
        }
        outcomes
    }

    /// Delivers one once, and tells what became of it.
    ///
    /// # Errors
    /// If the store or the broker is away. It may have been delivered.
    pub(super) async fn try_deliver(&self, push: &Push, identity: IdentityTag) -> Result<Outcome, OutboundError> {
        let (gone, sent) = self.try_send(&[push], identity).await?;
        self.outbound.keep_for_departed(identity, &sent, &gone).await?;
        match sent.first() {
            Some(Sent { push, arrived }) => self.outcome(push, identity, arrived).await,
            None => Ok(Outcome::NoRecipient),
        }
    }

    /// Sends them to those that they are for. Tells at whose each has arrived, and who had gone before it was looked up whom they
    /// are for.
    async fn try_send<'p>(
        &self,
        pushes: &[&'p Push],
        identity: IdentityTag,
    ) -> Result<(Vec<ConnectionId>, Vec<Sent<'p>>), OutboundError> {
        let gone = match pushes.iter().any(|push| matches!(push.to, Addressee::Identity(_))) {
            true => self.outbound.departed(identity).await?,
            false => Vec::new(),
        };
        let audience = &self.outbound.audience;
        let mut audiences: HashMap<Addressee, Vec<Recipient>> = HashMap::new();
        for push in pushes {
            if let Entry::Vacant(unknown) = audiences.entry(push.to) {
                unknown.insert(match push.to {
                    Addressee::Identity(_) => audience.of(identity).await?,
                    Addressee::Connection(connection) => audience.one(identity, connection).await?,
                });
            }
        }
        let mut sendings = Vec::with_capacity(pushes.len());
        for push in pushes {
            let all = audiences.get(&push.to).map(Vec::as_slice).unwrap_or_default();
            let is_meant = |recipient: &&Recipient| Some(recipient.connection) != push.except;
            // What is not to be held is for those alone who can be written to now.
            let is_meant =
                |recipient: &&Recipient| is_meant(recipient) && (!push.is_live_only() || recipient.is_live());
            let recipients: Vec<_> = all.iter().filter(is_meant).copied().collect();
            sendings.push(self.begin_write(push, identity, &recipients).await);
        }
        let mut sent = Vec::with_capacity(pushes.len());
        for (push, sending) in pushes.iter().zip(sendings) {
            let arrived = self.written(identity, sending).await?;
            sent.push(Sent { push, arrived });
        }
        Ok((gone, sent))
    }

    /// What has become of one that arrived there. What arrived nowhere is held.
    async fn outcome(
        &self,
        push: &Push,
        identity: IdentityTag,
        arrived: &[Recipient],
    ) -> Result<Outcome, OutboundError> {
        let connections = arrived.iter().filter(|recipient| recipient.is_live()).count();
        match push.to {
            _ if connections > 0 => Ok(Outcome::Delivered { connections }),
            // A terminator gives it back as expired, behind what it has given back before: were it held here, it would
            // overtake that. Anyone who has come meanwhile is told then.
            _ if arrived.iter().any(|recipient| recipient.listening) => Ok(Outcome::Held),
            // Someone has it.
            Addressee::Identity(_) if push.except.is_some() || push.is_live_only() => Ok(Outcome::NoRecipient),
            Addressee::Identity(_) => self.hold(push, identity).await,
            Addressee::Connection(_) if arrived.is_empty() => Ok(Outcome::NoRecipient),
            // The broker gives back what is not fetched in time.
            Addressee::Connection(_) => Ok(Outcome::Held),
        }
    }

    /// No one can be written to now. What is held is there before the look for anyone who has come meanwhile.
    async fn hold(&self, push: &Push, identity: IdentityTag) -> Result<Outcome, OutboundError> {
        match self.outbound.put_away(identity.into(), &push.to_hold()).await? {
            Holding::Held { .. } => {
                self.outbound.wake(identity).await?;
                Ok(Outcome::Held)
            }
            // Connections alone are deserted.
            Holding::Overflow | Holding::Deserted => {
                let (write, mailbox) = (push.to_hold(), identity.into());
                self.outbound.store.miss(mailbox, 1).await?;
                self.outbound.note_given_up(&write, mailbox, GaveUp::Overflow).await;
                Ok(overflow())
            }
        }
    }
}

/// Another push had its name before.
fn another() -> Outcome {
    let why = "another push had this message_id before: it would be taken for that one";
    Outcome::Refused {
        error: ErrorBody::new(ErrorCode::Duplicate, why),
    }
}
