//! The store in Redis 7 or Valkey, single or clustered.
//!
//! | key | what | module |
//! |---|---|---|
//! | `<ns>:{<connection>}:auth` | a hash: the state, by which message, who may resume, the successor, whether it is deserted | `authentications` |
//! | `<ns>:{<connection>}:predecessors` | a sorted set: the connections that it took over, by when | `authentications` |
//! | `<ns>:{<connection>}:held` | a hash: held messages by sequence | `messages` |
//! | `<ns>:{<connection>}:dropped` | a sorted set: messages that were held | `messages` |
//! | `<ns>:{<connection>}:decisions` | a list | `decisions` |
//! | `<ns>:{i:<identity>}:connections` | a hash: entries by connection | `connections` |
//! | `<ns>:{i:<identity>}:ends` | a sorted set: when each connection is forgotten | `connections` |
//! | `<ns>:{i:<identity>}:left`, `:left:at` | a hash and a sorted set: connections that left, by which message, and when | `connections` |
//! | `<ns>:{i:<identity>}:departed` | a sorted set: connections that left and may be resumed, by when | `connections` |
//! | `<ns>:{i:<identity>}:concluded` | a sorted set: pushes whose producers know what became of them, by when | `writes` |
//! | `<ns>:{<connection>}:pushes:writes` … | the same as below: pushes that a connection has missed that is gone | `writes` |
//! | `<ns>:{<connection>}:pushes:missed`, `<ns>:{i:<identity>}:missed` | a hash: how many pushes belong there and are not held | `writes` |
//! | `<ns>:{<connection>}:writes`, `<ns>:{i:<identity>}:writes` | a hash: held answers, or pushes, by key | `writes` |
//! | … `:order`, `:age` | sorted sets: the keys of held writes | `writes` |
//! | `<ns>:{i:<identity>}:claims` | a hash: messages that have, or are having, their effect, by the digest of their `id` | `claims` |
//! | `<ns>:{i:<identity>}:claims:ends`, `:answers` | sorted sets: when each is forgotten, and each that has an answer | `claims` |
//! | `<ns>:{unauthenticated}:bytes`, `:ends` | a hash and a sorted set: how much is held of connections that are no one's, and until when | `counting::reservations` |
//! | `<ns>:{i:<identity>}:places`, `:places:ends` | sorted sets: connections that count towards the identity's limit, by since when, and until when | `counting::limits` |
//! | `<ns>:{i:<identity>}:pace` | a hash: by when the identity's messages are paid for | `counting::limits` |
//! | `<ns>:overdue` | a sorted set: since when something is held in which mailbox | `overdue` |
//! | `<ns>:{revocations}` | a hash: revocations by target | `revocations` |
//! | `<ns>:{revocations}:ends` | a sorted set: when each revocation is forgotten | `revocations` |
//! | `<ns>:{t:<terminator>}:open` | a hash: the last event of each connection that is open there | `connections` |
//! | `<ns>:{terminators}` | a sorted set: the terminators that have connections open, by when each was looked at last | `connections` |
//! | `<ns>:{e:<event>}:event` | a hash: that an event of an issuer was told | `revocations` |
//! | `<ns>:writable` | a hash that is written to see whether that can be done | |
//! | `<ns>:{epoch-22}`, … | a hash: since when this server has all that it was given | `epoch` |
//!
//! The braces are what a cluster picks the slot by: each call is one command or
//! script of one slot, or several of which each may fail without harm. A script is
//! one step. Every key ends by itself, and nothing grows without a bound. A user of
//! its own needs no more than `COMMANDS`, on the keys of the namespace.

mod authentications;
mod claims;
mod connections;
mod counting;
mod decisions;
mod epoch;
mod link;
mod messages;
mod overdue;
mod reach;
mod revocations;
mod trouble;
mod writes;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use redis::{RedisResult, Script};
use shared::service::clock::{Clock, Timestamp};
use shared::wire::id::ConnectionId;
use shared::wire::tag::IdentityTag;

use self::link::Link;
use self::link::wire::Wire;
pub use self::reach::Access;
use self::trouble::Trouble;
use super::{Call, Epoch, LONGEST_KEPT, Mailbox, Server, Settings, StoreError};

/// What a Redis user of the store's own must be allowed to call, besides what every client's connection begins with.
pub const COMMANDS: &[&str] = &[
    "EVALSHA",
    "SCRIPT LOAD",
    "PING",
    "INFO",
    "WAIT",
    "EXISTS",
    "DEL",
    "PTTL",
    "PEXPIRE",
    "HGET",
    "HMGET",
    "HGETALL",
    "HSCAN",
    "HSET",
    "HDEL",
    "HEXISTS",
    "HLEN",
    "ZADD",
    "ZCARD",
    "ZRANGE",
    "ZSCORE",
    "ZREM",
    "ZREMRANGEBYRANK",
    "RPUSH",
    "LTRIM",
    "LRANGE",
];

/// How long a write is kept that shows that there can be one.
const WRITABLE_KEPT: Duration = Duration::from_secs(60);

/// A store on Redis or Valkey, one server or a cluster.
pub struct RedisStore {
    link: Link,
    /// For what has to wait for a replica, which nothing else is to wait for.
    waiting: Link,
    scripts: Scripts,
    namespace: String,
    timeout: Duration,
    leeway: Duration,
    max_revocations: usize,
    clock: Arc<dyn Clock>,
}

/// Each is one step on one slot.
struct Scripts {
    record: Script,
    resume: Script,
    succeed: Script,
    register: Script,
    unregister: Script,
    admit: Script,
    pace: Script,
    hold_message: Script,
    drop_messages: Script,
    keep: Script,
    discard: Script,
    reserve: Script,
    unreserve: Script,
    hold_write: Script,
    drop_writes: Script,
    conclude: Script,
    miss: Script,
    take_missed: Script,
    expect_overdue: Script,
    revoke: Script,
    forget_revocations: Script,
    know_event: Script,
    enter_open: Script,
    expect_terminator: Script,
    terminators_due: Script,
    note: Script,
    begin: Script,
    finish: Script,
    abandon: Script,
    epoch: Script,
    announced: Script,
    writable: Script,
}

macro_rules! script {
    ($($file:literal),+) => {
        Script::new(concat!(include_str!("scripts/common.lua"), $(include_str!($file)),+))
    };
}

impl Scripts {
    fn new() -> Self {
        Self {
            record: script!("scripts/auth/record.lua"),
            resume: script!("scripts/auth/resume.lua"),
            succeed: script!("scripts/auth/succeed.lua"),
            register: script!("scripts/auth/register.lua"),
            unregister: script!("scripts/auth/unregister.lua"),
            admit: script!("scripts/limits/admit.lua"),
            pace: script!("scripts/limits/pace.lua"),
            hold_message: script!("scripts/messages/hold_message.lua"),
            drop_messages: script!("scripts/messages/drop_messages.lua"),
            keep: script!("scripts/messages/keep.lua"),
            discard: script!("scripts/messages/discard.lua"),
            reserve: script!("scripts/messages/reserved.lua", "scripts/messages/reserve.lua"),
            unreserve: script!("scripts/messages/reserved.lua", "scripts/messages/unreserve.lua"),
            hold_write: script!("scripts/writes/hold_write.lua"),
            drop_writes: script!("scripts/writes/drop_writes.lua"),
            conclude: script!("scripts/writes/conclude.lua"),
            miss: script!("scripts/writes/miss.lua"),
            take_missed: script!("scripts/writes/take_missed.lua"),
            expect_overdue: script!("scripts/writes/expect_overdue.lua"),
            revoke: script!("scripts/revoke.lua"),
            forget_revocations: script!("scripts/forget_revocations.lua"),
            know_event: script!("scripts/know_event.lua"),
            enter_open: script!("scripts/open/enter_open.lua"),
            expect_terminator: script!("scripts/open/expect_terminator.lua"),
            terminators_due: script!("scripts/open/terminators_due.lua"),
            note: script!("scripts/note.lua"),
            begin: script!("scripts/claims/claimed.lua", "scripts/claims/begin.lua"),
            finish: script!("scripts/claims/claimed.lua", "scripts/claims/finish.lua"),
            abandon: script!("scripts/claims/claimed.lua", "scripts/claims/abandon.lua"),
            epoch: script!("scripts/epoch.lua"),
            announced: script!("scripts/auth/announced.lua"),
            writable: script!("scripts/writes/writable.lua"),
        }
    }
}

impl RedisStore {
    /// The store of `settings`; see [`open`](super::open).
    ///
    /// # Errors
    ///
    /// [`StoreError::BadUrl`] if the URL is of no known form.
    pub fn open(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Self::open_by(Access::of_url(&settings.url)?, settings, clock)
    }

    pub(super) fn open_by(access: Access, settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Ok(Self {
            link: Link::open(access.clone(), settings.timeout)?,
            waiting: Link::open(access, settings.timeout)?,
            scripts: Scripts::new(),
            namespace: settings.namespace.clone(),
            timeout: settings.timeout,
            leeway: settings.leeway,
            max_revocations: settings.max_revocations,
            clock,
        })
    }

    fn of_connection(&self, connection: ConnectionId, what: &str) -> String {
        of_connection(&self.namespace, connection, what)
    }

    fn of_identity(&self, identity: IdentityTag, what: &str) -> String {
        format!("{}:{{i:{identity}}}:{what}", self.namespace)
    }

    fn of_mailbox(&self, mailbox: Mailbox, what: &str) -> String {
        match mailbox {
            Mailbox::Pushes(identity) => self.of_identity(identity, what),
            Mailbox::Answers(connection) => self.of_connection(connection, what),
            Mailbox::Missed(connection) => self.of_connection(connection, &format!("pushes:{what}")),
        }
    }

    fn of_all(&self, what: &str) -> String {
        format!("{}:{what}", self.namespace)
    }

    /// Carries out one call within the timeout, the wait for a connection included.
    async fn ask<T>(&self, call: impl AsyncFnOnce(Wire) -> RedisResult<T>) -> Result<T, StoreError> {
        self.ask_by(&self.link, call).await
    }

    async fn ask_by<T>(&self, link: &Link, call: impl AsyncFnOnce(Wire) -> RedisResult<T>) -> Result<T, StoreError> {
        let answer = tokio::time::timeout(self.timeout, call(link.wire()));
        let answer = answer.await.map_err(|_| {
            unavailable(Trouble::new(
                link.at(),
                format!("gives no answer within {:?}", self.timeout),
            ))
        })?;
        answer
            .inspect_err(|error| link.failed(error))
            .map_err(|error| unavailable(Trouble::of(link.at(), &error)))
    }
}

fn of_connection(namespace: &str, connection: ConnectionId, what: &str) -> String {
    format!("{namespace}:{{{connection}}}:{what}")
}

/// How long something is kept that is gone at `gone_at`, in milliseconds: at least one, and not for ever.
fn keep_ms(now: Timestamp, gone_at: Timestamp) -> u64 {
    millis(gone_at.saturating_since(now).min(LONGEST_KEPT)).max(1)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What is held, behind how many bytes it counts, by which a script need not read it.
fn without_bytes(text: &str) -> Result<&str, StoreError> {
    let (_, text) = text
        .split_once(':')
        .ok_or_else(|| unreadable("something held that does not say how much it counts"))?;
    Ok(text)
}

fn unavailable(error: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable(error.into())
}

fn unreadable(error: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
    StoreError::Unreadable(error.into())
}

impl Server for RedisStore {
    fn epoch(&self) -> Call<'_, Epoch> {
        Box::pin(self.read_epoch())
    }

    fn announced(&self, epoch: Epoch) -> Call<'_, ()> {
        Box::pin(self.write_announced(epoch))
    }

    fn ping(&self) -> Call<'_, ()> {
        Box::pin(self.ask(async |mut wire| redis::cmd("PING").exec_async(&mut wire).await))
    }

    fn writable(&self) -> Call<'_, ()> {
        Box::pin(async move {
            let key = self.of_all("writable");
            let mut invocation = self.scripts.writable.key(key);
            invocation.arg(millis(WRITABLE_KEPT));
            let written = self
                .ask(async |mut wire| invocation.invoke_async::<()>(&mut wire).await)
                .await;
            if written.is_ok() {
                return Ok(());
            }
            // While a connection is tried again and again, a command learns no more than that its time is over.
            match self.link.connect().await {
                Some(error) => Err(unavailable(Trouble::of(self.link.at(), &error))),
                None => written,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::service::clock::SystemClock;
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
            max_revocations: 10,
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
        assert_eq!(of_connection("ns", connection, "auth"), "ns:{00000000000000ff.a}:auth");
    }
}
