//! How lapin gets its bytes: through a [`Sieve`], over TCP or TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use bytes::{Buf, BytesMut};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use super::sieve::{Mesh, Sieve};
use crate::credentials::ClientTls;

/// How much is read at a time: as much as a frame has.
const CHUNK: usize = 128 * 1_024;

/// The least that two sides may agree upon (AMQP 0-9-1 §4.2.3).
const LEAST_FRAME: usize = 4_096;

/// Connects, by TLS if any is given, and lets nothing come through that lapin cannot read.
///
/// # Errors
/// lapin's own.
pub(super) async fn connect(
    uri: AMQPUri,
    tls: Option<&ClientTls>,
    properties: ConnectionProperties,
    mesh: Mesh,
) -> lapin::Result<Connection> {
    let connector = tls.map(ClientTls::config).transpose().map_err(io::Error::other)?;
    let connector = connector.map(RustlsConnector::from);
    // Nothing is delivered before the frames' size is agreed upon.
    let room = Arc::new(AtomicUsize::new(LEAST_FRAME));
    let tokio = Runtime::tokio_current();
    let reactor = Sifting {
        tokio: Tokio::current(),
        mesh,
        room: room.clone(),
    };
    let runtime = Runtime::new(RuntimeParts::new(Tokio::current(), reactor.clone()));
    let connect = async move |uri: AMQPUri, _: Runtime<Kit>| {
        let stream = dial(&uri, connector.as_ref(), &tokio).await;
        let stream = stream.map_err(|error| match tokio.is_runtime_shutdown_error(&error) {
            true => lapin::ErrorKind::RuntimeShutdownError(Arc::new(error)).into(),
            false => lapin::Error::from(error),
        })?;
        Ok(AsyncTcpStream::Plain(reactor.sift(stream)))
    };
    let connection = Connection::connector(uri, runtime, connect, properties).await?;
    let agreed = match connection.configuration().frame_max() {
        0 => usize::MAX,
        agreed => agreed as usize,
    };
    room.store(agreed, Ordering::Relaxed);
    Ok(connection)
}

async fn dial(
    uri: &AMQPUri,
    connector: Option<&RustlsConnector>,
    tokio: &Runtime<Tokio>,
) -> io::Result<AsyncTcpStream<Tcp>> {
    let host = uri.authority.host.as_str();
    let addresses = tokio.to_socket_addrs((host.to_owned(), uri.authority.port));
    let stream = AsyncTcpStream::connect(tokio, addresses).await?;
    match connector {
        Some(connector) => stream.into_rustls(connector, host).await,
        None => Ok(stream),
    }
}

type Kit = RuntimeParts<Tokio, Sifting>;
type Tcp = <Tokio as Reactor>::TcpStream;

/// tokio, but for what it reads.
#[derive(Clone, Debug)]
struct Sifting {
    tokio: Tokio,
    mesh: Mesh,
    /// How large a frame may be.
    room: Arc<AtomicUsize>,
}

impl Sifting {
    fn sift(&self, stream: AsyncTcpStream<Tcp>) -> Sifted {
        Sifted {
            stream,
            mesh: self.mesh,
            room: self.room.clone(),
            sieve: Sieve::default(),
            chunk: vec![0; CHUNK].into(),
            sifted: BytesMut::new(),
        }
    }
}

impl Reactor for Sifting {
    type TcpStream = Sifted;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        // lapin registers nothing.
        Err::<Sifted, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: std::time::Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: std::time::Duration) -> impl Stream<Item = std::time::Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.tokio.tcp_connect_addr(address);
        let sifting = self.clone();
        async move { Ok(sifting.sift(AsyncTcpStream::Plain(connecting.await?))) }
    }
}

/// A connection of which what comes goes through a sieve.
struct Sifted {
    stream: AsyncTcpStream<Tcp>,
    mesh: Mesh,
    room: Arc<AtomicUsize>,
    sieve: Sieve,
    chunk: Box<[u8]>,
    /// What may be read and was not yet.
    sifted: BytesMut,
}

impl AsyncRead for Sifted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        while this.sifted.is_empty() {
            let read = ready!(Pin::new(&mut this.stream).poll_read(context, &mut this.chunk))?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            let mesh = Mesh {
                properties: this.mesh.properties.min(this.room.load(Ordering::Relaxed)),
                ..this.mesh
            };
            let came = this.chunk.get(..read).unwrap_or_default();
            this.sieve.push(came, mesh, &mut this.sifted);
        }
        let length = buffer.len().min(this.sifted.len());
        this.sifted.copy_to_slice(buffer.get_mut(..length).unwrap_or_default());
        Poll::Ready(Ok(length))
    }
}

impl AsyncWrite for Sifted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
