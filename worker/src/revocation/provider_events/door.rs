//! The port on which providers say so: HTTP/1.1, one request a connection, each part of it within a bound.
//!
//! When all places are taken, who comes next waits in the system's own queue. None of this is on the way of a message.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request as HttpRequest, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::fault::Fault;
use super::kind::Kind;
use super::outcome::{self, Outcome};
use super::request::Request;
use super::taking::Taking;

/// How many connections are open at a time; each may hold a body.
const CONNECTIONS: usize = 128;
/// How long its head, and then its body, may be on their way.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be open: for both, for what is done about it, and for an answer that is read slowly.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(20);
/// Of a head, in bytes: as most servers have it.
const MAX_HEAD: usize = 16 * 1_024;
/// Of a body, in bytes. A token is small; one with a chain of certificates in its header is not.
const MAX_BODY: usize = 64 * 1_024;
/// Of a body that is too large so much is passed over before its sender is told: whoever still writes hears nothing.
const MOST_PASSED_OVER: usize = 2 * 1_024 * 1_024;
/// How long to wait when the system has no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The port, before anything is taken on it.
pub(super) struct Door {
    listener: TcpListener,
    pub(super) addr: SocketAddr,
}

/// `provider-events-listen` cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("provider-events-listen: cannot listen on {addr}: {cause}")]
pub struct DoorError {
    addr: SocketAddr,
    cause: io::Error,
}

impl Door {
    pub(super) async fn bind(addr: SocketAddr) -> Result<Self, DoorError> {
        let bound = async {
            let listener = TcpListener::bind(addr).await?;
            let addr = listener.local_addr()?;
            Ok(Self { listener, addr })
        };
        bound.await.map_err(|cause| DoorError { addr, cause })
    }

    /// Serves until `closing`. What is open then goes on among `tasks`.
    pub(super) async fn serve(self, taking: Arc<Taking>, tasks: TaskTracker, closing: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let next = async {
                let place = places.clone().acquire_owned().await;
                (place, self.listener.accept().await)
            };
            let Some((place, accepted)) = closing.run_until_cancelled(next).await else {
                return;
            };
            let (socket, from) = match accepted {
                Ok(accepted) => accepted,
                Err(reason) => {
                    debug!(%reason, "a provider's connection cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let served = timeout(CONNECTION_TIMEOUT, serve(socket, from, taking.clone()));
            tasks.spawn(async move {
                let _place = place;
                let _ = served.await;
            });
        }
    }
}

async fn serve(socket: TcpStream, from: SocketAddr, taking: Arc<Taking>) {
    // Answers are short.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let taking = taking.clone();
        async move { Ok::<_, Infallible>(answer(request, from, &taking).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), service);
    if let Err(reason) = served.await {
        debug!(%reason, %from, "a provider's connection has ended");
    }
}

async fn answer(request: HttpRequest<Incoming>, from: SocketAddr, taking: &Arc<Taking>) -> Response<Full<Bytes>> {
    let Some(kind) = Kind::of_path(request.uri().path()) else {
        return outcome::not_found();
    };
    if request.method() != Method::POST {
        return outcome::not_allowed();
    }
    let (head, body) = request.into_parts();
    let request = match timeout(BODY_TIMEOUT, read(body)).await {
        Err(_) => Err(Fault::Request("the body did not come in time")),
        Ok(body) => body.and_then(|body| Request::read(kind, &head.headers, &body)),
    };
    let outcome: Outcome = taking.take(kind, request, from.to_string()).await;
    outcome.answer(kind)
}

async fn read(mut body: Incoming) -> Result<Bytes, Fault> {
    let (mut read, mut length) = (BytesMut::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Fault::Request("the body is broken off"))?;
        let Ok(data) = frame.into_data() else { continue };
        length = length.saturating_add(data.len());
        if length > MOST_PASSED_OVER {
            break;
        }
        if length <= MAX_BODY {
            read.extend_from_slice(&data);
        }
    }
    match length <= MAX_BODY {
        true => Ok(read.freeze()),
        false => Err(Fault::Request("the body is larger than 64 KiB")),
    }
}
