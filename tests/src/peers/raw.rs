//! A client that may send anything: half a handshake, frames without a mask, bytes that are no text.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout_at},
};

use super::client::ANSWER_LIMIT;
use crate::servers::http::Answer;

/// Opcodes of RFC 6455, section 5.2.
pub mod opcode {
    /// Goes on with a fragmented message.
    pub const CONTINUATION: u8 = 0;
    /// Text in UTF-8.
    pub const TEXT: u8 = 1;
    /// Bytes.
    pub const BINARY: u8 = 2;
    /// The end.
    pub const CLOSE: u8 = 8;
    /// Are you there?
    pub const PING: u8 = 9;
    /// I am.
    pub const PONG: u8 = 10;
}

/// The mask of every masked frame: it hides nothing, and need not surprise.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// One frame (RFC 6455, section 5.2), on its way out or in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// Whether the message ends here.
    pub fin: bool,
    /// What it is: see [`opcode`].
    pub opcode: u8,
    /// Whether it is masked, as each frame of a client must be.
    pub masked: bool,
    /// The bytes, unmasked.
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// A proper frame of a client, whole and masked.
    #[must_use]
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            fin: true,
            opcode,
            masked: true,
            payload: payload.into(),
        }
    }

    /// The same, to be continued.
    #[must_use]
    pub fn unfinished(self) -> Self {
        Self { fin: false, ..self }
    }

    /// The same without its mask, which no client may send.
    #[must_use]
    pub fn unmasked(self) -> Self {
        Self { masked: false, ..self }
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | self.opcode];
        let mask_bit = u8::from(self.masked) << 7;
        match self.payload.len() {
            length @ ..126 => bytes.push(mask_bit | length as u8),
            length @ 126..=0xffff => {
                bytes.push(mask_bit | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(mask_bit | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend(MASK);
            bytes.extend(
                self.payload
                    .iter()
                    .zip(MASK.iter().cycle())
                    .map(|(byte, mask)| byte ^ mask),
            );
        } else {
            bytes.extend(&self.payload);
        }
        bytes
    }

    /// The code of a close frame.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.get(..2).filter(|_| self.opcode == opcode::CLOSE)?;
        Some(u16::from_be_bytes([code[0], code[1]]))
    }
}

/// A TCP connection to whatever should speak WebSocket.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    address: SocketAddr,
}

impl RawClient {
    /// Connects, and says nothing yet.
    ///
    /// # Panics
    /// If no one listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a TCP connection");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, address }
    }

    /// The same, from an address of this machine (`127.0.0.2`): so that one client is not another's neighbour.
    ///
    /// # Panics
    /// If no one listens, or the address is not this machine's.
    pub async fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(source, 0)).expect("an address of ours");
        let stream = socket.connect(address).await.expect("a TCP connection");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, address }
    }

    /// Shakes hands over a connection whose kernel takes in only so many bytes before someone reads.
    ///
    /// # Panics
    /// If no one listens, or the handshake is refused.
    pub async fn upgraded_with_receive_buffer(address: SocketAddr, bytes: u32) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(bytes).expect("a socket option");
        let stream = socket.connect(address).await.expect("a TCP connection");
        Self { stream, address }.upgrade().await
    }

    /// Connects and shakes hands as it should be.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn upgraded(address: SocketAddr) -> Self {
        Self::connect(address).await.upgrade().await
    }

    /// Shakes hands.
    ///
    /// # Panics
    /// If that is refused.
    pub async fn upgrade(mut self) -> Self {
        self.write(self.handshake()).await;
        let answer = self.read_head(ANSWER_LIMIT).await;
        assert_eq!(answer.status, 101, "{answer:?}");
        self
    }

    /// A proper handshake (RFC 6455, section 1.3), for sending it in pieces or altered.
    #[must_use]
    pub fn handshake(&self) -> String {
        format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            self.address
        )
    }

    /// Sends bytes. That the server has closed already is no failure: reading shows it.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: &RawFrame) {
        self.write(frame.bytes()).await;
    }

    /// Reads the head of an HTTP answer, and nothing behind it.
    ///
    /// # Panics
    /// If none comes within `limit`.
    pub async fn read_head(&mut self, limit: Duration) -> Answer {
        let deadline = Instant::now() + limit;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout_at(deadline, self.stream.read_u8()).await;
            head.push(byte.expect("an HTTP answer in time").expect("an HTTP answer"));
        }
        Answer::parse(&head).expect("an HTTP answer")
    }

    /// Reads a frame; none if the connection ends.
    ///
    /// # Panics
    /// If neither happens within `limit`.
    pub async fn read_frame(&mut self, limit: Duration) -> Option<RawFrame> {
        let read = async {
            let [first, second] = self.stream.read_u16().await?.to_be_bytes();
            let length = match second & 0x7f {
                126 => u64::from(self.stream.read_u16().await?),
                127 => self.stream.read_u64().await?,
                short => u64::from(short),
            };
            let mut payload = Vec::new();
            (&mut self.stream).take(length).read_to_end(&mut payload).await?;
            Ok::<_, std::io::Error>(RawFrame {
                fin: first & 0x80 != 0,
                opcode: first & 0x0f,
                masked: second & 0x80 != 0,
                payload,
            })
        };
        timeout_at(Instant::now() + limit, read)
            .await
            .expect("a frame or the end in time")
            .ok()
    }

    /// Reads until the server closes, and returns all that came. A reset counts as the end.
    ///
    /// # Panics
    /// If it does not close within `limit`.
    pub async fn read_until_close(&mut self, limit: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.read_rest(&mut bytes, limit).await;
        bytes
    }

    /// Reads until the server closes, and asserts that it does so without a reset, which may cost a client the words
    /// that came before.
    ///
    /// # Panics
    /// If it resets the connection, or does not close within `limit`.
    pub async fn expect_no_reset(&mut self, limit: Duration) {
        let ended = self.read_rest(&mut Vec::new(), limit).await;
        ended.expect("the connection ends without a reset");
    }

    async fn read_rest(&mut self, bytes: &mut Vec<u8>, limit: Duration) -> std::io::Result<usize> {
        timeout_at(Instant::now() + limit, self.stream.read_to_end(bytes))
            .await
            .expect("the server closes in time")
    }
}
