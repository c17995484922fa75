//! This process's end of the raw path: so many requests always on their way.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::bail;
use lapin::message::Delivery;
use tokio::time::timeout;

use super::pipe::{Inlet, Outlet};
use super::{Echo, RawQueues, connect};
use crate::bench::measure::{Latencies, Phase, Phases};

/// More unconfirmed publications make each confirm dearer: lapin's cost of a `multiple` one is linear in them.
const MAX_UNCONFIRMED: usize = 1_000;

/// As many of AMQP's are unconfirmed of one that packs, and as much is in each (`shared::bus::batch`).
const MAX_PACKED_UNCONFIRMED: usize = 8;
const MAX_PACKED: usize = 64;
const MAX_PACKED_BYTES: usize = 64 * 1_024;

/// For the last answers.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(15);

/// Publishes requests and takes answers.
pub(crate) struct Producer {
    outlet: Outlet,
    inlet: Inlet,
    body: Vec<u8>,
    in_flight: usize,
    /// How many requests are in an AMQP message at the most, and how many of those are unconfirmed.
    packed: usize,
    unconfirmed: usize,
    /// Requests without an answer.
    waiting: usize,
    began: Instant,
}

impl Producer {
    /// `in_flight` requests of `size` bytes will be on their way at a time.
    pub(crate) async fn open(
        url: &str,
        queues: &RawQueues,
        echo: Echo,
        in_flight: usize,
        size: usize,
    ) -> anyhow::Result<Self> {
        let (packed, unconfirmed) = match echo {
            Echo::Single => (1, MAX_UNCONFIRMED),
            Echo::Packed => (MAX_PACKED.min(MAX_PACKED_BYTES / size).max(1), MAX_PACKED_UNCONFIRMED),
        };
        let outgoing = connect(url, "countersign raw producer out").await?;
        let incoming = connect(url, "countersign raw producer in").await?;
        Ok(Self {
            outlet: Outlet::open(outgoing, &queues.request.name, Some(&queues.answer.name)).await?,
            inlet: Inlet::open(incoming, &queues.answer.name, prefetch(in_flight)).await?,
            body: vec![b'x'; size],
            in_flight,
            packed,
            unconfirmed,
            waiting: 0,
            began: Instant::now(),
        })
    }

    /// Keeps the requests coming until the phase says drain, and waits for the last answers.
    ///
    /// # Errors
    /// If the broker is lost, or answers do not come.
    pub(crate) async fn load(&mut self, mut phases: Phases, latencies: Rc<Latencies>) -> anyhow::Result<()> {
        while phases.now() != Phase::Drain {
            self.fill();
            tokio::select! {
                stepped = self.step(&latencies) => stepped?,
                _ = phases.changes.changed() => {}
            }
        }
        let drain = async {
            while self.waiting > 0 || self.outlet.unconfirmed() > 0 {
                self.step(&latencies).await?;
            }
            Ok(())
        };
        match timeout(DRAIN_TIMEOUT, drain).await {
            Ok(drained) => drained,
            Err(_) => bail!(
                "{} raw messages were not echoed in {} s",
                self.waiting,
                DRAIN_TIMEOUT.as_secs()
            ),
        }
    }

    fn fill(&mut self) {
        while self.waiting < self.in_flight && self.outlet.unconfirmed() < self.unconfirmed {
            // The time of sending is all that is to be known of a request, and how many there are.
            let count = self.packed.min(self.in_flight - self.waiting);
            let sent_ns = self.began.elapsed().as_nanos();
            self.outlet
                .publish(0, format!("{sent_ns}:{count}").into(), self.body.repeat(count));
            self.waiting += count;
        }
    }

    /// Waits for answers or confirms. Cancelled, it loses at most the acknowledgement of a burst, and the next
    /// burst's covers that.
    async fn step(&mut self, latencies: &Latencies) -> anyhow::Result<()> {
        let (mut deliveries, mut confirmed) = (Vec::new(), Vec::new());
        tokio::select! {
            taken = self.inlet.burst(&mut deliveries) => taken?,
            told = self.outlet.confirmed(&mut confirmed) => told?,
        }
        let Some(last) = deliveries.last().map(|delivery| delivery.delivery_tag) else {
            return Ok(());
        };
        let now = self.began.elapsed();
        for delivery in &deliveries {
            let Some((sent, count)) = sent(delivery) else { continue };
            self.waiting = self.waiting.saturating_sub(count);
            for _ in 0..count {
                latencies.answered(now.saturating_sub(sent));
            }
        }
        self.inlet.ack_up_to(last).await
    }
}

fn sent(answer: &Delivery) -> Option<(Duration, usize)> {
    let (ns, count) = answer.properties.correlation_id().as_ref()?.as_str().split_once(':')?;
    Some((Duration::from_nanos(ns.parse().ok()?), count.parse().ok()?))
}

/// Room for all that is in flight, and half as much again for what is acknowledged late.
pub(crate) fn prefetch(in_flight: usize) -> u16 {
    u16::try_from(in_flight + in_flight / 2).unwrap_or(u16::MAX).max(256)
}
