//! What happens to each message, gathered as it happens.
//!
//! Terminator and workers hand over each event that is a stage of a message's way, and
//! know nothing of who gets it. Here they are gathered, each with its time on one clock,
//! for pages that watch: in one process that is all it takes to see a message travel
//! through both. While there are none, a stage costs a look at their number.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use terminator::admin::message_event;
use tokio::sync::broadcast;
use tokio::time::Instant;
use worker::admin::event::Subject;
use worker::admin::observer;

/// How many stages may wait for someone who watches slowly: about nine to a message, so those of 400 messages.
const CAPACITY: usize = 4_096;

/// No field of a stage is longer than this, in bytes.
const MAX_FIELD_BYTES: usize = 256;

/// Every JWS begins with an encoded `{"` (RFC 7515 §3).
const LOOKS_LIKE_A_TOKEN: &str = "eyJ";

/// With what the key of a push begins: after it stands the push's id.
pub(crate) const PUSHES: &str = "p:";

/// Who tells what this tool does itself.
const TOOL: &str = "countersign";

/// One stage of one message's journey.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Stage {
    /// Microseconds since the gathering began.
    pub(crate) at_us: u64,
    /// Who tells it: `terminator`, `worker`, or this tool.
    pub(crate) by: &'static str,
    /// The stage that the message has reached.
    pub(crate) stage: &'static str,
    /// Whose journey: `<terminator>.<connection>.<sequence>` of a message, `p:<id>` of a push, `<terminator>.<connection>`
    /// of a connection, or the name given to an injected message.
    pub(crate) message_id: String,
    /// What else is told.
    pub(crate) fields: BTreeMap<String, String>,
}

/// Where the stages of all messages are to be had. Clones share it.
#[derive(Clone)]
pub(crate) struct Journeys(Arc<Gathering>);

struct Gathering {
    since: Instant,
    stages: broadcast::Sender<Arc<Stage>>,
    /// The name of the injected message that is on its way.
    injected: Mutex<Option<Arc<str>>>,
}

impl Journeys {
    /// Nothing gathered yet.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Gathering {
            since: Instant::now(),
            stages: broadcast::Sender::new(CAPACITY),
            injected: Mutex::default(),
        }))
    }

    /// All stages from now on. A reader that is too slow is told how many were missed.
    pub(crate) fn watch(&self) -> broadcast::Receiver<Arc<Stage>> {
        self.0.stages.subscribe()
    }

    /// Gives the injected message that is on its way a name of its own, until the guard is dropped.
    ///
    /// There must be one at a time: nothing else tells them apart.
    pub(crate) fn name_injected(&self, name: &str) -> Named {
        self.0.set_injected(Some(name.into()));
        Named(self.0.clone())
    }

    /// Gathers what a terminator tells.
    pub(crate) fn of_terminator(&self) -> message_event::Listener {
        let gathering = self.0.clone();
        Arc::new(move |of, event| gathering.add("terminator", event.stage(), of, event))
    }

    /// Gathers what a worker tells.
    pub(crate) fn of_worker(&self) -> observer::Listener {
        let gathering = self.0.clone();
        Arc::new(move |of, event| match (of, event.stage()) {
            (Subject::Other, _) | (_, None) => {}
            (Subject::Injected, Some(stage)) => gathering.add("worker", stage, &gathering.injected(), event),
            (of, Some(stage)) => gathering.add("worker", stage, &of, event),
        })
    }

    /// Gathers what this tool does itself.
    pub(crate) fn add(&self, stage: &'static str, message_id: &str, fields: impl Serialize) {
        self.0.add(TOOL, stage, &message_id, &fields);
    }
}

/// The name of an injected message, which goes with this.
pub(crate) struct Named(Arc<Gathering>);

impl Drop for Named {
    fn drop(&mut self) {
        self.0.set_injected(None);
    }
}

impl Gathering {
    fn set_injected(&self, name: Option<Arc<str>>) {
        *self.injected.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    fn injected(&self) -> Arc<str> {
        let name = self.injected.lock().unwrap_or_else(PoisonError::into_inner);
        name.clone().unwrap_or_else(|| Subject::Injected.to_string().into())
    }

    fn add(&self, by: &'static str, stage: &'static str, of: &dyn Display, fields: &impl Serialize) {
        if self.stages.receiver_count() == 0 {
            return;
        }
        let message_id = of.to_string();
        if message_id.is_empty() {
            return;
        }
        // A page that watched may have left meanwhile.
        let _ = self.stages.send(Arc::new(Stage {
            at_us: u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX),
            by,
            stage,
            message_id: shown(message_id),
            fields: texts(fields),
        }));
    }
}

/// The fields of an event, as text.
fn texts(fields: &impl Serialize) -> BTreeMap<String, String> {
    let Ok(Value::Object(fields)) = serde_json::to_value(fields) else {
        return BTreeMap::new();
    };
    let text = |value| match value {
        Value::Null => None,
        Value::String(text) => Some(shown(text)),
        other => Some(shown(other.to_string())),
    };
    let fields = fields.into_iter();
    fields.filter_map(|(name, value)| Some((name, text(value)?))).collect()
}

/// A text as a page may see it. No event has a token; if one ever had, it would end here.
fn shown(mut text: String) -> String {
    if text.contains(LOOKS_LIKE_A_TOKEN) {
        return "withheld".to_owned();
    }
    let mut ends = (0..=MAX_FIELD_BYTES.min(text.len())).rev();
    text.truncate(ends.find(|end| text.is_char_boundary(*end)).unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shared::wire::envelope::Bounced;
    use shared::wire::id::{MessageId, Sequence, TerminatorId};
    use terminator::admin::message_event::MessageEvent;
    use worker::admin::event::Event;

    use super::*;

    /// What a page that watches is told while `act` runs.
    fn told(journeys: &Journeys, act: impl FnOnce()) -> Vec<Arc<Stage>> {
        let mut watcher = journeys.watch();
        act();
        std::iter::from_fn(|| watcher.try_recv().ok()).collect()
    }

    fn message_id() -> MessageId {
        MessageId {
            connection: shared::wire::id::ConnectionId {
                terminator: TerminatorId::random(),
                number: 0x1f,
            },
            sequence: Sequence::new(2),
        }
    }

    #[test]
    fn an_event_is_a_stage_with_its_fields_as_text() {
        let (journeys, message_id) = (Journeys::new(), message_id());
        let stages = told(&journeys, || {
            let bounced = MessageEvent::Bounced { why: Bounced::Expired };
            journeys.of_terminator()(&message_id, &bounced);
            let handled = Event::Handled {
                ok: true,
                took: std::time::Duration::from_micros(7),
            };
            journeys.of_worker()(message_id.into(), &handled);
        });
        let told: Vec<_> = stages
            .iter()
            .map(|stage| (stage.by, stage.stage, json!(stage.fields)))
            .collect();
        assert_eq!(
            told,
            [
                ("terminator", "bounced", json!({"why": "Expired"})),
                ("worker", "handler", json!({"ok": "true", "took_us": "7"})),
            ]
        );
        assert!(
            stages.iter().all(|stage| stage.message_id == message_id.to_string()),
            "{stages:?}"
        );
    }

    #[test]
    fn stages_keep_their_order_on_one_clock() {
        let journeys = Journeys::new();
        let stages = told(&journeys, || {
            for stage in ["forward", "queue", "worker"] {
                journeys.add(stage, "a.1.1", ());
            }
        });
        let names: Vec<&str> = stages.iter().map(|stage| stage.stage).collect();
        assert_eq!(names, ["forward", "queue", "worker"]);
        assert!(stages.is_sorted_by_key(|stage| stage.at_us));
    }

    #[test]
    fn what_is_no_stage_of_anything_is_left_out() {
        let journeys = Journeys::new();
        let stages = told(&journeys, || {
            journeys.of_worker()(message_id().into(), &Event::Authenticated { resumes: None });
            let back = Event::ToldRevocations { queue: "q", count: 1 };
            journeys.of_worker()(Subject::Other, &back);
            journeys.of_terminator()(&"", &MessageEvent::Written { trace_id: None });
        });
        assert!(stages.is_empty(), "{stages:?}");
    }

    #[test]
    fn what_looks_like_a_token_is_withheld_and_what_is_long_is_cut() {
        let journeys = Journeys::new();
        let stages = told(&journeys, || {
            let fields = json!({"token": "Bearer eyJhbGciOi", "long": "ä".repeat(1_000)});
            journeys.add("s", "a.1.1", fields);
            journeys.add("s", "eyJhbGciOi", ());
        });
        assert_eq!(stages[0].fields["token"], "withheld");
        assert_eq!(stages[0].fields["long"].len(), MAX_FIELD_BYTES);
        assert_eq!(stages[1].message_id, "withheld");
    }

    #[test]
    fn an_injected_message_has_its_name_as_long_as_it_is_on_its_way() {
        let (journeys, message_id) = (Journeys::new(), message_id());
        let stages = told(&journeys, || {
            let tell = |of| journeys.of_worker()(of, &Event::SentBack);
            let named = journeys.name_injected("injected-7");
            tell(Subject::Injected);
            tell(message_id.into());
            drop(named);
            tell(Subject::Injected);
        });
        let message_ids: Vec<&str> = stages.iter().map(|stage| stage.message_id.as_str()).collect();
        assert_eq!(message_ids, ["injected-7", &*message_id.to_string(), "injected"]);
    }
}
