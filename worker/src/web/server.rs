//! A port that is called by HTTP/1.1: so many connections, each part of a request within a bound.
//!
//! When all places are taken, who comes next waits in the system's own queue. None of this is on the way of a message.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

/// Of a head, in bytes: as most servers have it.
const MAX_HEAD: usize = 16 * 1_024;
/// Of a body that is too large so much is passed over before its sender is told, who hears nothing while it writes.
const MOST_PASSED_OVER: usize = 2 * 1_024 * 1_024;
/// How long to wait when the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much is open at a time, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How many connections; each may hold a body.
    pub(crate) connections: usize,
    /// How long a head may be on its way; and how long a connection that is kept may be idle.
    pub(crate) head: Duration,
    /// Whether a connection may bring a second request.
    pub(crate) keep_alive: bool,
    /// After how long a connection takes no further request.
    pub(crate) lifetime: Duration,
    /// How long what is under way then may still take, an answer that is read slowly included.
    pub(crate) grace: Duration,
}

/// The port, before anything is taken on it.
pub(crate) struct Server {
    listener: TcpListener,
    pub(crate) addr: SocketAddr,
}

/// A setting names an address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: cannot listen on {addr}: {cause}")]
pub struct ListenError {
    setting: &'static str,
    addr: SocketAddr,
    cause: io::Error,
}

/// What ends a server: it takes nothing new; then nothing at all.
#[derive(Clone, Default)]
pub(crate) struct Ends {
    pub(crate) closing: CancellationToken,
    pub(crate) kill: CancellationToken,
}

impl Server {
    /// Opens the port that `setting` names.
    pub(crate) async fn bind(setting: &'static str, addr: SocketAddr) -> Result<Self, ListenError> {
        let bound = async {
            let listener = TcpListener::bind(addr).await?;
            let addr = listener.local_addr()?;
            Ok(Self { listener, addr })
        };
        bound.await.map_err(|cause| ListenError { setting, addr, cause })
    }

    /// Answers until `ends` say so. What is open then goes on among `tasks`.
    pub(crate) async fn serve<S, F>(self, bounds: Bounds, answer: S, tasks: TaskTracker, ends: Ends)
    where
        S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(bounds.connections));
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let Some((place, accepted)) = ends.closing.run_until_cancelled(next).await else {
                return;
            };
            let (socket, from) = match accepted {
                Ok(accepted) => accepted,
                Err(reason) => {
                    debug!(%reason, "a connection cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let served = serve(socket, from, bounds, answer.clone(), ends.closing.clone());
            let served = async move {
                let _place = place;
                served.await;
            };
            tasks.spawn(ends.kill.clone().run_until_cancelled_owned(served));
        }
    }
}

async fn serve<S, F>(socket: TcpStream, from: SocketAddr, bounds: Bounds, answer: S, closing: CancellationToken)
where
    S: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    // Answers are short.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(answer(request, from).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_buf_size(MAX_HEAD)
        .keep_alive(bounds.keep_alive)
        .serve_connection(TokioIo::new(socket), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => Some(ended),
        _ = timeout(bounds.lifetime, closing.cancelled()) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            served.as_mut().graceful_shutdown();
            timeout(bounds.grace, served).await.unwrap_or(Ok(()))
        }
    };
    if let Err(reason) = ended {
        debug!(%reason, %from, "a connection has ended");
    }
}

/// Why a body cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// Nor did the rest of it come in time.
    Late,
    /// Its sender has broken it off.
    Broken,
    /// It has more bytes than are taken.
    TooLarge,
}

/// The whole of a body of at most so many bytes, within a time.
pub(crate) async fn read_body(body: Incoming, most: usize, within: Duration) -> Result<Bytes, BodyFault> {
    timeout(within, read(body, most)).await.unwrap_or(Err(BodyFault::Late))
}

async fn read(mut body: Incoming, most: usize) -> Result<Bytes, BodyFault> {
    let (mut read, mut length) = (BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyFault::Broken)?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > most.saturating_add(MOST_PASSED_OVER) {
            break;
        }
        if length <= most {
            read.extend_from_slice(&data);
        }
    }
    match length <= most {
        true => Ok(read.freeze()),
        false => Err(BodyFault::TooLarge),
    }
}
