//! The operator's door: is it alive, is it ready, what does it count.
//!
//! It has a port of its own, so that it can be kept from clients and answers when
//! their port is full. `/livez` says that the process runs; restarting it helps
//! against nothing else. `/readyz` says whether it should get traffic, and why not.
//! `/metrics` is Prometheus's text. `/credentials` says which keys and certificates are in force, and never what they are. `/console`, where an operator wants it, is a page.
//! All but the first are guarded from pages of the web.

mod broker;
mod console;
pub mod guard;
mod process;
mod readiness;

use std::future::IntoFuture;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::guard::{Hosts, of_programs};
use crate::credentials::Register;

pub use broker::watch_broker;
pub use console::{Console, ConsoleSource};
pub use readiness::{CheckHandle, Readiness};

/// How often what was recorded is moved into its buckets; until then each sample is kept.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// How long a request that is being answered may take when we end.
const CLOSING_TIME: Duration = Duration::from_secs(1);

/// The running door. Ends when it is dropped, or more gently by [`shutdown`](Self::shutdown).
#[derive(Debug)]
pub struct Admin {
    addr: Option<SocketAddr>,
    console: Option<Console>,
    closing: CancellationToken,
    task: JoinHandle<()>,
}

impl Admin {
    /// Opens the door at `listen`; with `None` there is none, and only the upkeep of `metrics` runs. The `console` is
    /// there if one is given. Browsers may ask for it by these names, besides addresses and `localhost`.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn bind(
        listen: Option<SocketAddr>,
        readiness: Readiness,
        metrics: PrometheusHandle,
        credentials: Register,
        console: Option<Console>,
        allowed_hosts: &[String],
    ) -> Result<Self, AdminError> {
        let listener = match listen {
            Some(addr) => Some(
                TcpListener::bind(addr)
                    .await
                    .map_err(|cause| AdminError { addr, cause })?,
            ),
            None => None,
        };
        let addr = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let hosts = Hosts::new(allowed_hosts);
        let mut app = router(readiness, metrics.clone(), credentials, hosts.clone());
        if let (Some(console), Some(addr)) = (&console, addr) {
            app = app.merge(console.guarded_routes(hosts));
            if !addr.ip().is_loopback() {
                tracing::warn!(%addr, "the console is unauthenticated: keep this address behind a firewall");
            }
        }
        let closing = CancellationToken::new();
        let task = tokio::spawn(run(listener, app, metrics, closing.clone()));
        Ok(Self {
            addr,
            console,
            closing,
            task,
        })
    }

    /// Where it listens, if it does.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.addr
    }

    /// Lets no more requests in. [`join`](Self::join) tells when the last is answered.
    pub fn shutdown(&self) {
        if let Some(console) = &self.console {
            console.close();
        }
        self.closing.cancel();
    }

    /// Waits until it has ended, which without [`shutdown`](Self::shutdown) is never.
    pub async fn join(mut self) {
        // A panic in there was logged where it happened.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The admin address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("admin-listen: cannot listen on {addr}: {cause}")]
pub struct AdminError {
    addr: SocketAddr,
    cause: io::Error,
}

async fn run(listener: Option<TcpListener>, app: Router, metrics: PrometheusHandle, closing: CancellationToken) {
    tokio::select! {
        () = serve(listener, app, closing.clone()) => {}
        () = upkeep(metrics) => {}
        () = too_late(closing) => {}
    }
}

async fn serve(listener: Option<TcpListener>, app: Router, closing: CancellationToken) {
    let Some(listener) = listener else {
        return closing.cancelled().await;
    };
    let server = axum::serve(listener, app).with_graceful_shutdown(closing.cancelled_owned());
    if let Err(error) = server.into_future().await {
        tracing::error!(%error, "the admin server ended");
    }
}

async fn too_late(closing: CancellationToken) {
    closing.cancelled().await;
    tokio::time::sleep(CLOSING_TIME).await;
}

async fn upkeep(metrics: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
    loop {
        interval.tick().await;
        metrics.run_upkeep();
    }
}

fn router(readiness: Readiness, metrics: PrometheusHandle, credentials: Register, hosts: Hosts) -> Router {
    Router::new()
        .route("/credentials", get(async move || Json(credentials.rows())))
        .route("/readyz", get(readyz).with_state(readiness.clone()))
        .route("/metrics", get(exposition).with_state((metrics, readiness)))
        .layer(middleware::from_fn_with_state(hosts, of_programs))
        .route("/livez", get(async || "ok\n"))
}

async fn readyz(State(readiness): State<Readiness>) -> impl IntoResponse {
    let report = readiness.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report))
}

async fn exposition(State((metrics, readiness)): State<(PrometheusHandle, Readiness)>) -> impl IntoResponse {
    process::measure();
    gauge!("countersign_ready").set(if readiness.is_ready() { 1.0 } else { 0.0 });
    // Source: the text format of Prometheus, version 0.0.4.
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        metrics.render(),
    )
}

#[cfg(test)]
mod tests;
