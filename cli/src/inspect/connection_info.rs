//! What the store knows of a connection, in one look: who is on the other end, and what is held.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};
use shared::service::clock::Timestamp;
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::request_id::RequestId;
use worker::store::{HeldMessage, Mailbox, Proved, RecordedState, Store, StoreError};

use crate::support::human;

/// The most held writes that are counted; more than any sane hold-max-messages.
const MOST_COUNTED: u64 = 1_000;

/// A connection as the store has it.
pub(crate) struct Known {
    pub(crate) connection: ConnectionId,
    pub(crate) state: RecordedState,
    /// Of the client, in its order.
    pub(crate) held_messages: Vec<HeldMessage>,
    /// Answers to what it asked: 1,000 may be more.
    pub(crate) held_answers: u64,
    /// Pushes for its identity, on whatever connection; none if there is no identity.
    pub(crate) held_pushes: Option<u64>,
    /// The connection that has taken over what this one had held.
    pub(crate) successor: Option<ConnectionId>,
}

impl Known {
    /// Looks. Tokens count for `leeway` after their expiry.
    ///
    /// # Errors
    /// If the store does not answer.
    pub(crate) async fn look(
        store: &dyn Store,
        connection: ConnectionId,
        now: Timestamp,
        leeway: Duration,
    ) -> Result<Self, StoreError> {
        let state = RecordedState::of(store.authentication(connection).await?, now, leeway);
        let held_pushes = match state.proved() {
            Some(proved) => Some(held_writes(store, proved.identity.tag().into()).await?),
            None => None,
        };
        Ok(Self {
            connection,
            state,
            held_messages: store.held_messages(connection).await?,
            held_answers: held_writes(store, connection.into()).await?,
            held_pushes,
            successor: store.successor(connection).await?,
        })
    }

    /// One JSON object. Payloads and tokens are not in it.
    pub(crate) fn to_json(&self) -> Value {
        let proved = self.state.proved();
        json!({
            "connection": self.connection,
            "state": self.state.as_str(),
            "subject": proved.map(|proved| proved.identity.subject.as_str()),
            "issuer": proved.map(|proved| proved.identity.issuer.as_str()),
            "until": proved.map(|proved| proved.until.as_secs()),
            "by": self.state.by(),
            "successor": self.successor,
            "held": {
                "inbound": self.held_messages.len(),
                "answers": self.held_answers,
                "pushes": self.held_pushes,
            },
            "held_messages": self.held_messages.iter().map(HeldJson::from).collect::<Vec<_>>(),
        })
    }
}

/// How many writes are held in a mailbox: 1,000 may be more.
///
/// # Errors
/// If the store does not answer.
pub(crate) async fn held_writes(store: &dyn Store, mailbox: Mailbox) -> Result<u64, StoreError> {
    let held = store.held_writes(mailbox, MOST_COUNTED).await?;
    Ok(held.len() as u64)
}

/// A held message without its payload.
#[derive(Serialize)]
struct HeldJson<'a> {
    sequence: Sequence,
    id: Option<&'a RequestId<'static>>,
    #[serde(rename = "type")]
    kind: &'a str,
    bytes: usize,
    since: u64,
}

impl<'a> From<&'a HeldMessage> for HeldJson<'a> {
    fn from(held: &'a HeldMessage) -> Self {
        Self {
            sequence: held.sequence,
            id: held.id.as_ref(),
            kind: &held.kind,
            bytes: bytes(held),
            since: held.since.as_secs(),
        }
    }
}

/// How long its payload is.
pub(crate) fn bytes(held: &HeldMessage) -> usize {
    held.payload.as_ref().map_or(0, String::len)
}

/// A state, for people.
pub(crate) fn describe(state: &RecordedState, now: Timestamp) -> String {
    match state {
        RecordedState::Live(Proved { identity, until, by }) => {
            let left = human::duration(until.saturating_since(now));
            format!("{identity}, for another {left} (by message {by})")
        }
        RecordedState::Expired(Proved { identity, until, by }) => {
            format!(
                "{identity} until {}; expired since (by message {by})",
                human::relative(*until, now)
            )
        }
        RecordedState::Forgotten { by } => format!("anonymous: logged out by message {by}"),
        RecordedState::Closed { .. } => "closed".to_owned(),
        RecordedState::Unknown => {
            "no identity is recorded: it has not authenticated yet, or it closed long ago".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use worker::auth::identity::Identity;
    use worker::store::Authentication;
    use worker::token::{Keys, Rules, Verifier};

    use super::*;
    use crate::support::dev_key::{self, SecretFile};
    use crate::token::Signer;

    /// Only a verified token makes an identity.
    fn alice() -> Identity {
        let file = SecretFile::create().unwrap();
        let source = file.entry().parse().unwrap();
        let issuers = [worker::auth::identity::Issuer::new(dev_key::ISSUER)];
        let keys = Keys::load(&[source], &issuers, &[]).unwrap();
        let now = Timestamp::from_secs(1_000);
        let minute = Duration::from_secs(60);
        let token = Signer::development().unwrap().token("alice", now, minute, &[]).unwrap();
        let rules = Rules::new(vec![dev_key::AUDIENCE.to_owned()]);
        Verifier::new(keys, rules, 1)
            .verify(&token, now)
            .result
            .unwrap()
            .identity
            .clone()
    }

    fn described(now_ms: u64) -> String {
        let recorded = Authentication::Live {
            identity: alice(),
            until: Timestamp::from_secs(1_000),
            by: Sequence::new(7),
            resume: [0; 32],
        };
        let leeway = Duration::from_secs(5);
        let now = Timestamp::from_millis(now_ms);
        describe(&RecordedState::of(Some(recorded), now, leeway), now)
    }

    #[test]
    fn who_and_until_when_is_told_for_people() {
        let live = described(943_000);
        assert_eq!(live, "alice of countersign-dev, for another 1 min 2 s (by message 7)");
        let expired = described(1_010_000);
        assert!(expired.contains("until 5 s ago"), "{expired}");
    }
}
