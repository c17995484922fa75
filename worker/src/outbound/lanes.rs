//! Work in order for each key, and side by side for different ones.
//!
//! What is for one identity must be done in the order in which it came, and waits
//! for the store and the broker at each step. What is for another need not wait for
//! that.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;

/// Does one piece of work, and gives out what it has come to.
type Start<W, D> = Box<dyn Fn(W) -> BoxFuture<'static, D> + Send + Sync>;

/// Bounded by whoever puts work in: a consumer's prefetch.
pub(super) struct Lanes<K, W, D> {
    start: Start<W, D>,
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
    pub(super) fn new(start: impl Fn(W) -> BoxFuture<'static, D> + Send + Sync + 'static) -> Self {
        Self {
            start: Box::new(start),
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
        self.begin(key, work);
    }

    /// The next work that is done; nothing if there is none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<D> {
        let (key, done) = self.busy.next().await?;
        match self.waiting.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(work) => self.begin(key, work),
            None => {
                self.waiting.remove(&key);
            }
        }
        Some(done)
    }

    fn begin(&mut self, key: K, work: W) {
        let doing = (self.start)(work);
        self.busy.push(Box::pin(async move { (key, doing.await) }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_key_keeps_its_order_and_holds_up_no_other() {
        let mut lanes = Lanes::new(|(key, number, takes): (char, u32, u64)| -> BoxFuture<'static, _> {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(takes)).await;
                (key, number)
            })
        });
        for (key, number, takes) in [('a', 1, 100), ('a', 2, 1), ('b', 1, 10), ('a', 3, 1), ('b', 2, 10)] {
            lanes.push(key, (key, number, takes));
        }
        let mut done = Vec::new();
        while let Some(work) = lanes.next().await {
            done.push(work);
        }
        assert_eq!(done, [('b', 1), ('b', 2), ('a', 1), ('a', 2), ('a', 3)]);
        assert!(lanes.waiting.is_empty());
    }
}
