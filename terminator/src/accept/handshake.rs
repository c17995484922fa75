//! From bytes on a fresh TCP connection to a WebSocket, or to an HTTP answer that says why not.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::origin::AllowedOrigins;
use super::proxies::proxy_header::{self, Found};
use super::stream::Stream;
use super::upgrade::{self, Refusal, Request};

/// What a socket reads at a time. It is allocated for as long as the socket lives.
const READ_BUFFER_BYTES: usize = 1024;
/// Answers that wait together leave together, up to this many bytes. Nothing is allocated before it is needed.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;
/// How long and how much is still read from a client that was refused, so that it sees the answer and no reset.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

/// A record of TLS with the fatal alert `internal_error` (RFC 8446 §5.1, §6): "unrelated to the peer or the correctness of
/// the protocol".
const FATAL_INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// Why a connection does not become a socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It gets an HTTP answer.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// It is gone, or sent nothing.
    #[error("the connection failed: {0}")]
    Gone(#[from] io::Error),
}

/// What there is to read of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) allowed: &'a AllowedOrigins,
    /// The longest head, in bytes.
    pub(crate) most_bytes: usize,
}

/// Agrees to the upgrade. Frames may follow the response at once.
pub(crate) async fn agree(stream: &mut Stream, response: String, frames: &[u8]) -> io::Result<()> {
    let mut bytes = response.into_bytes();
    bytes.extend_from_slice(frames);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Makes the socket, once the handshake is done.
pub(crate) async fn socket(stream: Stream, rest: Vec<u8>, max_message_size: usize) -> WebSocketStream<Stream> {
    let config = socket_config(max_message_size);
    WebSocketStream::from_partially_read(stream, rest, Role::Server, Some(config)).await
}

/// Answers a request that gets no socket, and lets the client read the answer.
pub(crate) async fn refuse(stream: &mut Stream, refusal: Refusal) {
    let answer = async {
        stream.write_all(refusal.response().as_bytes()).await?;
        linger(stream, LINGER_BYTES).await
    };
    // A client that does not listen has been told all the same.
    let _ = timeout(LINGER_TIMEOUT, answer).await;
}

/// Ends a connection that is to be encrypted before that has begun: an alert is all that can be said (RFC 8446 §6).
pub(crate) async fn alert(stream: &mut Stream) {
    let answer = async {
        stream.write_all(&FATAL_INTERNAL_ERROR).await?;
        linger(stream, LINGER_BYTES).await
    };
    let _ = timeout(LINGER_TIMEOUT, answer).await;
}

/// Says that nothing more comes, and reads on until the client has left, or sent so much. A socket that is dropped with
/// something unread is reset by the kernel, and a reset may overtake the last words.
pub(crate) async fn linger(stream: &mut Stream, most_bytes: u64) -> io::Result<()> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(most_bytes), &mut tokio::io::sink()).await?;
    Ok(())
}

/// Reads a request behind what was received already, which is in `head`, until it can be judged.
pub(crate) async fn read_request(
    stream: &mut Stream,
    head: &mut Vec<u8>,
    reading: Reading<'_>,
) -> Result<Request, Failure> {
    let mut judged = 0_usize;
    loop {
        // What dribbles in is judged when its blank line is there, not at each byte.
        if !head.is_empty() && (judged == 0 || has_blank_line(&head[judged.saturating_sub(3)..])) {
            match upgrade::read(head, reading.allowed) {
                Request::Partial => {}
                Request::Upgrade { length, .. } if length > reading.most_bytes => break,
                request => return Ok(request),
            }
        }
        judged = head.len();
        if judged >= reading.most_bytes {
            break;
        }
        receive(stream, head).await?;
    }
    Ok(Request::Refused(Refusal::TooLarge))
}

/// Reads the PROXY header that a connection begins with, and leaves what comes behind it in `received`. None if the proxy
/// speaks for itself; without a header it is an error where one is `required`, and otherwise nothing, too.
pub(crate) async fn read_proxy_header(
    stream: &mut Stream,
    received: &mut Vec<u8>,
    required: bool,
) -> Result<Option<IpAddr>, Failure> {
    loop {
        let wrong = match proxy_header::read(received) {
            Found::Header { length, source } => {
                received.drain(..length);
                return Ok(source);
            }
            Found::Nothing if !required => return Ok(None),
            Found::Nothing => "a PROXY header must come first",
            Found::Malformed => "this is not a PROXY header",
            Found::Partial => match receive(stream, received).await {
                Ok(()) => continue,
                Err(_) if !received.is_empty() => "the PROXY header ends too early",
                Err(error) => return Err(error.into()),
            },
        };
        return Err(Failure::Refused(Refusal::ProxyHeader(wrong)));
    }
}

/// Reads what there is.
async fn receive(stream: &mut Stream, received: &mut Vec<u8>) -> io::Result<()> {
    received.reserve(READ_BUFFER_BYTES);
    match stream.read_buf(received).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn has_blank_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(4).any(|four| four == b"\r\n\r\n")
}

fn socket_config(max_message_size: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        // Answers are bounded before they come here (`send-queue-bytes`); this is so that nothing is without a limit.
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(max_message_size))
        .max_frame_size(Some(max_message_size))
        .accept_unmasked_frames(false)
}
