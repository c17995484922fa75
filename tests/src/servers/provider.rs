//! Something that answers over HTTP as an identity provider does, or as one that is broken or lies.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Answers by path; 404 where it knows none. It ends with this value.
#[derive(Debug)]
pub struct Provider {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct State {
    answers: HashMap<String, Answer>,
    requests: Vec<String>,
}

/// What it says to anyone who asks for a path.
#[derive(Debug, Clone)]
enum Answer {
    /// All of it, with this status line and these header lines.
    Whole { head: String, body: String },
    /// A head that promises more than ever comes.
    Stuck,
}

impl Provider {
    /// One that knows nothing yet.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<Mutex<State>>::default();
        let task = tokio::spawn(run(listener, state.clone()));
        Self { address, state, task }
    }

    /// What its URLs begin with, without a slash at the end.
    #[must_use]
    pub fn base(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its host, with its port.
    #[must_use]
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Answers this path with this JSON, or whatever text, from now on.
    pub fn serve(&self, path: &str, body: &str) {
        self.answer(path, "200 OK", body);
    }

    /// Answers this path with this status line, and header lines behind it if there are any, from now on.
    pub fn answer(&self, path: &str, head: &str, body: &str) {
        let (head, body) = (head.to_owned(), body.to_owned());
        self.state()
            .answers
            .insert(path.to_owned(), Answer::Whole { head, body });
    }

    /// Begins an answer to this path and never ends it, from now on.
    pub fn hang(&self, path: &str) {
        self.state().answers.insert(path.to_owned(), Answer::Stuck);
    }

    /// How often this path was asked for.
    #[must_use]
    pub fn requests(&self, path: &str) -> usize {
        self.state().requests.iter().filter(|asked| *asked == path).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut open = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        open.spawn(answer(socket, state.clone()));
        while open.try_join_next().is_some() {}
    }
}

async fn answer(mut socket: TcpStream, state: Arc<Mutex<State>>) {
    // The requests are short.
    let mut request = [0; 4_096];
    let Ok(length) = socket.read(&mut request).await else {
        return;
    };
    let text = String::from_utf8_lossy(&request[..length]).into_owned();
    let path = text.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let answer = {
        let mut state = state.lock().expect("nobody panics with it");
        let answer = state.answers.get(&path).cloned();
        state.requests.push(path);
        answer
    };
    let (head, body) = match answer {
        Some(Answer::Whole { head, body }) => (head, body),
        None => ("404 Not Found".to_owned(), String::new()),
        Some(Answer::Stuck) => {
            let _ = socket
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                .await;
            // Until the one who asked has had enough.
            let _ = socket.read(&mut request).await;
            return;
        }
    };
    let length = body.len();
    let text = format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let _ = socket.write_all(text.as_bytes()).await;
}
