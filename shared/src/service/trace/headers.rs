//! A trace's context on its way: the headers `traceparent` and `tracestate`, as W3C Trace Context has them.
//!
//! In AMQP they are headers of the message, of type long string, as other OpenTelemetry libraries write and read them.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use super::Span;
use crate::bus::{Properties, Value};

/// Where in which trace: W3C Trace Context §3.2.
pub const TRACEPARENT: &str = "traceparent";
/// What others have to say of it: §3.3.
pub const TRACESTATE: &str = "tracestate";

/// 55 bytes in the version that is known; later ones may be longer.
const MAX_TRACEPARENT_BYTES: usize = 128;
/// What §3.3.1.5 asks everyone to carry.
const MAX_TRACESTATE_BYTES: usize = 512;

/// Where in which trace the sender of a message was; none if it does not say so, or not well.
pub fn read(properties: &Properties) -> Option<SpanContext> {
    properties.header(TRACEPARENT)?;
    of(&Came(properties))
}

/// The same of a text as [`to_text`] writes it.
pub fn from_text(text: &str) -> Option<SpanContext> {
    of(&Text(text))
}

fn of(carrier: &dyn Extractor) -> Option<SpanContext> {
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), carrier);
    let context = context.span().span_context().clone();
    context.is_valid().then_some(context)
}

/// A drawn span as one text, a `traceparent`; none if it is none.
pub fn to_text() -> Option<String> {
    let drawn = Context::map_current(|context| context.span().span_context().is_sampled());
    drawn
        .then(pairs)?
        .into_iter()
        .find(|(name, _)| *name == TRACEPARENT)
        .map(|(_, text)| text)
}

/// What is to be said to anyone who is asked from here, as names and texts: headers of HTTP as well as of AMQP. None if
/// what goes on here is in no trace.
pub fn pairs() -> Vec<(&'static str, String)> {
    Context::map_current(written)
}

/// Says in a message where in which trace it is sent.
pub fn write(properties: &mut Properties, span: &Span) {
    properties.headers.extend(of_span(span));
}

/// What says so. Nothing is allocated for nothing.
pub fn of_span(span: &Span) -> Vec<(String, Value)> {
    let context = span
        .context()
        .map(|context| Context::new().with_remote_span_context(context));
    let pairs = context.map_or_else(Vec::new, |context| written(&context));
    let header = |(name, text): (&str, String)| (name.to_owned(), Value::Text(text));
    pairs.into_iter().map(header).collect()
}

fn written(context: &Context) -> Vec<(&'static str, String)> {
    let mut goes = Goes(Vec::new());
    // Most often there is nothing to write, and this makes nothing of it.
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(context, &mut goes);
    }
    goes.0
}

struct Came<'a>(&'a Properties);

impl Extractor for Came<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let most = if key == TRACEPARENT {
            MAX_TRACEPARENT_BYTES
        } else {
            MAX_TRACESTATE_BYTES
        };
        match self.0.header(key) {
            Some(Value::Text(text)) if text.len() <= most => Some(text),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

struct Text<'a>(&'a str);

impl Extractor for Text<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct Goes(Vec<(&'static str, String)>);

impl Injector for Goes {
    fn set(&mut self, key: &str, value: String) {
        match key {
            TRACEPARENT => self.0.push((TRACEPARENT, value)),
            TRACESTATE if !value.is_empty() => self.0.push((TRACESTATE, value)),
            _ => {}
        }
    }
}
