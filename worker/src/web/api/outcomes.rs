//! What workers tell of pushes and revocations, for who waits for it.
//!
//! It comes into a queue of this worker's own, as it comes to any tool. What comes when no one waits any more (what was held
//! is delivered at last) is dropped; and so is what becomes of a push for many for one of them alone, which may come
//! before what becomes of it for all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use shared::bus::Consumer;
use shared::bus::topology::MOST_PUSH_SHARDS;
use shared::service::chance;
use tokio::sync::mpsc;

/// How much may be told of one: of a push for many, as much as there are queues of pushes.
const MOST_TOLD: usize = MOST_PUSH_SHARDS as usize;

/// Those who wait, by the correlation id of what they wait for.
#[derive(Default)]
pub(super) struct Outcomes(Mutex<HashMap<String, mpsc::Sender<Bytes>>>);

/// Something that is waited for, until this is dropped.
pub(super) struct Awaited {
    outcomes: Arc<Outcomes>,
    pub(super) correlation_id: String,
    told: mpsc::Receiver<Bytes>,
}

/// What is told of a push for many, for one of them.
#[derive(Deserialize)]
struct OfOne {
    subject: Option<IgnoredAny>,
}

impl Outcomes {
    /// Waits for one more from now on.
    pub(super) fn expect(self: &Arc<Self>) -> Awaited {
        let (tell, told) = mpsc::channel(MOST_TOLD);
        // It cannot be guessed, so who may name queues for answers can tell nothing to those who wait.
        let correlation_id = format!("{:032x}", chance::bits());
        self.waiting().insert(correlation_id.clone(), tell);
        Awaited {
            outcomes: self.clone(),
            correlation_id,
            told,
        }
    }

    /// Tells what comes, until the bus ends.
    pub(super) async fn listen(self: Arc<Self>, mut consumer: Consumer) {
        while let Some(mut delivery) = consumer.recv().await {
            let message = delivery.take_message();
            delivery.ack();
            if let Some(id) = &message.properties.correlation_id {
                self.tell(id, message.body);
            }
        }
    }

    fn tell(&self, correlation_id: &str, body: Bytes) {
        if let Some(waiting) = self.waiting().get(correlation_id) {
            let is_of_one = serde_json::from_slice::<OfOne>(&body).is_ok_and(|one| one.subject.is_some());
            if !is_of_one {
                // Who has just left does not want to know.
                let _ = waiting.try_send(body);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    /// What is told next.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.told.recv().await
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.outcomes.waiting().remove(&self.correlation_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_is_told_and_who_does_not_is_forgotten() {
        let outcomes = Arc::<Outcomes>::default();
        let (mut one, other) = (outcomes.expect(), outcomes.expect());
        assert_ne!(one.correlation_id, other.correlation_id);
        outcomes.tell("another", Bytes::from_static(b"{}"));
        outcomes.tell(
            &one.correlation_id,
            Bytes::from_static(br#"{"outcome":"delivered","subject":"a"}"#),
        );
        outcomes.tell(&one.correlation_id, Bytes::from_static(br#"{"outcome":"of_each"}"#));
        assert_eq!(one.next().await.as_deref(), Some(&br#"{"outcome":"of_each"}"#[..]));
        drop((one, other));
        assert!(outcomes.waiting().is_empty());
    }
}
