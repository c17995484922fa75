//! A client's message that is traced, from the socket until the queue has it.

use shared::bus::{PublishError, Value};
use shared::service::trace::{KeyValue, Span, SpanKind, TraceId, Tracer, headers, words};
use shared::wire::id::MessageId;

/// Its spans; they end with this. Nearly always there are none.
pub(crate) struct ForwardSpan {
    /// Ends first.
    publish: Span,
    received: Span,
}

impl ForwardSpan {
    /// A message has been read. The client has no say in whether it is traced.
    pub(crate) fn received(tracer: &Tracer) -> Self {
        Self {
            publish: Span::NONE,
            received: tracer.draw("receive", SpanKind::Server),
        }
    }

    /// It goes once more, after it has waited for what was sent before it.
    pub(crate) const fn again(waited: Span) -> Self {
        Self {
            publish: Span::NONE,
            received: waited,
        }
    }

    /// It goes to that exchange.
    pub(crate) fn publish(mut self, message_id: MessageId, bytes: usize, exchange: &str) -> Self {
        self.received
            .describe(|| [KeyValue::new(words::CONVERSATION_ID, message_id.to_string())]);
        self.publish = self.received.child("publish", SpanKind::Producer);
        self.publish.describe(|| words::messaging("publish", "send", exchange));
        self.publish.describe(|| {
            let size = i64::try_from(bytes).unwrap_or(i64::MAX);
            [
                KeyValue::new(words::CONVERSATION_ID, message_id.to_string()),
                KeyValue::new(words::BODY_SIZE, size),
            ]
        });
        self
    }

    /// What workers are told of it.
    pub(crate) fn headers(&self) -> Vec<(String, Value)> {
        headers::of_span(&self.publish)
    }

    /// The trace's name.
    pub(crate) fn trace_id(&self) -> Option<TraceId> {
        self.received.trace_id()
    }

    /// The queue will not have it.
    pub(crate) fn fail(&self, error: PublishError) {
        self.publish.fail(error.as_str());
        self.received.fail(error.as_str());
    }
}
