//! What is traced, what that says of itself to others, and what it costs where nothing is.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span as SdkSpan, SpanData, SpanProcessor};
use proptest::prelude::*;

use super::*;
use crate::bus::Value;
use crate::service::config::Value as _;

const PROGRAM: Program = Program {
    name: "gate",
    version: "1",
    about: "A gate",
    examples: "",
};
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Keeps the spans that have ended.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Vec<SpanData>>>);

impl Kept {
    fn spans(&self) -> Vec<SpanData> {
        self.0.lock().unwrap().clone()
    }
}

impl SpanProcessor for Kept {
    fn on_start(&self, _: &mut SdkSpan, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn tracer(ratio: &str) -> (Tracer, Kept) {
    let kept = Kept::default();
    let provider = SdkTracerProvider::builder().with_span_processor(kept.clone()).build();
    (Tracer::with(provider, &PROGRAM, Share::parse(ratio).unwrap()), kept)
}

fn with_header(name: &str, text: &str) -> Properties {
    Properties {
        headers: vec![(name.to_owned(), Value::Text(text.to_owned()))],
        ..Properties::default()
    }
}

fn parent(flags: &str) -> SpanContext {
    headers::from_text(&format!("00-{TRACE}-00f067aa0ba902b7-{flags}")).unwrap()
}

#[test]
fn a_child_is_in_its_parent_s_trace_and_ends_when_it_is_dropped() {
    let (tracer, kept) = tracer("1");
    let outer = tracer.draw("outer", SpanKind::Server);
    let inner = outer.child("inner", SpanKind::Internal);
    assert!(kept.spans().is_empty());
    drop(inner);
    drop(outer);
    let spans = kept.spans();
    let [inner, outer] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!((inner.name.as_ref(), outer.name.as_ref()), ("inner", "outer"));
    assert_eq!(inner.parent_span_id, outer.span_context.span_id());
    assert_eq!(inner.span_context.trace_id(), outer.span_context.trace_id());
}

#[tokio::test]
async fn what_is_begun_within_a_span_need_not_be_told_where() {
    let (tracer, kept) = tracer("1");
    let outer = tracer.draw("outer", SpanKind::Server);
    let within = async {
        drop(child("inner", SpanKind::Internal));
        describe(|| [KeyValue::new("word", "said")]);
        (headers::pairs(), headers::to_text())
    };
    let (pairs, text) = outer.scope(pin!(within)).await;
    assert_eq!(pairs, [(headers::TRACEPARENT, text.unwrap())], "no empty `tracestate`");
    assert!(child("elsewhere", SpanKind::Internal).context().is_none());
    drop(outer);
    let names: Vec<_> = kept.spans().iter().map(|span| span.name.to_string()).collect();
    assert_eq!(names, ["inner", "outer"]);
    assert_eq!(kept.spans()[1].attributes, [KeyValue::new("word", "said")]);
}

#[tokio::test]
async fn where_nothing_is_traced_nothing_is_said() {
    let (never, kept) = tracer("0");
    for tracer in [Tracer::OFF, never] {
        let span = tracer.draw("outer", SpanKind::Server);
        span.describe(|| -> [KeyValue; 1] { panic!("nobody hears it") });
        describe(|| -> [KeyValue; 1] { panic!("nobody hears it") });
        let pairs = span.scope(pin!(async { headers::pairs() })).await;
        let mut properties = Properties::default();
        headers::write(&mut properties, &span.child("inner", SpanKind::Internal));
        headers::write(&mut properties, &span);
        assert_eq!((pairs, properties), (vec![], Properties::default()));
        assert!(span.trace_id().is_none());
    }
    assert_eq!(kept.spans(), []);
    assert_eq!(size_of::<Span>(), size_of::<usize>());
}

#[test]
fn a_message_that_is_not_drawn_allocates_nothing() {
    // One in 2^32 would be.
    let (seldom, _) = tracer("1e-12");
    let mut properties = with_header("grant", "facts");
    properties
        .headers
        .push(("resume".to_owned(), Value::Text("secret".to_owned())));
    let message = |tracer: &Tracer| {
        let received = tracer.draw("receive", SpanKind::Server);
        assert!(headers::of_span(&received.child("publish", SpanKind::Producer)).is_empty());
        let process = tracer.follow_headers(&properties, "process", SpanKind::Consumer);
        let work = async {
            drop(child("verify", SpanKind::Internal));
            describe(|| [KeyValue::new("word", "said".to_owned())]);
            headers::pairs()
        };
        let pairs = process.logged_scope(pin!(work)).now_or_never();
        assert_eq!(pairs, Some(Vec::new()));
    };
    for tracer in [Tracer::OFF, seldom] {
        // What a thread needs once is there then.
        message(&tracer);
        let counted = allocation_counter::measure(|| (0..100).for_each(|_| message(&tracer)));
        assert_eq!(counted.count_total, 0);
    }
}

#[test]
fn of_all_messages_so_many_are_drawn_as_the_ratio_says() {
    let (tracer, kept) = tracer("0.2");
    for _ in 0..5_000 {
        drop(tracer.draw("one", SpanKind::Server));
    }
    let drawn = kept.spans().len();
    // Six standard deviations, of 28 each, to either side.
    assert!((830..1_170).contains(&drawn), "{drawn}");
}

#[tokio::test]
async fn what_others_have_begun_is_followed_as_they_have_drawn_it() {
    let (tracer, kept) = tracer("0");
    let drawn = tracer.follow(parent("01"), "process", SpanKind::Consumer);
    assert_eq!(drawn.trace_id().unwrap().to_string(), TRACE);
    drop(drawn);
    assert_eq!(kept.spans()[0].parent_span_id, parent("01").span_id());
    let passed = tracer.follow(parent("00"), "process", SpanKind::Consumer);
    let pairs = passed.scope(pin!(async { headers::pairs() })).await;
    assert_eq!(
        pairs[0].1,
        format!("00-{TRACE}-00f067aa0ba902b7-00"),
        "handlers are told that it was not"
    );
    assert!(passed.trace_id().is_none() && passed.child("inner", SpanKind::Internal).context().is_none());
    drop(passed);
    assert_eq!(kept.spans().len(), 1);
}

#[test]
fn strangers_have_a_limit() {
    let (tracer, kept) = tracer("0");
    for _ in 0..1_000 {
        drop(tracer.follow_foreign(parent("01"), "process", SpanKind::Consumer));
    }
    let followed = kept.spans().len();
    assert!((100..500).contains(&followed), "{followed}");
}

#[test]
fn a_trace_that_resumes_another_is_its_own_and_goes_back() {
    let (tracer, kept) = tracer("0");
    assert!(
        tracer
            .resume(parent("00"), "process", SpanKind::Consumer)
            .context()
            .is_none()
    );
    drop(tracer.resume(parent("01"), "process", SpanKind::Consumer));
    let span = &kept.spans()[0];
    assert_ne!(span.span_context.trace_id().to_string(), TRACE);
    assert_eq!(span.links.links[0].span_context.trace_id().to_string(), TRACE);
}

#[test]
fn what_is_written_into_a_message_is_read_out_of_it() {
    let (tracer, _) = tracer("1");
    let span = tracer.draw("publish", SpanKind::Producer);
    let mut properties = Properties::default();
    headers::write(&mut properties, &span);
    let read = headers::read(&properties).unwrap();
    let written = span.context().unwrap();
    assert_eq!(
        (read.trace_id(), read.span_id()),
        (written.trace_id(), written.span_id())
    );
    assert!(read.is_remote() && read.is_sampled());
    assert_eq!(properties.headers.len(), 1);
}

#[test]
fn what_is_no_context_or_too_long_is_none() {
    let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
    assert!(headers::read(&with_header("traceparent", &good)).is_some());
    for wrong in [
        "",
        "00",
        &good[..good.len() - 3],
        &good.to_uppercase(),
        &format!("01{}-{}", &good[2..], "x".repeat(99)),
    ] {
        assert!(headers::read(&with_header("traceparent", wrong)).is_none(), "{wrong}");
    }
    let mut properties = with_header("traceparent", &good);
    properties
        .headers
        .push(("tracestate".to_owned(), Value::Text(format!("a={}", "b".repeat(511)))));
    assert_eq!(headers::read(&properties).unwrap().trace_state().header(), "");
    properties.headers[1].1 = Value::Text("a=b".to_owned());
    assert_eq!(headers::read(&properties).unwrap().trace_state().header(), "a=b");
    properties.headers[0].1 = Value::Integer(1);
    assert!(headers::read(&properties).is_none());
}

proptest! {
    #[test]
    fn no_header_makes_the_reader_panic(parent in ".{0,200}", state in ".{0,600}") {
        let mut properties = with_header("traceparent", &parent);
        properties.headers.push(("tracestate".to_owned(), Value::Text(state)));
        let _ = headers::read(&properties);
    }
}
