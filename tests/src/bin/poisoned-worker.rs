//! A worker whose handler does what the message's `type` says, harm included: for claims about what befalls others.

use std::process::{self, ExitCode};
use std::time::Duration;

use serde_json::json;
use shared::life::{self, Drained, Signals};
use shared::protocol::ErrorCode;
use worker::config::WorkerConfig;
use worker::{Answers, Handler, HandlerError, Request, Worker};

/// What a `slow` message takes, and what may come after the drain-timeout.
const SLOW: Duration = Duration::from_millis(500);
const CLOSING_TIME: Duration = Duration::from_secs(6);
/// How many answers a `many` message has.
const MANY: u32 = 20;

fn main() -> ExitCode {
    life::run(serve)
}

async fn serve(config: WorkerConfig, mut signals: Signals) -> Result<Drained, worker::StartError> {
    let deadline = config.drain_timeout + CLOSING_TIME;
    let worker = Worker::start(config, Poisoned).await?;
    if let Some(addr) = worker.admin_addr() {
        say(&format!("listening on admin http://{addr}"));
    }
    signals.next().await;
    worker.shutdown();
    Ok(signals.drain(deadline, worker.join()).await)
}

fn say(line: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    // If nobody listens any more, nobody waits for it.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

struct Poisoned;

impl Handler for Poisoned {
    #[expect(
        clippy::panic,
        reason = "that a panic harms nobody else is what the claims are about"
    )]
    async fn handle(&self, request: Request<'_>) -> Result<Answers, HandlerError> {
        match request.kind {
            "abort" => process::abort(),
            "panic" => panic!("as the message wished"),
            "fail" => Err(HandlerError::new(ErrorCode::Forbidden, "as the message wished")),
            "none" => Ok(Answers::none()),
            "many" => (0..MANY).try_fold(Answers::none(), |answers, number| {
                Ok(answers.and(Answers::one(&number)?))
            }),
            "whoami" => Answers::one(&json!({
                "issuer": request.identity.issuer.as_str(),
                "subject": request.identity.subject.as_str(),
            })),
            "slow" => {
                tokio::time::sleep(SLOW).await;
                Ok(Answers::raw(request.payload.map(ToOwned::to_owned)))
            }
            _ => Ok(Answers::raw(request.payload.map(ToOwned::to_owned))),
        }
    }
}
