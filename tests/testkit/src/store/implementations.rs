//! The implementations, each with a hold on its time.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::aio::ConnectionLike;
use redis::cluster::ClusterClient;
use redis::{AsyncCommands as _, Client, RedisResult};
use shared::service::clock::ManualClock;
use worker::store::{Mailbox, MemoryStore, RedisStore, Settings, Snapshot, Store, StoreError, Traced};

use super::{Implementation, START, settings};

struct MemoryImplementation {
    store: Arc<MemoryStore>,
    empty: Snapshot,
    clock: Arc<ManualClock>,
}

struct TracedImplementation {
    store: Traced,
    behind: MemoryImplementation,
}

struct RedisImplementation {
    store: RedisStore,
    clock: Arc<ManualClock>,
    url: String,
    namespace: String,
}

/// The store in memory.
pub fn memory() -> impl Implementation {
    in_memory()
}

/// The same, whose calls are spans of anyone who makes them.
pub fn traced() -> impl Implementation {
    let behind = in_memory();
    let store = Traced(behind.store.clone());
    TracedImplementation { store, behind }
}

fn in_memory() -> MemoryImplementation {
    let clock = Arc::new(ManualClock::at(START));
    let store = Arc::new(MemoryStore::new(&settings("memory:", ""), clock.clone()));
    let empty = store.snapshot();
    MemoryImplementation { store, empty, clock }
}

/// The store at `url`, its keys under `namespace`, with `timeout` for each call. Of a cluster the URL names one node.
///
/// # Errors
///
/// [`StoreError::BadUrl`], as [`worker::store::open`] has it.
pub fn redis(url: &str, namespace: &str, timeout: Duration) -> Result<impl Implementation + use<>, StoreError> {
    let clock = Arc::new(ManualClock::at(START));
    let settings = Settings {
        timeout,
        ..settings(url, namespace)
    };
    Ok(RedisImplementation {
        store: RedisStore::open(&settings, clock.clone())?,
        clock,
        url: url.to_owned(),
        namespace: namespace.to_owned(),
    })
}

impl Implementation for MemoryImplementation {
    fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn age(&self, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn lose(&self) -> BoxFuture<'_, ()> {
        self.store.restore(self.empty.clone());
        Box::pin(ready(()))
    }

    fn end_a_look_in_vain(&self, _: Mailbox) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}

impl Implementation for TracedImplementation {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn clock(&self) -> &ManualClock {
        self.behind.clock()
    }

    fn age(&self, by: Duration) -> BoxFuture<'_, ()> {
        self.behind.age(by)
    }

    fn lose(&self) -> BoxFuture<'_, ()> {
        self.behind.lose()
    }

    fn end_a_look_in_vain(&self, mailbox: Mailbox) -> BoxFuture<'_, ()> {
        self.behind.end_a_look_in_vain(mailbox)
    }
}

impl Implementation for RedisImplementation {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn age(&self, by: Duration) -> BoxFuture<'_, ()> {
        self.change(Change::Age(by))
    }

    fn lose(&self) -> BoxFuture<'_, ()> {
        self.change(Change::Lose)
    }

    fn end_a_look_in_vain(&self, mailbox: Mailbox) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let ended = self.store.correct_overdue(mailbox, None).await;
            ended.expect("the store answers");
        })
    }
}

/// What only a suite does to all that is stored.
#[derive(Clone, Copy)]
enum Change {
    Age(Duration),
    Lose,
}

impl RedisImplementation {
    fn change(&self, change: Change) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let changed = match self.url.strip_prefix("redis-cluster:") {
                Some(node) => {
                    let client = ClusterClient::new([format!("redis:{node}")]).expect("a URL");
                    change.apply(&self.namespace, client.get_async_connection().await).await
                }
                None => {
                    let client = Client::open(&*self.url).expect("a URL");
                    let wire = client.get_multiplexed_async_connection().await;
                    change.apply(&self.namespace, wire).await
                }
            };
            changed.expect("the store answers");
        })
    }
}

impl Change {
    async fn apply(self, namespace: &str, wire: RedisResult<impl ConnectionLike + Send + Sync>) -> RedisResult<()> {
        let mut wire = wire?;
        let keys: Vec<String> = wire.keys(format!("{namespace}:*")).await?;
        for key in keys {
            match self {
                Self::Lose => wire.del::<_, ()>(&key).await?,
                Self::Age(by) => {
                    let left: i64 = wire.pttl(&key).await?;
                    assert_ne!(left, -1, "{key} does not end by itself");
                    let by = i64::try_from(by.as_millis()).expect("an age");
                    wire.pexpire::<_, ()>(&key, left.saturating_sub(by)).await?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use shared::service::config::{Config, OtlpUrl, Share, TraceConfig, Value};
    use shared::service::trace::{SpanKind, Tracer};
    use worker::config::WorkerConfig;

    use super::super::every_claim;
    use super::*;

    #[tokio::test]
    async fn memory_keeps_every_promise_of_the_store() {
        every_claim(&memory()).await;
    }

    #[tokio::test]
    async fn a_store_that_is_traced_keeps_every_promise_of_the_one_behind_it() {
        let config = TraceConfig {
            // No one is there, and no one waits for it.
            otlp_endpoint: Some(OtlpUrl::parse("http://127.0.0.1:9").unwrap()),
            trace_sample_ratio: Share::parse("1").unwrap(),
        };
        let tracing = Tracer::start(&config, &WorkerConfig::PROGRAM, "test").unwrap();
        for tracer in [Tracer::OFF, tracing] {
            let span = tracer.draw("process", SpanKind::Consumer);
            span.scope(pin!(every_claim(&traced()))).await;
        }
    }
}
