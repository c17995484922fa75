//! The one message that authenticates a connection.

use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::support::message::{Answer, ClientMessage};
use crate::support::ws::Socket;

/// As long as a person would wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// The messages that are measured are numbered, so none of them has this id.
const ID: &str = "authenticate";

/// Authenticates the connection, and waits until that is so.
///
/// # Errors
/// If it is refused, or not answered.
pub(crate) async fn authenticate(socket: &mut Socket, token: &str) -> anyhow::Result<()> {
    let message = ClientMessage::<()> {
        id: Some(ID),
        kind: "auth.authenticate",
        token: Some(token),
        payload: None,
    };
    socket.send(Message::text(message.to_json())).await?;
    timeout(ANSWER_TIMEOUT, answer(socket)).await.with_context(|| {
        format!(
            "auth.authenticate was not answered within {} s",
            ANSWER_TIMEOUT.as_secs()
        )
    })?
}

async fn answer(socket: &mut Socket) -> anyhow::Result<()> {
    while let Some(frame) = socket.next().await {
        let Message::Text(text) = frame? else { continue };
        match Answer::read(text.as_bytes()) {
            Some(answer) if answer.is_refusal() => bail!("auth.authenticate was refused: {text}"),
            Some(answer) if answer.id.as_deref() == Some(ID) => return Ok(()),
            _ => {}
        }
    }
    bail!("the terminator closed the connection")
}
