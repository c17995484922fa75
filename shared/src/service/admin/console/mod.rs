//! The console: a page on which a person sees what a process does while it does it.
//!
//! It shows what `/metrics` counts, and what the process itself has to show: an
//! [`ConsoleSource`], which is words and numbers and neither tokens nor payloads. One
//! look serves all who watch, and looks are so far apart that they take a tenth
//! of the time at most, however much there is to look at.
//!
//! Anyone who reaches the port may watch. What a browser on an operator's machine
//! could be talked into by a page of the web is `guard`'s matter.

mod feed;
mod figures;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Readiness;
use super::console::figures::Figures;
use super::guard::{Hosts, of_pages};
use crate::service::clock::{Clock as _, SystemClock};

/// How often someone who watches is told: as often as an eye follows figures.
const PERIOD: Duration = Duration::from_millis(250);
/// After a look come nine times its length without one.
const REST_PER_LOOK: u32 = 9;
/// How many may watch at a time.
const MAX_WATCHERS: usize = 16;

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
/// What the page is made of, for anyone who has a page of its own to put it into.
const FILES: [(&str, &str, &str); 11] = [
    ("look.css", STYLE, include_str!("page/look.css")),
    ("console.css", STYLE, include_str!("page/console.css")),
    ("page.js", SCRIPT, include_str!("page/page.js")),
    ("console.js", SCRIPT, include_str!("page/console.js")),
    ("feed.js", SCRIPT, include_str!("page/feed.js")),
    ("rates.js", SCRIPT, include_str!("page/rates.js")),
    ("panels.js", SCRIPT, include_str!("page/panels.js")),
    ("connections.js", SCRIPT, include_str!("page/connections.js")),
    ("theme.js", SCRIPT, include_str!("page/theme.js")),
    ("dom.js", SCRIPT, include_str!("page/dom.js")),
    ("icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// What a process has to show, beside its metrics.
pub trait ConsoleSource: Send + Sync + 'static {
    /// How it is at the moment: parts of the page by their names. No token is in there, and no payload; what is listed has a
    /// limit of its own.
    fn look(&self) -> BoxFuture<'_, Map<String, Value>>;
}

/// The console of one process. Clones are one.
#[derive(Clone)]
pub struct Console(Arc<Inner>);

struct Inner {
    process: &'static str,
    metrics: PrometheusHandle,
    readiness: Readiness,
    source: OnceLock<Arc<dyn ConsoleSource>>,
    last: Mutex<Option<Arc<Seen>>>,
    watchers: Arc<Semaphore>,
    closing: CancellationToken,
}

/// What was seen at one look.
struct Seen {
    began: Instant,
    took: Duration,
    at_ms: u64,
    figures: Figures,
    parts: Map<String, Value>,
}

impl Console {
    /// The console of the process that is called so. It shows metrics and readiness until it is given [more](Self::show).
    pub fn new(process: &'static str, metrics: PrometheusHandle, readiness: Readiness) -> Self {
        Self(Arc::new(Inner {
            process,
            metrics,
            readiness,
            source: OnceLock::new(),
            last: Mutex::default(),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            closing: CancellationToken::new(),
        }))
    }

    /// From now on it shows this too; what comes second is not shown.
    pub fn show(&self, source: Arc<dyn ConsoleSource>) {
        let _ = self.0.source.set(source);
    }

    /// No one is told anything more.
    pub fn close(&self) {
        self.0.closing.cancel();
    }

    /// `/console/…`: its files and its feed, for a server with a guard of its own.
    pub fn routes(&self) -> Router {
        Router::new()
            .route("/console/feed", get(feed::feed).with_state(self.clone()))
            .route("/console/{file}", get(file))
    }

    /// The whole of it, guarded, with a page.
    pub(super) fn guarded_routes(&self, hosts: Hosts) -> Router {
        self.routes()
            .route("/", get(async || Redirect::temporary("console")))
            .route(
                "/console",
                get(async || ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], HTML)),
            )
            .layer(middleware::from_fn_with_state(hosts, of_pages))
    }

    /// How it is: seen now, or a moment ago.
    async fn seen(&self) -> Arc<Seen> {
        let mut last = self.0.last.lock().await;
        if let Some(seen) = last.as_ref().filter(|seen| seen.is_fresh()) {
            return seen.clone();
        }
        let seen = Arc::new(self.look().await);
        *last = Some(seen.clone());
        seen
    }

    async fn look(&self) -> Seen {
        let began = Instant::now();
        let mut parts = match self.0.source.get() {
            Some(source) => source.look().await,
            None => Map::new(),
        };
        let report = serde_json::to_value(self.0.readiness.report());
        parts.insert("readiness".to_owned(), report.unwrap_or_default());
        Seen {
            began,
            at_ms: SystemClock.now().as_millis(),
            figures: Figures::of(&self.0.metrics.render()),
            parts,
            took: began.elapsed(),
        }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Console").field(&self.0.process).finish()
    }
}

impl Seen {
    fn is_fresh(&self) -> bool {
        self.began.elapsed() < PERIOD.max(self.took * (REST_PER_LOOK + 1))
    }
}

async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(file, ..)| *file == name) {
        Some((_, kind, text)) => ([(header::CONTENT_TYPE, *kind)], *text).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests;
