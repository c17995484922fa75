//! Everyone at once, as after a deploy: so many connections that each send one message at the same moment.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use hdrhistogram::Histogram;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::fleet::OPENING;
use super::idle::connect;
use super::processes::check_files;
use super::report::Burst;
use crate::support::message::Answer;
use crate::support::ws::{Socket, WsUrl};
use crate::token::Signer;

/// Longer than a terminator lets a message wait for the broker (`publish-timeout`).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// 1 µs to 100 s, to 3 digits.
const HIGHEST_US: u64 = 100_000_000;

/// What became of one message.
enum Outcome {
    Answered(Duration),
    Refused,
    Lost,
}

/// Opens `count` connections, and has each send one message at the same moment.
///
/// # Errors
/// If they cannot all be opened.
pub(crate) async fn measure(url: &WsUrl, signer: &Signer, count: usize) -> anyhow::Result<Burst> {
    check_files(count)?;
    let clients: Vec<(Socket, String)> = stream::iter(0..count)
        .map(|number| connect(url, signer, "burst", number))
        .buffer_unordered(OPENING)
        .try_collect()
        .await?;
    let began = Instant::now();
    let outcomes = join_all(clients.into_iter().map(|(socket, message)| ask(socket, message, began))).await;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, HIGHEST_US, 3)?;
    let (mut refused, mut lost) = (0, 0);
    for outcome in outcomes {
        match outcome {
            Outcome::Answered(after) => {
                let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
                histogram.saturating_record(us.clamp(1, HIGHEST_US));
            }
            Outcome::Refused => refused += 1,
            Outcome::Lost => lost += 1,
        }
    }
    Ok(Burst::new(count, &histogram, refused, lost))
}

async fn ask(mut socket: Socket, message: String, began: Instant) -> Outcome {
    let conversation = async {
        socket.send(Message::text(message)).await.ok()?;
        while let Some(Ok(frame)) = socket.next().await {
            let answer = frame.to_text().ok().and_then(|text| Answer::read(text.as_bytes()));
            match answer {
                Some(answer) if answer.id.is_some() && answer.is_refusal() => return Some(Outcome::Refused),
                Some(answer) if answer.id.is_some() => return Some(Outcome::Answered(began.elapsed())),
                _ => {}
            }
        }
        None
    };
    timeout(ANSWER_TIMEOUT, conversation)
        .await
        .ok()
        .flatten()
        .unwrap_or(Outcome::Lost)
}
