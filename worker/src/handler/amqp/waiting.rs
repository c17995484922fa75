//! Who waits for which answer.
//!
//! There are at most as many as messages are handled at a time, and whoever gives
//! up takes the entry along.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::bus::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// For how long it is remembered that somebody gave up, and what came for them: a client that is told to try again does so
/// within seconds.
const LATE_KEPT: Duration = Duration::from_secs(60);

/// Of so many it is remembered at most, and of such answers.
const MOST_GIVEN_UP: usize = 256;
const LONGEST_LATE_BYTES: usize = 64 * 1_024;

/// All that wait, by what their answers repeat.
#[derive(Default)]
pub(super) struct Waiting(Mutex<All>);

#[derive(Default)]
struct All {
    waiting: HashMap<String, oneshot::Sender<Message>>,
    /// Those who gave up, oldest first, and what came for them.
    given_up: VecDeque<(String, Instant, Option<Message>)>,
}

impl All {
    fn forget_old(&mut self, now: Instant) {
        let is_old = |since: &Instant| now.saturating_duration_since(*since) >= LATE_KEPT;
        while self.given_up.front().is_some_and(|(_, since, _)| is_old(since)) || self.given_up.len() > MOST_GIVEN_UP {
            self.given_up.pop_front();
        }
    }
}

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
        self.lock().waiting.insert(correlation_id.clone(), sender);
        Expected {
            all: self.clone(),
            correlation_id,
            answer,
        }
    }

    /// Hands an answer over. Tells whether somebody waited for it.
    pub(super) fn settle(&self, correlation_id: &str, answer: Message) -> bool {
        let mut all = self.lock();
        if let Some(sender) = all.waiting.remove(correlation_id) {
            return sender.send(answer).is_ok();
        }
        let given_up = all.given_up.iter_mut().find(|(id, ..)| id == correlation_id);
        if let Some((_, _, late)) = given_up.filter(|_| answer.body.len() <= LONGEST_LATE_BYTES) {
            late.get_or_insert(answer);
        }
        false
    }

    /// What came for somebody who had given up, once.
    pub(super) fn late(&self, correlation_id: &str) -> Option<Message> {
        let mut all = self.lock();
        all.forget_old(Instant::now());
        let found = |(id, _, late): &(String, Instant, Option<Message>)| id == correlation_id && late.is_some();
        let place = all.given_up.iter().position(found)?;
        all.given_up.remove(place)?.2
    }

    fn lock(&self) -> MutexGuard<'_, All> {
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
        let mut all = self.all.lock();
        if all.waiting.remove(&self.correlation_id).is_some() {
            let now = Instant::now();
            let correlation_id = std::mem::take(&mut self.correlation_id);
            all.given_up.push_back((correlation_id, now, None));
            all.forget_old(now);
        }
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
        assert!(all.lock().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_there_for_whoever_asks_the_same_again_once_and_for_a_while() {
        let all = Arc::<Waiting>::default();
        drop(all.expect("1".to_owned()));
        assert!(!all.settle("1", says("late")) && !all.settle("2", says("stray")));
        assert!(all.late("2").is_none());
        assert_eq!(all.late("1").unwrap().body, "late");
        assert!(all.late("1").is_none());
        drop(all.expect("3".to_owned()));
        all.settle("3", says("later"));
        tokio::time::advance(LATE_KEPT).await;
        assert!(all.late("3").is_none());
        for number in 0..=MOST_GIVEN_UP {
            drop(all.expect(number.to_string()));
        }
        assert_eq!(all.lock().given_up.len(), MOST_GIVEN_UP);
    }

    #[tokio::test]
    async fn who_was_answered_has_not_given_up() {
        let all = Arc::<Waiting>::default();
        let mut one = all.expect("1".to_owned());
        assert!(all.settle("1", says("a")));
        assert_eq!(one.answer().await.unwrap().body, "a");
        drop(one);
        all.settle("1", says("twice"));
        assert!(all.late("1").is_none());
    }
}
