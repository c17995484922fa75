//! A channel that publishes, and one that consumes: as well-tuned as lapin allows.
//!
//! Publications are pipelined, their confirms awaited together; deliveries are
//! taken in bursts; acknowledgements go in batches, each with `multiple`. The
//! two are on connections of their own, as the bus has them.

use std::collections::VecDeque;
use std::pin::Pin;

use anyhow::{Context as _, bail};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};

/// A burst: as many deliveries as are taken before anything else is done.
const BURST: usize = 256;

/// Written to disk before it is confirmed (AMQP 0-9-1 §1.8.3.1).
const PERSISTENT: u8 = 2;

/// Resolves when the broker has confirmed the publication with this tag.
type Confirm = Pin<Box<dyn Future<Output = (u64, lapin::Result<Confirmation>)>>>;

/// Publishes to one queue, with confirms.
pub(super) struct Outlet {
    channel: Channel,
    queue: ShortString,
    properties: BasicProperties,
    confirms: FuturesUnordered<Confirm>,
    /// Closed when it is dropped.
    _connection: Connection,
}

/// Consumes one queue, and acknowledges.
pub(super) struct Inlet {
    channel: Channel,
    stream: Consumer,
    /// Closed when it is dropped.
    _connection: Connection,
}

impl Outlet {
    /// To `queue`, asking for answers in `reply_to`.
    pub(super) async fn open(connection: Connection, queue: &str, reply_to: Option<&str>) -> anyhow::Result<Self> {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions { nowait: false }).await?;
        let mut properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into());
        if let Some(reply_to) = reply_to {
            properties = properties.with_reply_to(ShortString::try_new(reply_to)?);
        }
        Ok(Self {
            channel,
            queue: ShortString::try_new(queue)?,
            properties,
            confirms: FuturesUnordered::new(),
            _connection: connection,
        })
    }

    /// Publishes without waiting. `tag` comes back with the confirm.
    pub(super) fn publish(&mut self, tag: u64, correlation: ShortString, body: Vec<u8>) {
        let (channel, queue) = (self.channel.clone(), self.queue.clone());
        let properties = self.properties.clone().with_correlation_id(correlation);
        let options = BasicPublishOptions {
            mandatory: true,  // As the bus does: what no queue takes must come back.
            immediate: false, // RabbitMQ does not know it.
        };
        let publishing = async move {
            let exchange = ShortString::default();
            match channel.basic_publish(exchange, queue, options, &body, properties).await {
                Ok(confirm) => (tag, confirm.await),
                Err(error) => (tag, Err(error)),
            }
        };
        let mut confirm: Confirm = Box::pin(publishing);
        // The first poll hands the frames to lapin, so that they leave at once and in this order.
        match (&mut confirm).now_or_never() {
            Some(early) => self.confirms.push(Box::pin(std::future::ready(early))),
            None => self.confirms.push(confirm),
        }
    }

    /// How many publications are not confirmed.
    pub(super) fn unconfirmed(&self) -> usize {
        self.confirms.len()
    }

    /// Waits for confirms, and puts their tags into `tags`; for ever if nothing is unconfirmed.
    pub(super) async fn confirmed(&mut self, tags: &mut Vec<u64>) -> anyhow::Result<()> {
        if self.confirms.is_empty() {
            return std::future::pending().await;
        }
        let mut next = self.confirms.next().await;
        while let Some((tag, result)) = next {
            match result.context("the broker was lost")? {
                Confirmation::Ack(None) => tags.push(tag),
                Confirmation::Ack(Some(_)) => bail!("a message was returned: its queue is gone"),
                _ => bail!("the broker refused a message"),
            }
            next = self.confirms.next().now_or_never().flatten();
        }
        Ok(())
    }
}

impl Inlet {
    /// From `queue`, at most `prefetch` unacknowledged.
    pub(super) async fn open(connection: Connection, queue: &str, prefetch: u16) -> anyhow::Result<Self> {
        let channel = connection.create_channel().await?;
        // Per consumer: a quorum queue knows no other way.
        channel.basic_qos(prefetch, BasicQosOptions { global: false }).await?;
        let options = BasicConsumeOptions {
            no_local: false,  // RabbitMQ does not know it.
            no_ack: false,    // As the bus does.
            exclusive: false, // As the bus does.
            nowait: false,    // A refusal must be heard.
        };
        let name = ShortString::try_new(queue)?;
        let stream = channel
            .basic_consume(name, "raw".into(), options, FieldTable::default())
            .await?;
        Ok(Self {
            channel,
            stream,
            _connection: connection,
        })
    }

    /// Waits for deliveries, and takes as many as are there. Cancel-safe: while it waits it has taken none.
    pub(super) async fn burst(&mut self, deliveries: &mut Vec<Delivery>) -> anyhow::Result<()> {
        let mut next = self.stream.next().await;
        while let Some(delivery) = next {
            deliveries.push(delivery.context("the broker was lost")?);
            if deliveries.len() >= BURST {
                return Ok(());
            }
            match self.stream.next().now_or_never() {
                Some(more) => next = more,
                None => return Ok(()),
            }
        }
        bail!("the broker has ended the consumer: is its queue gone?")
    }

    /// Acknowledges `tag` and all before it.
    pub(super) async fn ack_up_to(&self, tag: u64) -> anyhow::Result<()> {
        self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        Ok(())
    }
}

/// Delivery tags 1, 2, 3, … that are done in any order, and acknowledged in theirs.
#[derive(Debug, Default)]
pub(super) struct Contiguous {
    /// How many are done without a gap.
    done: u64,
    beyond: VecDeque<bool>,
}

impl Contiguous {
    /// A tag is done.
    pub(super) fn finish(&mut self, tag: u64) {
        let Some(index) = tag
            .checked_sub(self.done + 1)
            .and_then(|index| usize::try_from(index).ok())
        else {
            return;
        };
        if self.beyond.len() <= index {
            self.beyond.resize(index + 1, false);
        }
        if let Some(slot) = self.beyond.get_mut(index) {
            *slot = true;
        }
    }

    /// Up to where everything is done, if that is further than before.
    pub(super) fn advance(&mut self) -> Option<u64> {
        let before = self.done;
        while self.beyond.front() == Some(&true) {
            self.beyond.pop_front();
            self.done += 1;
        }
        (self.done > before).then_some(self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_beyond_a_gap_waits_for_it() {
        let mut tags = Contiguous::default();
        tags.finish(2);
        assert_eq!(tags.advance(), None);
        tags.finish(1);
        assert_eq!(tags.advance(), Some(2));
        tags.finish(1);
        tags.finish(4);
        assert_eq!(tags.advance(), None);
        tags.finish(3);
        assert_eq!(tags.advance(), Some(4));
    }
}
