//! One stretch of a trace, or none: it ends when it is dropped.

use std::future::Future;
use std::pin::Pin;

use opentelemetry::trace::{
    FutureExt, Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceId, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use tracing::Instrument;

use super::words;

/// Something that takes time. [`Span::NONE`] costs a null pointer.
#[must_use = "a span ends when it is dropped"]
pub struct Span(Option<Box<Context>>);

/// By which children are made: it travels with the context.
struct Maker(SdkTracer);

impl Span {
    /// Nothing is traced.
    pub const NONE: Self = Self(None);

    pub(super) fn begin(
        tracer: &SdkTracer,
        parent: &Context,
        name: &'static str,
        kind: SpanKind,
        links: Vec<Link>,
    ) -> Self {
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_links(links);
        let span = tracer.build_with_context(builder, parent);
        Self(Some(Box::new(parent.with_value(Maker(tracer.clone())).with_span(span))))
    }

    /// Nothing is traced here, but anyone who comes later is to know what was decided.
    pub(super) fn handed_on(parent: Context) -> Self {
        Self(Some(Box::new(parent)))
    }

    /// Something within it.
    pub fn child(&self, name: &'static str, kind: SpanKind) -> Self {
        self.0
            .as_ref()
            .map_or(Self::NONE, |context| child_of(context, name, kind))
    }

    /// Where in which trace it is, for others to go on with it; none if there is none.
    pub fn context(&self) -> Option<SpanContext> {
        Some(self.0.as_ref()?.span().span_context().clone())
    }

    /// The trace's name, for the log; none if this is not traced.
    pub fn trace_id(&self) -> Option<TraceId> {
        let context = self.context().filter(SpanContext::is_sampled)?;
        Some(context.trace_id())
    }

    /// Says more of it. What is to be said is made only if someone hears it.
    pub fn describe<const N: usize>(&self, attributes: impl FnOnce() -> [KeyValue; N]) {
        if let Some(context) = self.recording() {
            context.span().set_attributes(attributes());
        }
    }

    /// It has failed, for a reason of few words.
    pub fn fail(&self, why: &'static str) {
        if let Some(context) = self.recording() {
            let span = context.span();
            span.set_attribute(KeyValue::new(words::ERROR_TYPE, why));
            span.set_status(Status::error(why));
        }
    }

    /// Does something within it: what is begun there without being told where is its child. It is pinned by the caller, so
    /// that there is room for it only once.
    pub async fn scope<F: Future>(&self, work: Pin<&mut F>) -> F::Output {
        match &self.0 {
            None => work.await,
            Some(context) => work.with_context((**context).clone()).await,
        }
    }

    /// The same, and what is logged there has the trace's name.
    pub async fn logged_scope<F: Future>(&self, work: Pin<&mut F>) -> F::Output {
        match self.trace_id() {
            None => self.scope(work).await,
            Some(trace_id) => {
                // An error's level, so that it is there on whatever line the filter lets through.
                let line = tracing::error_span!("traced", %trace_id);
                self.scope(work).instrument(line).await
            }
        }
    }

    fn recording(&self) -> Option<&Context> {
        self.0.as_deref().filter(|context| context.span().is_recording())
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }
}

/// Something within what is going on here; none if that is not traced.
pub fn child(name: &'static str, kind: SpanKind) -> Span {
    current().map_or(Span::NONE, |context| child_of(&context, name, kind))
}

/// Says more of what is going on here, if that is traced.
pub fn describe<const N: usize>(attributes: impl FnOnce() -> [KeyValue; N]) {
    if let Some(context) = current() {
        context.span().set_attributes(attributes());
    }
}

fn current() -> Option<Context> {
    Context::map_current(|context| context.span().is_recording().then(|| context.clone()))
}

fn child_of(context: &Context, name: &'static str, kind: SpanKind) -> Span {
    match context.get::<Maker>() {
        Some(Maker(tracer)) => Span::begin(tracer, context, name, kind, Vec::new()),
        None => Span::NONE,
    }
}
