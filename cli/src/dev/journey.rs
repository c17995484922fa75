//! What happens to each message, gathered from the log as it happens.
//!
//! Terminator and worker tell of every stage that a message passes, as events
//! of one tracing target, and know nothing of who listens. Here they are
//! gathered, each with its time on one clock, for whoever watches just now: in
//! one process that is all it takes to see a message travel through both.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use shared::wire::id::MessageId;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// The target of these events.
pub(crate) const TARGET: &str = "countersign::journey";

/// How many stages may wait for someone who watches slowly: about nine to a message, so those of 400 messages.
const CAPACITY: usize = 4_096;

/// No field of a stage is longer than this, in bytes.
const MAX_FIELD_BYTES: usize = 256;

/// Every JWS begins with an encoded `{"` (RFC 7515 §3).
const LOOKS_LIKE_A_TOKEN: &str = "eyJ";

/// What the worker calls a message that came by the queue alone: it has no connection, and so no stamp.
const INJECTED: &str = "injected";

/// With what the key of a push begins: after it stands the push's id.
pub(crate) const PUSHES: &str = "p:";

/// One stage of one message's journey.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Stage {
    /// Microseconds since the gathering began.
    pub(crate) at_us: u64,
    /// Who tells it: `terminator`, `worker`, or this tool.
    pub(crate) by: &'static str,
    /// Which stage.
    pub(crate) stage: String,
    /// Whose journey: `<terminator>.<connection>.<sequence>` of a message, `p:<id>` of a push, `<terminator>.<connection>`
    /// of a connection, or the name given to an injected message.
    pub(crate) stamp: String,
    /// What else was told.
    pub(crate) fields: BTreeMap<&'static str, String>,
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

    /// All stages from now on. Whoever reads too slowly is told how many were missed.
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

    /// The layer that gathers.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        Gatherer(self.0.clone()).with_filter(Targets::new().with_target(TARGET, LevelFilter::DEBUG))
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

    fn name(&self, stamp: String) -> String {
        if stamp != INJECTED {
            return stamp;
        }
        let name = self.injected.lock().unwrap_or_else(PoisonError::into_inner);
        name.as_deref().map_or(stamp, str::to_owned)
    }
}

struct Gatherer(Arc<Gathering>);

impl<S: Subscriber> Layer<S> for Gatherer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if self.0.stages.receiver_count() == 0 {
            return;
        }
        let at_us = u64::try_from(self.0.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut told = Told::default();
        event.record(&mut told);
        let Some(stamp) = told.whose() else { return };
        let Some(stage) = told.stage else { return };
        // Whoever watched may have left meanwhile.
        let _ = self.0.stages.send(Arc::new(Stage {
            at_us,
            by: teller(event.metadata().module_path()),
            stage,
            stamp: self.0.name(stamp),
            fields: told.fields,
        }));
    }
}

/// The crate that tells.
fn teller(module: Option<&'static str>) -> &'static str {
    module.unwrap_or_default().split("::").next().unwrap_or_default()
}

/// The fields of one event, as text.
#[derive(Default)]
struct Told {
    stage: Option<String>,
    stamp: Option<String>,
    fields: BTreeMap<&'static str, String>,
}

impl Told {
    /// Whose journey it is: of what is nearest to the matter.
    fn whose(&self) -> Option<String> {
        let field = |name| self.fields.get(name);
        let push = || field("push").map(|id| format!("{PUSHES}{id}"));
        let of_key = || field("key").map(|key| of_key(key).to_owned());
        self.stamp
            .clone()
            .or_else(of_key)
            .or_else(push)
            .or_else(|| field("connection").cloned())
    }
}

/// The journey of what has this key: an answer's is its question's stamp and a further part.
fn of_key(key: &str) -> &str {
    match key.rsplit_once('.') {
        Some((stamp, _)) if !key.starts_with(PUSHES) && stamp.parse::<MessageId>().is_ok() => stamp,
        _ => key,
    }
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Nobody tells tokens; if one day somebody did, it would end here.
        let mut text = if value.contains(LOOKS_LIKE_A_TOKEN) {
            "withheld"
        } else {
            value
        }
        .to_owned();
        let ends = (0..=MAX_FIELD_BYTES.min(text.len())).rev();
        text.truncate(ends.into_iter().find(|end| text.is_char_boundary(*end)).unwrap_or(0));
        match field.name() {
            "stage" => self.stage = Some(text),
            "stamp" => self.stamp = Some(text),
            // The sentence is for people who read logs.
            "message" => {}
            name => drop(self.fields.insert(name, text)),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing::{debug, info};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What somebody who watches is told while `act` runs.
    fn told(journeys: &Journeys, act: impl FnOnce()) -> Vec<Arc<Stage>> {
        let mut watcher = journeys.watch();
        let subscriber = tracing_subscriber::registry().with(journeys.layer());
        tracing::subscriber::with_default(subscriber, act);
        std::iter::from_fn(|| watcher.try_recv().ok()).collect()
    }

    #[test]
    fn a_stage_is_gathered_with_its_fields_as_text() {
        let stages = told(&Journeys::new(), || {
            debug!(target: TARGET, stage = "verdict", stamp = %"a.1.2", cached = true, took_us = 7, "a sentence");
        });
        let [stage] = stages.as_slice() else {
            panic!("{stages:?}")
        };
        assert_eq!((stage.stage.as_str(), stage.stamp.as_str()), ("verdict", "a.1.2"));
        assert_eq!(stage.by, "countersign");
        let fields = BTreeMap::from([("cached", "true".to_owned()), ("took_us", "7".to_owned())]);
        assert_eq!(stage.fields, fields);
    }

    #[test]
    fn stages_keep_their_order_on_one_clock() {
        let stages = told(&Journeys::new(), || {
            for stage in ["forward", "queue", "worker"] {
                debug!(target: TARGET, stage, stamp = "a.1.1");
            }
        });
        let names: Vec<&str> = stages.iter().map(|stage| stage.stage.as_str()).collect();
        assert_eq!(names, ["forward", "queue", "worker"]);
        assert!(stages.is_sorted_by_key(|stage| stage.at_us));
    }

    #[test]
    fn what_is_no_stage_is_left_to_the_log() {
        let stages = told(&Journeys::new(), || {
            info!(stage = "forward", stamp = "a.1.1", "another target");
            debug!(target: TARGET, stamp = "a.1.1", "no stage");
            debug!(target: TARGET, stage = "forward", "no stamp");
        });
        assert!(stages.is_empty(), "{stages:?}");
    }

    #[test]
    fn a_stage_belongs_to_what_is_nearest_to_it() {
        let connection = "0123456789abcdef.1f";
        let stages = told(&Journeys::new(), || {
            debug!(target: TARGET, stage = "push", push = "order-7");
            debug!(target: TARGET, stage = "held", key = "p:order-7", identity = "i");
            debug!(target: TARGET, stage = "held", key = %format!("{connection}.3.0"), identity = "i");
            debug!(target: TARGET, stage = "fetched", connection, identity = "i");
            debug!(target: TARGET, stage = "bounced", stamp = "a.1.1", connection, key = "k");
        });
        let whose: Vec<&str> = stages.iter().map(|stage| stage.stamp.as_str()).collect();
        let answer = format!("{connection}.3");
        assert_eq!(whose, ["p:order-7", "p:order-7", &answer, connection, "a.1.1"]);
    }

    #[test]
    fn what_looks_like_a_token_is_withheld_and_what_is_long_is_cut() {
        let stages = told(&Journeys::new(), || {
            debug!(target: TARGET, stage = "s", stamp = "a.1.1", token = "Bearer eyJhbGciOi", long = "ä".repeat(1_000));
        });
        assert_eq!(stages[0].fields["token"], "withheld");
        assert_eq!(stages[0].fields["long"].len(), MAX_FIELD_BYTES);
    }

    #[test]
    fn an_injected_message_has_its_name_as_long_as_it_is_on_its_way() {
        let journeys = Journeys::new();
        let stages = told(&journeys, || {
            let named = journeys.name_injected("injected-7");
            debug!(target: TARGET, stage = "worker", stamp = "injected");
            debug!(target: TARGET, stage = "worker", stamp = "a.1.1");
            drop(named);
            debug!(target: TARGET, stage = "worker", stamp = "injected");
        });
        let stamps: Vec<&str> = stages.iter().map(|stage| stage.stamp.as_str()).collect();
        assert_eq!(stamps, ["injected-7", "a.1.1", "injected"]);
    }
}
