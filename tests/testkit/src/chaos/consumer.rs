//! What one consumer is given, on its way from the broker, and its acknowledgements on their way back.

use std::collections::VecDeque;
use std::time::Duration;

use shared::bus::topology::Queue;
use shared::bus::{ConsumerBackend, Delivery, Settlement};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Wire, due};

pub(super) struct Relay {
    wire: Wire,
    queue: Queue,
    prefetch: u16,
    /// Where deliveries go; nothing once the consumer was stopped and has all.
    deliveries: Option<mpsc::UnboundedSender<Delivery>>,
    stop: CancellationToken,
    end: CancellationToken,
    stopped: bool,
    /// Nothing while the connection is lost.
    channel: Option<Channel>,
    /// When there is a connection again.
    reopens: Option<Instant>,
    coming: VecDeque<(Instant, Delivery)>,
    settling: VecDeque<(Instant, u64, Settlement)>,
}

/// One generation of the connection.
struct Channel {
    reader: u64,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    settled: mpsc::UnboundedReceiver<(u64, Settlement)>,
}

#[expect(clippy::large_enum_variant, reason = "one at a time, and never stored")]
enum Event {
    Dead,
    Dropped,
    Stopped,
    Lost(Duration),
    Settled(u64, Settlement),
    Delivered(Delivery),
    /// The broker gives no more.
    Drained,
    Due,
}

impl Relay {
    pub(super) fn new(wire: Wire, queue: Queue, prefetch: u16, backend: ConsumerBackend) -> Self {
        let ConsumerBackend {
            deliveries, stop, end, ..
        } = backend;
        let mut relay = Self {
            wire,
            queue,
            prefetch,
            deliveries,
            stop,
            end,
            stopped: false,
            channel: None,
            reopens: None,
            coming: VecDeque::new(),
            settling: VecDeque::new(),
        };
        relay.open();
        relay
    }

    /// Runs until the process dies or the consumer is dropped.
    pub(super) async fn run(mut self) {
        loop {
            match self.next().await {
                Event::Dead => {
                    let arriving = self.wire.rng.between(0, self.settling.len() as u64);
                    self.settling.truncate(usize::try_from(arriving).unwrap_or(0));
                    return self.leave();
                }
                Event::Dropped => return self.leave(),
                Event::Stopped => self.stop(),
                Event::Lost(away) => self.lose(away),
                Event::Settled(tag, settlement) => {
                    let last = self.settling.back().map(|(arrives, ..)| *arrives);
                    let arrives = self.wire.arrival(last);
                    self.settling.push_back((arrives, tag, settlement));
                }
                Event::Delivered(delivery) => {
                    let last = self.coming.back().map(|(arrives, _)| *arrives);
                    let arrives = self.wire.arrival(last);
                    self.coming.push_back((arrives, delivery));
                }
                Event::Drained => {
                    if self.coming.is_empty() {
                        self.deliveries = None;
                    }
                }
                Event::Due => self.act(),
            }
        }
    }

    async fn next(&mut self) -> Event {
        let due = self.due();
        let drained = self.stopped && self.coming.is_empty() && self.deliveries.is_some();
        let (mut none, mut nothing) = (None, None);
        let (deliveries, settled) = match &mut self.channel {
            Some(channel) => (Some(&mut channel.deliveries), Some(&mut channel.settled)),
            None => (none.take(), nothing.take()),
        };
        tokio::select! {
            biased;
            () = self.wire.gone.cancelled() => Event::Dead,
            () = self.end.cancelled() => Event::Dropped,
            () = self.stop.cancelled(), if !self.stopped => Event::Stopped,
            Some(away) = self.wire.lost.recv() => Event::Lost(away),
            Some((tag, settlement)) = recv(settled) => Event::Settled(tag, settlement),
            Some(delivery) = recv(deliveries) => Event::Delivered(delivery),
            () = std::future::ready(()), if drained => Event::Drained,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Due,
        }
    }

    fn due(&self) -> Option<Instant> {
        let comes = self.coming.front().map(|(arrives, _)| *arrives);
        let settles = self.settling.front().map(|(arrives, ..)| *arrives);
        [comes, settles, self.reopens].into_iter().flatten().min()
    }

    /// Whatever is due by now.
    fn act(&mut self) {
        let now = Instant::now();
        while let Some((_, tag, settlement)) = due(&mut self.settling, |(arrives, ..)| *arrives <= now) {
            self.settle(tag, settlement, now);
        }
        while let Some((_, delivery)) = due(&mut self.coming, |(arrives, _)| *arrives <= now) {
            if let Some(deliveries) = &self.deliveries {
                // If the consumer is gone at this moment, `leave` is about to give it back.
                let _ = deliveries.send(delivery);
            }
        }
        if self.reopens.is_some_and(|reopens| reopens <= now) {
            self.reopens = None;
            self.open();
        }
    }

    fn settle(&self, tag: u64, settlement: Settlement, now: Instant) {
        if let Some(channel) = &self.channel {
            let mut broker = self.wire.bus.broker();
            broker.settle(&self.queue.name, channel.reader, tag, settlement, now);
        }
    }

    fn open(&mut self) {
        let (sender, deliveries) = mpsc::unbounded_channel();
        let (settlements, settled) = mpsc::unbounded_channel();
        let reader = self
            .wire
            .bus
            .broker()
            .consume(&self.queue, self.prefetch, Some(sender), settlements);
        self.channel = Some(Channel {
            reader,
            deliveries,
            settled,
        });
    }

    /// Nothing new is wanted.
    fn stop(&mut self) {
        self.stopped = true;
        self.reopens = None;
        if let Some(channel) = &self.channel {
            self.wire.bus.broker().stop(&self.queue.name, channel.reader);
        }
    }

    /// What is not settled is the broker's again, and what the consumer has of it is void.
    fn lose(&mut self, away: Duration) {
        self.settling.clear();
        self.give_back();
        self.reopens = (!self.stopped).then(|| Instant::now() + away);
    }

    /// The last acknowledgements, and good-bye.
    fn leave(mut self) {
        let now = Instant::now();
        for (_, tag, settlement) in std::mem::take(&mut self.settling) {
            self.settle(tag, settlement, now);
        }
        self.give_back();
    }

    fn give_back(&mut self) {
        if let Some(channel) = self.channel.take() {
            let mut broker = self.wire.bus.broker();
            broker.leave(&self.queue, channel.reader, Instant::now());
        }
        self.coming.clear();
    }
}

/// The next of a channel that may not be there.
async fn recv<T>(channel: Option<&mut mpsc::UnboundedReceiver<T>>) -> Option<T> {
    match channel {
        Some(channel) => channel.recv().await,
        None => std::future::pending().await,
    }
}
