//! A key server that answers, falls silent, goes away and comes back, as a claim wants it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use crate::nodes::port::free_port;
use crate::tokens::key::{Key, jwks};

/// A JWKS at a URL that stays the same. It ends with this value.
#[derive(Debug)]
pub struct KeyServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    body: String,
    requests: usize,
}

impl KeyServer {
    /// An address at which no one is yet.
    #[must_use]
    pub fn away() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, free_port()).into(),
            state: Arc::default(),
            task: None,
        }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/keys.json", self.address)
    }

    /// How often it was asked.
    ///
    /// # Panics
    /// If a claim has panicked within.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.lock().expect("nobody panics with it").requests
    }

    /// Serves these keys from now on.
    pub async fn serve<'a>(&mut self, keys: impl IntoIterator<Item = &'a Key>) {
        self.serve_text(&jwks(keys)).await;
    }

    /// Serves this very text from now on.
    ///
    /// # Panics
    /// If someone else has taken its port.
    pub async fn serve_text(&mut self, body: &str) {
        self.state.lock().expect("nobody panics with it").body = body.to_owned();
        if self.task.is_none() {
            let listener = TcpListener::bind(self.address).await.expect("the port is free");
            self.task = Some(tokio::spawn(run(listener, self.state.clone())));
        }
    }

    /// Goes away: anyone who connects is refused.
    pub async fn leave(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // The socket is closed when the task is gone, and not before.
            let _ = task.await;
        }
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn run(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((mut socket, _)) = listener.accept().await {
        // The requests are short, and come one at a time.
        let mut request = [0; 4_096];
        if socket.read(&mut request).await.is_err() {
            continue;
        }
        let answer = {
            let mut state = state.lock().expect("nobody panics with it");
            state.requests += 1;
            let length = state.body.len();
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/jwk-set+json\r\nContent-Length: {length}\r\n\
                 Connection: close\r\n\r\n{}",
                state.body
            )
        };
        let _ = socket.write_all(answer.as_bytes()).await;
    }
}
