//! Work in order for each key, and side by side for different ones.
//!
//! What is for one identity must be done in the order in which it came, and waits
//! for the store and the broker at each step. What is for another need not wait for
//! that; and what has gathered for the same may go together, and wait once.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

/// Does pieces of work of one key, and gives out what they have come to.
type Start<W, D> = Box<dyn Fn(Vec<W>) -> BoxFuture<'static, D> + Send + Sync>;

/// Bounded by anyone who puts work in: a consumer's prefetch.
pub(super) struct Lanes<K, W, D> {
    start: Start<W, D>,
    /// How much of what has gathered for a key is done together.
    most: usize,
    /// What waits, for each key of which something is being done.
    waiting: HashMap<K, VecDeque<W>>,
    busy: FuturesUnordered<BoxFuture<'static, (K, D)>>,
}

impl<K, W, D> Lanes<K, W, D>
where
    K: Copy + Eq + Hash + Send + 'static,
    W: 'static,
    D: 'static,
{
    pub(super) fn new(most: usize, start: impl Fn(Vec<W>) -> BoxFuture<'static, D> + Send + Sync + 'static) -> Self {
        Self {
            start: Box::new(start),
            most,
            waiting: HashMap::new(),
            busy: FuturesUnordered::new(),
        }
    }

    /// Adds work behind all of its key.
    pub(super) fn push(&mut self, key: K, work: W) {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.push_back(work);
            return;
        }
        self.waiting.insert(key, VecDeque::new());
        self.begin(key, vec![work]);
    }

    /// The next work that is done; none if there is none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<D> {
        let (key, done) = self.busy.next().await?;
        let gathered = self.waiting.get_mut(&key).map_or_else(Vec::new, |waiting| {
            let count = waiting.len().min(self.most);
            waiting.drain(..count).collect()
        });
        if gathered.is_empty() {
            self.waiting.remove(&key);
        } else {
            self.begin(key, gathered);
        }
        Some(done)
    }

    fn begin(&mut self, key: K, work: Vec<W>) {
        let doing = (self.start)(work);
        self.busy.push(Box::pin(async move { (key, doing.await) }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Work = (char, u32, u64);

    fn lanes(most: usize) -> Lanes<char, Work, Vec<(char, u32)>> {
        Lanes::new(most, |work: Vec<Work>| -> BoxFuture<'static, _> {
            Box::pin(async move {
                let takes = work.iter().map(|(_, _, takes)| *takes).max().unwrap_or_default();
                tokio::time::sleep(Duration::from_millis(takes)).await;
                work.into_iter().map(|(key, number, _)| (key, number)).collect()
            })
        })
    }

    #[tokio::test(start_paused = true)]
    async fn each_key_keeps_its_order_and_holds_up_no_other() {
        let mut lanes = lanes(1);
        for (key, number, takes) in [('a', 1, 100), ('a', 2, 1), ('b', 1, 10), ('a', 3, 1), ('b', 2, 10)] {
            lanes.push(key, (key, number, takes));
        }
        let mut done = Vec::new();
        while let Some(work) = lanes.next().await {
            done.push(work);
        }
        let each = [
            vec![('b', 1)],
            vec![('b', 2)],
            vec![('a', 1)],
            vec![('a', 2)],
            vec![('a', 3)],
        ];
        assert_eq!(done, each);
        assert!(lanes.waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_gathers_behind_a_key_is_done_together_in_its_order_and_no_more_than_may_be() {
        let mut lanes = lanes(3);
        for number in 1..=5 {
            lanes.push('a', ('a', number, 10));
        }
        lanes.push('b', ('b', 1, 1));
        let done: Vec<_> = [lanes.next().await, lanes.next().await, lanes.next().await].into();
        let together = |numbers: std::ops::RangeInclusive<u32>| numbers.map(|number| ('a', number)).collect::<Vec<_>>();
        assert_eq!(
            done,
            [Some(vec![('b', 1)]), Some(together(1..=1)), Some(together(2..=4))]
        );
        lanes.push('a', ('a', 6, 1));
        assert_eq!(lanes.next().await, Some(together(5..=5)));
        assert_eq!(lanes.next().await, Some(together(6..=6)));
        assert!(lanes.next().await.is_none() && lanes.waiting.is_empty());
    }
}
