//! As much of an HTTP client as the administration pages need.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::wait::Span;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, as in 200.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    /// Splits a whole response as it came over the wire.
    ///
    /// # Errors
    /// `InvalidData` if it is not one.
    pub fn parse(bytes: &[u8]) -> io::Result<Self> {
        let text = String::from_utf8_lossy(bytes);
        let parse = || {
            let (head, body) = text.split_once("\r\n\r\n")?;
            let status = head.split(' ').nth(1)?.parse().ok()?;
            Some(Self {
                status,
                head: head.to_owned(),
                body: body.to_owned(),
            })
        };
        parse().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("not an HTTP response: {text:?}")))
    }
}

/// `GET path`, within 5 s. Speaks HTTP/1.0 (RFC 1945), so that the body ends where the connection does.
///
/// # Errors
/// Whatever the connection says; `TimedOut` after 5 s; `InvalidData` for what is not HTTP.
pub async fn get(server: SocketAddr, path: &str) -> io::Result<Answer> {
    timeout(5.s(), async {
        let mut stream = TcpStream::connect(server).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n").as_bytes())
            .await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Answer::parse(&bytes)
    })
    .await
    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
