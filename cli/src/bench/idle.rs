//! What an idle connection costs the terminator in memory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use shared::service::clock::{Clock as _, SystemClock};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::cpu;
use super::fleet::OPENING;
use super::processes::check_files;
use super::report::Idle;
use crate::support::message::{Answer, ClientMessage};
use crate::support::ws::{self, Socket, WsUrl};
use crate::token::Signer;

/// Below the terminator's default of connections from one address.
const PER_ADDRESS: usize = 900;
/// Until an allocator has given back what it does not need, and buffers are at rest.
const SETTLING: Duration = Duration::from_secs(3);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longer than it takes to open as many as there may be.
const TOKEN_LIFETIME: Duration = Duration::from_secs(900);

/// Opens `count` connections, each authenticated by one message, and looks at the memory before and after.
///
/// # Errors
/// If they cannot all be opened.
pub(crate) async fn measure(url: &WsUrl, signer: &Signer, count: usize, terminator: u32) -> anyhow::Result<Idle> {
    check_files(count)?;
    // What the first connection costs, the next ones do not.
    drop(open(url, signer, 0).await?);
    sleep(SETTLING).await;
    let before = cpu::resident_bytes(terminator)?;
    let sockets: Vec<Socket> = stream::iter(0..count)
        .map(|number| open(url, signer, number))
        .buffer_unordered(OPENING)
        .try_collect()
        .await?;
    sleep(SETTLING).await;
    let after = cpu::resident_bytes(terminator)?;
    Ok(Idle::new(sockets.len(), after.saturating_sub(before)))
}

/// A connection, and a message with a token of its own for it to send.
///
/// # Errors
/// If it cannot be opened.
pub(super) async fn connect(
    url: &WsUrl,
    signer: &Signer,
    crowd: &str,
    number: usize,
) -> anyhow::Result<(Socket, String)> {
    let socket = ws::connect(url, source(url, number)).await?;
    let token = signer.token(&format!("{crowd}-{number}"), SystemClock.now(), TOKEN_LIFETIME, &[])?;
    let message = ClientMessage {
        id: Some("1"),
        kind: "echo",
        token: Some(&token),
        payload: Some(number),
    };
    Ok((socket, message.to_json()))
}

async fn open(url: &WsUrl, signer: &Signer, number: usize) -> anyhow::Result<Socket> {
    let (mut socket, message) = connect(url, signer, "idle", number).await?;
    socket.send(Message::text(message)).await?;
    let answered = timeout(ANSWER_TIMEOUT, answer(&mut socket)).await;
    answered.with_context(|| format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))??;
    Ok(socket)
}

async fn answer(socket: &mut Socket) -> anyhow::Result<()> {
    while let Some(frame) = socket.next().await {
        let Message::Text(text) = frame? else { continue };
        match Answer::read(text.as_bytes()) {
            Some(answer) if answer.is_refusal() => bail!("the message was refused: {text}"),
            Some(answer) if answer.id.as_deref() == Some("1") => return Ok(()),
            _ => {}
        }
    }
    bail!("the terminator closed the connection")
}

/// On this machine, connections come from several addresses of the loopback network, as clients do.
fn source(url: &WsUrl, number: usize) -> Option<SocketAddr> {
    let (IpAddr::V4(_), _) = url.loopback()? else {
        return None;
    };
    let host = u8::try_from(1 + number / PER_ADDRESS % 250).ok()?;
    Some(SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)))
}
