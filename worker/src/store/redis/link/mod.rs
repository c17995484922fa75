//! The way to Redis: one multiplexed connection, or one to each node of a cluster.
//!
//! The crate's connection manager fixes a broken socket by itself, in the
//! background. It does not fix what a server refused: a password that is wrong
//! at the moment, a server that still loads its data, or a primary that became a
//! replica would stay its answer for ever. Here such an answer starts a new
//! manager, at most one a second. When the files name another user, password or
//! certificate, the connection is exchanged as soon as the server lets that in.

pub(super) mod wire;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{ErrorKind, RedisError};
use shared::credentials::ClientTls;
use shared::service::backoff::Backoff;
use shared::service::repetition::Repetitions;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use self::wire::Wire;
use super::reach::{Access, Reach};
use super::trouble::Trouble;
use crate::store::StoreError;

/// The least time from one replacement of the connection to the next.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// Between attempts to come as anyone who the files name now.
const TRY_AGAIN_LEAST: Duration = Duration::from_secs(1);
const TRY_AGAIN_MOST: Duration = Duration::from_secs(5);

/// How Redis is reached.
pub(super) struct Link {
    access: Access,
    timeout: Duration,
    at: String,
    is_cluster: bool,
    current: Arc<Mutex<Current>>,
    following: JoinHandle<()>,
}

/// The connection, and as whom it is made.
struct Current {
    wire: Wire,
    by: By,
    /// As whom we were let in last.
    proven: By,
    renewed: Instant,
}

#[derive(Clone)]
struct By {
    reach: Arc<Reach>,
    tls: Arc<ClientTls>,
}

impl By {
    fn newest(access: &Access) -> Self {
        Self {
            reach: access.reach.current(),
            tls: access.tls.current(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.reach, &other.reach) && Arc::ptr_eq(&self.tls, &other.tls)
    }
}

impl Link {
    /// A link that connects when it is first used.
    pub(super) fn open(access: Access, timeout: Duration) -> Result<Self, StoreError> {
        let by = By::newest(&access);
        let wire = by.reach.open(&by.tls, timeout).map_err(malformed)?;
        let (at, is_cluster) = (by.reach.at(), by.reach.is_cluster());
        let current = Arc::new(Mutex::new(Current {
            wire,
            proven: by.clone(),
            by,
            renewed: Instant::now(),
        }));
        let following = tokio::spawn(follow(access.clone(), current.clone(), timeout));
        Ok(Self {
            access,
            timeout,
            at,
            is_cluster,
            current,
            following,
        })
    }

    pub(super) const fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Host and port, or those of the cluster's nodes.
    pub(super) fn at(&self) -> &str {
        &self.at
    }

    /// Connects once more, beside the connection that there is, to see why that fails; none if this does not.
    pub(super) async fn connect(&self) -> Option<RedisError> {
        let by = locked(&self.current).by.clone();
        by.reach.refusal(&by.tls).await
    }

    pub(super) fn wire(&self) -> Wire {
        locked(&self.current).wire.clone()
    }

    /// Takes notice of a command's failure.
    pub(super) fn failed(&self, error: &RedisError) {
        if self.is_cluster && !is_of_credentials(error) || error.is_io_error() {
            return;
        }
        let mut current = locked(&self.current);
        if current.renewed.elapsed() < RENEW_EVERY {
            return;
        }
        let newest = By::newest(&self.access);
        // The server may have the new password before us, or after us.
        let by = match is_of_credentials(error) {
            true if current.by.is(&newest) => current.proven.clone(),
            true => newest,
            false => current.by.clone(),
        };
        current.begin_anew(by, self.timeout);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Current {
    /// What is on its way ends on the old connection.
    fn begin_anew(&mut self, by: By, timeout: Duration) {
        if let Ok(wire) = by.reach.open(&by.tls, timeout) {
            self.wire = wire;
            self.by = by;
            self.renewed = Instant::now();
        }
    }
}

fn locked(current: &Mutex<Current>) -> MutexGuard<'_, Current> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_of_credentials(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("NOAUTH" | "WRONGPASS"))
}

/// Exchanges the connection when the files name someone else, as soon as the server lets that in.
async fn follow(mut access: Access, current: Arc<Mutex<Current>>, timeout: Duration) {
    let mut backoff = Backoff::new(TRY_AGAIN_LEAST, TRY_AGAIN_MOST);
    let told = Repetitions::default();
    loop {
        changed(&mut access).await;
        backoff.reset();
        loop {
            let by = By::newest(&access);
            let Err(error) = by.reach.probe(&by.tls).await else {
                let mut current = locked(&current);
                current.proven = by.clone();
                current.begin_anew(by, timeout);
                info!("the store is reached with new credentials");
                break;
            };
            if let Some(untold) = told.admit("", Instant::now()) {
                let why = Trouble::of(&by.reach.at(), &error).to_string();
                warn!(
                    why,
                    untold, "the store does not accept the new credentials yet; the old connection stays open"
                );
            }
            tokio::select! {
                () = sleep(backoff.next_wait(rand::random())) => {}
                () = changed(&mut access) => {}
            }
        }
    }
}

async fn changed(access: &mut Access) {
    tokio::select! {
        _ = access.reach.changed() => {}
        _ = access.tls.changed() => {}
    }
}

/// The parser's own words may quote the URL, and the password in it.
fn malformed(_: RedisError) -> StoreError {
    StoreError::BadUrl("not a well-formed Redis URL")
}

/// In which slot of a cluster something with this hash tag is: the CRC-16 (XMODEM) of it, modulo 16,384.
pub(super) fn slot_of(tag: &str) -> u16 {
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let next = crc << 1;
            if crc & 0x8000 == 0 { next } else { next ^ 0x1021 }
        })
    });
    crc % 16_384
}
