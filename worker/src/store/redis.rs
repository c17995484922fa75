//! The store in Redis 7 or Valkey, single or clustered.
//!
//! A connection has one key, `<namespace>:{<connection>}:auth`, and each call is
//! one command that touches this key alone, so that a cluster may put it
//! anywhere. Compare-and-set is a script, which Redis runs as one step. A user of
//! its own needs `EVALSHA`, `SCRIPT LOAD`, `HMGET`, `HSET`, `PEXPIRE` and `PING`.

mod link;

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::{RedisResult, Script};
use serde::{Deserialize, Serialize};
use shared::clock::{Clock, Timestamp};
use shared::id::{ConnectionId, Sequence};

use self::link::{Link, Wire};
use super::{Authentication, Recorded, Settings, Store, StoreError};
use crate::identity::{Identity, Issuer, Subject};

pub(super) struct RedisStore {
    link: Link,
    record: Script,
    namespace: String,
    timeout: Duration,
    leeway: Duration,
    clock: Arc<dyn Clock>,
}

/// The state as it is stored, in JSON, beside the sequence: two texts are equal where what they say is.
#[derive(Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
enum Stored<'a> {
    Live {
        #[serde(borrow)]
        issuer: Cow<'a, str>,
        #[serde(borrow)]
        subject: Cow<'a, str>,
        until_ms: u64,
    },
    Closed,
}

impl RedisStore {
    pub(super) fn open(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Ok(Self {
            link: Link::open(&settings.url, settings.timeout)?,
            record: Script::new(include_str!("redis/record.lua")),
            namespace: settings.namespace.clone(),
            timeout: settings.timeout,
            leeway: settings.leeway,
            clock,
        })
    }

    fn key(&self, connection: ConnectionId) -> String {
        key(&self.namespace, connection)
    }

    /// Carries out one call within the timeout, the wait for a connection included.
    async fn ask<T>(&self, call: impl AsyncFnOnce(Wire) -> RedisResult<T>) -> Result<T, StoreError> {
        let answer = tokio::time::timeout(self.timeout, call(self.link.wire()));
        let answer = answer
            .await
            .map_err(|_| unavailable(format!("no answer within {:?}", self.timeout)))?;
        answer.inspect_err(|error| self.link.failed(error)).map_err(unavailable)
    }

    async fn write(&self, connection: ConnectionId, authentication: &Authentication) -> Result<Recorded, StoreError> {
        let keep = authentication.kept_for(self.clock.now(), self.leeway);
        let state = serde_json::to_string(&Stored::from(authentication)).map_err(unreadable)?;
        let mut invocation = self.record.key(self.key(connection));
        invocation
            .arg(authentication.by().get())
            .arg(state)
            .arg(keep.as_millis().to_string());
        let outcome: String = self
            .ask(async |mut wire| invocation.invoke_async(&mut wire).await)
            .await?;
        match outcome.as_str() {
            "changed" => Ok(Recorded::Changed),
            "unchanged" => Ok(Recorded::Unchanged),
            "stale" => Ok(Recorded::Stale),
            _ => Err(unreadable("the script answered in words it does not know")),
        }
    }

    /// Takes `by` from what the connection's key has left to live. Only a test may want that.
    #[cfg(any(test, feature = "conformance"))]
    pub(super) async fn age(&self, connection: ConnectionId, by: Duration) -> Result<(), StoreError> {
        use redis::AsyncCommands;
        let key = self.key(connection);
        let left: i64 = self.ask(async |mut wire| wire.pttl(&key).await).await?;
        let left = left.saturating_sub_unsigned(by.as_millis().try_into().unwrap_or(u64::MAX));
        self.ask(async |mut wire| wire.pexpire(&key, left).await).await
    }

    async fn read(&self, connection: ConnectionId) -> Result<Option<Authentication>, StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(self.key(connection)).arg("by").arg("state");
        let present: (Option<u64>, Option<String>) =
            self.ask(async |mut wire| command.query_async(&mut wire).await).await?;
        let (Some(by), Some(state)) = present else {
            return Ok(None);
        };
        let stored: Stored<'_> = serde_json::from_str(&state).map_err(unreadable)?;
        Ok(Some(stored.into_authentication(Sequence::new(by))))
    }
}

impl<'a> From<&'a Authentication> for Stored<'a> {
    fn from(authentication: &'a Authentication) -> Self {
        match authentication {
            Authentication::Live { identity, until, by: _ } => Self::Live {
                issuer: identity.issuer.as_str().into(),
                subject: identity.subject.as_str().into(),
                until_ms: until.as_millis(),
            },
            Authentication::Closed { by: _ } => Self::Closed,
        }
    }
}

impl Stored<'_> {
    fn into_authentication(self, by: Sequence) -> Authentication {
        match self {
            Self::Live {
                issuer,
                subject,
                until_ms,
            } => Authentication::Live {
                identity: Identity::new(Issuer::new(&*issuer), Subject::new(&*subject)),
                until: Timestamp::from_millis(until_ms),
                by,
            },
            Self::Closed => Authentication::Closed { by },
        }
    }
}

/// The braces are what a cluster picks the slot by: all keys of one connection share it.
fn key(namespace: &str, connection: ConnectionId) -> String {
    format!("{namespace}:{{{connection}}}:auth")
}

fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable(error.into())
}

fn unreadable(error: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Unreadable(error.into())
}

impl Store for RedisStore {
    fn record<'a>(
        &'a self,
        connection: ConnectionId,
        authentication: &'a Authentication,
    ) -> BoxFuture<'a, Result<Recorded, StoreError>> {
        Box::pin(self.write(connection, authentication))
    }

    fn authentication(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Option<Authentication>, StoreError>> {
        Box::pin(self.read(connection))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(async |mut wire| redis::cmd("PING").exec_async(&mut wire).await))
    }
}

#[cfg(test)]
mod tests {
    use shared::clock::SystemClock;
    use tokio::net::TcpListener;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(200);
    /// What no busy machine makes of the timeout.
    const FAR_TOO_LONG: Duration = Duration::from_secs(5);

    fn store_at(url: &str) -> Result<RedisStore, StoreError> {
        let settings = Settings {
            url: url.to_owned(),
            namespace: "countersign".to_owned(),
            timeout: TIMEOUT,
            leeway: Duration::ZERO,
        };
        RedisStore::open(&settings, Arc::new(SystemClock))
    }

    #[tokio::test]
    async fn a_redis_that_is_away_stops_no_start_and_every_call_ends_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = listener.local_addr().unwrap();
        let refusing = {
            let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
            closed.local_addr().unwrap()
        };
        for (scheme, address) in [
            ("redis", silent),
            ("redis", refusing),
            ("redis-cluster", silent),
            ("redis-cluster", refusing),
        ] {
            let store = store_at(&format!("{scheme}://{address}")).unwrap();
            let answer = tokio::time::timeout(FAR_TOO_LONG, store.ping()).await;
            let error = answer.expect("it must not wait longer than told").unwrap_err();
            assert!(
                matches!(error, StoreError::Unavailable(_)),
                "{scheme}://{address}: {error:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_bad_url_is_refused_without_repeating_its_password() {
        for url in [
            "",
            "redis",
            "memory",
            "http://:hunter2@127.0.0.1",
            "redis://:hunter2@",
            "redis://:hunter2@127.0.0.1:port",
            "redis://:hunter2@127.0.0.1/not-a-number",
            "redis-cluster://",
            "redis-cluster://:hunter2@",
            "redis-cluster://:hunter2@127.0.0.1,127.0.0.1:port",
        ] {
            let error = store_at(url).err().expect(url);
            assert!(matches!(error, StoreError::BadUrl(_)), "{url}: {error:?}");
            assert!(!format!("{error:?} {error}").contains("hunter2"));
        }
    }

    #[test]
    fn a_key_is_in_the_slot_of_its_connection() {
        let connection = "00000000000000ff.a".parse().unwrap();
        assert_eq!(key("ns", connection), "ns:{00000000000000ff.a}:auth");
    }
}
