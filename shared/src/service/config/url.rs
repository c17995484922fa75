//! Addresses of services: URLs that may carry a password, and never show it.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use lapin::uri::AMQPUri;

use super::value::Value;
use super::{Origin, Shown};

/// A broker's address: `amqp://user:password@host:port/vhost`, or `amqps` for TLS.
///
/// `Debug` and `Display` show `***` for the password. Source: the AMQP URI specification
/// of RabbitMQ, <https://www.rabbitmq.com/docs/uri-spec>.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUrl {
    text: String,
    uri: AMQPUri,
    file: Option<PathBuf>,
}

impl AmqpUrl {
    /// The address as it was written, password and all: for anyone who connects.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The address taken apart, password and all: for anyone who connects.
    pub fn uri(&self) -> &AMQPUri {
        &self.uri
    }

    /// The configuration file that it was read from, if that is so.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

impl Value for AmqpUrl {
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || "a URL such as `amqp://user:password@host:5672/%2f`, or `amqps://…` for TLS".to_owned();
        let host = host(text).ok_or_else(wanted)?;
        // The parser below takes "no host" for `localhost`, which is another broker.
        if host.is_empty() {
            return Err("a URL that names its host, such as `amqp://localhost:5672/%2f`".to_owned());
        }
        if has_stray_at(text) {
            return Err(
                "a URL with the `/`, `?` and `#` of its password percent-encoded (`%2F`, `%3F`, `%23`)".to_owned(),
            );
        }
        // Its complaint may repeat the URL, so it is not passed on.
        let uri = parsed(text).ok_or_else(wanted)?;
        if uri.vhost.is_empty() {
            return Err("a virtual host after the last `/`; the usual one, `/`, is written `%2f`".to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            uri,
            file: None,
        })
    }

    fn show(&self) -> Shown {
        self.to_string().into()
    }

    fn came_from(&mut self, origin: &Origin) {
        self.file = origin.file().map(Path::to_owned);
    }
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(&self.text))
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AmqpUrl({self})")
    }
}

/// A collector's address for OTLP over HTTP: `http://host:port`, or `https` for TLS, perhaps with a path.
///
/// It holds no secret: what the collector wants to be shown goes into headers. One that does is refused, and not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpUrl(String);

impl OtlpUrl {
    /// Where traces go. Source: the OTLP specification, "Endpoint URLs for OTLP/HTTP".
    pub fn traces(&self) -> String {
        format!("{}/v1/traces", self.0.trim_end_matches('/'))
    }

    /// Whether it is reached by TLS.
    pub fn is_secure(&self) -> bool {
        self.0.starts_with("https:")
    }
}

impl Value for OtlpUrl {
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || "the URL of a collector, such as `http://localhost:4318`".to_owned();
        let url = reqwest::Url::parse(text).map_err(|_| wanted())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || url.fragment().is_some() || !plain {
            return Err(wanted());
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> Shown {
        self.0.as_str().into()
    }
}

/// The start and end of a URL's authority (RFC 3986 §3.2): `user:password@host:port`.
fn authority(url: &str) -> Option<std::ops::Range<usize>> {
    let start = url.find("://")? + "://".len();
    let length = url[start..].find(['/', '?', '#']).unwrap_or(url.len() - start);
    Some(start..start + length)
}

/// Whether an `@` stands behind the authority. It is then the end of a password with a `/`, which reads as if the
/// user were the host, and which would be shown.
fn has_stray_at(url: &str) -> bool {
    authority(url).is_some_and(|authority| url[authority.end..].contains('@'))
}

/// The parts of a broker's address. The parser takes an IPv6 address for `localhost`, so it is given a name in its place.
fn parsed(text: &str) -> Option<AMQPUri> {
    let authority = authority(text)?;
    let at = text[authority.clone()].rfind('@');
    let start = at.map_or(authority.start, |at| authority.start + at + 1);
    let Some(bracketed) = text[start..authority.end].strip_prefix('[') else {
        return AMQPUri::from_str(text).ok();
    };
    let (address, port) = bracketed.split_once(']')?;
    let address: Ipv6Addr = address.parse().ok()?;
    if !(port.is_empty() || port.starts_with(':')) {
        return None;
    }
    let (before, behind) = (&text[..start], &text[authority.end..]);
    let mut uri = AMQPUri::from_str(&format!("{before}ipv6{port}{behind}")).ok()?;
    uri.authority.host = address.to_string();
    Some(uri)
}

/// The host of a URL, empty if it names none, without the port; `None` if this is no URL.
fn host(url: &str) -> Option<&str> {
    let authority = &url[authority(url)?];
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host_and_port.starts_with('[') {
        return Some(host_and_port);
    }
    Some(host_and_port.split(':').next().unwrap_or_default())
}

/// `url` with `***` in place of its password and, for the web, of its query, where some put a key.
///
/// A user's name that stands alone before the `@` goes too: some write the password there.
pub fn redacted(url: &str) -> String {
    let Some(authority) = authority(url) else {
        return url.to_owned();
    };
    let web = ["http://", "https://"].iter().any(|scheme| {
        let begins = url.get(..scheme.len());
        begins.is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
    });
    if web && let Some(query) = url[authority.end..].find('?') {
        let query = authority.end + query;
        return format!("{}?***", redacted(&url[..query]));
    }
    let Some(at) = url[authority.clone()].rfind('@') else {
        return url.to_owned();
    };
    let at = authority.start + at;
    let user = url[authority.start..at]
        .split_once(':')
        .map_or(String::new(), |(user, _)| format!("{user}:"));
    format!("{}{user}***{}", &url[..authority.start], &url[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amqp_url_is_what_rabbitmq_says_it_is() {
        for right in [
            "amqp://localhost",
            "amqp://127.0.0.1:5672/%2f",
            "amqps://u:p%40@h.example/v?heartbeat=10",
        ] {
            assert_eq!(AmqpUrl::parse(right).unwrap().expose(), right);
        }
        let url = AmqpUrl::parse("amqp://u:p@127.0.0.1:5673/%2f").unwrap();
        assert_eq!(
            (url.uri().authority.host.as_str(), url.uri().vhost.as_str()),
            ("127.0.0.1", "/")
        );
        for (text, host, port) in [
            ("amqp://[::1]:5673/%2f", "::1", 5_673),
            ("amqp://u:p%5B@[2001:DB8::0:7]/v", "2001:db8::7", 5_672),
            ("amqps://u:p@[::1]", "::1", 5_671),
        ] {
            let url = AmqpUrl::parse(text).unwrap();
            let authority = &url.uri().authority;
            assert_eq!((authority.host.as_str(), authority.port), (host, port), "{text}");
            assert_eq!(url.expose(), text);
        }
        let url = AmqpUrl::parse("amqp://u:p%5B@[::1]:5672/%2f").unwrap();
        assert_eq!(url.uri().authority.userinfo.password, "p[");
        assert_eq!(url.to_string(), "amqp://u:***@[::1]:5672/%2f");
        for wrong in [
            "",
            "localhost",
            "http://h",
            "amqp:h",
            "amqp://h:port",
            "amqp://h/?heartbeat=x",
            "amqp://u:p@h:5672:1",
        ] {
            assert!(AmqpUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_amqp_url_never_quietly_means_localhost() {
        for wrong in [
            "amqp://",
            "amqp:///%2f",
            "amqp://u:p@/%2f",
            "amqp://:5672",
            "amqp://[localhost]:5672/%2f",
            "amqp://[::1]5672/%2f",
            "amqp://u:p@h[::1]:5672/%2f",
            "amqp://[::1",
            "amqp://u:[::1]",
            "amqp://[::1]:port/%2f",
            "amqp://[127.0.0.1]:5672/%2f",
        ] {
            assert!(AmqpUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_empty_virtual_host_is_taken_for_the_slip_it_is() {
        assert!(AmqpUrl::parse("amqp://localhost:5672/").unwrap_err().contains("%2f"));
    }

    #[test]
    fn a_collector_is_named_by_scheme_and_host_and_without_a_password() {
        for (right, traces) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("https://[::1]/", "https://[::1]/v1/traces"),
            ("http://gateway/otlp", "http://gateway/otlp/v1/traces"),
        ] {
            assert_eq!(OtlpUrl::parse(right).unwrap().traces(), traces);
        }
        for wrong in [
            "",
            "localhost:4318",
            "grpc://h:4317",
            "http://",
            "http://u:p@h",
            "http://h?a=b",
            "http://h#a",
        ] {
            assert!(OtlpUrl::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url = AmqpUrl::parse("amqp://alice:hunter2@localhost/%2f").unwrap();
        assert_eq!(url.to_string(), "amqp://alice:***@localhost/%2f");
        assert!(!format!("{url:?} {:#?}", Some(&url)).contains("hunter2"));
        assert_eq!(redacted("redis://:s3cret@h:6379/0"), "redis://:***@h:6379/0");
        assert_eq!(redacted("redis://s3cret@h"), "redis://***@h");
        assert_eq!(redacted("redis://u:s3@cret@h?a=b@c"), "redis://u:***@h?a=b@c");
        assert_eq!(redacted("redis://h/0"), "redis://h/0");
        assert_eq!(redacted("https://h/a?key=s3cret"), "https://h/a?***");
        assert_eq!(redacted("HTTPS://u:s3@h?key=s3cret"), "HTTPS://u:***@h?***");
    }
}
