//! A client's connection, as a stream of bytes.

use std::io::Cursor;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::either::Either;

/// What is not plain TCP: TLS, or a stream in memory.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A client's connection. Plain TCP, as behind a proxy, costs no indirection.
pub(crate) type Stream = Either<TcpStream, Box<dyn Io>>;

/// The stream again, of which this was read already.
pub(crate) fn unread(stream: Stream, received: Vec<u8>) -> Stream {
    if received.is_empty() {
        return stream;
    }
    let (read, write) = tokio::io::split(stream);
    Either::Right(Box::new(tokio::io::join(Cursor::new(received).chain(read), write)))
}
