//! A port mapper as one node sees it: where its peers are, by links that can be cut.
//!
//! Erlang nodes find each other by asking `epmd`. Each node of ours asks one of its own, which answers with the port of
//! the link to that peer: so each of the ways between the nodes can be cut, with no privilege and no firewall.
//! The protocol: <https://www.erlang.org/doc/apps/erts/erl_dist_protocol.html#epmd-protocol>.

use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::nodes::port::free_port;

const ALIVE2_REQ: u8 = 120;
const ALIVE2_X_RESP: u8 = 118;
const ALIVE2_RESP: u8 = 121;
const PORT_PLEASE2_REQ: u8 = 122;
const PORT2_RESP: u8 = 119;
const NAMES_REQ: u8 = 110;

/// From this version of the distribution protocol on, what tells one life of a node from the next has four bytes.
const LONG_CREATION: u16 = 6;

/// What a node says of itself when it registers, and what others are told of it: its port, type, protocol and versions.
type Registration = [u8; 8];

/// A visible node that speaks versions 5 and 6 over TCP (R6 to today).
const fn registration_at(port: u16) -> Registration {
    let [high, low] = port.to_be_bytes();
    [high, low, 77, 0, 0, 6, 0, 5]
}

type Names = Arc<Mutex<BTreeMap<Vec<u8>, Registration>>>;

/// A port mapper for one node and its tools.
#[derive(Debug)]
pub struct Mapper {
    port: u16,
    _tasks: JoinSet<()>,
}

impl Mapper {
    /// One that knows the ways to these peers, by what stands before the `@` of their names.
    ///
    /// # Panics
    /// If no port can be had.
    pub async fn start(peers: &[(&str, u16)]) -> Self {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .expect("a port that is free");
        let peers = peers
            .iter()
            .map(|(name, port)| (name.as_bytes().to_vec(), registration_at(*port)))
            .collect();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, peers));
        Self { port, _tasks: tasks }
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn serve(listener: TcpListener, peers: BTreeMap<Vec<u8>, Registration>) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let (peers, registered) = (Arc::new(peers), Names::default());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let asked = Asked {
                    port,
                    peers: peers.clone(),
                    registered: registered.clone(),
                };
                // Anyone who breaks off in the middle of a request needs no answer.
                connections.spawn(async move { _ = asked.answer(stream).await });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

struct Asked {
    port: u16,
    peers: Arc<BTreeMap<Vec<u8>, Registration>>,
    registered: Names,
}

impl Asked {
    async fn answer(self, mut stream: TcpStream) -> io::Result<()> {
        let length = stream.read_u16().await?;
        let mut request = vec![0; length.into()];
        stream.read_exact(&mut request).await?;
        match request.split_first() {
            Some((&ALIVE2_REQ, said)) => self.register(stream, said).await,
            Some((&PORT_PLEASE2_REQ, name)) => stream.write_all(&self.port_of(name)).await,
            Some((&NAMES_REQ, _)) => stream.write_all(&self.names()).await,
            _ => Ok(()),
        }
    }

    /// A node is known for as long as it keeps this connection.
    async fn register(self, mut stream: TcpStream, said: &[u8]) -> io::Result<()> {
        let (Some(registration), Some(named)) = (said.first_chunk::<8>(), said.get(8..)) else {
            return Ok(());
        };
        let Some(name) = text(named) else { return Ok(()) };
        let highest = u16::from_be_bytes([registration[4], registration[5]]);
        let creation: u32 = rand::random_range(4..=u16::MAX.into());
        let [.., high, low] = creation.to_be_bytes();
        let answer = if highest >= LONG_CREATION {
            [&[ALIVE2_X_RESP, 0][..], &creation.to_be_bytes()].concat()
        } else {
            vec![ALIVE2_RESP, 0, high, low]
        };
        self.lock().insert(name.to_vec(), *registration);
        stream.write_all(&answer).await?;
        let mut end = [0];
        let _ = stream.read(&mut end).await;
        self.lock().remove(name);
        Ok(())
    }

    fn port_of(&self, name: &[u8]) -> Vec<u8> {
        let known = self.peers.get(name).copied();
        let Some(registration) = known.or_else(|| self.lock().get(name).copied()) else {
            return vec![PORT2_RESP, 1];
        };
        let length = u16::try_from(name.len()).unwrap_or_default().to_be_bytes();
        [&[PORT2_RESP, 0][..], &registration, &length, name, &[0, 0]].concat()
    }

    fn names(&self) -> Vec<u8> {
        let mut answer = u32::from(self.port).to_be_bytes().to_vec();
        for (name, [high, low, ..]) in self.lock().iter() {
            let port = u16::from_be_bytes([*high, *low]);
            answer.extend_from_slice(format!("name {} at port {port}\n", String::from_utf8_lossy(name)).as_bytes());
        }
        answer
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Vec<u8>, Registration>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text behind its length.
fn text(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.get(..u16::from_be_bytes(*length).into())
}
