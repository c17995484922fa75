//! Traces: what became of one message, from the socket to the handler and back, as OpenTelemetry tells it.
//!
//! Most messages are not traced, so that is what must be cheap. Whether one is
//! traced is decided before anything is made for it: where tracing is off, or a
//! message was not drawn, a [`Span`] is an empty pointer, nothing is allocated, and
//! no header crosses the broker. What is traced takes its context along as the
//! headers of W3C Trace Context ([`headers`]).
//!
//! Terminators draw; workers follow what came through `<ns>.internal`, which only
//! terminators can write to. What anyone else brings is followed within a limit.
//! What clients say in a socket has no say at all.
//!
//! No token, no payload and no subject is in any span: people are told apart by
//! their identity's tag. Spans leave by [`export`](self): a bounded queue, a thread
//! of its own, and no one waits for it.

mod export;
pub mod headers;
mod span;
pub mod words;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use opentelemetry::trace::{Link, TraceContextExt, TraceFlags, TracerProvider};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

pub use opentelemetry::KeyValue;
pub use opentelemetry::trace::{SpanContext, SpanKind, TraceId, TraceState};

use super::chance;
use super::config::{Program, Share, TraceConfig};
pub use super::trace::export::TraceError;
pub use super::trace::span::{Span, child, describe};
use crate::bus::Properties;

/// How many traces that others have begun are followed in a second. At some eight spans each, an exporter keeps up.
const FOREIGN_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

/// How long what is left may take to leave when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Begins spans, or does not. Clones share one way out.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    tracer: SdkTracer,
    provider: SdkTracerProvider,
    ratio: Share,
    foreign: DefaultDirectRateLimiter,
}

impl Tracer {
    /// Traces nothing.
    pub const OFF: Self = Self(None);

    /// As the settings have it, for one `instance` of a program. It must be called within a tokio runtime, and
    /// waits for no one.
    ///
    /// # Errors
    /// If there is no way to the collector, whether it is there or not.
    pub fn start(config: &TraceConfig, program: &Program, instance: &str) -> Result<Self, TraceError> {
        let Some(endpoint) = &config.otlp_endpoint else {
            return Ok(Self::OFF);
        };
        let provider = export::provider(endpoint, program, instance)?;
        Ok(Self::with(provider, program, config.trace_sample_ratio))
    }

    fn with(provider: SdkTracerProvider, program: &Program, ratio: Share) -> Self {
        let scope = InstrumentationScope::builder("countersign").with_version(program.version);
        Self(Some(Arc::new(Inner {
            tracer: provider.tracer_with_scope(scope.build()),
            provider,
            ratio,
            foreign: RateLimiter::direct(Quota::per_second(FOREIGN_PER_SECOND)),
        })))
    }

    /// Whether anything is traced.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a trace, of as many as the ratio says.
    pub fn draw(&self, name: &'static str, kind: SpanKind) -> Span {
        match &self.0 {
            Some(inner) if inner.draws() => inner.begin(&Context::new(), name, kind, Vec::new()),
            _ => Span::NONE,
        }
    }

    /// Goes on with what one of us has begun, if that was drawn. What was not is only handed on.
    pub fn follow(&self, parent: SpanContext, name: &'static str, kind: SpanKind) -> Span {
        let Some(inner) = &self.0 else { return Span::NONE };
        let parent = Context::new().with_remote_span_context(parent);
        if parent.span().span_context().is_sampled() {
            inner.begin(&parent, name, kind, Vec::new())
        } else {
            Span::handed_on(parent)
        }
    }

    /// The same with what stands in a message's headers, if anything does.
    pub fn follow_headers(&self, properties: &Properties, name: &'static str, kind: SpanKind) -> Span {
        let parent = self.0.as_ref().and_then(|_| headers::read(properties));
        parent.map_or(Span::NONE, |parent| self.follow(parent, name, kind))
    }

    /// Goes on with what someone else has begun. Of what they want traced, so much is in a second; the rest is only
    /// handed on, as not drawn.
    pub fn follow_foreign(&self, parent: SpanContext, name: &'static str, kind: SpanKind) -> Span {
        let Some(inner) = &self.0 else { return Span::NONE };
        if parent.is_sampled() && inner.foreign.check().is_err() {
            return self.follow(undrawn(&parent), name, kind);
        }
        self.follow(parent, name, kind)
    }

    /// Begins a trace that goes back to something of another one, which was drawn.
    pub fn resume(&self, of: SpanContext, name: &'static str, kind: SpanKind) -> Span {
        match &self.0 {
            Some(inner) if of.is_sampled() => inner.begin(&Context::new(), name, kind, vec![Link::with_context(of)]),
            _ => Span::NONE,
        }
    }

    /// Lets out what is left, for two seconds at most.
    pub async fn end(&self) {
        let Some(inner) = &self.0 else { return };
        let provider = inner.provider.clone();
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT));
        if !matches!(flushed.await, Ok(Ok(()))) {
            tracing::warn!("timed out while exporting the last spans");
        }
    }
}

/// The same place in the same trace, of which no one is to record more.
fn undrawn(context: &SpanContext) -> SpanContext {
    let state = context.trace_state().clone();
    SpanContext::new(
        context.trace_id(),
        context.span_id(),
        TraceFlags::NOT_SAMPLED,
        true,
        state,
    )
}

impl Inner {
    fn draws(&self) -> bool {
        let ratio = self.ratio.get();
        // The ends are exact.
        ratio >= 1.0 || (ratio > 0.0 && chance::share() < ratio)
    }

    fn begin(&self, parent: &Context, name: &'static str, kind: SpanKind, links: Vec<Link>) -> Span {
        Span::begin(&self.tracer, parent, name, kind, links)
    }
}

/// A tracer that no one has ended (its program died of an error) must not hold up anyone who drops it.
impl Drop for Inner {
    fn drop(&mut self) {
        let provider = self.provider.clone();
        // Ended before, this does nothing. Without a thread, what is left is lost.
        let _ = std::thread::Builder::new().spawn(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT));
    }
}

#[cfg(test)]
mod tests;
