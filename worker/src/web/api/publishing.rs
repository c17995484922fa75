//! Puts pushes and revocations where those of the queue are, and waits for what becomes of them.
//!
//! From there on they are like all others: workers take them as they come, and nothing here does what they do.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use shared::bus::topology::Names;
use shared::bus::{Bus, Confirm, Link, Message, PublishError, PublishTimeout, Publisher, Route, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::outcomes::{Awaited, Outcomes};
use super::problem::Problem;
use crate::outbound::pushes::subjects::SUBJECTS;

/// How long the broker may take to confirm. It may have taken what it does not confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// Of what is told at a time.
const PREFETCH: u16 = 256;

/// The word for what the broker has taken, and of which nothing was told in time.
const ACCEPTED: &str = "accepted";
/// The word for what a worker does not take.
const REFUSED: &str = "refused";

/// What has become of something.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct Told {
    /// The `id` of the push, as clients see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<String>,
    /// `accepted` (the broker has it; with `wait`: nothing was told in time), or what a worker told: `delivered`, `held`,
    /// `no_recipient` or `refused` of a push, `of_each` of one for several subjects, `revoked` or `refused` of a revocation.
    pub(super) outcome: String,
    /// With `delivered`: the connections it was sent to. With `revoked`: the live connections it has reached, where that
    /// can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
    /// With `revoked`: `false` if no replica of the store has confirmed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replicated: Option<bool>,
    /// With `refused`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
    /// With `of_each`: what has become of it for each subject; with `accepted`, for those of which that was told in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcomes: Option<Vec<ToldOfOne>>,
}

/// What has become of a push for one of several subjects.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct ToldOfOne {
    /// The subject.
    subject: Option<String>,
    /// `sent`, `held`, `no_recipient` or `refused`.
    outcome: String,
    /// With `sent`: the connections it is on its way to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
    /// With `refused`: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
}

/// Why a worker refused something.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct Refusal {
    /// An error code of the protocol: `hold_overflow`, `duplicate`, ….
    code: String,
    /// Why, for people.
    message: String,
    /// Whether the same may be accepted later.
    #[serde(default)]
    temporary: bool,
}

impl Told {
    fn accepted() -> Self {
        Self {
            message_id: None,
            outcome: ACCEPTED.to_owned(),
            connections: None,
            replicated: None,
            error: None,
            outcomes: None,
        }
    }

    /// Takes what was told, and tells whether that is all.
    fn takes(&mut self, told: Self, subjects: usize) -> bool {
        let Some(more) = told.outcomes else {
            *self = told;
            return true;
        };
        let all = self.outcomes.get_or_insert_default();
        all.extend(more);
        let is_all = all.len() >= subjects;
        if is_all {
            self.outcome = told.outcome;
        }
        is_all
    }

    /// Why a worker has refused it, if it has.
    pub(super) fn refusal(&self) -> Option<&str> {
        let is_refused = self.outcome == REFUSED;
        is_refused.then(|| self.error.as_ref().map_or(REFUSED, |error| error.message.as_str()))
    }

    /// Whether that is all that will be told.
    pub(super) fn is_accepted(&self) -> bool {
        self.outcome == ACCEPTED
    }
}

/// Publishes, and hears what becomes of it.
pub(super) struct Publishing {
    publisher: Publisher,
    pub(super) names: Names,
    link: watch::Receiver<Link>,
    reply_to: String,
    pub(super) outcomes: Arc<Outcomes>,
}

impl Publishing {
    /// On this bus. What it hears is to be listened to.
    pub(super) fn new(bus: &dyn Bus, names: &Names) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let queue = names.inject_queue(shared::service::chance::number());
        let outcomes = Arc::<Outcomes>::default();
        let reply_to = queue.name.clone();
        let listening = outcomes.clone().listen(bus.consumer(queue, PREFETCH));
        let publishing = Self {
            publisher: bus.publisher(PublishTimeout::Limited(CONFIRM_TIMEOUT)),
            names: names.clone(),
            link: bus.link(),
            reply_to,
            outcomes,
        };
        (publishing, listening)
    }

    /// Puts all of these into a queue, in their order, and tells of each what has become of it in that time.
    ///
    /// # Errors
    /// If the broker does not have all of them. It may have some.
    pub(super) async fn publish(
        &self,
        queue: &str,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Result<Vec<Told>, Problem> {
        match &*self.link.borrow() {
            Link::Up => {}
            Link::Blocked => {
                return Err(Problem::unavailable(
                    "the broker takes nothing: it is out of memory or disk",
                ));
            }
            Link::Away(_) => return Err(Problem::unavailable("the broker is away")),
        }
        let (mut confirms, mut awaited) = (Vec::new(), Vec::new());
        for mut message in messages {
            if !wait.is_zero() {
                let expected = self.outcomes.expect();
                message.properties.correlation_id = Some(expected.correlation_id.clone());
                message.properties.reply_to = Some(self.reply_to.clone());
                awaited.push((expected, subjects_of(&message)));
            }
            confirms.push(self.publisher.begin(Route::queue(queue), message).await);
        }
        let count = confirms.len();
        for confirmed in join_all(confirms.into_iter().map(Confirm::outcome)).await {
            confirmed.map_err(unpublished)?;
        }
        if awaited.is_empty() {
            return Ok(std::iter::repeat_with(Told::accepted).take(count).collect());
        }
        let until = Instant::now() + wait;
        let all = awaited.into_iter().map(|(one, subjects)| told(one, subjects, until));
        Ok(join_all(all).await)
    }
}

/// What is told of one until then. Of a push for so many subjects it may be told in parts.
async fn told(mut awaited: Awaited, subjects: usize, until: Instant) -> Told {
    let mut known = Told::accepted();
    while let Ok(Some(body)) = timeout_at(until, awaited.next()).await {
        let Ok(told) = serde_json::from_slice::<Told>(&body) else {
            continue;
        };
        if known.takes(told, subjects) {
            break;
        }
    }
    known
}

/// How many a push is for, if its header names many.
fn subjects_of(message: &Message) -> usize {
    let subjects = match message.properties.header(SUBJECTS) {
        Some(Value::Text(text)) => serde_json::from_str::<HashSet<String>>(text).map_or(1, |all| all.len()),
        _ => 1,
    };
    subjects.max(1)
}

fn unpublished(error: PublishError) -> Problem {
    match error {
        PublishError::Malformed => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the subjects together take more than the broker carries: name fewer",
        ),
        PublishError::Refused => Problem::unavailable("the broker's queue is full"),
        PublishError::Unroutable => Problem::unavailable("the broker has no queue for it yet"),
        PublishError::Away | PublishError::Ended => {
            Problem::unavailable("the broker has not confirmed it: repeat it, with the same `message_id`")
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::bus::Properties;

    use super::*;

    fn of(subjects: &[&str]) -> Told {
        let outcomes: Vec<_> = subjects
            .iter()
            .map(|one| serde_json::json!({"subject": one, "outcome": "held"}))
            .collect();
        serde_json::from_value(serde_json::json!({"outcome": "of_each", "outcomes": outcomes})).unwrap()
    }

    #[test]
    fn what_is_told_in_parts_is_told_when_all_of_it_is_there() {
        let header = (
            SUBJECTS.to_owned(),
            Value::Text(r#"["a","b","a","c\u0064"]"#.to_owned()),
        );
        let message = Message {
            properties: Properties {
                headers: vec![header],
                ..Properties::default()
            },
            ..Message::default()
        };
        assert_eq!((subjects_of(&message), subjects_of(&Message::default())), (3, 1));
        let mut known = Told::accepted();
        assert!(!known.takes(of(&["a", "cd"]), 3));
        assert!(known.is_accepted());
        assert!(known.takes(of(&["b"]), 3));
        assert_eq!(
            (known.outcome.as_str(), known.outcomes.map(|all| all.len())),
            ("of_each", Some(3))
        );
        let mut known = Told::accepted();
        let refused =
            serde_json::from_str(r#"{"outcome":"refused","error":{"code":"busy","message":"full"}}"#).unwrap();
        assert!(known.takes(refused, 3));
        assert_eq!(known.refusal(), Some("full"));
    }
}
