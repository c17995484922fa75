//! Clients that want nothing but an answer.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::servers::certificate::connector;
use tests::{Stack, token_for};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// What counts as no answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two requests of the one that stays, and between two newcomers.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(20);
const BETWEEN_NEWCOMERS: Duration = Duration::from_millis(50);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type Socket = WebSocketStream<Box<dyn Io>>;

/// Where they go, and how.
#[derive(Clone)]
pub(crate) struct Honest {
    address: SocketAddr,
    tls: Option<TlsConnector>,
    token: Arc<str>,
}

/// How long everything took.
#[derive(Default)]
pub(crate) struct Felt {
    pub(crate) requests: Vec<Duration>,
    pub(crate) arrivals: Vec<Duration>,
    pub(crate) renewals: Vec<Duration>,
}

impl Honest {
    pub(crate) fn of(stack: &Stack, tls: bool) -> Self {
        Self {
            address: stack.terminators()[0].address(),
            tls: tls.then(connector),
            token: token_for("honest").mint().into(),
        }
    }

    /// One client that stays and asks on and on, one that renews its authentication, and newcomers one after the other.
    pub(crate) async fn feel(&self, until: Instant) -> Felt {
        let mut felt = Felt::default();
        let stays = async {
            let mut socket = None;
            while Instant::now() < until {
                if socket.is_none() {
                    // Only the way of newcomers is measured.
                    socket = timeout(PATIENCE, self.arrive()).await.ok().and_then(io::Result::ok);
                }
                if let Some(present) = &mut socket {
                    let took = self.measured(self.request(present)).await;
                    felt.requests.push(took);
                    if took >= PATIENCE {
                        socket = None;
                    }
                } else {
                    felt.requests.push(PATIENCE);
                }
                sleep(BETWEEN_REQUESTS).await;
            }
        };
        let newcomers = async {
            while Instant::now() < until {
                let arrival = async { self.arrive().await.map(|_| ()) };
                felt.arrivals.push(self.measured(arrival).await);
                sleep(BETWEEN_NEWCOMERS).await;
            }
        };
        let renews = async {
            let mut socket = None;
            for number in 0_u64.. {
                if Instant::now() >= until {
                    break;
                }
                if socket.is_none() {
                    socket = timeout(PATIENCE, self.arrive()).await.ok().and_then(io::Result::ok);
                }
                let took = match &mut socket {
                    Some(present) => self.measured(self.renew(present, number)).await,
                    None => PATIENCE,
                };
                felt.renewals.push(took);
                if took >= PATIENCE {
                    socket = None;
                }
                sleep(BETWEEN_NEWCOMERS).await;
            }
        };
        tokio::join!(stays, newcomers, renews);
        felt
    }

    /// From the first packet to the first answer.
    async fn arrive(&self) -> io::Result<Socket> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Io> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.connect("localhost".try_into().unwrap(), stream).await?),
        };
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        let opened = client_async(format!("{scheme}://{}/", self.address), stream).await;
        let (mut socket, _) = opened.map_err(io::Error::other)?;
        self.request(&mut socket).await?;
        Ok(socket)
    }

    async fn request(&self, socket: &mut Socket) -> io::Result<()> {
        let message = json!({"id": "h", "type": "echo", "token": &*self.token, "payload": 1});
        self.told(socket, &message, "reply").await
    }

    /// With a token that no worker has seen.
    async fn renew(&self, socket: &mut Socket, number: u64) -> io::Result<()> {
        let token = token_for("honest").claim("jti", format!("renewal-{number}")).mint();
        let message = json!({"id": "h", "type": "auth.authenticate", "token": token});
        self.told(socket, &message, "auth.ok").await
    }

    async fn told(&self, socket: &mut Socket, message: &Value, kind: &str) -> io::Result<()> {
        socket
            .send(Message::text(message.to_string()))
            .await
            .map_err(io::Error::other)?;
        while let Some(frame) = socket.next().await {
            let frame = frame.map_err(io::Error::other)?;
            let Ok(text) = frame.to_text() else { continue };
            let Ok(told) = serde_json::from_str::<Value>(text) else {
                continue;
            };
            if told["id"] == "h" {
                let is_reply = told["type"] == kind;
                return if is_reply {
                    Ok(())
                } else {
                    Err(io::Error::other(told.to_string()))
                };
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    async fn measured(&self, what: impl Future<Output = io::Result<()>>) -> Duration {
        let begun = Instant::now();
        match timeout(PATIENCE, what).await {
            Ok(Ok(())) => begun.elapsed(),
            Ok(Err(_)) | Err(_) => PATIENCE,
        }
    }
}
