//! Which pages may open a socket (RFC 6455 §10.2).
//!
//! A browser tells truthfully which page opens a socket; other clients need not
//! say anything, so an absent `Origin` is let in. It is a guard of browsers'
//! users, not of us.
//!
//! An origin is a scheme, a host and a port (RFC 6454 §4), and two are the same if all three are: a page of another port
//! of the same host may be anyone's.

use shared::service::config::{Shown, Value};

/// A page's origin, or that of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In lower case.
    scheme: String,
    /// In lower case.
    host: String,
    port: u16,
}

impl Origin {
    /// The origin of that text, as a browser sends it; none if it is none, like `null`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if scheme.is_empty() || !scheme.bytes().all(letters) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = authority_of(authority)?;
        let port = port.or_else(|| default_port(&scheme))?;
        Some(Self { scheme, host, port })
    }

    /// Whether a request with this `Host` header goes to the same origin. Whether it came by TLS is known only where TLS ends
    /// here; elsewhere it came as the page did.
    fn is_of(&self, host: &str, tls: bool) -> bool {
        let Some((host, port)) = authority_of(host) else {
            return false;
        };
        let scheme_fits = !tls || self.scheme == "https";
        scheme_fits && host == self.host && port.or_else(|| default_port(&self.scheme)) == Some(self.port)
    }
}

/// A web page whose browsers may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Every page: `*`.
    Any,
    /// The pages of one origin (RFC 6454 §4).
    Exactly(Origin),
}

impl Value for AllowedOrigin {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let wanted = "`*` or an origin without a path, such as `https://app.example.com` or `http://localhost:3000`";
        Origin::parse(text).map(Self::Exactly).ok_or_else(|| wanted.to_owned())
    }

    fn show(&self) -> Shown {
        match self {
            Self::Any => "*".into(),
            Self::Exactly(origin) => origin.to_string().into(),
        }
    }
}

/// RFC 9110 §4.2.
fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Host, in lower case, and port of `host:port`, where the host may be an IPv6 address in brackets (RFC 3986 §3.2).
fn authority_of(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let plain =
        !host.is_empty() && !host.contains(|c: char| "/?#@*[]:\\".contains(c) || c.is_whitespace() || c.is_control());
    let sound = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => plain,
    };
    let port = match port {
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        Some(_) => return None,
    };
    sound.then(|| (host.to_ascii_lowercase(), port))
}

/// As a browser writes it: without the port that goes without saying.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match default_port(&self.scheme) {
            Some(port) if port == self.port => Ok(()),
            _ => write!(f, ":{}", self.port),
        }
    }
}

/// The origins that are let in; none listed means the pages of the host and port that the request itself names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowedOrigins {
    pub(crate) listed: Vec<AllowedOrigin>,
    /// Whether TLS ends here.
    pub(crate) tls: bool,
}

impl AllowedOrigins {
    /// Whether a request with these headers is let in.
    pub(crate) fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(text) = origin else { return true };
        if self.listed.contains(&AllowedOrigin::Any) {
            return true;
        }
        let Some(origin) = Origin::parse(text) else {
            return false;
        };
        if self.listed.is_empty() {
            return host.is_some_and(|host| origin.is_of(host, self.tls));
        }
        self.listed
            .iter()
            .any(|allowed| *allowed == AllowedOrigin::Exactly(origin.clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn listed(origins: &[&str]) -> AllowedOrigins {
        let listed = origins.iter().map(|origin| AllowedOrigin::parse(origin).unwrap());
        AllowedOrigins {
            listed: listed.collect(),
            tls: false,
        }
    }

    #[test]
    fn a_client_that_is_no_browser_needs_no_origin() {
        assert!(listed(&["https://a.example"]).allows(None, Some("b")));
    }

    #[test]
    fn by_default_a_page_of_the_same_host_and_port_is_let_in_and_no_other() {
        for (origin, host, allowed) in [
            ("http://localhost:8080", "localhost:8080", true),
            ("http://LOCALHOST:8080", "localhost:8080", true),
            ("http://localhost:3000", "localhost:8080", false),
            ("http://localhost", "localhost", true),
            ("http://localhost", "localhost:80", true),
            ("https://a.example", "a.example", true),
            ("https://a.example", "a.example:443", true),
            ("https://a.example:443", "a.example", true),
            ("https://a.example", "a.example:80", false),
            ("https://[::1]:1", "[::1]:1", true),
            ("https://[::1]", "[::1]", true),
            ("https://[::1]:1", "[::1]", false),
            ("http://evil.example", "localhost:8080", false),
            ("http://localhost.evil.example:8080", "localhost:8080", false),
            ("http://evil.example:80@localhost", "localhost", false),
            ("null", "null", false),
            ("", "localhost", false),
        ] {
            assert_eq!(listed(&[]).allows(Some(origin), Some(host)), allowed, "{origin} {host}");
        }
        assert!(!listed(&[]).allows(Some("http://a"), None));
    }

    #[test]
    fn where_tls_ends_here_a_page_without_it_is_another_s() {
        let tls = AllowedOrigins {
            tls: true,
            ..listed(&[])
        };
        assert!(tls.allows(Some("https://a.example:8443"), Some("a.example:8443")));
        assert!(!tls.allows(Some("http://a.example:8443"), Some("a.example:8443")));
    }

    #[test]
    fn a_listed_origin_is_compared_whole() {
        let allowed = listed(&["https://app.example", "http://b.example:80"]);
        for (origin, let_in) in [
            ("https://app.example", true),
            ("https://app.example:443", true),
            ("HTTPS://App.Example", true),
            ("http://b.example", true),
            ("http://app.example", false),
            ("https://app.example:8443", false),
            ("https://app.example.", false),
            ("null", false),
        ] {
            assert_eq!(allowed.allows(Some(origin), Some("app.example")), let_in, "{origin}");
        }
    }

    #[test]
    fn every_page_is_let_in_only_where_it_is_written() {
        assert!(listed(&["*"]).allows(Some("http://anywhere.example"), None));
        assert!(listed(&["*"]).allows(Some("null"), None));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(origin: String, host: String) {
            let _ = listed(&[]).allows(Some(&origin), Some(&host));
        }
    }
}
