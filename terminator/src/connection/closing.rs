//! The end of a connection: what was not written goes back, the client is told, and so are the workers.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use shared::bus::PublishError;
use shared::wire::id::ConnectionId;
use shared::wire::protocol::{CloseCode, ServerMessage};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as FrameCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tracing::trace;

use super::close_reason::CloseReason;
use super::read_ahead::Received;
use crate::accept::handshake::linger;
use crate::accept::stream::Stream;
use crate::connection::{Connection, beside, submitted};
use crate::session::notices::last_error;
use crate::session::notices::refuse::unforwarded;
use crate::session::{Dismissed, Session};

/// The time for the last errors and the closing handshake (RFC 6455 §7.1.2).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// What is still read and dropped from a client that broke the rules: 64 MiB, four of the largest messages.
const MOST_LINGER_BYTES: u64 = 64 * 1_024 * 1_024;
/// How long one that has told the workers of its end keeps its place: with [`crate::broker::forward`]'s number of places, three
/// thousand a second.
const PACE_OF_ENDS: Duration = Duration::from_millis(20);
/// How long what a client that has left had sent waits for what it had sent before.
const SEE_OFF_TIMEOUT: Duration = Duration::from_secs(5);
/// The same if each message waits for the one before it to be handled.
const SEE_OFF_TIMEOUT_IN_ORDER: Duration = Duration::from_secs(15);

/// Ends a connection.
pub(crate) async fn take_leave(mut connection: Connection, ending: CloseReason) {
    if ending == CloseReason::Left {
        // Its client does not wait for what it has asked: the server ends the TCP connection first (RFC 6455 §7.1.1).
        let _ = timeout(CLOSE_TIMEOUT, connection.socket.get_mut().shutdown()).await;
        end(&mut connection).await;
    }
    if ending.is_for_authentication() {
        connection.refuse_parked();
    }
    refuse_ahead(&mut connection, ending);
    // From here on, what comes for it goes where the rest goes.
    let Dismissed { texts, back } = connection
        .entry
        .peer
        .change(|session, now| session.dismiss(ending, now.instant));
    for back in back {
        connection.forwarder.undelivered.send(back);
    }
    if let CloseReason::Close { code, say } = ending {
        let (deadline, id) = (deadline(&connection), connection.entry.peer.id());
        if Instant::now() < deadline {
            // Anyone who does not take the good-bye in time goes without.
            let closing = timeout_at(deadline, close(&mut connection.socket, texts, (code, id), say));
            let _ = beside(pin!(closing), &mut connection.parked).await;
        }
    }
    tell_workers(connection, ending).await;
}

/// Until when the socket may be written to. What it has not taken of what was on behalf of an identity goes first.
fn deadline(connection: &Connection) -> Instant {
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    let limit = connection.entry.peer.look(Session::write_limit);
    limit
        .filter(|_| connection.unflushed)
        .and_then(|(_, limit)| limit)
        .map_or(deadline, |limit| limit.min(deadline))
}

/// The client has left, but what it sent before may still wait to be forwarded, or to be decided after what it sent
/// before that.
async fn end(connection: &mut Connection) {
    // Nothing can be forwarded before the broker is back, or is given up.
    if !connection.ahead.is_empty() {
        connection.broker_awaited().await;
    }
    let deadline = Instant::now()
        + match connection.entry.peer.common().around.limits.run {
            Some(_) => SEE_OFF_TIMEOUT_IN_ORDER,
            None => SEE_OFF_TIMEOUT,
        };
    connection.entry.peer.change(|session, _| session.leave());
    let waits = async {
        let mut ended = connection.forward_ahead();
        while ended.is_none() && (!connection.ahead.is_empty() || connection.entry.peer.look(Session::is_undecided)) {
            connection.ask_workers();
            tokio::select! {
                biased;
                () = connection.entry.peer.wake.notified() => {}
                () = submitted(&mut connection.parked), if connection.parked.is_some() => {}
            }
            ended = connection.forward_ahead();
        }
    };
    // What has waited that long was sent by no one who could know its answer.
    let _ = timeout_at(deadline, waits).await;
}

/// What was read and is not forwarded any more is refused, so that the client knows. Of a terminator that leaves it is not:
/// what no one has answered is sent to the next one, as what was never read.
fn refuse_ahead(connection: &mut Connection, ending: CloseReason) {
    if ending.code() == Some(CloseCode::Restart) {
        return;
    }
    while let Some(Received { text, .. }) = connection.ahead.pop() {
        connection.forwarder.metrics.message_refused(PublishError::Ended);
        connection.entry.peer.tell(unforwarded(&text, ending));
    }
}

/// Says why, closes, and waits for the client to agree.
async fn close(
    socket: &mut WebSocketStream<Stream>,
    texts: Vec<Bytes>,
    (code, connection): (CloseCode, ConnectionId),
    say: bool,
) {
    let error = last_error(code).filter(|_| say);
    let error = error.map(|error| Bytes::from(ServerMessage::error(None, &error).to_json()));
    // Anyone who reads too slowly is not given more.
    let texts = if code == CloseCode::SlowReader {
        Vec::new()
    } else {
        texts
    };
    for text in texts.into_iter().chain(error) {
        // Only a forged answer is no text, and it is dropped.
        if let Ok(text) = Utf8Bytes::try_from(text)
            && socket.send(Message::Text(text)).await.is_err()
        {
            return;
        }
    }
    let frame = CloseFrame {
        code: FrameCode::from(code.code()),
        // By its connection, that is, anyone who runs this can have it explained.
        reason: format!("{} ({connection})", code.reason()).into(),
    };
    if socket.close(Some(frame)).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {
            trace!("a frame after our close");
        }
        // Behind frames that could not be read, more may be on its way.
        let _ = linger(socket.get_mut(), MOST_LINGER_BYTES).await;
    }
}

/// Workers that have heard of this connection are told that it is gone.
async fn tell_workers(connection: Connection, ending: CloseReason) {
    let Connection {
        socket,
        entry,
        forwarder,
        mut parked,
        ..
    } = connection;
    // The broker may be a while; the client need not be.
    drop(socket);
    submitted(&mut parked).await;
    let notice = forwarder.closed(&entry.peer, ending.code());
    drop(entry);
    if let Some(notice) = notice {
        // A place is only ever given up by its own end.
        let _turn = forwarder.ends.acquire().await;
        forwarder.publisher.submit(notice).await;
        sleep(PACE_OF_ENDS).await;
    }
}
