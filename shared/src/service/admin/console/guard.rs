//! Who may look, and what a browser may load.
//!
//! A page of the web in an operator's browser can reach every address that this
//! browser can. It may not read what it gets, unless it reaches us under a name of
//! its own that it lets point here (DNS rebinding). So the `Host` must be an
//! address, or `localhost`: neither is a name that anybody could let point anywhere.

use std::net::{IpAddr, Ipv6Addr};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Nothing from elsewhere, nothing inline, and in no frame.
const POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";

pub(super) async fn guard(request: Request, next: Next) -> Response {
    let mut response = match refusal(request.headers()) {
        Some(refusal) => refusal.into_response(),
        None => next.run(request).await,
    };
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The files change with the program.
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text("host").unwrap_or_default();
    if !is_no_name(host) {
        let hint = "the console answers to an IP address or to localhost only; forward its port to your machine\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, hint));
    }
    let ours = |origin: &str| origin.split_once("://").is_some_and(|(_, origin)| origin == host);
    let foreign = text("origin").is_some_and(|origin| !ours(origin))
        || text("sec-fetch-site").is_some_and(|site| site == "cross-site" || site == "same-site");
    foreign.then_some((StatusCode::FORBIDDEN, "another page's request is not answered\n"))
}

/// Whether nobody could let it point anywhere: an address or `localhost`, with a port or without.
fn is_no_name(host: &str) -> bool {
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
        refusal(&pairs.collect()).map(|(status, _)| status.as_u16())
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
