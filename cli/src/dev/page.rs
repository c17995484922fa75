//! The page's own small web server: its files, and who may ask for them.
//!
//! It mints tokens and injects, pushes and revokes for anyone who asks, so it must know that a
//! person at this machine asks, and not a page of the web in that person's
//! browser. Such a page may reach us under a name of its own that it lets point
//! here (DNS rebinding), or it may send us a form: the console's [`guard`] knows both. Only tokens may be asked for by pages of the
//! person's own, too ([`cors`]). And what the page itself may load is what it was delivered with.

pub(super) mod cors;
mod inject;
mod mint;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use shared::service::admin::{Console, guard};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::state::{Addresses, Page};
use super::{push, settings, watch};
use crate::support::dev_key;

/// 64 KiB = 64 * 1,024 bytes: what a terminator takes, too.
const MAX_BODY_BYTES: usize = 64 * 1_024;

/// How long a request that is being answered may take when we end.
const CLOSING_TIME: Duration = Duration::from_secs(1);

const HTML: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/style.css");
/// The script, and the modules that it imports.
const SCRIPTS: [(&str, &str); 8] = [
    ("/page.js", include_str!("page/page.js")),
    ("/backend.js", include_str!("page/backend.js")),
    ("/connection.js", include_str!("page/connection.js")),
    ("/messages.js", include_str!("page/messages.js")),
    ("/journey.js", include_str!("page/journey.js")),
    ("/tokens.js", include_str!("page/tokens.js")),
    ("/dom.js", include_str!("page/dom.js")),
    ("/views.js", include_str!("page/views.js")),
];

/// The running server. Ends when it is dropped, or more gently by [`end`](Self::end).
pub(crate) struct Server {
    closing: CancellationToken,
    console: Console,
    task: JoinHandle<()>,
}

impl Page {
    /// Serves it.
    pub(crate) fn serve(self, listener: TcpListener) -> Server {
        let (closing, console) = (self.closing.clone(), self.console.clone());
        let router = router(Arc::new(self));
        let task = tokio::spawn(run(listener, router, closing.clone()));
        Server { closing, console, task }
    }
}

impl Server {
    /// Takes no more requests, and waits for those that are being answered. Tells whether all were in time.
    pub(crate) async fn end(mut self) -> bool {
        self.closing.cancel();
        self.console.close();
        timeout(CLOSING_TIME, &mut self.task).await.is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(listener: TcpListener, router: Router, closing: CancellationToken) {
    let served = axum::serve(listener, router).with_graceful_shutdown(closing.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the page is no longer served");
    }
}

fn router(page: Arc<Page>) -> Router {
    let file =
        |kind: &'static str, text: &'static str| get(move || async move { ([(header::CONTENT_TYPE, kind)], text) });
    let scripts = SCRIPTS.iter().fold(Router::new(), |router, (path, text)| {
        router.route(path, file("text/javascript; charset=utf-8", text))
    });
    scripts
        .route("/", file("text/html; charset=utf-8", HTML))
        .route("/style.css", file("text/css; charset=utf-8", STYLE))
        .route("/about", get(about))
        .route("/journey", get(watch::journey))
        .route("/token", post(mint::token))
        .route("/inject", post(inject::inject))
        .route("/push", post(push::push))
        .route("/revoke", post(push::revoke))
        .route("/settings", get(settings::settings).post(settings::change))
        .route("/connection", get(settings::connection))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(page.clone())
        .merge(page.console.routes())
        .layer(middleware::from_fn_with_state(page, guarded))
}

/// What the page must know before it can do anything.
#[derive(Serialize)]
struct About {
    socket: String,
    subprotocol: &'static str,
    issuer: &'static str,
    audience: &'static str,
}

async fn about(State(page): State<Arc<Page>>, headers: HeaderMap) -> Json<About> {
    Json(About {
        socket: page.addresses.socket_url(text(&headers, header::HOST)),
        subprotocol: shared::wire::protocol::SUBPROTOCOL,
        issuer: dev_key::ISSUER,
        audience: dev_key::AUDIENCE,
    })
}

/// Turns away other pages but those of one's own, and tells the browser to keep to what is ours.
async fn guarded(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let own_page = headers
        .get(header::ORIGIN)
        .filter(|origin| page.cors.allows(request.uri().path(), origin))
        .cloned();
    let mut response = if !guard::is_no_name(text(headers, header::HOST)) {
        let known = format!("ask for http://{}\n", page.addresses.page);
        (StatusCode::MISDIRECTED_REQUEST, known).into_response()
    } else if let Some(origin) = own_page {
        let asks_first = cors::preflight(request.method());
        let mut response = match asks_first {
            Some(answer) => answer,
            None => next.run(request).await,
        };
        response.headers_mut().extend(cors::shown_to(&origin));
        response
    } else if guard::is_of_another_page(headers) {
        guard::ANOTHER_PAGE.into_response()
    } else {
        next.run(request).await
    };
    guard::shield(&mut response, page.addresses.content_security_policy());
    response
}

fn text(headers: &HeaderMap, name: HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

impl Addresses {
    /// Whether page and WebSocket differ by their port alone, so that a terminator takes the page for one of its own host.
    fn share_a_host(&self) -> bool {
        self.page.ip() == self.socket.ip()
    }

    /// Where the WebSocket is for a page that was asked for by this `Host`.
    fn socket_url(&self, host: &str) -> String {
        if self.share_a_host() {
            format!("ws://{}:{}", split_host(host).0, self.socket.port())
        } else {
            format!("ws://{}", self.socket)
        }
    }

    /// The origins of the page, by each of its names.
    pub(crate) fn origins(&self) -> [String; 2] {
        [
            format!("http://{}", self.page),
            format!("http://localhost:{}", self.page.port()),
        ]
    }

    /// Nothing from elsewhere, nothing inline; connections to ourselves and to the terminator.
    fn content_security_policy(&self) -> HeaderValue {
        // A source list has no way to write an IPv6 address (CSP Level 3, §2.3.1).
        let socket = match self.socket {
            SocketAddr::V4(address) => format!("ws://{address} ws://localhost:{}", address.port()),
            SocketAddr::V6(_) => "ws:".to_owned(),
        };
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {socket}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        // It is made of addresses. If it could not be written, nothing would be loaded at all.
        HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
    }
}

/// The host of a URL's authority, brackets included, and its port.
fn split_host(host: &str) -> (&str, u16) {
    const HTTP_PORT: u16 = 80;
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port.parse().unwrap_or(0)),
        _ => (host, HTTP_PORT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(page: &str, socket: &str) -> Addresses {
        Addresses {
            page: page.parse().unwrap(),
            socket: socket.parse().unwrap(),
        }
    }

    #[test]
    fn the_page_finds_the_socket_under_the_name_by_which_it_was_asked_for() {
        let ours = addresses("127.0.0.1:8000", "127.0.0.1:8080");
        assert_eq!(ours.socket_url("localhost:8000"), "ws://localhost:8080");
        assert_eq!(
            addresses("[::1]:80", "[::1]:8080").socket_url("[::1]"),
            "ws://[::1]:8080"
        );
        let apart = addresses("127.0.0.1:8000", "[::1]:8080");
        assert_eq!(apart.socket_url("localhost:8000"), "ws://[::1]:8080");
    }

    #[test]
    fn the_page_may_connect_to_us_and_to_nobody_else() {
        let policy = addresses("127.0.0.1:8000", "127.0.0.1:8080").content_security_policy();
        let policy = policy.to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(
            policy.contains("connect-src 'self' ws://127.0.0.1:8080 ws://localhost:8080;"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}
