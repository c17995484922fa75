//! How messages are followed through a worker.
//!
//! What came through a terminator is traced if that has drawn it. Anyone else's
//! message may go on with a trace of theirs, within a limit, or be drawn here.
//! What a client could have put a token into is looked at before it gets into a span.

use shared::bus::Delivery;
use shared::service::trace::{KeyValue, Span, SpanContext, SpanKind, TraceState, Tracer, headers as of_w3c, words};
use shared::wire::protocol::ErrorCode;

use crate::admin::metrics::MessageOutcome;
use crate::dead_letter::redact;
use crate::message::origin::Origin;

/// The headers `traceparent` and `tracestate` of W3C Trace Context, by which anyone who a handler asks (over HTTP, AMQP or
/// anything else) goes on with the trace of the message that is being handled. Empty if that is in none.
///
/// It must be called within the handler's own task. There the context is also `opentelemetry::Context::current()`.
pub fn headers() -> Vec<(&'static str, String)> {
    of_w3c::pairs()
}

/// The span of a delivery, if it is traced.
pub(crate) fn process(tracer: &Tracer, delivery: &Delivery, origin: &Origin) -> Span {
    if !tracer.is_on() {
        return Span::NONE;
    }
    let properties = &delivery.message.properties;
    let span = match origin {
        Origin::Terminator(_) => tracer.follow_headers(properties, "process", SpanKind::Consumer),
        Origin::Injected => match of_w3c::read(properties) {
            Some(parent) => tracer.follow_foreign(without_token(parent), "process", SpanKind::Consumer),
            None => tracer.draw("process", SpanKind::Consumer),
        },
    };
    describe(&span, delivery, origin);
    span
}

fn describe(span: &Span, delivery: &Delivery, origin: &Origin) {
    span.describe(|| words::messaging("process", "process", &delivery.exchange));
    span.describe(|| {
        let size = i64::try_from(delivery.message.body.len()).unwrap_or(i64::MAX);
        [
            // What an injector calls its message may be anything.
            KeyValue::new(words::CONVERSATION_ID, origin.to_string()),
            KeyValue::new(words::BODY_SIZE, size),
            KeyValue::new(words::DELIVERY_COUNT, i64::from(delivery.delivery_count)),
        ]
    });
}

/// What others say of the trace is exported with it, and an injector may say anything.
fn without_token(context: SpanContext) -> SpanContext {
    let state = context.trace_state().header();
    if redact::text(&state) == state {
        return context;
    }
    let (trace, span, flags) = (context.trace_id(), context.span_id(), context.trace_flags());
    SpanContext::new(trace, span, flags, true, TraceState::default())
}

/// Says what became of a message. It has failed only if that was our doing.
pub(crate) fn ended(span: &Span, outcome: MessageOutcome) {
    span.describe(|| [KeyValue::new(words::OUTCOME, outcome.as_str())]);
    match outcome {
        MessageOutcome::Error(code @ (ErrorCode::Internal | ErrorCode::Busy | ErrorCode::AuthUnavailable)) => {
            span.fail(code.as_str());
        }
        MessageOutcome::Error(code) => span.describe(|| [KeyValue::new(words::ERROR_TYPE, code.as_str())]),
        _ => {}
    }
}
