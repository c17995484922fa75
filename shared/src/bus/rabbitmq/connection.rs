//! One connection to the broker, made anew for ever.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use lapin::protocol::{AMQPErrorKind, AMQPHardError};
use lapin::{ConnectionProperties, Event};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::RabbitmqConfig;
use super::access::{Access, Attempt};
use super::broker_status::{BrokerStatus, Slot};
use super::declare::{self, DeclareError, Declared};
use super::nodes::{Nodes, with_heartbeat};
use super::sieve::Mesh;
use super::transport;
use crate::bus::Link;
use crate::bus::topology::Topology;
use crate::service::backoff::Backoff;

/// How long to wait for what the broker said as it closed a channel.
const TEXT_WAIT: Duration = Duration::from_millis(100);

/// The time for a TCP connection, TLS and the AMQP handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for declaring everything: quorum queues of a starting cluster take seconds, and a node that takes longer is
/// sick.
const DECLARE_TIMEOUT: Duration = Duration::from_secs(10);
/// A broker that restarts is back in about 5 s: the last waits must be short beside that.
const RECONNECT_LEAST: Duration = Duration::from_millis(200);
const RECONNECT_MOST: Duration = Duration::from_secs(3);
/// How soon what is missing is declared again, if something found no queue once more.
const DECLARE_AGAIN: Duration = Duration::from_secs(1);
/// A declaration that contradicts what is there will not do better soon.
const CONFLICT_WAIT: Duration = Duration::from_secs(1);
/// How often a connection is asked whether it still is one, should its event get lost.
const CHECK_PERIOD: Duration = Duration::from_millis(500);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of what stands around an outsider's message is read: what means something there takes a few hundred bytes, and
/// each header takes ten times as much memory as on the wire.
const MOST_PROPERTIES: usize = 16 * 1_024;

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Publishing,
    Consuming,
    Receiving,
    Replying,
    DirectReplying,
}

impl Role {
    /// How much of what comes is read.
    const fn mesh(self, most_body: u64) -> Mesh {
        match self {
            Self::Receiving => Mesh {
                properties: MOST_PROPERTIES,
                body: most_body,
            },
            Self::Publishing | Self::Consuming | Self::Replying | Self::DirectReplying => Mesh::ALL,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Publishing => "publishing",
            Self::Consuming => "consuming",
            Self::Receiving => "receiving",
            Self::Replying => "replying",
            Self::DirectReplying => "replying directly",
        }
    }
}

/// One connection, from its handshake to its loss.
pub(super) struct Generation {
    pub(super) connection: lapin::Connection,
    /// Cancelled when the connection is lost, or when anyone who uses it finds that it is no good.
    pub(super) lost: CancellationToken,
    /// Who found that, if it was not this.
    failure: OnceLock<String>,
    /// The connection before this one ended on something that lapin cannot read, and that may come again.
    careful: AtomicBool,
    /// This one did.
    unreadable: AtomicBool,
    /// What ended it was no message.
    outage: AtomicBool,
    /// How many bytes a body may have, as far as the broker has said so.
    pub(super) max_body: AtomicUsize,
    node: usize,
    nodes: Nodes,
    since: Instant,
    topology: Arc<Topology>,
    /// What is on the broker already.
    pub(super) declared: Declared,
    /// When it was last looked for, because something found no queue.
    looked_for: Mutex<Instant>,
}

impl Generation {
    /// Whether to take one message at a time: whatever is taken together with one that lapin cannot read counts as
    /// delivered, again and again, and would be given up with it.
    pub(super) fn is_careful(&self) -> bool {
        self.careful.load(Ordering::Relaxed)
    }

    /// Anyone who uses it finds that it is no good, for this reason.
    pub(super) fn fail(&self, reason: impl Into<String>) {
        // The first reason is the reason.
        let _ = self.failure.set(reason.into());
        self.lost.cancel();
    }

    /// Nothing unreadable came for a while.
    pub(super) fn relax(&self) {
        self.careful.store(false, Ordering::Relaxed);
    }

    /// The node takes no part in its cluster, as far as can be seen: this connection and all others to it are no good,
    /// unless all nodes look like that.
    pub(super) fn suspect_its_node(&self) -> bool {
        let suspected = self.nodes.suspect(self.node);
        if suspected {
            self.lost.cancel();
        }
        suspected
    }

    /// Something found no queue: what is missing is declared again, if that was not tried a moment ago.
    pub(super) fn declare_again(self: &Arc<Self>) {
        {
            let mut looked_for = self.looked_for.lock().unwrap_or_else(PoisonError::into_inner);
            if looked_for.elapsed() < DECLARE_AGAIN {
                return;
            }
            *looked_for = Instant::now();
        }
        let generation = self.clone();
        tokio::spawn(async move {
            let declaring = declare::topology(&generation.connection, &generation.topology, &generation.declared);
            let declared = timeout(DECLARE_TIMEOUT, generation.lost.run_until_cancelled(declaring)).await;
            if let Ok(Some(Err(reason))) = declared {
                warn!(%reason, "a queue is missing, and cannot be declared");
            }
        });
    }

    /// Takes note of why something on this connection failed.
    pub(super) fn blame(&self, error: &lapin::Error) {
        if may_come_again(error) {
            self.unreadable.store(true, Ordering::Relaxed);
        }
        if is_outage(error) {
            self.note_outage();
        }
    }

    /// What has ended it was no message.
    pub(super) fn note_outage(&self) {
        self.outage.store(true, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub(super) fn is_outage(&self) -> bool {
        self.outage.load(Ordering::Relaxed)
    }
}

/// Whether an operator, a node that stops or a wire that was silent has ended a connection, and no message can have.
pub(super) fn is_outage(error: &lapin::Error) -> bool {
    match error.kind() {
        lapin::ErrorKind::MissingHeartbeatError => true,
        lapin::ErrorKind::ProtocolError(error) => {
            matches!(error.kind(), AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED))
        }
        _ => false,
    }
}

/// Whether what ended a connection may have been something that was delivered there, which would end the next one too. What
/// cannot be read is left out before (`sieve`), so that this is for what no one has thought of.
fn may_come_again(whole: &lapin::Error) -> bool {
    match whole.kind() {
        lapin::ErrorKind::ParsingError(_) => true,
        lapin::ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Hard(_) => !is_outage(whole),
            AMQPErrorKind::Soft(_) => false,
        },
        _ => false,
    }
}

/// Whether the broker closed a channel for it, and not the connection (AMQP 0-9-1 §1.2).
pub(super) fn is_of_a_channel(error: &lapin::Error) -> bool {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => matches!(error.kind(), AMQPErrorKind::Soft(_)),
        _ => false,
    }
}

/// The present connection, if there is one.
pub(super) type Connections = watch::Receiver<Option<Arc<Generation>>>;

/// Waits for a connection that is not known to be lost; nothing when there will be none any more.
pub(super) async fn present(connections: &mut Connections) -> Option<Arc<Generation>> {
    let usable = |generation: &Option<Arc<Generation>>| generation.as_ref().is_some_and(|g| !g.lost.is_cancelled());
    connections
        .wait_for(usable)
        .await
        .ok()
        .and_then(|generation| generation.clone())
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("no node was named")]
    Nowhere,
    #[error("no answer within {}s", CONNECT_TIMEOUT.as_secs())]
    Slow,
    #[error("it does not say within {}s whether our queues are there", DECLARE_TIMEOUT.as_secs())]
    Undeclared,
    #[error("{0}")]
    Refused(#[from] lapin::Error),
    #[error("{0}")]
    Declare(#[from] DeclareError),
}

/// Keeps a connection until no one holds the receiver any more.
pub(super) fn supervise(
    config: &RabbitmqConfig,
    (nodes, declared): (&Nodes, &Declared),
    role: Role,
    board: &BrokerStatus,
    tasks: &TaskTracker,
) -> Connections {
    let (present, connections) = watch::channel(None);
    let supervisor = Supervisor {
        access: config.access.clone(),
        nodes: nodes.clone(),
        declared: declared.clone(),
        name: format!("{} {}", config.name, role.name()),
        topology: Arc::new(config.topology.clone()),
        role,
        mesh: role.mesh(config.most_body),
        present,
        slot: board.slot("not yet connected".to_owned()),
    };
    tasks.spawn(supervisor.run());
    connections
}

struct Supervisor {
    access: Access,
    nodes: Nodes,
    declared: Declared,
    name: String,
    topology: Arc<Topology>,
    role: Role,
    mesh: Mesh,
    present: watch::Sender<Option<Arc<Generation>>>,
    slot: Slot,
}

impl Supervisor {
    async fn run(self) {
        let mut backoff = Backoff::new(RECONNECT_LEAST, RECONNECT_MOST);
        let mut careful = false;
        let mut node = None;
        let mut refusals = 0_u32;
        loop {
            let next = self.nodes.after(node);
            node = Some(next);
            let access = self.access.attempt(refusals);
            let attempt = tokio::select! {
                attempt = self.connect(next, &access, careful) => attempt,
                () = self.present.closed() => return,
            };
            let least_wait = match attempt {
                Ok(generation) => {
                    info!(
                        role = self.role.name(),
                        node = self.access.at(next),
                        "connected to the broker"
                    );
                    backoff.reset();
                    refusals = 0;
                    let generation = Arc::new(generation);
                    if !self.hold(&generation).await {
                        return;
                    }
                    careful = generation.unreadable.load(Ordering::Relaxed);
                    Duration::ZERO
                }
                Err(reason) => {
                    refusals = refusals.wrapping_add(1);
                    self.complain(next, &reason)
                }
            };
            tokio::select! {
                () = sleep(backoff.next_wait(rand::random()).max(least_wait)) => {}
                () = self.present.closed() => return,
            }
        }
    }

    async fn connect(&self, node: usize, access: &Attempt, careful: bool) -> Result<Generation, ConnectError> {
        let uri = with_heartbeat(access.uri(node).ok_or(ConnectError::Nowhere)?);
        let tls = access.tls(&uri);
        let properties = ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let connection = timeout(
            CONNECT_TIMEOUT,
            transport::connect(uri.clone(), tls, properties, self.mesh),
        )
        .await
        .map_err(|_| ConnectError::Slow)??;
        self.access.succeeded(access);
        let declaring = declare::topology(&connection, &self.topology, &self.declared);
        match timeout(DECLARE_TIMEOUT, declaring).await {
            Ok(Ok(())) => Ok(Generation {
                connection,
                lost: CancellationToken::new(),
                failure: OnceLock::new(),
                careful: careful.into(),
                unreadable: false.into(),
                outage: false.into(),
                max_body: usize::MAX.into(),
                node,
                nodes: self.nodes.clone(),
                since: Instant::now(),
                topology: self.topology.clone(),
                declared: self.declared.clone(),
                looked_for: Mutex::new(Instant::now()),
            }),
            Ok(Err(reason)) => {
                close(&connection).await;
                Err(reason.into())
            }
            Err(_) => Err(ConnectError::Undeclared),
        }
    }

    /// Holds a connection until it is lost. Tells whether another is wanted.
    async fn hold(&self, generation: &Arc<Generation>) -> bool {
        self.slot.set(Link::Up);
        self.present.send_replace(Some(generation.clone()));
        let reason = tokio::select! {
            reason = self.watch(generation) => Some(reason),
            () = self.present.closed() => None,
        };
        generation.lost.cancel();
        self.present.send_replace(None);
        match &reason {
            Some(reason) => {
                let node = self.access.at(generation.node);
                warn!(role = self.role.name(), node, %reason, "lost the broker");
                self.slot.set(Link::Away(format!("{node}: {reason}").into()));
            }
            None => info!(role = self.role.name(), "disconnecting from the broker"),
        }
        close(&generation.connection).await;
        reason.is_some()
    }

    /// Watches a connection until it is lost, and tells why.
    async fn watch(&self, generation: &Generation) -> String {
        let mut events = std::pin::pin!(generation.connection.events_listener());
        let mut check = tokio::time::interval(CHECK_PERIOD);
        let mut of_a_channel = None;
        // What the one who finds it out declares again is not what others consume.
        let mut exchanges_lost = generation.declared.exchanges_lost();
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        warn!(role = self.role.name(), reason, "the broker has blocked publishing");
                        self.slot.set(Link::Blocked);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        info!(role = self.role.name(), "the broker has unblocked publishing");
                        self.slot.set(Link::Up);
                    }
                    // Anyone who has that channel knows, and opens another.
                    Some(Event::Error(error)) if is_of_a_channel(&error) => of_a_channel = Some(error.to_string()),
                    Some(Event::Error(error)) => {
                        generation.blame(&error);
                        return error.to_string();
                    }
                    Some(_) => {}
                    None => return "the connection ended".to_owned(),
                },
                () = self.nodes.until_suspected(generation.node, generation.since) => {
                    return "the node answers, but makes no progress".to_owned();
                }
                () = generation.lost.cancelled() => {
                    let failure = generation.failure.get().map_or("a channel failed", String::as_str);
                    // The one who used the channel may have known first.
                    let text = match of_a_channel {
                        Some(text) => Some(text),
                        None => timeout(TEXT_WAIT, text_of_a_channel(events)).await.ok().flatten(),
                    };
                    return match text {
                        Some(text) => format!("{failure}: {text}"),
                        None => failure.to_owned(),
                    };
                }
                Ok(()) = exchanges_lost.changed() => {
                    return "an exchange was gone, and all that was bound to it".to_owned();
                }
                _ = check.tick() => {
                    if !generation.connection.status().connected() {
                        return "the connection is closed".to_owned();
                    }
                }
            }
        }
    }

    /// Says why there is no connection to a node, once a minute for each reason, and how long to wait at least.
    fn complain(&self, node: usize, reason: &ConnectError) -> Duration {
        let text = format!("{}: {reason}", self.access.at(node));
        self.slot.set(Link::Away(text.as_str().into()));
        let conflict = matches!(reason, ConnectError::Declare(DeclareError::Conflict { .. }));
        if let Some(untold) = self.nodes.admit(&text) {
            if conflict {
                error!(
                    role = self.role.name(),
                    reason = text,
                    untold,
                    "cannot use the queues or exchanges on the broker"
                );
            } else {
                warn!(
                    role = self.role.name(),
                    reason = text,
                    untold,
                    "cannot reach the broker; will keep trying"
                );
            }
        }
        if conflict { CONFLICT_WAIT } else { Duration::ZERO }
    }
}

/// What the broker says as it closes a channel; none if the connection ends before.
async fn text_of_a_channel(mut events: impl Stream<Item = Event> + Unpin) -> Option<String> {
    loop {
        if let Event::Error(error) = events.next().await? {
            return Some(error.to_string());
        }
    }
}

/// Says good-bye, if the other side still listens.
async fn close(connection: &lapin::Connection) {
    if connection.status().connected() {
        // What is closed in haste is closed all the same.
        let _ = timeout(CLOSE_TIMEOUT, connection.close(200, "good-bye".into())).await;
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPSoftError};

    use super::*;

    #[test]
    fn whatever_the_two_sides_do_not_understand_may_come_again() {
        let error =
            |kind: AMQPErrorKind| lapin::Error::from(lapin::ErrorKind::ProtocolError(AMQPError::new(kind, "".into())));
        let kinds: [(AMQPErrorKind, bool); 6] = [
            (AMQPHardError::FRAMEERROR.into(), true),
            (AMQPHardError::SYNTAXERROR.into(), true),
            (AMQPHardError::UNEXPECTEDFRAME.into(), true),
            (AMQPHardError::INTERNALERROR.into(), true),
            (AMQPHardError::CONNECTIONFORCED.into(), false),
            (AMQPSoftError::PRECONDITIONFAILED.into(), false),
        ];
        for (kind, again) in kinds {
            assert_eq!(may_come_again(&error(kind.clone())), again, "{kind:?}");
        }
    }
}
