//! Accepting: nothing is taken that there is no room for, and no one is turned away without a word.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::credentials::Credential;
use shared::service::audit::{self, Audit};
use shared::service::refusals::Refusals;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::addresses::{Addresses, Place, ip_prefix};
use super::arrivals::{Arrivals, Handshake, PerAddress};
use super::connection_factory::ConnectionFactory;
use super::doors::Door;
use super::handshake::{self, Failure, Reading};
use super::origin::AllowedOrigins;
use super::permit::ConnectionPermit;
use super::proxies::{Proxies, ProxyProtocol, RemotePeer};
use super::stream::{self, Stream};
use super::told_limits;
use super::upgrade::{Refusal, Request};
use crate::connection::Connection;

/// The wait after an `accept` that failed, as it does without file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// One way in, and who decides who comes in.
pub(crate) struct Listener {
    pub(crate) door: Door,
    pub(crate) acceptor: Arc<Acceptor>,
    pub(crate) tasks: TaskTracker,
}

/// What a terminator does not take on.
#[derive(Clone)]
pub(crate) struct Limits {
    pub(crate) allowed_origins: AllowedOrigins,
    pub(crate) proxies: Proxies,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_ip: Option<usize>,
    pub(crate) handshakes: PerAddress,
    pub(crate) max_handshake_size: usize,
    pub(crate) max_message_size: usize,
    pub(crate) handshake_timeout: Duration,
}

/// What every handshake needs.
pub(crate) struct Acceptor {
    tls: Option<Credential<TlsAcceptor>>,
    limits: Limits,
    connections: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    arrivals: Arc<Arrivals>,
    sockets: Arc<ConnectionFactory>,
    audit: Audit,
    /// What clients are told of their limits if they ask.
    told_limits: Vec<u8>,
    /// What an operator is told.
    refusals: Arc<Refusals>,
}

/// What is known of a connection that is not a socket yet.
struct Arrival {
    peer: RemotePeer,
    /// What came of the request, or before it, so far.
    received: Vec<u8>,
    deadline: Instant,
    handshake: Option<Handshake>,
}

/// A stream that has become a socket.
struct Opened {
    stream: Stream,
    permit: ConnectionPermit,
    /// What came behind the request.
    rest: Vec<u8>,
}

impl Listener {
    /// Accepts until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.door.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => self.admit(stream, address),
                // It concerns that one connection alone.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    warn!(%error, "cannot accept connections; is the limit of open files too low?");
                    sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// Has the handshake begin, or the connection turned away.
    fn admit(&self, stream: Stream, address: Option<IpAddr>) {
        let acceptor = self.acceptor.clone();
        let peer = address.map_or(RemotePeer::LOCAL, |address| acceptor.limits.proxies.peer(address));
        match acceptor.arrivals.begin(peer.prefix(), Instant::now()) {
            Some(handshake) => {
                let arrival = acceptor.arrival(peer, Some(handshake));
                self.tasks.spawn(acceptor.accepted(stream, arrival, self.tasks.clone()));
            }
            None => {
                self.tasks
                    .spawn(async move { acceptor.turned_away(stream, peer, Refusal::TooManyHandshakes).await });
            }
        }
    }
}

impl Acceptor {
    pub(crate) fn new(tls: Option<Credential<TlsAcceptor>>, limits: Limits, sockets: Arc<ConnectionFactory>) -> Self {
        Self {
            tls,
            connections: Arc::new(Semaphore::new(limits.max_connections)),
            addresses: Arc::new(Addresses::new(limits.max_connections_per_ip)),
            arrivals: Arc::new(Arrivals::new(limits.handshakes)),
            told_limits: told_limits::frame(&sockets.forwarder.client_limits),
            limits,
            refusals: sockets.registry.common().closings.told(),
            sockets,
            audit: Audit::default(),
        }
    }

    /// The permits of connections: each takes one.
    pub(crate) fn connections(&self) -> Arc<Semaphore> {
        self.connections.clone()
    }

    /// What an operator is to be told.
    pub(crate) fn refusals(&self) -> Arc<Refusals> {
        self.refusals.clone()
    }

    fn arrival(&self, peer: RemotePeer, handshake: Option<Handshake>) -> Arrival {
        Arrival {
            peer,
            received: Vec::new(),
            deadline: Instant::now() + self.limits.handshake_timeout,
            handshake,
        }
    }

    /// One connection, from its acceptance to the end of its handshake. From then on it has a task of its own, which has no room
    /// for what a handshake needs: there may be a hundred thousand of them.
    async fn accepted(self: Arc<Self>, mut stream: Stream, mut arrival: Arrival, tasks: TaskTracker) {
        match Box::pin(self.introduced(&mut stream, &mut arrival)).await {
            Ok(()) => {}
            Err(Failure::Refused(refusal)) => return self.turned_away(stream, arrival.peer, refusal).await,
            Err(Failure::Gone(error)) => return debug!(%error, "a connection left before its handshake"),
        }
        match Box::pin(self.encrypted(stream, &mut arrival)).await {
            Ok(stream) => {
                if let Some(connection) = self.admit(stream, arrival).await {
                    tasks.spawn(connection.run());
                }
            }
            // There is no way yet to say so.
            Err(refusal) => self.refused(refusal, arrival.peer.address),
        }
    }

    /// Learns from a proxy whose connection it is, where proxies say so before all else.
    async fn introduced(&self, stream: &mut Stream, arrival: &mut Arrival) -> Result<(), Failure> {
        let proxies = &self.limits.proxies;
        let required = proxies.protocol == ProxyProtocol::Required;
        if proxies.protocol == ProxyProtocol::Off || !(required || arrival.peer.is_proxy) {
            return Ok(());
        }
        if !arrival.peer.is_proxy {
            return Err(Failure::Refused(Refusal::ProxyHeader(
                "this port is for trusted proxies alone",
            )));
        }
        let reading = handshake::read_proxy_header(stream, &mut arrival.received, required);
        let source = in_time(arrival.deadline, arrival.handshake.as_ref(), reading).await?;
        let Some(source) = source else { return Ok(()) };
        arrival.peer = proxies.peer(source);
        match arrival.peer.prefix() {
            Some(client) => arrival.assign(client),
            None => Ok(()),
        }
    }

    /// The stream as the client means it, or why there is none.
    async fn encrypted(&self, stream: Stream, arrival: &mut Arrival) -> Result<Stream, Refusal> {
        let Some(tls) = &self.tls else { return Ok(stream) };
        let stream = stream::unread(stream, std::mem::take(&mut arrival.received));
        let tls = tls.current();
        let accepting = async { tls.accept(stream).await.map_err(Failure::Gone) };
        match in_time(arrival.deadline, arrival.handshake.as_ref(), accepting).await {
            Ok(stream) => Ok(Either::Right(Box::new(stream))),
            Err(Failure::Refused(refusal)) => Err(refusal),
            Err(Failure::Gone(error)) => {
                debug!(%error, "TLS handshake failed");
                Err(Refusal::Tls)
            }
        }
    }

    /// One connection that is refused before its request was read.
    async fn turned_away(&self, mut stream: Stream, peer: RemotePeer, refusal: Refusal) {
        let address = ip_prefix(peer.address);
        self.refused(refusal, address);
        let Some(_refusing) = self.arrivals.refuse(address) else {
            return;
        };
        if self.tls.is_some() {
            handshake::alert(&mut stream).await;
        } else {
            handshake::refuse(&mut stream, refusal).await;
        }
    }

    /// A stream that is there already, through the handshake and to its end.
    pub(crate) async fn admit_stream(&self, stream: Stream) {
        let peer = RemotePeer {
            is_proxy: false,
            ..RemotePeer::LOCAL
        };
        if let Some(connection) = self.admit(stream, self.arrival(peer, None)).await {
            connection.run().await;
        }
    }

    /// The connection, if its handshake succeeds.
    async fn admit(&self, stream: Stream, arrival: Arrival) -> Option<Connection> {
        let Opened { stream, permit, rest } = self.open(stream, arrival).await?;
        let socket = handshake::socket(stream, rest, self.limits.max_message_size).await;
        Some(self.sockets.connection(socket, permit))
    }

    async fn open(&self, mut stream: Stream, mut arrival: Arrival) -> Option<Opened> {
        let opened = self.shake_hands(&mut stream, &mut arrival).await;
        let address = ip_prefix(arrival.peer.address);
        // Anyone who is refused takes no place of those who are not.
        drop(arrival.handshake);
        match opened {
            Ok(permit) => {
                let rest = arrival.received;
                return Some(Opened { stream, permit, rest });
            }
            Err(Failure::Refused(refusal)) => {
                self.refused(refusal, address);
                if refusal == Refusal::Origin
                    && let Some(unwritten) = self.audit.admit(refusal.label(), Instant::now())
                {
                    info!(target: audit::TARGET, refused = refusal.label(), %address, unwritten, "refused");
                }
                if let Some(_refusing) = self.arrivals.refuse(address) {
                    handshake::refuse(&mut stream, refusal).await;
                }
            }
            Err(Failure::Gone(error)) => debug!(%error, "a connection left before its handshake"),
        }
        None
    }

    /// Counts it, and tells what an operator may have set too low, or not at all.
    fn refused(&self, refusal: Refusal, address: IpAddr) {
        self.sockets.metrics().handshake_refused(refusal);
        if refusal.is_of_settings() {
            self.refusals.tell(refusal.label(), &address, refusal.remedy());
        }
    }

    /// Reads the request and answers it, in time and as long as there is a place for it. What came behind it is left.
    async fn shake_hands(&self, stream: &mut Stream, arrival: &mut Arrival) -> Result<ConnectionPermit, Failure> {
        let Arrival {
            peer,
            received,
            deadline,
            handshake,
        } = arrival;
        // Anyone who comes by himself is known before he says anything.
        let place = peer.prefix().map(|address| self.place(address)).transpose()?;
        let permit = self.connections.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Failure::Refused(Refusal::TooMany))?;
        let reading = Reading {
            allowed: &self.limits.allowed_origins,
            most_bytes: self.limits.max_handshake_size,
        };
        let request = async {
            let request = handshake::read_request(stream, received, reading).await?;
            let place = match place {
                Some(place) => place,
                None => {
                    peer.address = self.limits.proxies.client(*peer, received);
                    let client = ip_prefix(peer.address);
                    assign(handshake.as_ref(), client)?;
                    self.place(client)?
                }
            };
            match request {
                Request::Upgrade {
                    length,
                    response,
                    asks_limits,
                } => {
                    let frames = if asks_limits { &*self.told_limits } else { &[] };
                    handshake::agree(stream, response, frames).await?;
                    received.drain(..length);
                    Ok((place, asks_limits))
                }
                Request::Refused(refusal) => Err(Failure::Refused(refusal)),
                Request::Partial => Err(Failure::Refused(Refusal::TooLarge)),
            }
        };
        let (place, asks_limits) = in_time(*deadline, handshake.as_ref(), request).await?;
        Ok(ConnectionPermit {
            _permit: permit,
            _place: place,
            asks_limits,
        })
    }

    fn place(&self, address: IpAddr) -> Result<Place, Failure> {
        let place = self.addresses.clone().enter(address);
        place.ok_or(Failure::Refused(Refusal::TooManyFromAddress))
    }
}

impl Arrival {
    fn assign(&self, client: IpAddr) -> Result<(), Failure> {
        assign(self.handshake.as_ref(), client)
    }
}

/// Says whose handshake it is, if that has its share still.
fn assign(handshake: Option<&Handshake>, client: IpAddr) -> Result<(), Failure> {
    match handshake.is_none_or(|handshake| handshake.assign(client, Instant::now())) {
        true => Ok(()),
        false => Err(Failure::Refused(Refusal::TooManyHandshakes)),
    }
}

/// A step of a handshake, as long as there is time and a place for it.
async fn in_time<T>(
    deadline: Instant,
    handshake: Option<&Handshake>,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let evicted = async {
        match handshake {
            Some(handshake) => handshake.evicted().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        stepped = timeout_at(deadline, step) => stepped.unwrap_or(Err(Failure::Refused(Refusal::TooSlow))),
        () = evicted => Err(Failure::Refused(Refusal::TooMany)),
    }
}
