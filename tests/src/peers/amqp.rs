//! A publisher that may write anything around a message: AMQP 0-9-1 by hand, without a library that knows better.

use std::{io, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    time::timeout,
};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;
const CHANNEL: u16 = 1;

/// Type, channel and size, and the end.
const FRAME_EXTRA: usize = 8;

/// How long the broker may take to answer.
const LIMIT: Duration = Duration::from_secs(20);

/// What the broker says to a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has it, in as many queues as there are keys for it.
    Confirmed,
    /// No queue takes it.
    Unroutable,
    /// A queue takes no more.
    Refused,
    /// It closes the channel or the connection; its words.
    Closed(String),
}

/// Flags and properties as they cross the wire (AMQP 0-9-1 §4.2.6.1), each as it is added, whatever it is.
#[derive(Clone, Debug, Default)]
pub struct RawProperties {
    texts: [Option<Vec<u8>>; 14],
}

/// The properties by their place among the flags, from the highest bit on.
pub mod place {
    /// `content-type`.
    pub const CONTENT_TYPE: usize = 0;
    /// `content-encoding`.
    pub const CONTENT_ENCODING: usize = 1;
    /// `headers`.
    pub const HEADERS: usize = 2;
    /// `delivery-mode`.
    pub const DELIVERY_MODE: usize = 3;
    /// `priority`.
    pub const PRIORITY: usize = 4;
    /// `correlation-id`.
    pub const CORRELATION_ID: usize = 5;
    /// `reply-to`.
    pub const REPLY_TO: usize = 6;
    /// `expiration`.
    pub const EXPIRATION: usize = 7;
    /// `message-id`.
    pub const MESSAGE_ID: usize = 8;
    /// `timestamp`.
    pub const TIMESTAMP: usize = 9;
    /// `type`.
    pub const TYPE: usize = 10;
    /// `user-id`.
    pub const USER_ID: usize = 11;
    /// `app-id`.
    pub const APP_ID: usize = 12;
    /// `cluster-id`.
    pub const CLUSTER_ID: usize = 13;
}

impl RawProperties {
    /// A short string, cut at 255 bytes.
    #[must_use]
    pub fn text(mut self, place: usize, text: &[u8]) -> Self {
        self.texts[place] = Some(short(text));
        self
    }

    /// Anything else, as it is: an octet, a timestamp.
    #[must_use]
    pub fn bytes(mut self, place: usize, bytes: &[u8]) -> Self {
        self.texts[place] = Some(bytes.to_vec());
        self
    }

    /// The table of headers, of these entries.
    #[must_use]
    pub fn headers(self, entries: &[u8]) -> Self {
        let length = u32::try_from(entries.len()).expect("it fits").to_be_bytes();
        self.bytes(place::HEADERS, &[&length[..], entries].concat())
    }

    fn on_the_wire(&self) -> Vec<u8> {
        let given = self.texts.iter().enumerate().filter(|(_, text)| text.is_some());
        let flags = given.fold(0_u16, |flags, (index, _)| flags | 0x8000 >> index);
        let mut wire = flags.to_be_bytes().to_vec();
        self.texts
            .iter()
            .flatten()
            .for_each(|text| wire.extend_from_slice(text));
        wire
    }
}

/// One entry of a table: a name, and a value with its type before it.
#[must_use]
pub fn entry(name: &[u8], kind: u8, value: &[u8]) -> Vec<u8> {
    [&short(name)[..], &[kind], value].concat()
}

/// Bytes with their length before them, as in a long string, a table or an array.
#[must_use]
pub fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("it fits").to_be_bytes();
    [&length[..], bytes].concat()
}

/// A short string, cut at 255 bytes.
fn short(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    [&[length][..], &text[..usize::from(length)]].concat()
}

/// A connection with one channel, on which publishing is confirmed and direct replies are received.
#[derive(Debug)]
pub struct RawPublisher {
    stream: BufStream<TcpStream>,
    frame_max: usize,
    /// How many answers have come by direct reply.
    answers: usize,
}

impl RawPublisher {
    /// Logs in as `user`, whose password is its name, at a node of this machine.
    ///
    /// # Errors
    /// If the broker does not let it in.
    pub async fn connect(port: u16, user: &str) -> io::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let mut this = Self {
            stream: BufStream::new(stream),
            frame_max: 4_096,
            answers: 0,
        };
        this.stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        this.stream.flush().await?;
        this.expect([0, 10, 0, 10]).await?;
        let secret = long(format!("\0{user}\0{user}").as_bytes());
        let start_ok = [&[0; 4][..], &short("PLAIN"), &secret, &short("en_US")].concat();
        this.send_method(0, [0, 10, 0, 11], &start_ok).await?;
        let tune = this.expect([0, 10, 0, 30]).await?;
        this.frame_max = u32::from_be_bytes([tune[2], tune[3], tune[4], tune[5]]) as usize;
        let no_heartbeat = [&tune[..6], &[0, 0][..]].concat();
        this.send_method(0, [0, 10, 0, 31], &no_heartbeat).await?;
        this.send_method(0, [0, 10, 0, 40], &[&short("/")[..], &[0, 0][..]].concat())
            .await?;
        this.expect([0, 10, 0, 41]).await?;
        this.send_method(CHANNEL, [0, 20, 0, 10], &[0]).await?;
        this.expect([0, 20, 0, 11]).await?;
        this.send_method(CHANNEL, [0, 85, 0, 10], &[0]).await?;
        this.expect([0, 85, 0, 11]).await?;
        let consume = [
            &[0, 0][..],
            &short("amq.rabbitmq.reply-to"),
            &[0, 0b10][..],
            &[0; 4][..],
        ]
        .concat();
        this.send_method(CHANNEL, [0, 60, 0, 20], &consume).await?;
        this.expect([0, 60, 0, 21]).await?;
        Ok(this)
    }

    /// The largest frame that the broker takes.
    #[must_use]
    pub fn frame_max(&self) -> usize {
        self.frame_max
    }

    /// How many answers have come by direct reply, as far as was read.
    #[must_use]
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// Publishes, and waits for what the broker says.
    ///
    /// # Panics
    /// If it says nothing.
    pub async fn publish(&mut self, exchange: &str, key: &str, properties: &RawProperties, body: &[u8]) -> Verdict {
        let said = timeout(LIMIT, self.try_publish(exchange, key, properties, body)).await;
        said.expect("the broker says something")
            .unwrap_or_else(|error| Verdict::Closed(error.to_string()))
    }

    async fn try_publish(
        &mut self,
        exchange: &str,
        key: &str,
        properties: &RawProperties,
        body: &[u8],
    ) -> io::Result<Verdict> {
        let mandatory = 1;
        let publish = [&[0, 0][..], &short(exchange), &short(key), &[mandatory][..]].concat();
        self.send_method(CHANNEL, [0, 60, 0, 40], &publish).await?;
        let size = (body.len() as u64).to_be_bytes();
        let header = [&[0, 60, 0, 0][..], &size, &properties.on_the_wire()].concat();
        self.send_frame(HEADER, CHANNEL, &header).await?;
        for piece in body.chunks(self.frame_max - FRAME_EXTRA) {
            self.send_frame(BODY, CHANNEL, piece).await?;
        }
        self.stream.flush().await?;
        let mut returned = false;
        loop {
            let (kind, payload) = self.read_frame().await?;
            let is_method = kind == METHOD && payload.len() >= 4;
            match payload.get(..4) {
                Some([0, 60, 0, 80]) if is_method => {
                    return Ok(if returned {
                        Verdict::Unroutable
                    } else {
                        Verdict::Confirmed
                    });
                }
                Some([0, 60, 0, 120]) if is_method => return Ok(Verdict::Refused),
                Some([0, 60, 0, 50]) if is_method => returned = true,
                Some([0, 60, 0, 60]) if is_method => self.answers += 1,
                Some([0, 20, 0, 40] | [0, 10, 0, 50]) if is_method => {
                    return Ok(Verdict::Closed(String::from_utf8_lossy(&payload[6..]).into_owned()));
                }
                _ => {}
            }
        }
    }

    /// Reads the answers that have come by `limit`, at most until there are `most` in all.
    pub async fn gather_answers(&mut self, most: usize, limit: Duration) {
        let gather = async {
            while self.answers < most
                && let Ok((kind, payload)) = self.read_frame().await
            {
                self.answers += usize::from(kind == METHOD && payload.starts_with(&[0, 60, 0, 60]));
            }
        };
        let _ = timeout(limit, gather).await;
    }

    async fn send_method(&mut self, channel: u16, id: [u8; 4], arguments: &[u8]) -> io::Result<()> {
        self.send_frame(METHOD, channel, &[&id[..], arguments].concat()).await?;
        self.stream.flush().await
    }

    async fn send_frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> io::Result<()> {
        self.stream.write_u8(kind).await?;
        self.stream.write_u16(channel).await?;
        self.stream
            .write_u32(u32::try_from(payload.len()).expect("it fits"))
            .await?;
        self.stream.write_all(payload).await?;
        self.stream.write_u8(FRAME_END).await
    }

    async fn read_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let kind = self.stream.read_u8().await?;
        let _channel = self.stream.read_u16().await?;
        let size = self.stream.read_u32().await? as usize;
        let mut payload = vec![0; size + 1];
        self.stream.read_exact(&mut payload).await?;
        payload.pop();
        Ok((kind, payload))
    }

    /// Reads until this method comes, and returns its arguments.
    async fn expect(&mut self, id: [u8; 4]) -> io::Result<Vec<u8>> {
        loop {
            let (kind, payload) = self.read_frame().await?;
            if kind == METHOD && payload.starts_with(&id) {
                return Ok(payload[4..].to_vec());
            }
            if payload.starts_with(&[0, 10, 0, 50]) || payload.starts_with(&[0, 20, 0, 40]) {
                let text = String::from_utf8_lossy(&payload).into_owned();
                return Err(io::Error::other(text));
            }
        }
    }
}
