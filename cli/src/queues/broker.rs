//! What is looked at and changed on the broker, each on a channel of its own: a refusal ends a channel.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ErrorKind};
use shared::bus::rabbitmq::{Access, quorum_arguments};
use shared::bus::topology::{Queue, QueueKind};

use tokio::time::{Instant, sleep};

use super::plan::Presence;

/// How a channel's close is told to the broker (AMQP 0-9-1 §1.2, reply-success).
const REPLY_SUCCESS: u16 = 200;
/// `NOT_FOUND`.
const NOT_FOUND: u16 = 404;
/// `RESOURCE_LOCKED`: another connection has it for itself.
const RESOURCE_LOCKED: u16 = 405;
/// `PRECONDITION_FAILED`: it is there, and declared otherwise.
const PRECONDITION_FAILED: u16 = 406;

/// How long a consumer that has left may still be counted, and between two looks.
const LEAVING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// What a passive declaration says of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    /// Those that are ready.
    pub(super) messages: u32,
    pub(super) consumers: u32,
}

/// A connection.
pub(super) struct Broker(Connection);

impl Broker {
    /// Connects.
    ///
    /// # Errors
    /// If the broker cannot be reached.
    pub(super) async fn connect(access: Access, name: &str) -> anyhow::Result<Self> {
        let connected = access.connect(name).await;
        let connection = connected.map_err(|why| anyhow!("cannot connect to the broker: {why}; check --amqp-url"))?;
        Ok(Self(connection))
    }

    /// Says goodbye. If the broker does not hear it, the connection goes with the process.
    pub(super) async fn close(&self) {
        let _ = self.0.close(REPLY_SUCCESS, "done".into()).await;
    }

    /// A new channel.
    ///
    /// # Errors
    /// If the broker is lost.
    pub(super) async fn channel(&self) -> anyhow::Result<Channel> {
        self.0.create_channel().await.context("the broker was lost")
    }

    /// Closes a channel, and waits until the broker has done what was said on it.
    ///
    /// # Errors
    /// If the broker is lost before.
    pub(super) async fn leave(&self, channel: Channel) -> anyhow::Result<()> {
        let closed = channel.close(REPLY_SUCCESS, "done".into()).await;
        closed.context("the broker was lost before all was said")
    }

    /// Has the lock until this connection ends.
    ///
    /// # Errors
    /// That another has it.
    pub(super) async fn lock(&self, name: &str) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,   // Of this connection, and gone with it, even if we are killed.
            auto_delete: true, // It is never consumed.
            ..QueueDeclareOptions::default()
        };
        match channel
            .queue_declare(short(name)?, options, FieldTable::default())
            .await
        {
            Ok(_) => self.leave(channel).await,
            Err(error) if is(&error, RESOURCE_LOCKED) => bail!("another `countersign queues move` runs: wait for it"),
            Err(error) => Err(error).with_context(|| format!("cannot declare {name}")),
        }
    }

    /// What is in a queue, and how many consume from it; none if it is not there.
    ///
    /// # Errors
    /// If the broker does not say.
    pub(super) async fn counts(&self, name: &str) -> anyhow::Result<Option<Counts>> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions {
            passive: true, // It is looked at only.
            ..QueueDeclareOptions::default()
        };
        let declared = channel.queue_declare(short(name)?, options, FieldTable::default());
        match declared.await {
            Ok(queue) => {
                let counts = Counts {
                    messages: queue.message_count(),
                    consumers: queue.consumer_count(),
                };
                self.leave(channel).await?;
                Ok(Some(counts))
            }
            Err(error) if is(&error, NOT_FOUND) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot look at {name}")),
        }
    }

    /// How many messages are in a queue that none consumes from. The broker counts a consumer for a moment after it has left.
    ///
    /// # Errors
    /// That it has consumers, or is gone.
    pub(super) async fn unused(&self, name: &str) -> anyhow::Result<u32> {
        let deadline = Instant::now() + LEAVING;
        loop {
            match self.counts(name).await? {
                Some(Counts { consumers: 0, messages }) => return Ok(messages),
                Some(_) if Instant::now() < deadline => sleep(PAUSE).await,
                Some(Counts { consumers, .. }) => bail!("{name} has {consumers} consumers: stop all workers first"),
                None => bail!("{name} was deleted by another"),
            }
        }
    }

    /// Whether a queue is there, and as it should be. Declares nothing that is not there.
    ///
    /// # Errors
    /// If the broker does not say.
    pub(super) async fn presence(&self, queue: &Queue) -> anyhow::Result<Presence> {
        if self.counts(&queue.name).await?.is_none() {
            return Ok(Presence::Absent);
        }
        match self.try_declare(queue).await {
            Ok(()) => Ok(Presence::Fits),
            Err(error) => match error.kind() {
                ErrorKind::ProtocolError(protocol) if protocol.get_id() == PRECONDITION_FAILED => {
                    Ok(Presence::Differs(protocol.get_message().to_string()))
                }
                _ => Err(error).with_context(|| format!("cannot declare {}", queue.name)),
            },
        }
    }

    /// Declares a queue, and binds nothing.
    ///
    /// # Errors
    /// If the broker refuses.
    pub(super) async fn declare(&self, queue: &Queue) -> anyhow::Result<()> {
        let declared = self.try_declare(queue).await;
        declared.with_context(|| format!("cannot declare {}", queue.name))
    }

    async fn try_declare(&self, queue: &Queue) -> lapin::Result<()> {
        let channel = self.0.create_channel().await?;
        let options = QueueDeclareOptions {
            durable: true, // A quorum queue must be.
            ..QueueDeclareOptions::default()
        };
        let arguments = match &queue.kind {
            QueueKind::Quorum(limits) => quorum_arguments(limits),
            QueueKind::Exclusive => FieldTable::default(),
        };
        channel
            .queue_declare(queue.name.as_str().into(), options, arguments)
            .await?;
        channel.close(REPLY_SUCCESS, "declared".into()).await
    }

    /// Binds a queue to its exchanges.
    ///
    /// # Errors
    /// If the broker refuses.
    pub(super) async fn bind(&self, queue: &Queue) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        for (exchange, key) in &queue.bindings {
            let bound = channel.queue_bind(
                short(&queue.name)?,
                short(exchange)?,
                short(key)?,
                QueueBindOptions { nowait: false },
                FieldTable::default(),
            );
            bound
                .await
                .with_context(|| format!("cannot bind {} to {exchange}", queue.name))?;
        }
        self.leave(channel).await
    }

    /// Unbinds a queue. What is not bound is no error.
    ///
    /// # Errors
    /// If the broker refuses.
    pub(super) async fn unbind(&self, name: &str, bindings: &[(String, String)]) -> anyhow::Result<()> {
        let channel = self.channel().await?;
        for (exchange, key) in bindings {
            let unbound = channel.queue_unbind(short(name)?, short(exchange)?, short(key)?, FieldTable::default());
            unbound
                .await
                .with_context(|| format!("cannot unbind {name} from {exchange}"))?;
        }
        self.leave(channel).await
    }

    /// Deletes a queue that is empty and unused. Quorum queues take no such condition with the deletion itself, so it is looked for
    /// right before: nothing is bound to it any more.
    ///
    /// # Errors
    /// That it is not.
    pub(super) async fn delete_empty(&self, name: &str) -> anyhow::Result<()> {
        let waiting = self.unused(name).await?;
        if waiting > 0 {
            bail!("{name} has {waiting} messages again: stop what publishes to it by its name, and run this again");
        }
        let channel = self.channel().await?;
        let deleted = channel.queue_delete(short(name)?, QueueDeleteOptions::default()).await;
        deleted.with_context(|| format!("cannot delete {name}"))?;
        self.leave(channel).await
    }
}

/// A name as AMQP has it.
///
/// # Errors
/// That it is too long.
pub(super) fn short(name: &str) -> anyhow::Result<ShortString> {
    ShortString::try_new(name).with_context(|| format!("{name} is too long a name"))
}

fn is(error: &lapin::Error, code: u16) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(protocol) if protocol.get_id() == code)
}
