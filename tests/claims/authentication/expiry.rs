//! What the claims about authentication that expires have in common: short lives, two strategies, and how to say things.

use std::time::Duration;

use serde_json::{Value, json};
use tests::tokens::token::Builder;
use tests::{Client, Span, token_for};

/// How long a token lives that is to expire: at least so long, and at most a second longer, because `exp` is in whole
/// seconds. Long enough to log in on a busy machine, short enough to be waited for.
pub(crate) const LIFE: Duration = Duration::from_secs(2);

/// For whatever is to happen at once, on a slow and busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A token of `subject` that will expire while the claim waits.
pub(crate) fn brief(subject: &str) -> Builder<'static> {
    token_for(subject).expiring_in(LIFE)
}

/// A fresh token of `subject`.
pub(crate) fn fresh(subject: &str) -> String {
    token_for(subject).mint()
}

/// How a client says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// By each message.
    PerMessage,
    /// By `auth.authenticate`.
    Explicit,
}

impl Strategy {
    /// The settings of its stack: no leeway, so that a token expires when it says, and these.
    pub(crate) fn with<'a>(self, policies: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let name = match self {
            Self::PerMessage => "per-message",
            Self::Explicit => "explicit",
        };
        [&[("jwt-leeway", "0s"), ("strategy", name)], policies].concat()
    }

    /// Authenticates the connection, or renews it, and returns the `auth` that it is told.
    pub(crate) async fn log_in(self, client: &mut Client, token: &str) -> Value {
        match self {
            Self::PerMessage => {
                let answer = client.request("echo", Some(token), Value::Null).await;
                assert_eq!(answer["type"], "reply", "{answer}");
                answer["auth"].clone()
            }
            Self::Explicit => client.authenticate(token).await,
        }
    }

    /// Asks as a client would who has only this token, be it good or not. Returns the message's `id`.
    pub(crate) async fn ask(self, client: &mut Client, kind: &str, token: &str, payload: impl Into<Value>) -> String {
        let token = (self == Self::PerMessage).then_some(token);
        client.ask(kind, token, payload.into()).await
    }

    /// The code with which that is refused once the token has expired.
    pub(crate) fn refusal(self) -> &'static str {
        match self {
            Self::PerMessage => "token_expired",
            Self::Explicit => "auth_required",
        }
    }
}

/// A connection of `subject` that has just expired, and the token that did.
pub(crate) async fn expired(mut client: Client, strategy: Strategy, subject: &str) -> (Client, String) {
    let token = brief(subject);
    strategy.log_in(&mut client, &token.mint()).await;
    token.expired().await;
    (client, token.mint())
}

/// The same by `auth.authenticate`.
pub(crate) async fn expired_explicitly(client: Client, subject: &str) -> Client {
    expired(client, Strategy::Explicit, subject).await.0
}

/// Waits until this connection is asked for a token because it has expired, and so many messages and pushes wait. One
/// notice comes for each expiry, with the count of that moment; more may come to wait later.
pub(crate) async fn asked(client: &mut Client, inbound: u64, outbound: u64) {
    let required = client.expect_required("expired", SOON).await;
    let held = json!({"inbound": inbound, "outbound": outbound});
    assert_eq!(required["held"], held, "{required}");
    let deadline_ms = required["deadline_ms"].as_u64().expect("a deadline in milliseconds");
    assert!((1..=300_000).contains(&deadline_ms), "{required}");
}

/// Asserts that this connection has not been asked for a token because of an expiry, as far as anything has come.
pub(crate) async fn not_asked(client: &mut Client) {
    client.ping(SOON).await;
    let notice = client.waiting().find(|message| message["reason"] == "expired");
    assert_eq!(notice, None);
}

/// The `id`s of the next `count` replies, in the order in which they come. An error is a failure.
pub(crate) async fn replies(client: &mut Client, count: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        let message = client.next_json(SOON).await;
        match message["type"].as_str() {
            Some("reply") => ids.push(message["id"].as_str().expect("an id").to_owned()),
            Some(kind) if kind.starts_with("auth.") => {}
            _ => panic!("no reply: {message}; after {ids:?}"),
        }
    }
    ids
}

/// The code of the error that answers `id`.
pub(crate) async fn refused(client: &mut Client, id: &str) -> Value {
    let answer = client.answer_to(id, 15.s()).await;
    assert_eq!(answer["type"], "error", "{answer}");
    answer["error"]["code"].clone()
}
