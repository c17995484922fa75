//! What is on its way to the broker, and what became of it.
//!
//! Publications stand here in the order of their submission until they are settled, so that a new channel can send again
//! what the last one lost.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::{Channel, Confirmation};
use tokio::time::Instant;
use tracing::warn;

use super::connection::is_outage;
use super::convert::{publication_of, short, to_amqp};
use super::refusals::Refusals;
use crate::bus::batch::Packer;
use crate::bus::suspicion::{Blame, Loss};
use crate::bus::{Message, Publication, PublishError, Route};

/// What became of one publication on one channel.
pub(super) struct Sent {
    pub(super) id: u64,
    pub(super) result: Result<lapin::Result<Confirmation>, PublishError>,
}

/// What is needed to publish one message, without the duty to tell.
pub(super) struct Sending {
    route: Route,
    message: Message,
    /// Its own, whatever the message is called.
    name: Arc<str>,
}

impl Sending {
    /// What the broker has said it will not take costs no other publication its channel.
    pub(super) fn fits(&self, max_body: usize) -> Result<(), PublishError> {
        match self.message.body.len() <= max_body {
            true => Ok(()),
            false => Err(PublishError::Malformed),
        }
    }

    pub(super) async fn on(self, channel: &Channel, room: usize) -> Result<lapin::Result<Confirmation>, PublishError> {
        let properties = to_amqp(&self.message.properties, &self.name, room)?;
        let (exchange, key) = (short(&self.route.exchange)?, short(&self.route.key)?);
        let options = BasicPublishOptions {
            mandatory: !self.route.optional, // What no queue takes must come back, or it is silently gone.
            immediate: false,                // RabbitMQ does not know it.
        };
        let confirm = async {
            channel
                .basic_publish(exchange, key, options, &self.message.body, properties)
                .await?
                .await
        };
        Ok(confirm.await)
    }
}

impl Loss {
    /// What an error means. That there is no such exchange, or that it may not be written to, says nothing of a message:
    /// with a fresh connection what is missing is declared.
    fn by(error: &lapin::Error) -> Self {
        if is_outage(error) {
            return Self::Outage;
        }
        match error.kind() {
            lapin::ErrorKind::ProtocolError(error) => match error.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND | AMQPSoftError::ACCESSREFUSED) => Self::Connection,
                AMQPErrorKind::Soft(_) => Self::Channel,
                AMQPErrorKind::Hard(_) => Self::Protocol,
            },
            _ => Self::Connection,
        }
    }
}

/// How many bytes a body may have, if that is why the broker has closed a channel. RabbitMQ names its `max_message_size` last.
fn told_max_body(error: &lapin::Error) -> Option<usize> {
    let lapin::ErrorKind::ProtocolError(error) = error.kind() else {
        return None;
    };
    if !matches!(error.kind(), AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)) {
        return None;
    }
    let (_, limit) = error
        .get_message()
        .as_str()
        .split_once("message size ")?
        .1
        .rsplit_once(" max size ")?;
    limit.trim().parse().ok()
}

/// The publications that are not settled, in the order of their submission.
pub(super) struct Pending {
    /// Distinguishes this channel's names from all others'.
    prefix: String,
    first: u64,
    entries: VecDeque<Option<Entry>>,
    unsettled: usize,
    /// Something for one of our exchanges found no queue.
    missed: bool,
}

struct Entry {
    publication: Publication,
    name: Arc<str>,
    accepted: Instant,
    /// How often its channel was lost while nothing else was under way.
    blamed: u32,
}

impl Entry {
    fn sending(&self) -> Sending {
        Sending {
            route: self.publication.route.clone(),
            message: self.publication.message.clone(),
            name: self.name.clone(),
        }
    }
}

impl Pending {
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            first: 0,
            entries: VecDeque::new(),
            unsettled: 0,
            missed: false,
        }
    }

    /// Whether something for one of our exchanges has found no queue since this was asked.
    pub(super) fn has_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// How many places are taken; a settled one behind an unsettled one still counts, which bounds the walk at a confirm.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many are not settled.
    pub(super) fn unsettled(&self) -> usize {
        self.unsettled
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsettled == 0
    }

    pub(super) fn accept(&mut self, publication: Publication) -> (u64, Sending) {
        let id = self.first + self.entries.len() as u64;
        let entry = Entry {
            publication,
            name: format!("{}.{id:x}", self.prefix).into(),
            accepted: Instant::now(),
            blamed: 0,
        };
        let sending = entry.sending();
        self.entries.push_back(Some(entry));
        self.unsettled += 1;
        (id, sending)
    }

    pub(super) fn all(&self) -> Vec<(u64, Sending)> {
        (self.first..)
            .zip(&self.entries)
            .filter_map(|(id, entry)| Some((id, entry.as_ref()?.sending())))
            .collect()
    }

    /// Has each message stand by itself, in the same order and under new numbers: one of a batch may be what costs the channel.
    pub(super) fn take_apart(&mut self, packer: &Packer) {
        self.first += self.entries.len() as u64;
        self.unsettled = 0;
        for entry in std::mem::take(&mut self.entries).into_iter().flatten() {
            if entry.publication.message.is_batch() {
                for publication in packer.take_apart(entry.publication) {
                    self.accept(publication);
                }
            } else {
                self.entries.push_back(Some(entry));
                self.unsettled += 1;
            }
        }
    }

    /// The first that is not settled, of those from `id` on.
    pub(super) fn next_from(&self, id: u64) -> Option<(u64, Sending)> {
        let skipped = usize::try_from(id.saturating_sub(self.first)).ok()?;
        let mut rest = (self.first..).zip(&self.entries).skip(skipped);
        rest.find_map(|(id, entry)| Some((id, entry.as_ref()?.sending())))
    }

    /// The channel was lost while that one alone was under way. It is given up when that has happened `most` times.
    pub(super) fn blame(&mut self, Blame { id, most }: Blame) {
        let index = id.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(Some(entry)) = index.and_then(|index| self.entries.get_mut(index)) else {
            return;
        };
        entry.blamed += 1;
        if entry.blamed >= most {
            warn!(exchange = %entry.publication.route.exchange, "a message closes its channel each time it is published, and is given up");
            self.settle_one(id, |_| Err(PublishError::Malformed));
        }
    }

    /// Settles what the broker has told.
    ///
    /// # Errors
    /// If the channel is no good any more.
    pub(super) fn settle(
        &mut self,
        settled: Vec<Sent>,
        refusals: &mut Refusals,
        max_body: &AtomicUsize,
    ) -> Result<(), Loss> {
        let mut good = Ok(());
        let mut outcomes = Vec::with_capacity(settled.len());
        let mut returned = HashSet::new();
        for Sent { id, result } in settled {
            let outcome = match result {
                Err(error) => Err(error),
                Ok(Ok(confirmation)) => {
                    let acked = !confirmation.is_nack();
                    if let Some(message) = confirmation.take_message() {
                        returned.insert(publication_of(&message.properties));
                    }
                    if acked { Ok(()) } else { Err(PublishError::Refused) }
                }
                Ok(Err(error)) => {
                    if let Some(most) = told_max_body(&error) {
                        max_body.fetch_min(most, Ordering::Relaxed);
                    }
                    good = Err(Loss::by(&error));
                    continue;
                }
            };
            if let Some(route) = self.route(id) {
                match outcome {
                    Ok(()) => refusals.took(route),
                    Err(PublishError::Refused) if !route.foreign && !refusals.believes(route) => {
                        good = good.and(Err(Loss::Refusal));
                        continue;
                    }
                    Err(_) => {}
                }
            }
            outcomes.push((id, outcome));
        }
        let mut missed = false;
        for (id, outcome) in outcomes {
            self.settle_one(id, |entry| {
                let unroutable = !returned.is_empty() && returned.contains(&Some(entry.name.to_string()));
                if unroutable {
                    // A queue that is called by its name may well be gone.
                    missed |= !entry.publication.route.exchange.is_empty();
                    Err(PublishError::Unroutable)
                } else {
                    outcome
                }
            });
        }
        self.missed |= missed;
        good
    }

    fn route(&self, id: u64) -> Option<&Route> {
        let index = usize::try_from(id.checked_sub(self.first)?).ok()?;
        Some(&self.entries.get(index)?.as_ref()?.publication.route)
    }

    fn settle_one(&mut self, id: u64, outcome: impl FnOnce(&Entry) -> Result<(), PublishError>) {
        let index = id.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        if let Some(entry) = index
            .and_then(|index| self.entries.get_mut(index))
            .and_then(Option::take)
        {
            self.unsettled -= 1;
            let outcome = outcome(&entry);
            entry.publication.settle(outcome);
        }
        while let Some(None) = self.entries.front() {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    pub(super) fn settle_older_than(&mut self, limit: Duration) {
        let late = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.accepted.elapsed() >= limit);
        // They stand in the order of their acceptance.
        while self.entries.front().is_some_and(late) {
            self.settle_one(self.first, |_| Err(PublishError::Away));
        }
    }

    pub(super) fn settle_all(&mut self, error: PublishError) {
        while let Some(Some(_)) = self.entries.front() {
            self.settle_one(self.first, |_| Err(error));
        }
    }
}
