//! An OpenTelemetry collector that keeps what it is sent, goes away and comes back, as a claim wants it.
//!
//! Source: the OTLP specification, "OTLP/HTTP", binary Protobuf.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::span::SpanKind,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::nodes::port::free_port;
use crate::wait::{Span as _, eventually};

/// A span as it was exported.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// `service.name` of its program.
    pub service: String,
    /// What it is called.
    pub name: String,
    /// The kind, as in `Consumer`.
    pub kind: SpanKind,
    /// In hexadecimal digits.
    pub trace: String,
    /// In hexadecimal digits.
    pub id: String,
    /// The id of its parent; empty if it has none.
    pub parent: String,
    /// The ids of the traces that it goes back to.
    pub links: Vec<String>,
    /// What is said of it, as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether it says that it has failed.
    pub failed: bool,
}

/// A collector at a URL that stays the same. It ends with this value.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    spans: Vec<Exported>,
    everything: String,
}

impl Collector {
    /// An address at which no one is yet.
    #[must_use]
    pub fn away() -> Self {
        Self {
            address: (Ipv4Addr::LOCALHOST, free_port()).into(),
            state: Arc::default(),
            task: None,
        }
    }

    /// One that is there.
    pub async fn start() -> Self {
        let mut collector = Self::away();
        collector.come().await;
        collector
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes what comes from now on.
    ///
    /// # Panics
    /// If someone else has taken its port.
    pub async fn come(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is free");
        self.task = Some(tokio::spawn(run(listener, self.state.clone())));
    }

    /// All spans so far.
    ///
    /// # Panics
    /// If a claim has panicked within.
    #[must_use]
    pub fn spans(&self) -> Vec<Exported> {
        self.state.lock().expect("nobody panics with it").spans.clone()
    }

    /// All that was sent, as text: the claim that something is *not* in it looks here.
    ///
    /// # Panics
    /// If a claim has panicked within.
    #[must_use]
    pub fn everything(&self) -> String {
        self.state.lock().expect("nobody panics with it").everything.clone()
    }

    /// The spans of one trace, when `names` are among them.
    ///
    /// # Panics
    /// If they are not within 20 s.
    pub async fn trace_with(&self, trace: &str, names: &[&str]) -> Vec<Exported> {
        eventually(20.s(), "the whole trace is exported", async || {
            let mut spans = self.spans();
            spans.retain(|span| span.trace == trace);
            let all = names.iter().all(|name| spans.iter().any(|span| span.name == *name));
            if all { Ok(spans) } else { Err(self.spans()) }
        })
        .await
    }

    /// The first span of that name.
    ///
    /// # Panics
    /// If there is none within 20 s.
    pub async fn span(&self, name: &str) -> Exported {
        eventually(20.s(), &format!("a span {name} is exported"), async || {
            self.spans().into_iter().find(|span| span.name == name)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn run(listener: TcpListener, state: Arc<Mutex<State>>) {
    while let Ok((socket, _)) = listener.accept().await {
        tokio::spawn(serve(socket, state.clone()));
    }
}

async fn serve(mut socket: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 16_384]);
    let (head, length) = loop {
        let count = socket.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        if let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            break (head + 4, content_length(&String::from_utf8_lossy(&bytes[..head]))?);
        }
    };
    while bytes.len() < head + length {
        let count = socket.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
    }
    keep(&bytes, &bytes[head..], &state);
    let answer =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    socket.write_all(answer.as_bytes()).await.ok()
}

fn content_length(head: &str) -> Option<usize> {
    assert!(head.starts_with("POST /v1/traces "), "not where traces go: {head}");
    let lines = head.lines().map(str::to_ascii_lowercase);
    lines
        .filter_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .next()
}

fn keep(request: &[u8], body: &[u8], state: &Mutex<State>) {
    let export = ExportTraceServiceRequest::decode(body).expect("protobuf of OTLP");
    let mut state = state.lock().expect("nobody panics with it");
    state.everything += &String::from_utf8_lossy(request);
    state.everything += &format!("{export:?}");
    for resource in export.resource_spans {
        let about = resource
            .resource
            .map(|resource| texts(resource.attributes))
            .unwrap_or_default();
        let service = about.get("service.name").cloned().unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            state.spans.push(Exported {
                service: service.clone(),
                kind: span.kind(),
                failed: span.status.as_ref().is_some_and(|status| status.code == 2),
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
                attributes: texts(span.attributes),
            });
        }
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    attributes.into_iter().map(|one| (one.key, text(one.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
