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

/// `POST path` with these header lines and this body, within a minute. What of a body is not wanted may not be taken.
///
/// # Errors
/// Whatever the connection says; `TimedOut`; `InvalidData` for what is not HTTP.
pub async fn post(server: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
    request(server, ("POST", path), headers, body).await
}

/// The same by any method.
///
/// # Errors
/// Whatever the connection says; `TimedOut`; `InvalidData` for what is not HTTP.
pub async fn request(
    server: SocketAddr,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    timeout(60.s(), async {
        let mut stream = TcpStream::connect(server).await?;
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Length: {length}\r\nConnection: close\r\n{lines}\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let (mut reading, mut writing) = stream.split();
        let mut bytes = Vec::new();
        let (_written, read) = tokio::join!(writing.write_all(body), async {
            let mut chunk = [0; 4_096];
            loop {
                // Anyone who has not taken the whole body may end the connection with a reset.
                match reading.read(&mut chunk).await {
                    Ok(0) => return Ok(()),
                    Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                    Err(error) if bytes.is_empty() => return Err(error),
                    Err(_) => return Ok(()),
                }
            }
        });
        read?;
        Answer::parse(&bytes)
    })
    .await
    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// `GET path`, within 5 s. Speaks HTTP/1.0 (RFC 1945), so that the body ends where the connection does.
///
/// # Errors
/// Whatever the connection says; `TimedOut` after 5 s; `InvalidData` for what is not HTTP.
pub async fn get(server: SocketAddr, path: &str) -> io::Result<Answer> {
    get_of(server, path, &server.to_string()).await
}

/// The same, of a server that is reached by that name.
///
/// # Errors
/// As of [`get`].
pub async fn get_of(server: SocketAddr, path: &str, host: &str) -> io::Result<Answer> {
    timeout(5.s(), async {
        let mut stream = TcpStream::connect(server).await?;
        stream
            .write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())
            .await?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await?;
        Answer::parse(&bytes)
    })
    .await
    .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
