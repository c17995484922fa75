//! What handles messages: `echo`, `relay`, `http:URL` or `amqp`.

use std::fmt;

use reqwest::Url;
use shared::service::config::{Shown, Value, redacted};

/// What handles a message once it is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerKind {
    /// Answers with the message's own payload.
    Echo,
    /// Pushes the message to another identity.
    Relay,
    /// Posts it to a URL.
    Http(UpstreamUrl),
    /// Publishes it to the exchange of applications.
    Amqp,
}

/// Where messages are posted. `Debug` and `Display` show `***` for a password.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamUrl(Url);

const HTTP: &str = "http:";

impl UpstreamUrl {
    /// The URL, password and all: for anyone who connects.
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// Whether it is reached by TLS.
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl Value for HandlerKind {
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let wanted = "`echo`, `relay`, `amqp`, or `http:` and a URL, as in `http:https://app.example.com/messages`";
        match text {
            "echo" => Ok(Self::Echo),
            "relay" => Ok(Self::Relay),
            "amqp" => Ok(Self::Amqp),
            _ => {
                let url = text.strip_prefix(HTTP).and_then(upstream);
                url.map(Self::Http).ok_or_else(|| wanted.to_owned())
            }
        }
    }

    fn show(&self) -> Shown {
        match self {
            Self::Echo => "echo".into(),
            Self::Relay => "relay".into(),
            Self::Amqp => "amqp".into(),
            Self::Http(url) => format!("{HTTP}{url}").into(),
        }
    }
}

fn upstream(text: &str) -> Option<UpstreamUrl> {
    let url = Url::parse(text).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    // A fragment is nothing that a server would see (RFC 9110 §4.2.5).
    (is_web && url.fragment().is_none()).then_some(UpstreamUrl(url))
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(self.0.as_str()))
    }
}

impl fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_is_one_of_four_and_shown_as_it_was_written() {
        for text in [
            "echo",
            "relay",
            "amqp",
            "http:http://127.0.0.1:3000/messages",
            "http:https://app.example.com/a",
        ] {
            assert_eq!(HandlerKind::parse(text).unwrap().show(), text.into());
        }
        let with_a_key = HandlerKind::parse("http:https://app.example.com/a?key=s3cret").unwrap();
        assert_eq!(with_a_key.show(), "http:https://app.example.com/a?***".into());
    }

    #[test]
    fn what_is_no_url_of_the_web_is_refused() {
        for wrong in [
            "",
            "http",
            "http:",
            "http:3000",
            "http://127.0.0.1:3000/",
            "https://a.example/",
            "http:ftp://a.example/",
            "http:https://",
            "http:https://a.example/#b",
            "http:https://a:port/",
            "amqp:",
        ] {
            assert!(HandlerKind::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let kind = HandlerKind::parse("http:https://u:hunter2@a.example/").unwrap();
        let HandlerKind::Http(url) = &kind else { panic!("a URL") };
        assert!(!format!("{kind:?} {url} {}", kind.show()).contains("hunter2"));
        assert_eq!(url.expose().password(), Some("hunter2"));
    }
}
