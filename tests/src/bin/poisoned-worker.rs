//! A worker whose handler does what the message's `type` says, harm included: for claims about what befalls others.

use std::process::{self, ExitCode};
use std::time::Duration;

use serde_json::json;
use shared::protocol::ErrorCode;
use worker::{Answers, Handler, HandlerError, Request};

/// What a `slow` message takes.
const SLOW: Duration = Duration::from_millis(500);
/// How many answers a `many` message has.
const MANY: u32 = 20;

fn main() -> ExitCode {
    worker::program::run_with(std::env::args_os().skip(1), Poisoned)
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
