//! The address of a key server.
//!
//! Anyone who can put a key of theirs into the answer can be anyone, so the address
//! is one that only its owner answers at: TLS, or this very machine.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;

/// A URL that keys may be fetched from. It holds no credentials, so that it can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl(Url);

/// Why keys are not fetched from a URL. The texts do not repeat it: there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// RFC 3986.
    #[error("the URL is malformed")]
    Malformed,
    /// Anyone on the way could put keys of theirs into the answer.
    #[error(
        "keys are fetched over https, over plain http from this machine alone (127.0.0.1, ::1, localhost), unless `jwks-allow-http` is on"
    )]
    Plain,
    /// They would end up in logs, and a public key is no secret.
    #[error("the URL has a user or a password in it, which key servers are not sent")]
    Credentials,
}

impl JwksUrl {
    /// Whether an entry means a URL, be it a good one or not.
    pub(in crate::token) fn is_meant_by(text: &str) -> bool {
        text.split_once("://")
            .is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https"))
    }

    pub(in crate::token) fn as_url(&self) -> &Url {
        &self.0
    }

    pub(in crate::token) fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl FromStr for JwksUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text, false)
    }
}

impl JwksUrl {
    /// A URL, or one over plain `http` from elsewhere too, if that is allowed.
    pub(in crate::token) fn parse(text: &str, allow_http: bool) -> Result<Self, UrlError> {
        let url = Url::parse(text).map_err(|_| UrlError::Malformed)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::Credentials);
        }
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if allow_http || url.host_str().is_some_and(is_this_machine) => Ok(Self(url)),
            "http" => Err(UrlError::Plain),
            _ => Err(UrlError::Malformed),
        }
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<JwksUrl, UrlError> {
        url.parse()
    }

    #[test]
    fn only_this_machine_is_asked_without_tls() {
        for url in [
            "https://a.example/keys",
            "http://127.0.0.1:8080/keys",
            "http://127.9.9.9/",
            "http://[::1]:1/keys",
            "http://LOCALHOST/keys",
        ] {
            assert!(parse(url).is_ok(), "{url}");
        }
        for url in [
            "http://a.example/keys",
            "http://localhost.a.example/",
            "http://127.0.0.1.a.example/",
            "http://10.0.0.1/",
            "http://[::2]/",
            "http://0.0.0.0/",
        ] {
            assert_eq!(parse(url), Err(UrlError::Plain), "{url}");
        }
        assert_eq!(parse("https://"), Err(UrlError::Malformed));
        assert_eq!(parse("https://a:port/"), Err(UrlError::Malformed));
    }

    #[test]
    fn a_url_has_no_credentials_and_its_refusal_shows_none() {
        for url in [
            "https://u:hunter2@a.example/",
            "https://hunter2@a.example/",
            "http://:hunter2@127.0.0.1/",
        ] {
            let refused = parse(url).unwrap_err();
            assert_eq!(refused, UrlError::Credentials);
            assert!(!format!("{refused} {refused:?}").contains("hunter2"));
        }
    }
}
