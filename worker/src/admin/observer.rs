//! Where events are told: to metrics, to the span that they happen in, to the log, to anyone who listens, and as decisions to
//! those who ask later.

use std::sync::Arc;

use shared::service::clock::Clock;
use shared::service::trace::{self as traces, KeyValue, words};
use shared::wire::id::{ConnectionId, MessageId};
use shared::wire::request_id::RequestId;
use tracing::debug;

use super::event::{Event, Released, Subject};
use super::metrics::Metrics;
use super::recent_decisions::RecentDecisions;
use crate::dead_letter::redact;
use crate::outbound::metrics::Counters;
use crate::store::{Decision, Store};

/// The target of the lines that tell a journey, one for each stage.
const JOURNEY: &str = "countersign::journey";

/// Gets each event that is a stage of a journey, as it happens: it must neither wait nor panic.
pub type Listener = Arc<dyn Fn(Subject<'_>, &Event<'_>) + Send + Sync>;

/// A decision, and of which connection.
pub(crate) type Decided = (ConnectionId, Decision);

/// Tells events.
pub(crate) struct Observer {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) recent_decisions: RecentDecisions,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) listener: Option<Listener>,
}

impl Observer {
    /// Tells that something has happened to `of`.
    pub(crate) fn tell<'a>(&self, of: impl Into<Subject<'a>>, event: Event<'_>) {
        self.count(&event);
        if let Event::Judged { kind, .. } = event {
            traces::describe(|| [KeyValue::new(words::VERDICT, kind.as_str())]);
        }
        let Some(stage) = event.stage() else { return };
        let of = of.into();
        debug!(target: JOURNEY, stage, message_id = %of, ?event);
        if let Some(listener) = &self.listener {
            listener(of, &event);
        }
    }

    /// Tells it, and what is to be [kept](Self::keep) of it when no one waits any more; `id` is its client's name for the
    /// message.
    pub(crate) fn decide<'a>(
        &self,
        of: impl Into<Subject<'a>>,
        id: Option<&RequestId<'_>>,
        event: Event<'_>,
    ) -> Option<Decided> {
        let of = of.into();
        self.tell(of, event);
        let (connection, (what, why)) = of.connection().zip(event.decision())?;
        let sequence = match of {
            Subject::Message(MessageId { sequence, .. }) => Some(sequence),
            _ => None,
        };
        let decision = Decision {
            at: self.clock.now(),
            sequence,
            // A client may put anything there, a token too.
            id: id.map(|id| redact::text(id.as_str()).into_owned()),
            what: what.to_owned(),
            why: why.into_owned(),
        };
        Some((connection, decision))
    }

    /// Keeps a decision. That it cannot be kept is no one's loss but the curious person's.
    pub(crate) async fn keep(&self, (connection, decision): Decided) {
        self.recent_decisions.note(connection, &decision);
        if let Err(reason) = self.store.note(connection, &decision).await {
            self.metrics.decision_write_errors.increment(1);
            debug!(%connection, %reason, "a decision is not kept");
        }
    }

    /// Tells it and keeps it at once.
    pub(crate) async fn note<'a>(&self, of: impl Into<Subject<'a>>, id: Option<&RequestId<'_>>, event: Event<'_>) {
        if let Some(decided) = self.decide(of, id, event) {
            self.keep(decided).await;
        }
    }

    fn count(&self, event: &Event<'_>) {
        let Self { metrics, counters, .. } = self;
        match *event {
            Event::Judged { kind, cached, checked } => metrics.judged(kind, checked, cached == Some(true)),
            Event::Granted { .. } => metrics.grants.increment(1),
            Event::Resumed { taken, .. } => metrics.resumed(taken),
            Event::Held { reason, .. } => metrics.held(reason),
            Event::Handled { took, .. } => metrics.handling.record(took),
            Event::Refused { close: Some(code), .. } => metrics.closes(code),
            Event::Replied { took } => metrics.confirm.record(took),
            Event::HoldEnded { how, .. } => metrics.released(how),
            Event::Released { .. } => metrics.released(Released::Handled),
            Event::Pushed { outcome, .. } => counters.pushed(outcome),
            Event::WriteHeld { mailbox, .. } => counters.held(mailbox.into()),
            Event::GivenUp { mailbox, why, .. } => counters.gave_up(mailbox.into(), why),
            Event::Fetched { mailbox, count, .. } => counters.released(mailbox.into(), count),
            Event::Revoked { outcome } => counters.revocation(outcome),
            Event::Taken { .. }
            | Event::GrantedEarly
            | Event::Authenticated { .. }
            | Event::LoggedOut { .. }
            | Event::Announced { .. }
            | Event::ToldRevocations { .. }
            | Event::SentBack
            | Event::Refused { close: None, .. }
            | Event::Cancelled
            | Event::Closed { .. }
            | Event::ReplyHeld { .. }
            | Event::ReplyFetched { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use shared::service::clock::{ManualClock, Timestamp};
    use shared::wire::id::{Sequence, TerminatorId};
    use shared::wire::protocol::Reason;

    use super::*;
    use crate::store;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    fn message() -> MessageId {
        MessageId {
            connection: ConnectionId {
                terminator: TerminatorId::random(),
                number: 7,
            },
            sequence: Sequence::new(3),
        }
    }

    fn observer(listener: Option<Listener>) -> Observer {
        let clock = Arc::new(ManualClock::at(NOW));
        let settings = store::Settings {
            url: "memory:".to_owned(),
            namespace: "test".to_owned(),
            timeout: Duration::from_secs(1),
            leeway: Duration::ZERO,
            max_revocations: 1,
        };
        Observer {
            metrics: Arc::new(Metrics::new()),
            counters: Arc::new(Counters::new()),
            recent_decisions: RecentDecisions::default(),
            store: store::open(&settings, clock.clone()).unwrap(),
            clock,
            listener,
        }
    }

    #[tokio::test]
    async fn one_call_counts_an_event_hands_it_over_and_keeps_the_decision() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = heard.clone();
        let listener: Listener = Arc::new(move |of, event| {
            let fields = serde_json::to_string(event).unwrap();
            hearing
                .lock()
                .unwrap()
                .push(format!("{} {of} {fields}", event.stage().unwrap()));
        });
        let observer = metrics::with_local_recorder(&recorder, || observer(Some(listener)));
        let (message_id, id) = (message(), RequestId::text("a"));
        let held = Event::Held {
            reason: Reason::Expired,
            count: 2,
        };
        observer.note(message_id, Some(&id), held).await;
        observer.tell(message_id.connection, Event::Closed { code: 4401 });

        assert_eq!(
            *heard.lock().unwrap(),
            [format!(r#"held {message_id} {{"reason":"expired","count":2}}"#)],
            "what is no stage is handed to nobody"
        );
        let counted = recorder.handle().render();
        assert!(
            counted.contains(r#"countersign_worker_holds_total{result="expired"} 1"#),
            "{counted}"
        );
        let decision = Decision {
            at: NOW,
            sequence: Some(message_id.sequence),
            id: Some("a".to_owned()),
            what: "held".to_owned(),
            why: "expired".to_owned(),
        };
        assert_eq!(
            observer.recent_decisions.last(),
            [(message_id.connection, decision.clone())]
        );
        assert_eq!(
            observer.store.decisions(message_id.connection).await.unwrap(),
            [decision]
        );
    }

    #[tokio::test]
    async fn a_decision_is_about_a_connection_and_not_every_event_is_one() {
        let observer = observer(None);
        let message_id = message();
        assert!(observer.decide(message_id, None, Event::SentBack).is_none());
        assert!(
            observer
                .decide(
                    Subject::Injected,
                    None,
                    Event::LoggedOut {
                        recorded: store::Recorded::Changed
                    }
                )
                .is_none()
        );
        let closed = Event::Closed { code: 4401 };
        let (connection, decision) = observer.decide(message_id.connection, None, closed).unwrap();
        assert_eq!((connection, decision.sequence), (message_id.connection, None));
        assert_eq!((&*decision.what, decision.why.starts_with("4401: ")), ("closed", true));
    }
}
