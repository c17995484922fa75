//! Which pages may open a socket (RFC 6455 §10.2).
//!
//! A browser tells truthfully which page opens a socket; other clients need not
//! say anything, so an absent `Origin` is let in. It is a guard of browsers'
//! users, not of us.

use crate::config::AllowedOrigin;

/// The origins that are let in; none listed means the pages of the host that the request itself names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllowedOrigins(pub(crate) Vec<AllowedOrigin>);

impl AllowedOrigins {
    /// Whether a request with these headers is let in.
    pub(crate) fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        if !self.0.is_empty() {
            return self.0.iter().any(|allowed| allowed.allows(origin));
        }
        match (origin.split_once("://"), host) {
            (Some((_, authority)), Some(host)) => host_of(authority).eq_ignore_ascii_case(host_of(host)),
            _ => false,
        }
    }
}

/// The host of `host:port`, where the host may be an IPv6 address in brackets.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use shared::config::Value;

    use super::*;

    fn listed(origins: &[&str]) -> AllowedOrigins {
        AllowedOrigins(
            origins
                .iter()
                .map(|origin| AllowedOrigin::parse(origin).unwrap())
                .collect(),
        )
    }

    #[test]
    fn a_client_that_is_no_browser_needs_no_origin() {
        assert!(listed(&["https://a.example"]).allows(None, Some("b")));
    }

    #[test]
    fn by_default_a_page_of_the_same_host_is_let_in_and_no_other() {
        let allowed = listed(&[]);
        assert!(allowed.allows(Some("http://localhost:3000"), Some("localhost:8080")));
        assert!(allowed.allows(Some("https://[::1]:1"), Some("[::1]")));
        assert!(!allowed.allows(Some("http://evil.example"), Some("localhost:8080")));
        assert!(!allowed.allows(Some("http://localhost.evil.example"), Some("localhost:8080")));
        assert!(!allowed.allows(Some("null"), Some("null")));
        assert!(!allowed.allows(Some("http://a"), None));
    }

    #[test]
    fn a_listed_origin_is_exact() {
        let allowed = listed(&["https://app.example"]);
        assert!(allowed.allows(Some("https://app.example"), Some("x")));
        assert!(!allowed.allows(Some("http://app.example"), Some("app.example")));
        assert!(!allowed.allows(Some("https://app.example:8443"), Some("app.example")));
    }

    #[test]
    fn every_page_is_let_in_only_where_it_is_written() {
        assert!(listed(&["*"]).allows(Some("http://anywhere.example"), None));
    }
}
