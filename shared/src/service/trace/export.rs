//! The way out: spans wait in a bounded queue, and leave in batches for the collector.
//!
//! The batches are the SDK's, made on a thread of its own; each request runs on our
//! runtime. Anyone who ends a span waits for neither. While the collector is away,
//! what does not fit in the queue is dropped; all of it is counted, and one line
//! in the log says that it has begun, and one that it is over.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::{Counter, counter};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter as Otlp, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::service::config::{OtlpUrl, Program};

/// How many spans may wait. One takes about a kilobyte, and at the default ratio they are some 80 in a second.
const MOST_WAITING: usize = 2_048;
/// How long a span waits for others to leave with.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// For one request, and for the connection that it may need.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// TLS, or the HTTP client, cannot be had.
    #[error("cannot make an http client for the traces: {0}")]
    Client(String),
    /// What OpenTelemetry's own environment variables say cannot be done.
    #[error("cannot export traces: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Where spans go for this collector.
pub(super) fn provider(endpoint: &OtlpUrl, program: &Program, instance: &str) -> Result<SdkTracerProvider, TraceError> {
    let exporter = Otlp::builder()
        .with_http()
        .with_http_client(client(endpoint)?)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint.traces())
        .with_timeout(REQUEST_TIMEOUT)
        .build()?;
    let tally = Arc::new(Tally::new(program.name));
    let watched = Watched {
        exporter: Arc::new(exporter),
        runtime: Handle::current(),
        tally: tally.clone(),
    };
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(MOST_WAITING)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    let batches = BatchSpanProcessor::builder(watched).with_batch_config(config).build();
    info!(endpoint = %endpoint.traces(), "traces are exported");
    Ok(SdkTracerProvider::builder()
        .with_span_processor(Gate { batches, tally })
        .with_resource(resource(program, instance))
        .build())
}

/// Who we are. What `OTEL_RESOURCE_ATTRIBUTES` says counts more.
fn resource(program: &Program, instance: &str) -> Resource {
    Resource::builder_empty()
        .with_service_name(format!("countersign-{}", program.name))
        .with_attributes([
            KeyValue::new("service.version", program.version),
            KeyValue::new("service.instance.id", instance.to_owned()),
        ])
        .with_detector(Box::new(EnvResourceDetector::new()))
        .build()
}

/// A client that goes to the configured address and nowhere else: no redirect, no proxy.
fn client(endpoint: &OtlpUrl) -> Result<reqwest::Client, TraceError> {
    let mut roots = RootCertStore::empty();
    if endpoint.is_secure() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TraceError::Client(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .build()
        .map_err(|error| TraceError::Client(error.to_string()))
}

/// What becomes of spans.
struct Tally {
    waiting: AtomicUsize,
    failing: AtomicBool,
    exported: Counter,
    failed: Counter,
    dropped: Counter,
}

impl Tally {
    fn new(program: &str) -> Self {
        let name = format!("countersign_{program}_spans_total");
        let spans = |outcome: &'static str| counter!(name.clone(), "outcome" => outcome);
        Self {
            waiting: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            exported: spans("exported"),
            failed: spans("failed"),
            dropped: spans("dropped"),
        }
    }

    /// Whether there is room for one more, which is taken then.
    fn admit(&self) -> bool {
        let more = |waiting| (waiting < MOST_WAITING).then_some(waiting + 1);
        let admitted = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok();
        if !admitted {
            self.dropped.increment(1);
        }
        admitted
    }

    fn left(&self, count: usize, result: &OTelSdkResult) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let counter = if result.is_ok() { &self.exported } else { &self.failed };
        counter.increment(count as u64);
        let was_failing = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(error) if !was_failing => warn!(%error, "traces cannot be exported; lost spans are counted"),
            Ok(()) if was_failing => info!("traces are exported again"),
            _ => {}
        }
    }
}

/// Lets no more in than may wait.
struct Gate {
    batches: BatchSpanProcessor,
    tally: Arc<Tally>,
}

impl SpanProcessor for Gate {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.tally.admit() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.batches.fmt(f)
    }
}

/// Sends batches from our runtime, and sees what becomes of them.
struct Watched {
    exporter: Arc<Otlp>,
    runtime: Handle,
    tally: Arc<Tally>,
}

impl SpanExporter for Watched {
    fn export(&self, batch: Vec<SpanData>) -> impl Future<Output = OTelSdkResult> + Send {
        let (exporter, count) = (self.exporter.clone(), batch.len());
        // The thread that waits for it is outside of the runtime that HTTP needs.
        let sending = self.runtime.spawn(async move { exporter.export(batch).await });
        async move {
            let ended = |_| Err(OTelSdkError::InternalFailure("the runtime has ended".to_owned()));
            let result = sending.await.unwrap_or_else(ended);
            self.tally.left(count, &result);
            result
        }
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Nothing is being sent when the SDK tells it, at the start.
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.exporter.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> (Arc<Tally>, metrics_exporter_prometheus::PrometheusHandle) {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let tally = metrics::with_local_recorder(&recorder, || Tally::new("gate"));
        (Arc::new(tally), handle)
    }

    #[test]
    fn no_more_spans_wait_than_there_is_room_for_and_all_are_counted() {
        let (tally, metrics) = tally();
        let admitted = (0..MOST_WAITING + 3).filter(|_| tally.admit()).count();
        assert_eq!(admitted, MOST_WAITING);
        tally.left(10, &Err(OTelSdkError::AlreadyShutdown));
        tally.left(20, &Ok(()));
        assert_eq!((0..100).filter(|_| tally.admit()).count(), 30);
        let text = metrics.render();
        for (outcome, count) in [("exported", 20), ("failed", 10), ("dropped", 3 + 70)] {
            let line = format!("countersign_gate_spans_total{{outcome=\"{outcome}\"}} {count}");
            assert!(text.contains(&line), "{line}: {text}");
        }
    }
}
