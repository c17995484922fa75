//! A client as an application would write it: WebSocket, JSON, answers found by their `id`.
//!
//! What arrives while an answer is awaited is kept in order for anyone who asks next.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest,
        http::{HeaderName, HeaderValue, Request},
        protocol::{CloseFrame, frame::Frame},
    },
};

use crate::nodes::program::Program;
use crate::wait::Span;

/// For a handshake, and for an answer where no limit is given: far above any latency, below a person's patience.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A handshake to be.
#[derive(Debug)]
pub struct Connecting {
    address: SocketAddr,
    source: Option<IpAddr>,
    request: Request<()>,
}

/// How a server refused a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The status, as in 403.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// How a handshake did not come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The server refused it.
    Refused(Refusal),
    /// There was no HTTP answer.
    Failed(String),
}

impl Connecting {
    /// Adds a header, or sets it.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().expect("the name of a header");
        self.request
            .headers_mut()
            .insert(name, HeaderValue::from_str(value).expect("the value of a header"));
        self
    }

    /// As a page of this origin would connect.
    #[must_use]
    pub fn origin(self, origin: &str) -> Self {
        self.header("Origin", origin)
    }

    /// Offers subprotocols, comma separated.
    #[must_use]
    pub fn subprotocol(self, names: &str) -> Self {
        self.header("Sec-WebSocket-Protocol", names)
    }

    /// Connects from this address, as in `127.0.0.2`.
    ///
    /// # Panics
    /// If that is no address.
    #[must_use]
    pub fn from(mut self, source: &str) -> Self {
        self.source = Some(source.parse().expect("an address"));
        self
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// How the server refused.
    ///
    /// # Panics
    /// If there is no HTTP answer at all within 30 s.
    pub async fn open(self) -> Result<Client, Refusal> {
        match self.attempt().await {
            Ok(client) => Ok(client),
            Err(Attempt::Refused(refusal)) => Err(refusal),
            Err(Attempt::Failed(reason)) => panic!("the handshake fails without an HTTP answer: {reason}"),
        }
    }

    /// Shakes hands with a server that may not be there.
    ///
    /// # Errors
    /// What came of it instead, within 30 s.
    pub async fn attempt(self) -> Result<Client, Attempt> {
        let handshake = async {
            let stream = dial(self.address, self.source).await?;
            client_async(self.request, stream).await
        };
        let failed = |reason: String| Attempt::Failed(reason);
        let shaken = timeout(ANSWER_LIMIT, handshake).await;
        match shaken.map_err(|_| failed("no answer within 30 s".into()))? {
            Ok((socket, response)) => {
                let chosen = response.headers().get("sec-websocket-protocol");
                let subprotocol = chosen.and_then(|name| name.to_str().ok()).map(str::to_owned);
                Ok(Client {
                    socket,
                    subprotocol,
                    waiting: VecDeque::new(),
                    next_id: 1,
                })
            }
            Err(Error::Http(response)) => Err(Attempt::Refused(Refusal {
                status: response.status().as_u16(),
                headers: response
                    .headers()
                    .iter()
                    .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                    .collect(),
            })),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

async fn dial(address: SocketAddr, source: Option<IpAddr>) -> std::io::Result<TcpStream> {
    let Some(source) = source else {
        return TcpStream::connect(address).await;
    };
    let socket = if source.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(address).await
}

/// What came from the server.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// A text frame with JSON.
    Json(Value),
    /// The end: the close frame's code and reason, or none if the connection just broke.
    Closed(Option<(u16, String)>),
}

/// A connected client.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    subprotocol: Option<String>,
    waiting: VecDeque<Value>,
    next_id: u64,
}

impl Client {
    /// Describes a handshake with a terminator.
    #[must_use]
    pub fn to(terminator: &Program) -> Connecting {
        Self::to_address(terminator.address())
    }

    /// Describes a handshake with whatever listens there.
    ///
    /// # Panics
    /// Never: an address makes a URL.
    #[must_use]
    pub fn to_address(address: SocketAddr) -> Connecting {
        let request = format!("ws://{address}/").into_client_request().expect("a request");
        Connecting {
            address,
            source: None,
            request,
        }
    }

    /// Connects to a terminator.
    ///
    /// # Panics
    /// If it refuses.
    pub async fn connect(terminator: &Program) -> Self {
        Self::to(terminator)
            .open()
            .await
            .expect("the terminator accepts the connection")
    }

    /// The subprotocol that the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Sends a JSON text frame.
    pub async fn send_json(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    /// Sends a text frame.
    ///
    /// # Panics
    /// If the connection is broken.
    pub async fn send_text(&mut self, text: &str) {
        self.send(Message::text(text)).await.expect("the text is sent");
    }

    /// Sends any WebSocket message.
    ///
    /// # Errors
    /// If the connection is broken.
    pub async fn send(&mut self, message: Message) -> Result<(), Box<Error>> {
        self.socket.send(message).await.map_err(Box::new)
    }

    /// Sends one frame as it is; the mask is added.
    ///
    /// # Panics
    /// If the connection is broken.
    pub async fn send_raw_frame(&mut self, frame: Frame) {
        self.send(Message::Frame(frame)).await.expect("the frame is sent");
    }

    /// Sends a ping and waits until it comes back: what this socket was sent before that has arrived by then.
    ///
    /// # Panics
    /// If it does not within `limit`.
    pub async fn ping(&mut self, limit: Duration) {
        let word: Bytes = rand::random::<u64>().to_be_bytes().to_vec().into();
        self.send(Message::Ping(word.clone())).await.expect("the ping is sent");
        let deadline = Instant::now() + limit;
        loop {
            let frame = timeout_at(deadline, self.socket.next()).await.expect("a pong in time");
            match frame.expect("a live connection").expect("a live connection") {
                Message::Pong(answer) if answer == word => return,
                Message::Text(text) => self.waiting.push_back(parse(text.as_str())),
                other => assert!(!other.is_close(), "closed instead of a pong: {other:?}"),
            }
        }
    }

    /// The next thing that comes from the server; none if nothing does within `limit`.
    pub async fn next(&mut self, limit: Duration) -> Option<Received> {
        match self.waiting.pop_front() {
            Some(message) => Some(Received::Json(message)),
            None => timeout(limit, self.read()).await.ok(),
        }
    }

    /// The next message from the server.
    ///
    /// # Panics
    /// If the connection closes instead, or nothing comes within `limit`.
    pub async fn next_json(&mut self, limit: Duration) -> Value {
        match self.next(limit).await {
            Some(Received::Json(message)) => message,
            other => panic!("no message within {limit:?}, but {other:?}"),
        }
    }

    /// The next message of this `type`; what comes before it stays for anyone who asks next.
    ///
    /// # Panics
    /// If the connection closes instead, or none comes within `limit`.
    pub async fn next_of_type(&mut self, kind: &str, limit: Duration) -> Value {
        self.next_where(limit, &format!("a message of type {kind}"), |message| {
            message["type"] == kind
        })
        .await
    }

    /// Sends `{id, type, token, payload}` with an `id` of its own, and returns that `id`.
    pub async fn ask(&mut self, kind: &str, token: Option<&str>, payload: Value) -> String {
        let id = format!("q{}", self.next_id);
        self.next_id += 1;
        let mut message = json!({"id": id, "type": kind, "payload": payload});
        if let Some(token) = token {
            message["token"] = token.into();
        }
        self.send_json(&message).await;
        id
    }

    /// The answer to `id`, be it `reply` or `error`; what comes before it stays for anyone who asks next.
    ///
    /// # Panics
    /// If the connection closes instead, or none comes within `limit`.
    pub async fn answer_to(&mut self, id: &str, limit: Duration) -> Value {
        self.next_where(limit, &format!("an answer to {id}"), |message| message["id"] == id)
            .await
    }

    /// Asks, and returns the answer, which has 30 s to come.
    pub async fn request(&mut self, kind: &str, token: Option<&str>, payload: Value) -> Value {
        let id = self.ask(kind, token, payload).await;
        self.answer_to(&id, ANSWER_LIMIT).await
    }

    /// Waits for the server to close with `code`, and returns the messages that came before.
    ///
    /// # Panics
    /// If it closes otherwise, or not within `limit`.
    pub async fn expect_close(&mut self, code: u16, limit: Duration) -> Vec<Value> {
        let deadline = Instant::now() + limit;
        let mut before: Vec<_> = self.waiting.drain(..).collect();
        loop {
            match timeout_at(deadline, self.read()).await {
                Ok(Received::Json(message)) => before.push(message),
                Ok(Received::Closed(Some((seen, _)))) if seen == code => return before,
                other => panic!("not closed with {code}, but {other:?}; before that {before:?}"),
            }
        }
    }

    /// Asserts that no message comes within `span`: for what must not happen, where no other event shows that it will not.
    ///
    /// # Panics
    /// If one does, or the connection closes.
    pub async fn expect_silence(&mut self, span: Duration) {
        let seen = self.next(span).await;
        assert!(seen.is_none(), "not silent for {span:?}: {seen:?}");
    }

    /// Closes in good order.
    pub async fn close(mut self) {
        let _ = self.socket.close(None::<CloseFrame>).await;
        let _ = timeout(2.s(), async {
            while !matches!(self.read().await, Received::Closed(_)) {}
        })
        .await;
    }

    /// What has come and no one has asked for yet.
    pub fn waiting(&self) -> impl Iterator<Item = &Value> {
        self.waiting.iter()
    }

    pub(crate) async fn next_where(&mut self, limit: Duration, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + limit;
        if let Some(index) = self.waiting.iter().position(&wanted) {
            return self.waiting.remove(index).expect("it was found there");
        }
        loop {
            match timeout_at(deadline, self.read()).await {
                Ok(Received::Json(message)) if wanted(&message) => return message,
                Ok(Received::Json(message)) => self.waiting.push_back(message),
                Ok(end) => panic!("{what} never came, but {end:?}; before that {:?}", self.waiting),
                Err(_) => panic!("not within {limit:?}: {what}; what came: {:?}", self.waiting),
            }
        }
    }

    /// Reads from the socket. Cancel-safe.
    async fn read(&mut self) -> Received {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Received::Json(parse(text.as_str())),
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Received::Closed(Some((frame.code.into(), frame.reason.to_string())));
                }
                Some(Ok(Message::Close(None)) | Err(_)) | None => return Received::Closed(None),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("the server sends what no client understands: {other:?}"),
            }
        }
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("the server sends what is not JSON ({error}): {text}"))
}
