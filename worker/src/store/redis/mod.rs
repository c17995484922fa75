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
//! | `<ns>:{unauthenticated}:bytes`, `:ends` | a hash and a sorted set: how much is held of connections that are nobody's, and until when | `reservations` |
//! | `<ns>:overdue` | a sorted set: since when something is held in which mailbox | `overdue` |
//! | `<ns>:{revocations}` | a hash: revocations by target | `revocations` |
//! | `<ns>:{revocations}:ends` | a sorted set: when each revocation is forgotten | `revocations` |
//! | `<ns>:{e:<event>}:event` | a hash: that an event of an issuer was told | `events` |
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
mod decisions;
mod epoch;
mod events;
mod link;
mod messages;
mod overdue;
mod reach;
mod reservations;
mod revocations;
mod trouble;
mod writes;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::{RedisResult, Script};
use shared::service::clock::{Clock, Timestamp};
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::revocation::Revocation;
use shared::wire::tag::{IdentityTag, TokenIdTag};

use self::link::Link;
use self::link::wire::Wire;
pub use self::reach::{Access, StoreFiles};
use self::trouble::Trouble;
use super::{
    Authentication, Begun, Claim, Decision, Epoch, HeldMessage, HeldWrite, HoldLimits, Holding, Kept, LONGEST_KEPT,
    Mailbox, Recorded, Registered, Reservation, ResumeDigest, Settings, Store, StoreError,
};
use crate::auth::identity::Identity;

/// What a Redis user of the store's own must be allowed to call, besides what every client's connection begins with.
#[cfg(any(test, feature = "conformance"))]
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

pub(super) struct RedisStore {
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
    pub(super) fn open(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
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

    /// Loses everything in the namespace, as a server does that comes up empty. Only a test may want that.
    #[cfg(any(test, feature = "conformance"))]
    pub(super) async fn lose(&self) -> Result<(), StoreError> {
        use redis::AsyncCommands as _;
        let pattern = format!("{}:*", self.namespace);
        let keys: Vec<String> = self.ask(async |mut wire| wire.keys(&pattern).await).await?;
        for key in keys {
            self.ask(async |mut wire| wire.del::<_, ()>(&key).await).await?;
        }
        Ok(())
    }

    /// Makes every key of the namespace older. Only a test may want that.
    #[cfg(any(test, feature = "conformance"))]
    pub(super) async fn age(&self, by: Duration) -> Result<(), StoreError> {
        use redis::AsyncCommands as _;
        let pattern = format!("{}:*", self.namespace);
        let keys: Vec<String> = self.ask(async |mut wire| wire.keys(&pattern).await).await?;
        for key in keys {
            let left: i64 = self.ask(async |mut wire| wire.pttl(&key).await).await?;
            if left == -1 {
                return Err(unreadable(format!("{key} does not end by itself")));
            }
            let left = left.saturating_sub_unsigned(millis(by));
            self.ask(async |mut wire| wire.pexpire::<_, ()>(&key, left).await)
                .await?;
        }
        Ok(())
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

impl Store for RedisStore {
    fn record<'a>(
        &'a self,
        connection: ConnectionId,
        authentication: &'a Authentication,
    ) -> BoxFuture<'a, Result<Recorded, StoreError>> {
        Box::pin(self.write_authentication(connection, authentication))
    }

    fn authentication(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Option<Authentication>, StoreError>> {
        Box::pin(self.read_authentication(connection))
    }

    fn epoch(&self) -> BoxFuture<'_, Result<Epoch, StoreError>> {
        Box::pin(self.read_epoch())
    }

    fn announced(&self, epoch: Epoch) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.write_announced(epoch))
    }

    fn ping(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(async |mut wire| redis::cmd("PING").exec_async(&mut wire).await))
    }

    fn writable(&self) -> BoxFuture<'_, Result<(), StoreError>> {
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

    fn resume<'a>(
        &'a self,
        connection: ConnectionId,
        secret: &'a ResumeDigest,
        identity: &'a Identity,
        successor: ConnectionId,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let taken = self.write_heir(connection, secret, identity, successor).await?;
            if taken {
                self.write_predecessor(successor, connection).await?;
            }
            Ok(taken)
        })
    }

    fn successor(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Option<ConnectionId>, StoreError>> {
        Box::pin(self.read_heir(connection))
    }

    fn predecessors(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<ConnectionId>, StoreError>> {
        Box::pin(self.read_predecessors(connection))
    }

    fn register(&self, identity: IdentityTag, entry: Registered) -> BoxFuture<'_, Result<Option<u64>, StoreError>> {
        Box::pin(self.enter_connection(identity, entry))
    }

    fn unregister(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
        by: Option<Sequence>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.remove_connection(identity, connection, by))
    }

    fn departed(
        &self,
        identity: IdentityTag,
        since: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<(ConnectionId, Timestamp)>, StoreError>> {
        Box::pin(self.read_departed(identity, since))
    }

    fn replace_departed(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.remove_departed(identity, connection))
    }

    fn connections(&self, identity: IdentityTag) -> BoxFuture<'_, Result<Vec<Registered>, StoreError>> {
        Box::pin(self.read_connections(identity))
    }

    fn closed_lately(&self, identity: IdentityTag) -> BoxFuture<'_, Result<Vec<ConnectionId>, StoreError>> {
        Box::pin(self.read_closed_lately(identity))
    }

    fn registered(
        &self,
        identity: IdentityTag,
        connection: ConnectionId,
    ) -> BoxFuture<'_, Result<Option<Registered>, StoreError>> {
        Box::pin(self.read_connection(identity, connection))
    }

    fn hold_message<'a>(
        &'a self,
        connection: ConnectionId,
        message: &'a HeldMessage,
        limits: &'a HoldLimits,
    ) -> BoxFuture<'a, Result<Holding, StoreError>> {
        Box::pin(self.append_message(connection, message, limits))
    }

    fn held_messages(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<HeldMessage>, StoreError>> {
        Box::pin(self.read_messages(connection))
    }

    fn dropped_messages(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<Sequence>, StoreError>> {
        Box::pin(self.read_dropped(connection))
    }

    fn drop_messages<'a>(
        &'a self,
        connection: ConnectionId,
        sequences: &'a [Sequence],
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.remove_messages(connection, sequences))
    }

    fn keep_messages(&self, connection: ConnectionId, keep: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.extend_messages(connection, keep))
    }

    fn discard_messages(&self, connection: ConnectionId) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.desert(connection))
    }

    fn reserve<'a>(
        &'a self,
        connection: ConnectionId,
        reservation: &'a Reservation,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(self.count_reservation(connection, reservation))
    }

    fn unreserve(&self, connection: ConnectionId) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.give_back_reservation(Some(connection)).await.map(|_| ()) })
    }

    fn reserved(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.give_back_reservation(None))
    }

    fn hold_write<'a>(
        &'a self,
        mailbox: Mailbox,
        write: &'a HeldWrite,
        limits: &'a HoldLimits,
    ) -> BoxFuture<'a, Result<Holding, StoreError>> {
        Box::pin(self.append_write(mailbox, write, limits))
    }

    fn held_writes(&self, mailbox: Mailbox, most: u64) -> BoxFuture<'_, Result<Vec<HeldWrite>, StoreError>> {
        Box::pin(self.read_writes(mailbox, most))
    }

    fn drop_writes<'a>(&'a self, mailbox: Mailbox, keys: &'a [String]) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.remove_writes(mailbox, keys))
    }

    fn conclude(&self, identity: IdentityTag, key: u64, held: bool) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.note_concluded(identity, key, held))
    }

    fn miss(&self, mailbox: Mailbox, count: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.count_missed(mailbox, count))
    }

    fn take_missed(&self, mailbox: Mailbox) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.forget_missed(mailbox))
    }

    fn overdue(&self, since: Timestamp, most: u64) -> BoxFuture<'_, Result<Vec<Mailbox>, StoreError>> {
        Box::pin(self.find_overdue(since, most))
    }

    fn revoke<'a>(&'a self, revocations: &'a [Revocation]) -> BoxFuture<'a, Result<Kept, StoreError>> {
        Box::pin(self.write_revocations(revocations))
    }

    fn revocations(&self) -> BoxFuture<'_, Result<Vec<Revocation>, StoreError>> {
        Box::pin(self.read_revocations())
    }

    fn know_event(&self, event: TokenIdTag, keep: Option<Duration>) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(self.look_for_event(event, keep))
    }

    fn note<'a>(&'a self, connection: ConnectionId, decision: &'a Decision) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.append_decision(connection, decision))
    }

    fn decisions(&self, connection: ConnectionId) -> BoxFuture<'_, Result<Vec<Decision>, StoreError>> {
        Box::pin(self.read_decisions(connection))
    }

    fn begin<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<Begun, StoreError>> {
        Box::pin(self.begin_claim(claim))
    }

    fn finish<'a>(
        &'a self,
        claim: &'a Claim,
        answer: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<String>, StoreError>> {
        Box::pin(self.finish_claim(claim, answer))
    }

    fn abandon<'a>(&'a self, claim: &'a Claim) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.abandon_claim(claim))
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
