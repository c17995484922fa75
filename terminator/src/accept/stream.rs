//! A client's connection, as a stream of bytes.

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::either::Either;

/// What is not plain TCP: TLS, or a stream in memory.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A client's connection. Plain TCP, as behind a proxy, costs no indirection.
pub(crate) type Stream = Either<TcpStream, Box<dyn Io>>;
