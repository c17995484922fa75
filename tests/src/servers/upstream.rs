//! An application behind a URL, that answers as a claim wants it: well, badly, late, or not at all.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};

use crate::nodes::port::free_port;

/// A request, whole.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Its first line.
    pub line: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Value,
}

impl Asked {
    /// A header, if it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(other, _)| other == name);
        header.map(|(_, value)| value.as_str())
    }

    /// The `type` of the message.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap_or_default()
    }
}

/// What it says to that.
#[derive(Debug, Clone)]
pub enum Said {
    /// A response: status, further headers, body.
    Response(u16, Vec<(&'static str, String)>, String),
    /// A response after a while.
    Late(Duration, u16, String),
    /// A response when someone says so.
    When(Arc<Notify>, u16, String),
    /// Nothing, ever.
    Nothing,
    /// Half of a response.
    Half,
}

impl Said {
    /// A response without further headers.
    #[must_use]
    pub fn status(status: u16, body: impl Into<String>) -> Self {
        Self::Response(status, Vec::new(), body.into())
    }
}

type Answering = Arc<dyn Fn(&Asked) -> Said + Send + Sync>;

/// The application. It ends with this value.
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    answering: Answering,
    asked: Mutex<Vec<Asked>>,
}

impl Upstream {
    /// One that answers every request with what `answering` says.
    pub async fn start(answering: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let mut upstream = Self::away(answering);
        upstream.come().await;
        upstream
    }

    /// One that answers nothing until it is switched on: then 200, and `1`.
    pub async fn switched() -> (Self, Arc<AtomicBool>) {
        let switch = Arc::new(AtomicBool::new(false));
        let on = switch.clone();
        let upstream = Self::start(move |_| match on.load(Ordering::SeqCst) {
            true => Said::status(200, "1"),
            false => Said::Nothing,
        });
        (upstream.await, switch)
    }

    /// One that is not there yet.
    #[must_use]
    pub fn away(answering: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let shared = Shared {
            answering: Arc::new(answering),
            asked: Mutex::default(),
        };
        Self {
            address: (Ipv4Addr::LOCALHOST, free_port()).into(),
            shared: Arc::new(shared),
            tasks: JoinSet::new(),
        }
    }

    /// Is there from now on.
    ///
    /// # Panics
    /// If someone else has taken its port.
    pub async fn come(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is free");
        self.tasks.spawn(listen(listener, self.shared.clone()));
    }

    /// The setting `handler` that leads here.
    #[must_use]
    pub fn handler(&self) -> String {
        format!("http:http://{}/messages?from=worker", self.address)
    }

    /// What it was asked so far.
    ///
    /// # Panics
    /// If `answering` has panicked.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("nobody panics with it").clone()
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        connections.spawn(async move {
            // Anyone who leaves has heard enough.
            let _ = converse(stream, &shared).await;
        });
    }
}

async fn converse(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = request(&mut stream).await? {
        shared.asked.lock().expect("nobody panics with it").push(asked.clone());
        let said = (shared.answering)(&asked);
        match said {
            Said::Response(status, headers, body) => respond(&mut stream, status, &headers, &body).await?,
            Said::Late(wait, status, body) => {
                tokio::time::sleep(wait).await;
                respond(&mut stream, status, &[], &body).await?;
            }
            Said::When(go, status, body) => {
                go.notified().await;
                respond(&mut stream, status, &[], &body).await?;
            }
            Said::Nothing => std::future::pending().await,
            Said::Half => {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
                    .await?;
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Asked>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: Vec<(String, String)> = lines
        .iter()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).await?;
    Ok(Some(Asked {
        line: lines.first().cloned().unwrap_or_default(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }))
}

async fn respond(
    stream: &mut BufReader<TcpStream>,
    status: u16,
    headers: &[(&'static str, String)],
    body: &str,
) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} X\r\n");
    if status != 204 {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).await
}
