//! Accepting: nothing is taken that there is no room for, and nobody is turned away without a word.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::credentials::Credential;
use shared::service::audit::{self, Audit};
use shared::service::refusals::Refusals;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::arrivals::{Arrivals, Handshake, PerAddress};
use super::connection_factory::ConnectionFactory;
use super::handshake::{self, Failure};
use super::origin::AllowedOrigins;
use super::stream::Stream;
use super::upgrade::Refusal;

/// The wait after an `accept` that failed, as it does without file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The listening socket, and who decides who comes in.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) acceptor: Arc<Acceptor>,
    pub(crate) tasks: TaskTracker,
}

/// What a terminator does not take on.
#[derive(Clone)]
pub(crate) struct Limits {
    pub(crate) allowed_origins: AllowedOrigins,
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_ip: Option<usize>,
    pub(crate) handshakes: PerAddress,
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
    /// What an operator is told.
    refusals: Arc<Refusals>,
}

/// A stream that has become a socket.
struct Opened {
    stream: Stream,
    permit: ConnectionPermit,
    /// What came behind the request.
    rest: Vec<u8>,
    config: WebSocketConfig,
}

impl Listener {
    /// Accepts until told to stop.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let telling = self.acceptor.refusals.clone().keep_telling();
        tokio::spawn(stop.clone().run_until_cancelled_owned(telling));
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.socket.accept() => accepted,
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
    fn admit(&self, stream: TcpStream, address: SocketAddr) {
        let (acceptor, address) = (self.acceptor.clone(), ip_prefix(address.ip()));
        // Answers are small and must not wait for company.
        let _ = stream.set_nodelay(true);
        match acceptor.arrivals.begin(address, Instant::now()) {
            Some(handshake) => {
                self.tasks.spawn(acceptor.accepted(stream, address, handshake));
            }
            None => {
                self.tasks.spawn(acceptor.turned_away(stream, address));
            }
        }
    }
}

impl Acceptor {
    pub(crate) fn new(tls: Option<Credential<TlsAcceptor>>, limits: Limits, sockets: Arc<ConnectionFactory>) -> Self {
        Self {
            tls,
            connections: Arc::new(Semaphore::new(limits.max_connections)),
            addresses: Arc::new(Addresses {
                most: limits.max_connections_per_ip,
                open: Mutex::default(),
            }),
            arrivals: Arc::new(Arrivals::new(limits.handshakes)),
            limits,
            refusals: sockets.registry.common().closings.told(),
            sockets,
            audit: Audit::default(),
        }
    }

    /// One TCP connection, from its acceptance to its end.
    async fn accepted(self: Arc<Self>, stream: TcpStream, address: IpAddr, handshake: Handshake) {
        let deadline = Instant::now() + self.limits.handshake_timeout;
        let encrypting = timeout_at(deadline, Box::pin(self.encrypt(stream)));
        let encrypted = tokio::select! {
            encrypted = encrypting => encrypted,
            // There is no way yet to say so.
            () = handshake.evicted() => return self.refused(Refusal::TooMany, address),
        };
        match encrypted {
            Ok(Ok(stream)) => self.admit(stream, address, deadline, Some(handshake)).await,
            Ok(Err(error)) => debug!(%error, "TLS handshake failed"),
            Err(_) => {}
        }
    }

    /// One TCP connection that is refused before anything of it was read.
    async fn turned_away(self: Arc<Self>, stream: TcpStream, address: IpAddr) {
        let refusal = Refusal::TooManyHandshakes;
        self.refused(refusal, address);
        let Some(_refusing) = self.arrivals.refuse(address) else {
            return;
        };
        let mut stream = Stream::Left(stream);
        if self.tls.is_some() {
            handshake::alert(&mut stream).await;
        } else {
            handshake::refuse(&mut stream, refusal).await;
        }
    }

    /// A stream that is there already, through the handshake and to its end.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) async fn admit_stream(&self, stream: Stream) {
        let deadline = Instant::now() + self.limits.handshake_timeout;
        self.admit(stream, IpAddr::from([127, 0, 0, 1]), deadline, None).await;
    }

    async fn admit(&self, stream: Stream, address: IpAddr, deadline: Instant, handshake: Option<Handshake>) {
        // The handshake's state is large and short-lived: boxed, it does not make the connection's task large for ever.
        let opening = Box::pin(self.open(stream, address, deadline, handshake));
        let Some(Opened {
            stream,
            permit,
            rest,
            config,
        }) = opening.await
        else {
            return;
        };
        let socket = handshake::socket(stream, rest, config).await;
        self.sockets.serve(socket).await;
        drop(permit);
    }

    async fn open(
        &self,
        mut stream: Stream,
        address: IpAddr,
        deadline: Instant,
        handshake: Option<Handshake>,
    ) -> Option<Opened> {
        let opened = match self.permit(address) {
            Ok(permit) => {
                let shaken = self.shake_hands(&mut stream, deadline, handshake.as_ref()).await;
                shaken.map(|(rest, config)| (permit, rest, config))
            }
            Err(refusal) => Err(Failure::Refused(refusal)),
        };
        // Whoever is refused takes no place of those who are not.
        drop(handshake);
        match opened {
            Ok((permit, rest, config)) => {
                return Some(Opened {
                    stream,
                    permit,
                    rest,
                    config,
                });
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

    /// Reads the request and answers it, in time and as long as there is a place for it.
    async fn shake_hands(
        &self,
        stream: &mut Stream,
        deadline: Instant,
        handshake: Option<&Handshake>,
    ) -> Result<(Vec<u8>, WebSocketConfig), Failure> {
        let accepting = handshake::accept(stream, &self.limits.allowed_origins, self.limits.max_message_size);
        let evicted = async {
            match handshake {
                Some(handshake) => handshake.evicted().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = timeout_at(deadline, accepting) => {
                accepted.unwrap_or(Err(Failure::Refused(Refusal::TooSlow)))
            }
            () = evicted => Err(Failure::Refused(Refusal::TooMany)),
        }
    }

    async fn encrypt(&self, stream: TcpStream) -> io::Result<Stream> {
        match &self.tls {
            None => Ok(Either::Left(stream)),
            Some(tls) => Ok(Either::Right(Box::new(tls.current().accept(stream).await?))),
        }
    }

    fn permit(&self, address: IpAddr) -> Result<ConnectionPermit, Refusal> {
        let place = self
            .addresses
            .clone()
            .enter(address)
            .ok_or(Refusal::TooManyFromAddress)?;
        let permit = self
            .connections
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refusal::TooMany)?;
        Ok(ConnectionPermit {
            _permit: permit,
            _place: place,
        })
    }
}

/// A connection's right to be here, given up when dropped.
struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

/// How many connections each address has.
struct Addresses {
    most: Option<usize>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    fn enter(self: Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = ip_prefix(address);
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let count = open.entry(address).or_default();
            if self.most.is_some_and(|most| *count >= most) {
                return None;
            }
            *count += 1;
        }
        Some(Place {
            addresses: self,
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Whoever has one IPv6 address has the 2^64 of its network (RFC 6177).
fn ip_prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_no_more_until_one_ends() {
        let addresses = Arc::new(Addresses {
            most: Some(2),
            open: Mutex::default(),
        });
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let its_neighbour: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        let first = addresses.clone().enter(one).unwrap();
        let _second = addresses.clone().enter(its_neighbour).unwrap();
        assert!(addresses.clone().enter(one).is_none());
        assert!(addresses.clone().enter(other).is_some());
        drop(first);
        assert!(addresses.clone().enter(one).is_some());
    }

    #[test]
    fn an_address_without_connections_is_forgotten() {
        let addresses = Arc::new(Addresses {
            most: Some(2),
            open: Mutex::default(),
        });
        drop(addresses.clone().enter("192.0.2.1".parse().unwrap()));
        assert!(addresses.open.lock().unwrap().is_empty());
    }
}
