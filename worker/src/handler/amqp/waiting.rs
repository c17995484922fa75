//! Who waits for which answer.
//!
//! There are at most as many as messages are handled at a time, and anyone who gives
//! up takes the entry along.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::bus::Message;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::handler::MAX_ANSWERS;
use crate::handler::upstream::reply::MAX_ANSWER_BYTES;

/// For how long it is remembered that someone gave up, and what came for them: a client that is told to try again does so
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
    waiting: HashMap<String, Asked>,
    /// Those who gave up, oldest first, and what came for them.
    given_up: VecDeque<(String, Instant, Option<Message>)>,
}

/// One who waits, and what has come for them so far.
struct Asked {
    sender: oneshot::Sender<Vec<Message>>,
    so_far: Vec<Message>,
    bytes: usize,
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
    answer: oneshot::Receiver<Vec<Message>>,
}

impl Waiting {
    /// Waits for the answer with this id from now on.
    pub(super) fn expect(self: &Arc<Self>, correlation_id: String) -> Expected {
        let (sender, answer) = oneshot::channel();
        let asked = Asked {
            sender,
            so_far: Vec::new(),
            bytes: 0,
        };
        self.lock().waiting.insert(correlation_id.clone(), asked);
        Expected {
            all: self.clone(),
            correlation_id,
            answer,
        }
    }

    /// Hands an answer over, with those that came before it if there are no `more`, or too many. Tells whether someone waited
    /// for it.
    pub(super) fn settle(&self, correlation_id: &str, answer: Message, more: bool) -> bool {
        let mut all = self.lock();
        if let Some(asked) = all.waiting.get_mut(correlation_id) {
            asked.bytes += answer.body.len();
            asked.so_far.push(answer);
            if more && asked.so_far.len() <= MAX_ANSWERS && asked.bytes <= MAX_ANSWER_BYTES {
                return true;
            }
            let asked = all.waiting.remove(correlation_id);
            return asked.is_some_and(|asked| asked.sender.send(asked.so_far).is_ok());
        }
        if more {
            // Anyone who asks the same again is not to be told a part.
            all.given_up.retain(|(id, ..)| id != correlation_id);
            return false;
        }
        let given_up = all.given_up.iter_mut().find(|(id, ..)| id == correlation_id);
        if let Some((_, _, late)) = given_up.filter(|_| answer.body.len() <= LONGEST_LATE_BYTES) {
            late.get_or_insert(answer);
        }
        false
    }

    /// What came for someone who had given up, once.
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
    /// The answers, at least one; none if there will be none. Cancel-safe; once they have come, there will be no others.
    pub(super) async fn answers(&mut self) -> Option<Vec<Message>> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        let asked = all.waiting.remove(&self.correlation_id);
        // What comes after a part is not all.
        if asked.is_some_and(|asked| asked.so_far.is_empty()) {
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
        assert!(all.settle("2", says("b"), false) && all.settle("1", says("a"), false));
        assert!(!all.settle("1", says("again"), false) && !all.settle("3", says("stray"), false));
        assert_eq!(one.answers().await.unwrap()[0].body, "a");
        assert_eq!(other.answers().await.unwrap()[0].body, "b");
    }

    #[test]
    fn whoever_gives_up_leaves_nothing_behind() {
        let all = Arc::<Waiting>::default();
        drop(all.expect("1".to_owned()));
        assert!(!all.settle("1", says("late"), false));
        assert!(all.lock().waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_there_for_whoever_asks_the_same_again_once_and_for_a_while() {
        let all = Arc::<Waiting>::default();
        drop(all.expect("1".to_owned()));
        assert!(!all.settle("1", says("late"), false) && !all.settle("2", says("stray"), false));
        assert!(all.late("2").is_none());
        assert_eq!(all.late("1").unwrap().body, "late");
        assert!(all.late("1").is_none());
        drop(all.expect("3".to_owned()));
        all.settle("3", says("later"), false);
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
        assert!(all.settle("1", says("a"), false));
        assert_eq!(one.answers().await.unwrap()[0].body, "a");
        drop(one);
        all.settle("1", says("twice"), false);
        assert!(all.late("1").is_none());
    }

    #[tokio::test]
    async fn answers_of_which_more_follow_come_together_and_a_part_is_none() {
        let all = Arc::<Waiting>::default();
        let mut one = all.expect("1".to_owned());
        assert!(
            all.settle("1", says("a"), true) && all.settle("1", says("b"), true) && all.settle("1", says("c"), false)
        );
        let bodies: Vec<_> = one.answers().await.unwrap().into_iter().map(|one| one.body).collect();
        assert_eq!(bodies, ["a", "b", "c"]);
        // Too many are too many, and the rest is no one's.
        let mut flooded = all.expect("2".to_owned());
        for _ in 0..=MAX_ANSWERS {
            assert!(all.settle("2", says("x"), true));
        }
        assert!(!all.settle("2", says("x"), true));
        assert_eq!(flooded.answers().await.unwrap().len(), MAX_ANSWERS + 1);
        // Anyone who gave up amid them is not answered by the rest, nor by the last of several that came later.
        let amid = all.expect("3".to_owned());
        assert!(all.settle("3", says("a"), true));
        drop(amid);
        drop(all.expect("4".to_owned()));
        for id in ["3", "4"] {
            assert!(!all.settle(id, says("b"), true) && !all.settle(id, says("c"), false));
            assert!(all.late(id).is_none());
        }
    }
}
