//! A handler that does what the message's `type` says, harm included: for claims about what befalls others.

use std::{
    collections::BTreeMap,
    process,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use shared::wire::protocol::ErrorCode;
use worker::{Answers, Handler, HandlerError, Request};

use crate::effect;

/// What a `slow` message takes.
const SLOW: Duration = Duration::from_millis(500);
/// How many answers a `many` message has.
const MANY: u32 = 20;

/// The handler of poisoned workers, and of those within this process.
#[derive(Debug, Clone, Copy)]
pub struct Poisoned;

impl Handler for Poisoned {
    async fn handle(&self, request: Request<'_>) -> Result<Answers, HandlerError> {
        match request.kind {
            "abort" => process::abort(),
            "panic" => panic!("as the message wished"),
            "fail" => return Err(HandlerError::new(ErrorCode::Forbidden, "as the message wished")),
            "effect" => return effect::handle(&request).await,
            "none" => return Ok(Answers::none()),
            "many" => {
                return (0..MANY).try_fold(Answers::none(), |answers, number| {
                    Ok(answers.and(Answers::one(&number)?))
                });
            }
            "whoami" => {
                return Answers::one(&json!({
                    "issuer": request.identity.issuer.as_str(),
                    "subject": request.identity.subject.as_str(),
                }));
            }
            "claims" => return Answers::one(request.claims),
            "trace" => {
                let headers: BTreeMap<_, _> = request.trace_headers().into_iter().collect();
                return Answers::one(&headers);
            }
            "slow" => tokio::time::sleep(SLOW).await,
            "until" => tokio::time::sleep(until(&request)).await,
            _ => {}
        }
        Ok(Answers::raw(request.payload.map(ToOwned::to_owned)))
    }
}

/// From now to the moment that the payload names, in milliseconds since the Unix epoch.
fn until(request: &Request<'_>) -> Duration {
    let payload = request.payload.map(|payload| payload.get()).unwrap_or_default();
    let named: Option<u64> = serde_json::from_str::<Value>(payload)
        .ok()
        .and_then(|named| named.as_u64());
    let moment = UNIX_EPOCH + Duration::from_millis(named.unwrap_or_default());
    moment.duration_since(SystemTime::now()).unwrap_or_default()
}
