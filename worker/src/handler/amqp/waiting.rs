//! Who waits for which answer.
//!
//! There are at most as many as messages are handled at a time, and whoever gives
//! up takes the entry along.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::bus::Message;
use tokio::sync::oneshot;

/// All that wait, by what their answers repeat.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<String, oneshot::Sender<Message>>>);

/// One that waits. Dropped, it waits no more.
pub(super) struct Expected {
    all: Arc<Waiting>,
    correlation_id: String,
    answer: oneshot::Receiver<Message>,
}

impl Waiting {
    /// Waits for the answer with this id from now on.
    pub(super) fn expect(self: &Arc<Self>, correlation_id: String) -> Expected {
        let (sender, answer) = oneshot::channel();
        self.lock().insert(correlation_id.clone(), sender);
        Expected {
            all: self.clone(),
            correlation_id,
            answer,
        }
    }

    /// Hands an answer over. Tells whether somebody waited for it.
    pub(super) fn settle(&self, correlation_id: &str, answer: Message) -> bool {
        let sender = self.lock().remove(correlation_id);
        sender.is_some_and(|sender| sender.send(answer).is_ok())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Message>>> {
        // Nothing under this lock panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expected {
    /// The answer; nothing if there will be none. Cancel-safe; once it has come, there will be no other.
    pub(super) async fn answer(&mut self) -> Option<Message> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.all.lock().remove(&self.correlation_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &'static str) -> Message {
        Message {
            body: text.into(),
            ..Message::default()
        }
    }

    #[tokio::test]
    async fn each_gets_its_own_answer_and_only_the_first() {
        let all = Arc::<Waiting>::default();
        let (mut one, mut other) = (all.expect("1".to_owned()), all.expect("2".to_owned()));
        assert!(all.settle("2", says("b")) && all.settle("1", says("a")));
        assert!(!all.settle("1", says("again")) && !all.settle("3", says("stray")));
        assert_eq!(one.answer().await.unwrap().body, "a");
        assert_eq!(other.answer().await.unwrap().body, "b");
    }

    #[test]
    fn whoever_gives_up_leaves_nothing_behind() {
        let all = Arc::<Waiting>::default();
        drop(all.expect("1".to_owned()));
        assert!(!all.settle("1", says("late")));
        assert!(all.lock().is_empty());
    }
}
