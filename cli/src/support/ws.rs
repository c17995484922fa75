//! A WebSocket client connection (RFC 6455), small enough to have ten thousand of.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use rustls::pki_types::ServerName;
use tokio::io::{self, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Response, Uri, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// For TCP, TLS and the upgrade together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer is small; it is allocated and zeroed for each connection.
const READ_BUFFER_BYTES: usize = 4 * 1_024;
/// Messages that are sent together go to the socket together.
const WRITE_BUFFER_BYTES: usize = 4 * 1_024;
/// 16 MiB = 16 * 1,024 * 1,024 bytes: what no server of ours sends, and what this machine can bear.
const MAX_MESSAGE_BYTES: usize = 16 * 1_024 * 1_024;

/// How much of a refusal's body is shown.
const MAX_SHOWN_BODY_BYTES: usize = 300;

/// An open connection.
pub(crate) type Socket = WebSocketStream<Stream>;

/// What frames travel on.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where to connect to: `ws://` or `wss://`.
#[derive(Clone, Debug)]
pub(crate) struct WsUrl {
    uri: Uri,
    host: String,
    port: u16,
    tls: bool,
}

impl std::str::FromStr for WsUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err("a WebSocket's URL begins with ws:// or wss://".to_owned()),
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err("the URL names no host".to_owned());
        }
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Ok(Self { uri, host, port, tls })
    }
}

impl WsUrl {
    /// The address and port, if it is one of this machine.
    pub(crate) fn loopback(&self) -> Option<(IpAddr, u16)> {
        let ip: IpAddr = match self.host.as_str() {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            host => host.parse().ok()?,
        };
        Some((ip, self.port)).filter(|(ip, _)| ip.is_loopback())
    }

    /// The first address of the host.
    async fn address(&self) -> anyhow::Result<SocketAddr> {
        lookup_host((self.host.as_str(), self.port))
            .await
            .with_context(|| format!("cannot find the host {}", self.host))?
            .next()
            .ok_or_else(|| anyhow!("the host {} has no address", self.host))
    }
}

/// Opens a connection, from `source` if it is given.
///
/// # Errors
/// What went wrong, and for a refused upgrade what the server said.
pub(crate) async fn connect(url: &WsUrl, source: Option<SocketAddr>) -> anyhow::Result<Socket> {
    let connecting = async {
        let stream = open(url, source).await?;
        upgrade(url, stream).await
    };
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(connected) => connected.with_context(|| format!("cannot connect to {}", url.uri)),
        Err(_) => bail!("no answer from {} within {} s", url.uri, CONNECT_TIMEOUT.as_secs()),
    }
}

async fn open(url: &WsUrl, source: Option<SocketAddr>) -> anyhow::Result<Stream> {
    let address = url.address().await?;
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(source) = source {
        socket.bind(source)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    if !url.tls {
        return Ok(Stream::Plain(stream));
    }
    let name = ServerName::try_from(url.host.clone()).context("the host is no name for a certificate")?;
    let stream = TlsConnector::from(tls_config()?)
        .connect(name, stream)
        .await
        .context("TLS failed")?;
    Ok(Stream::Tls(Box::new(stream)))
}

fn tls_config() -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        bail!("this machine has no root certificates to trust (Debian: apt install ca-certificates)");
    }
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

async fn upgrade(url: &WsUrl, stream: Stream) -> anyhow::Result<Socket> {
    let mut request = url.uri.clone().into_client_request()?;
    let protocol = HeaderValue::from_static(shared::wire::protocol::SUBPROTOCOL);
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES));
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(refused(&response)),
        Err(error) => Err(error.into()),
    }
}

fn refused(response: &Response<Option<Vec<u8>>>) -> anyhow::Error {
    let body = response.body().as_deref().unwrap_or_default();
    let shown = String::from_utf8_lossy(&body[..body.len().min(MAX_SHOWN_BODY_BYTES)]);
    let hint = match response.status().as_u16() {
        403 => "; the server does not allow this origin",
        429 => "; this address has too many connections there",
        503 => "; the server is full, or not ready",
        404 => "; is the path right?",
        _ => "",
    };
    anyhow!(
        "the server refused the upgrade with {}{hint} {}",
        response.status(),
        shown.trim()
    )
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_its_host_and_port() {
        let url: WsUrl = "wss://[::1]/path".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.tls), ("::1", 443, true));
        let url: WsUrl = "ws://localhost:8080".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port, url.tls), ("localhost", 8080, false));
        assert!("http://localhost".parse::<WsUrl>().is_err());
        assert!("localhost:8080".parse::<WsUrl>().is_err());
    }
}
