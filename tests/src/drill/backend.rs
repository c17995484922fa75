//! A backend that pushes, through whatever befalls the broker: it goes from one node to the next when nothing is
//! confirmed.

use std::{collections::BTreeMap, time::Duration};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{end_of, subject};
use crate::{
    history::{Event, History},
    wait::Span,
};

/// How long a login and a confirm may take before another node is tried.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Backend {
    pub(super) urls: Vec<String>,
    pub(super) exchange: String,
    /// To how many clients it pushes, one after the other.
    pub(super) clients: usize,
    /// Between two pushes.
    pub(super) period: Duration,
    pub(super) history: History,
    pub(super) ending: watch::Receiver<Option<Instant>>,
}

/// Where it is logged in.
struct Desk {
    channel: Channel,
    reply_to: String,
    outcomes: Consumer,
    _connection: Connection,
}

impl Backend {
    pub(super) async fn run(self) {
        let (mut number, mut untold) = (0, BTreeMap::new());
        for url in self.urls.iter().cycle() {
            if let Ok(Ok(desk)) = timeout(PATIENCE, login(&format!("{url}?heartbeat=5"))).await
                && self.work(desk, &mut number, &mut untold).await
            {
                return;
            }
            // Its reply queue went with its connection.
            let ids = std::mem::take(&mut untold).into_keys().collect();
            self.history.note(Event::Deaf { ids });
            if end_of(&self.ending).is_some() {
                return;
            }
            sleep(300.ms()).await;
        }
    }

    /// Works until the connection is no good any more. Tells whether all is over.
    async fn work(&self, mut desk: Desk, number: &mut usize, untold: &mut BTreeMap<String, ()>) -> bool {
        let mut tick = interval(self.period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let end = end_of(&self.ending);
            if end.is_some_and(|end| untold.is_empty() || Instant::now() >= end) {
                return true;
            }
            tokio::select! {
                outcome = desk.outcomes.next() => match outcome {
                    Some(Ok(outcome)) => self.told(&outcome.properties, &outcome.data, untold),
                    _ => return false,
                },
                _ = tick.tick() => {
                    if end.is_none() && !self.push(&desk, number, untold).await {
                        return false;
                    }
                }
            }
        }
    }

    fn told(&self, properties: &BasicProperties, body: &[u8], untold: &mut BTreeMap<String, ()>) {
        let id = properties
            .correlation_id()
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        untold.remove(&id);
        let outcome = serde_json::from_slice(body).unwrap_or(Value::Null);
        self.history.note(Event::Told { id, outcome });
    }

    /// Tells whether the broker confirmed it. What it did not confirm may arrive all the same.
    async fn push(&self, desk: &Desk, number: &mut usize, untold: &mut BTreeMap<String, ()>) -> bool {
        let (id, subject) = (format!("p{number}"), subject(*number % self.clients));
        *number += 1;
        let mut headers = FieldTable::default();
        headers.insert("subject".into(), AMQPValue::LongString(subject.as_str().into()));
        let properties = BasicProperties::default()
            .with_message_id(id.as_str().into())
            .with_correlation_id(id.as_str().into())
            .with_reply_to(desk.reply_to.as_str().into())
            .with_delivery_mode(2)
            .with_headers(headers);
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let body = json!({"for": subject}).to_string();
        let publish = async {
            let confirm = desk.channel.basic_publish(
                self.exchange.as_str().into(),
                "push".into(),
                options,
                body.as_bytes(),
                properties,
            );
            confirm.await?.await
        };
        match timeout(PATIENCE, publish).await {
            Ok(Ok(confirmation)) => {
                let acked = confirmation.is_ack();
                // If it was refused, or nothing takes it, anyone who pushes knows.
                if acked && confirmation.take_message().is_none() {
                    untold.insert(id.clone(), ());
                    self.history.note(Event::Pushed { id, subject });
                }
                true
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

async fn login(url: &str) -> lapin::Result<Desk> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), exclusive, FieldTable::default())
        .await?;
    let reply_to = queue.name().to_string();
    let consume = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let outcomes = channel
        .basic_consume(queue.name().clone(), "".into(), consume, FieldTable::default())
        .await?;
    Ok(Desk {
        channel,
        reply_to,
        outcomes,
        _connection: connection,
    })
}
