//! Messages from one identity to another: `relay`.
//!
//! `{"type": "relay", "payload": {"to": {"subject": "bob"}, "payload": …}}` becomes a
//! push to Bob: `{"from": {"issuer", "subject"}, "payload": …}`, and what became of it
//! the reply: `{"outcome": "delivered", "connections": 1}` or `{"outcome": "held"}`.
//! Where `relay-tells-presence` is off it is `{"outcome": "accepted"}` for both.
//! It goes the way of pushes, and is what a push is: on each of Bob's live
//! connections, or held for his next one. A message that is handled again makes the
//! same push again, which clients are shown once.
//!
//! The sender's name is the one that the token proved: nothing in the message can say
//! otherwise. Messages that are in flight together may pass each other; anyone who waits
//! for each reply keeps them in order.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use shared::service::chance;
use shared::wire::object::Object;
use shared::wire::protocol::ErrorCode;
use shared::wire::tag::IdentityTag;

use super::upstream::request::Identity;
use super::{Answers, Handler, HandlerError, Request};
use crate::auth::identity::{self, Issuer, Unnamed};
use crate::outbound::outcome::Outcome;
use crate::outbound::pushes::Pushes;
use crate::outbound::pushes::push::Push;

/// The only type of message.
const TYPE: &str = "relay";

/// Pushes messages.
pub(crate) struct Relay {
    pub(crate) pushes: Arc<Pushes>,
    /// Whether a sender learns if the recipient is there.
    pub(crate) tells_presence: bool,
}

/// What a sender is told who is not to learn whether the recipient is there.
#[derive(Serialize)]
struct Accepted {
    outcome: &'static str,
}

/// What a client asks for. A member that is not known could have said whom it means.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked<'a> {
    to: Object<To>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct To {
    subject: String,
    #[serde(default)]
    issuer: Option<String>,
}

/// What the other identity is shown.
#[derive(Serialize)]
struct Relayed<'a> {
    from: Identity<'a>,
    payload: &'a RawValue,
}

impl Relay {
    fn push(&self, request: &Request<'_>) -> Result<(Push, IdentityTag), HandlerError> {
        if request.kind != TYPE {
            return Err(refused("only messages of the type `relay` are handled here"));
        }
        if request.identity.is_anonymous() {
            let why = "anonymous messages are not relayed: authenticate";
            return Err(HandlerError::new(ErrorCode::AuthRequired, why));
        }
        let text = request.payload.map_or("null", RawValue::get);
        let Object(asked): Object<Asked<'_>> = serde_json::from_str(text).map_err(|_| {
            refused("the payload is not `{\"to\": {\"subject\": …}, \"payload\": …}`, with an `issuer` if there are several")
        })?;
        let relayed = Relayed {
            from: Identity::of(request),
            payload: asked.payload,
        };
        let Object(to) = &asked.to;
        // All of it came as JSON, so it can be written as JSON.
        let payload = serde_json::to_vec(&relayed).unwrap_or_default();
        let identity = identity::tag_of(&self.issuer(to.issuer.as_deref())?, subject(to)?);
        let push = Push::relayed(
            request.identity.tag(),
            identity,
            id_of(request),
            &payload,
            self.pushes.outbound.clock.now(),
        );
        match push {
            Ok(push) => Ok((push, identity)),
            Err(fault) => Err(HandlerError::new(fault.error().code, fault.to_string())),
        }
    }

    fn issuer(&self, name: Option<&str>) -> Result<Issuer, HandlerError> {
        identity::issuer_of(name, &self.pushes.issuers).map_err(|unnamed| {
            refused(match unnamed {
                Unnamed::Several => "there are several issuers: name the subject's in `to.issuer`",
                Unnamed::Unknown => "the issuer is not one of the accepted issuers",
            })
        })
    }
}

fn subject(to: &To) -> Result<&str, HandlerError> {
    let subject = Some(&*to.subject).filter(|subject| identity::is_subject(subject));
    subject.ok_or_else(|| refused("there can be no such subject"))
}

fn refused(why: &str) -> HandlerError {
    HandlerError::new(ErrorCode::BadRequest, why)
}

/// The push's name: the same whenever the message is handled again, and it tells nothing of the sender's connection.
fn id_of(request: &Request<'_>) -> String {
    let bits = request.idempotency_key().map(|key| {
        let digest = Sha256::digest(format!("relay {key}"));
        digest
            .iter()
            .take(16)
            .fold(0, |bits: u128, byte| bits << 8 | u128::from(*byte))
    });
    format!("{:032x}", bits.unwrap_or_else(chance::bits))
}

impl Handler for Relay {
    async fn handle(&self, request: Request<'_>) -> Result<Answers, HandlerError> {
        let (push, identity) = self.push(&request)?;
        match self.pushes.send(&push, identity).await {
            Ok(Outcome::Delivered { .. } | Outcome::Held) if !self.tells_presence => {
                Answers::one(&Accepted { outcome: "accepted" })
            }
            Ok(outcome @ (Outcome::Delivered { .. } | Outcome::Held)) => Answers::one(&outcome),
            Ok(Outcome::Refused { .. }) => Err(HandlerError::new(
                ErrorCode::Busy,
                "too much is held for the recipient already",
            )),
            Ok(
                Outcome::Sent { .. }
                | Outcome::NoRecipient
                | Outcome::Expired
                | Outcome::OfEach { .. }
                | Outcome::Revoked { .. },
            )
            | Err(_) => Err(HandlerError::new(
                ErrorCode::Busy,
                "the message cannot be delivered to the recipient at the moment",
            )),
        }
    }
}
