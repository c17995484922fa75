//! Who may look, and what a browser may load.
//!
//! A page of the web in an operator's browser can reach every address that this
//! browser can. It may not read what it gets, unless it reaches us under a name of
//! its own that it lets point here (DNS rebinding). So the `Host` must be an
//! address, or `localhost`: neither is a name that anyone could let point anywhere. Other names are those that the operator has
//! allowed. Or it sends us a form: so the `Origin`, where there is one, must be ours.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What is answered to other pages.
pub const ANOTHER_PAGE: (StatusCode, &str) = (StatusCode::FORBIDDEN, "another page's request is not answered\n");

/// Nothing from elsewhere, nothing inline, and in no frame.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

/// The names that an operator has allowed (`admin-allowed-hosts`), without a port.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts(Arc<[String]>);

impl Hosts {
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    fn has(&self, host: &str) -> bool {
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }
}

/// Of what programs ask for. One that says no `Host` at all, as probes in HTTP/1.0 do, is no browser.
pub(super) async fn of_programs(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    match headers
        .contains_key(header::HOST)
        .then(|| refusal(headers, &hosts))
        .flatten()
    {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    }
}

/// Of what is for a browser.
pub(super) async fn of_pages(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let mut response = match refusal(request.headers(), &hosts) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    shield(&mut response, HeaderValue::from_static(POLICY));
    response
}

/// Tells the browser to load what `policy` says and no more, and to keep what it gets to our own pages.
pub fn shield(response: &mut Response, policy: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The files change with the program, and an answer may hold a token.
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

fn refusal(headers: &HeaderMap, hosts: &Hosts) -> Option<(StatusCode, &'static str)> {
    let host = text(headers, "host").unwrap_or_default();
    if !is_no_name(host) && !hosts.has(host) {
        let hint = "only an IP address, localhost and the names of admin-allowed-hosts are answered; or forward the port to \
                    your machine\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, hint));
    }
    let foreign = is_of_another_page(headers)
        || text(headers, "sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site");
    foreign.then_some(ANOTHER_PAGE)
}

/// Whether a page sends it that was not asked for by the same `Host`.
pub fn is_of_another_page(headers: &HeaderMap) -> bool {
    let host = text(headers, "host").unwrap_or_default();
    let ours = |origin: &str| origin.split_once("://").is_some_and(|(_, origin)| origin == host);
    text(headers, "origin").is_some_and(|origin| !ours(origin))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

/// Whether no one could let this `Host` point anywhere: an address or `localhost`, with a port or without.
pub fn is_no_name(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => {
            if port.parse::<u16>().is_err() {
                return false;
            }
            name
        }
        _ => host,
    };
    let v6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || v6.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
        || matches!(name.parse(), Ok(IpAddr::V4(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_point_anywhere_is_not_answered() {
        for host in [
            "127.0.0.1:9090",
            "127.0.0.1",
            "localhost:1",
            "LOCALHOST",
            "10.1.2.3:80",
            "[::1]:9090",
            "[::1]",
        ] {
            assert!(is_no_name(host), "{host}");
        }
        for host in [
            "",
            "evil.example:9090",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9090",
            "127.0.0.1:9090:1",
            "localhost:evil",
            "::1",
            "[evil]:1",
            "[127.0.0.1]",
        ] {
            assert!(!is_no_name(host), "{host}");
        }
    }

    fn status(headers: &[(&'static str, &'static str)]) -> Option<u16> {
        let pairs = headers.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        refusal(&pairs.collect(), &Hosts::new(&["Metrics.example".to_owned()])).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn a_name_that_is_allowed_is_answered_with_any_port_and_no_other() {
        for host in ["metrics.example", "METRICS.example:9090"] {
            assert_eq!(status(&[("host", host)]), None, "{host}");
        }
        for host in [
            "example",
            "x.metrics.example",
            "metrics.example.evil.example:9090",
            "metrics.example:1:2",
        ] {
            assert_eq!(status(&[("host", host)]), Some(421), "{host}");
        }
        let elsewhere = ("origin", "http://evil.example");
        assert_eq!(status(&[("host", "metrics.example"), elsewhere]), Some(403));
    }

    #[test]
    fn another_page_gets_nothing() {
        let host = ("host", "127.0.0.1:9090");
        assert_eq!(status(&[host]), None);
        assert_eq!(status(&[host, ("origin", "http://127.0.0.1:9090")]), None);
        assert_eq!(status(&[host, ("sec-fetch-site", "same-origin")]), None);
        assert_eq!(status(&[host, ("sec-fetch-site", "none")]), None);
        for (name, value) in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:80"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(status(&[host, (name, value)]), Some(403), "{name} {value}");
        }
        assert_eq!(status(&[("host", "evil.example")]), Some(421));
        assert_eq!(status(&[]), Some(421));
    }
}
