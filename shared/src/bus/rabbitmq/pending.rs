//! What is on its way to the broker, and what became of it.
//!
//! Publications stand here in the order of their submission until they are settled, so that a new channel can send again
//! what the last one lost.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation};
use tokio::time::Instant;

use super::convert::{short, to_amqp};
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
    message_id: Arc<str>,
}

impl Sending {
    pub(super) async fn on(self, channel: &Channel) -> Result<lapin::Result<Confirmation>, PublishError> {
        let properties = to_amqp(&self.message.properties, &self.message_id)?;
        let (exchange, key) = (short(&self.route.exchange)?, short(&self.route.key)?);
        let options = BasicPublishOptions {
            mandatory: true,  // What no queue takes must come back, or it is silently gone.
            immediate: false, // RabbitMQ does not know it.
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

/// The publications that are not settled, in the order of their submission.
pub(super) struct Pending {
    /// Distinguishes this channel's `message_id`s from all others'.
    prefix: String,
    first: u64,
    entries: VecDeque<Option<Entry>>,
    unsettled: usize,
}

struct Entry {
    publication: Publication,
    message_id: Arc<str>,
    accepted: Instant,
}

impl Entry {
    fn sending(&self) -> Sending {
        Sending {
            route: self.publication.route.clone(),
            message: self.publication.message.clone(),
            message_id: self.message_id.clone(),
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
        }
    }

    /// How many places are taken; a settled one behind an unsettled one still counts, which bounds the walk at a confirm.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsettled == 0
    }

    pub(super) fn accept(&mut self, publication: Publication) -> (u64, Sending) {
        let id = self.first + self.entries.len() as u64;
        let message_id: Arc<str> = match &publication.message.properties.message_id {
            Some(message_id) => message_id.as_str().into(),
            None => format!("{}.{id:x}", self.prefix).into(),
        };
        let entry = Entry {
            publication,
            message_id,
            accepted: Instant::now(),
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

    /// Settles what the broker has told. Tells whether the channel is still good.
    pub(super) fn settle(&mut self, settled: Vec<Sent>) -> bool {
        let mut good = true;
        let mut outcomes = Vec::with_capacity(settled.len());
        let mut returned = HashSet::new();
        for Sent { id, result } in settled {
            let outcome = match result {
                Err(error) => Err(error),
                Ok(Ok(confirmation)) => {
                    let acked = !confirmation.is_nack();
                    if let Some(message) = confirmation.take_message() {
                        returned.insert(message.properties.message_id().as_ref().map(ToString::to_string));
                    }
                    if acked { Ok(()) } else { Err(PublishError::Refused) }
                }
                Ok(Err(_)) => {
                    good = false;
                    continue;
                }
            };
            outcomes.push((id, outcome));
        }
        for (id, outcome) in outcomes {
            self.settle_one(id, |entry| {
                let unroutable = !returned.is_empty() && returned.contains(&Some(entry.message_id.to_string()));
                if unroutable {
                    Err(PublishError::Unroutable)
                } else {
                    outcome
                }
            });
        }
        good
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
