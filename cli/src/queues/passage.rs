//! Messages on their way from one queue to another: each is acknowledged when the broker has confirmed it in the other one.
//!
//! A message leaves through the exchange and with the key that it came with, because
//! workers believe a message by the exchange that it came through; the bindings say
//! where that leads meanwhile. What came by a queue's name goes to the other's name.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Consumer};
use tokio::time::timeout;

use super::broker::{Broker, short};

/// How many messages are under way at a time: as many may come twice if this is killed.
const WINDOW: u16 = 64;

/// The time for the next message of those that were counted, and for a confirm: quorum queues of a cluster take seconds to change
/// their leader.
const TIMEOUT: Duration = Duration::from_secs(30);

/// By how many messages a queue may grow while it is emptied.
const MOST_NEW: u64 = 100_000;

/// What the broker, or a publisher, says to the broker alone: it was obeyed when the message was first published.
const OBEYED: [&str; 3] = ["CC", "BCC", "x-delivery-count"];

/// Moves all that is in `from`, and what comes meanwhile. Tells how many that were.
///
/// # Errors
/// What keeps it from that. What was not confirmed is in `from`.
pub(super) async fn move_all(broker: &Broker, from: &str, to: &str) -> anyhow::Result<u64> {
    let (mut moved, mut first) = (0, None);
    loop {
        let waiting = broker.counts(from).await?.map_or(0, |counts| counts.messages);
        if waiting == 0 {
            return Ok(moved);
        }
        if moved > u64::from(*first.get_or_insert(waiting)) + MOST_NEW {
            bail!("messages come to {from} as fast as they leave it: stop what publishes to it, and run this again");
        }
        let of_these = move_some(broker, from, to, waiting).await?;
        if of_these == 0 {
            bail!("{from} has {waiting} messages and gives none of them: has another consumer come?");
        }
        moved += of_these;
    }
}

/// Moves so many messages, if there are so many, window by window. Each window is acknowledged at once: RabbitMQ 3.10 keeps back what
/// is acknowledged when much of it is on its way, and forgets it if the channel is closed then, so that messages would come twice.
async fn move_some(broker: &Broker, from: &str, to: &str, count: u32) -> anyhow::Result<u64> {
    let channel = broker.channel().await?;
    channel.confirm_select(ConfirmSelectOptions { nowait: false }).await?;
    channel.basic_qos(WINDOW, BasicQosOptions { global: false }).await?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(short(from)?, "".into(), options, FieldTable::default());
    let mut consumer = consumer.await.with_context(|| format!("cannot read {from}"))?;
    let mut moved = 0;
    loop {
        if moved >= u64::from(count) {
            // What the broker has sent before it reads this comes, and is moved too.
            let tag = consumer.tag();
            channel.basic_cancel(tag, BasicCancelOptions { nowait: false }).await?;
        }
        let deliveries = next_window(&mut consumer)
            .await
            .with_context(|| format!("cannot read {from}"))?;
        let Some(last) = deliveries.last().map(|delivery| delivery.delivery_tag) else {
            // All that were counted, or those that had not expired.
            break;
        };
        let mut confirms = Vec::with_capacity(deliveries.len());
        for delivery in &deliveries {
            confirms.push(publish(&channel, delivery, from, to).await?);
        }
        for confirm in confirms {
            let confirmed = timeout(TIMEOUT, confirm).await;
            let confirmed = confirmed.map_err(|_| anyhow!("the broker did not confirm a message for {to} in time"))?;
            took(confirmed.with_context(|| format!("cannot publish to {to}"))?, to)?;
        }
        let options = BasicAckOptions { multiple: true };
        channel.basic_ack(last, options).await.context("the broker was lost")?;
        moved += deliveries.len() as u64;
    }
    broker.leave(channel).await?;
    Ok(moved)
}

/// The next messages, as far as they are there; none after the last.
async fn next_window(consumer: &mut Consumer) -> lapin::Result<Vec<Delivery>> {
    let mut window = Vec::new();
    let mut next = timeout(TIMEOUT, consumer.next()).await.unwrap_or(None);
    while let Some(delivery) = next {
        window.push(delivery?);
        if window.len() >= usize::from(WINDOW) {
            break;
        }
        next = consumer.next().now_or_never().flatten();
    }
    Ok(window)
}

/// Publishes what was delivered. Returns what its confirm will be.
async fn publish(
    channel: &Channel,
    delivery: &Delivery,
    from: &str,
    to: &str,
) -> anyhow::Result<impl Future<Output = lapin::Result<Confirmation>> + use<>> {
    let exchange = delivery.exchange.clone();
    let by_name = exchange.as_str().is_empty() && delivery.routing_key.as_str() == from;
    let key = if by_name {
        short(to)?
    } else {
        delivery.routing_key.clone()
    };
    let options = BasicPublishOptions {
        mandatory: true, // What leads nowhere is confirmed too, and would be lost.
        ..BasicPublishOptions::default()
    };
    let properties = carried(&delivery.properties);
    let published = channel.basic_publish(exchange, key, options, &delivery.data, properties);
    published.await.with_context(|| format!("cannot publish to {to}"))
}

/// Whether the other queue has it.
///
/// # Errors
/// Why not.
fn took(confirmed: Confirmation, to: &str) -> anyhow::Result<()> {
    match confirmed {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            let (exchange, key) = (&returned.exchange, &returned.routing_key);
            bail!("a message of the exchange '{exchange}' with the key '{key}' leads to no queue: bind {to} to it")
        }
        Confirmation::Nack(None) | Confirmation::NotRequested => {
            bail!("{to} takes no more messages: start workers, so that they take some, and run this again")
        }
    }
}

/// All properties but the user's name, which the broker takes from that user alone, and headers that were obeyed.
fn carried(properties: &BasicProperties) -> BasicProperties {
    let mut new = BasicProperties::default();
    macro_rules! carry {
        ($($name:ident $with:ident),* $(,)?) => {
            $(if let Some(value) = properties.$name().clone() { new = new.$with(value); })*
        };
    }
    carry!(
        content_type with_content_type,
        content_encoding with_content_encoding,
        delivery_mode with_delivery_mode,
        priority with_priority,
        correlation_id with_correlation_id,
        reply_to with_reply_to,
        expiration with_expiration,
        message_id with_message_id,
        timestamp with_timestamp,
        kind with_type,
        app_id with_app_id,
    );
    let Some(headers) = properties.headers() else {
        return new;
    };
    let mut kept = FieldTable::default();
    for (name, value) in headers.inner() {
        if !OBEYED.contains(&name.as_str()) {
            kept.insert(name.clone(), value.clone());
        }
    }
    new.with_headers(kept)
}

#[cfg(test)]
mod tests {
    use lapin::types::AMQPValue;

    use super::*;

    #[test]
    fn a_message_keeps_its_properties_but_for_those_that_the_broker_obeys() {
        let table = |names: &[&str]| {
            let mut table = FieldTable::default();
            for name in names {
                table.insert((*name).into(), AMQPValue::LongInt(7));
            }
            table
        };
        let all = BasicProperties::default()
            .with_content_type("a".into())
            .with_content_encoding("b".into())
            .with_delivery_mode(2)
            .with_priority(3)
            .with_correlation_id("c".into())
            .with_reply_to("d".into())
            .with_expiration("4".into())
            .with_message_id("e".into())
            .with_timestamp(5)
            .with_type("f".into())
            .with_app_id("g".into());
        let published = all.clone().with_user_id("mallory".into()).with_headers(table(&[
            "CC",
            "BCC",
            "x-delivery-count",
            "x-death",
            "cc",
            "grant",
        ]));
        assert_eq!(
            carried(&published),
            all.with_headers(table(&["x-death", "cc", "grant"]))
        );
        assert_eq!(carried(&BasicProperties::default()), BasicProperties::default());
    }
}
