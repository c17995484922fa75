//! The opening handshake's request, read and judged (RFC 6455 §4.2): pure.
//!
//! tokio-tungstenite's own server side answers a plain request with nothing at
//! all; here every request gets an HTTP answer that says what is wrong.

use std::borrow::Cow;

use shared::wire::protocol::{LIMITS_SUBPROTOCOL, SUBPROTOCOL};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::origin::AllowedOrigins;
use super::proxies::proxy_header;

/// The most headers of a request; a browser behind several proxies sends some forty.
const MOST_HEADERS: usize = 100;
/// The version of the WebSocket protocol (RFC 6455 §4.1).
const VERSION: &str = "13";

/// What a request head amounts to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// More bytes are needed.
    Partial,
    /// The head ends after `length` bytes, and asks for a socket; and perhaps to be told its limits.
    Upgrade {
        length: usize,
        response: String,
        asks_limits: bool,
    },
    /// It is refused.
    Refused(Refusal),
}

/// Why a request gets no socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is no HTTP, or the upgrade's headers are not as RFC 6455 wants them; the reason.
    Malformed(&'static str),
    /// There is a PROXY header where none may be, or none where one must be; the reason.
    ProxyHeader(&'static str),
    /// There is no TLS where there must be.
    Tls,
    /// It is plain HTTP.
    NoUpgrade,
    /// Another version of WebSocket.
    Version,
    /// A page that is not let in.
    Origin,
    /// A head without end.
    TooLarge,
    /// A head that took too long.
    TooSlow,
    /// Too many handshakes from one address, at once or within a second.
    TooManyHandshakes,
    /// Too many sockets from one address.
    TooManyFromAddress,
    /// Too many sockets.
    TooMany,
}

impl Refusal {
    /// Every kind, each once.
    pub(crate) const ALL: [Self; 11] = [
        Self::Malformed(""),
        Self::ProxyHeader(""),
        Self::Tls,
        Self::NoUpgrade,
        Self::Version,
        Self::Origin,
        Self::TooLarge,
        Self::TooSlow,
        Self::TooManyHandshakes,
        Self::TooManyFromAddress,
        Self::TooMany,
    ];

    /// The status code and its phrase (RFC 9110 §15).
    const fn status(self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::ProxyHeader(_) | Self::Tls => "400 Bad Request",
            Self::NoUpgrade | Self::Version => "426 Upgrade Required",
            Self::Origin => "403 Forbidden",
            Self::TooLarge => "431 Request Header Fields Too Large",
            Self::TooSlow => "408 Request Timeout",
            Self::TooManyHandshakes | Self::TooManyFromAddress => "429 Too Many Requests",
            Self::TooMany => "503 Service Unavailable",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Malformed(reason) | Self::ProxyHeader(reason) => reason,
            Self::Tls => "this port speaks TLS",
            Self::NoUpgrade => "this port speaks WebSocket; health checks live on the admin port",
            Self::Version => "only WebSocket version 13 is spoken here",
            Self::Origin => "this page may not connect; see the setting allowed-origins",
            Self::TooLarge => "the request's head is too large",
            Self::TooSlow => "the request's head took too long",
            Self::TooManyHandshakes => "too many handshakes from your address; try again later",
            Self::TooManyFromAddress => "too many connections from your address",
            Self::TooMany => "too many connections; try again later",
        }
    }

    /// Whether a setting has it so: 403, 429 or 503, and PROXY headers.
    pub(crate) const fn is_of_settings(self) -> bool {
        matches!(
            self,
            Self::ProxyHeader(_) | Self::Origin | Self::TooManyHandshakes | Self::TooManyFromAddress | Self::TooMany
        )
    }

    /// For operators, which.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::ProxyHeader(_) => {
                "a PROXY header that `proxy-protocol` and `trusted-proxies` do not allow, or none where they ask for one (400)"
            }
            Self::Origin => "the page's origin is not in `allowed-origins` (403)",
            Self::TooManyHandshakes => {
                "more than `max-handshakes-per-ip` or `handshakes-per-second-per-ip` (429); if it is a proxy, name it in `trusted-proxies`"
            }
            Self::TooManyFromAddress => {
                "more than `max-connections-per-ip` (429); if it is a proxy, name it in `trusted-proxies`"
            }
            Self::TooMany => "more than `max-connections`, or too many handshakes at once (503)",
            other => other.sentence(),
        }
    }

    /// A word for metrics.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::ProxyHeader(_) => "proxy_header",
            Self::Tls => "tls",
            Self::NoUpgrade => "no_upgrade",
            Self::Version => "version",
            Self::Origin => "origin",
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::TooManyHandshakes => "too_many_handshakes",
            Self::TooManyFromAddress => "too_many_from_address",
            Self::TooMany => "too_many",
        }
    }

    /// The whole HTTP response.
    pub(crate) fn response(self) -> String {
        let more = match self {
            Self::NoUpgrade | Self::Version => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            Self::TooManyHandshakes | Self::TooManyFromAddress | Self::TooMany => "Retry-After: 5\r\n",
            _ => "",
        };
        let (status, sentence) = (self.status(), self.sentence());
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\n{more}Content-Length: {}\r\n\r\n{sentence}\n",
            sentence.len() + 1
        )
    }
}

/// Judges the bytes that have come so far.
pub(crate) fn read(bytes: &[u8], allowed: &AllowedOrigins) -> Request {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => Request::Partial,
        Ok(httparse::Status::Complete(length)) => match judge(&request, allowed) {
            Ok((response, asks_limits)) => Request::Upgrade {
                length,
                response,
                asks_limits,
            },
            Err(refusal) => Request::Refused(refusal),
        },
        Err(httparse::Error::TooManyHeaders) => Request::Refused(Refusal::TooLarge),
        Err(_) if proxy_header::begins(bytes) => {
            Request::Refused(Refusal::ProxyHeader("no PROXY header is taken from your address"))
        }
        Err(_) => Request::Refused(Refusal::Malformed("this is not an HTTP/1.1 request")),
    }
}

/// All values of a header in the head of a request, in their order. What is no text in one of them hides nothing of the rest.
pub(crate) fn values<'a>(head: &'a [u8], name: &str) -> Vec<Cow<'a, str>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    if request.parse(head).is_err() {
        return Vec::new();
    }
    let named = request
        .headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name));
    named.map(|header| String::from_utf8_lossy(header.value)).collect()
}

fn judge(request: &httparse::Request<'_, '_>, allowed: &AllowedOrigins) -> Result<(String, bool), Refusal> {
    let headers = Headers(request.headers);
    if headers.one("upgrade")?.is_none() {
        return Err(Refusal::NoUpgrade);
    }
    // What follows the head would be taken for frames here, and for a body by anyone who stands in between (RFC 9112 §6.3).
    if headers.has("transfer-encoding") || headers.one("content-length")?.is_some_and(|length| length != "0") {
        return Err(Refusal::Malformed("a WebSocket's request has no body"));
    }
    if request.method != Some("GET") || request.version != Some(1) {
        return Err(Refusal::Malformed("a WebSocket begins with GET and HTTP/1.1"));
    }
    let host = headers
        .one("host")?
        .ok_or(Refusal::Malformed("the Host header is missing"))?;
    if !headers.has_token("upgrade", "websocket") {
        return Err(Refusal::Malformed("the Upgrade header does not say websocket"));
    }
    if !headers.has_token("connection", "upgrade") {
        return Err(Refusal::Malformed("the Connection header does not say Upgrade"));
    }
    if headers.one("sec-websocket-version")? != Some(VERSION) {
        return Err(Refusal::Version);
    }
    if !allowed.allows(headers.one("origin")?, Some(host)) {
        return Err(Refusal::Origin);
    }
    if has_token_in_url(request.path.unwrap_or_default()) {
        return Err(Refusal::Malformed(
            "tokens in URLs are not accepted; send them in messages",
        ));
    }
    let key = headers.one("sec-websocket-key")?.filter(|key| is_nonce(key));
    let key = key.ok_or(Refusal::Malformed(
        "the Sec-WebSocket-Key header is not 16 bytes in base64",
    ))?;
    let protocol = match headers.has("sec-websocket-protocol") {
        false => String::new(),
        true if headers.has_token("sec-websocket-protocol", SUBPROTOCOL) => {
            format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n")
        }
        true => return Err(Refusal::Malformed("the only subprotocol here is countersign.v1.json")),
    };
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n{protocol}\r\n",
        derive_accept_key(key.as_bytes())
    );
    Ok((
        response,
        headers.has_token("sec-websocket-protocol", LIMITS_SUBPROTOCOL),
    ))
}

/// Whether a URL carries what looks like a credential (RFC 6750 §2.3): it ends up in logs on the way here.
fn has_token_in_url(path: &str) -> bool {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    query.split(['&', ';']).any(|pair| {
        let name = decoded(pair.split('=').next().unwrap_or_default());
        ["token", "access_token", "jwt"]
            .iter()
            .any(|word| name.eq_ignore_ascii_case(word.as_bytes()))
    })
}

/// A name without its percent-encoding (RFC 3986 §2.1); what is none stays as it is.
fn decoded(name: &str) -> Vec<u8> {
    let mut rest = name.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let Some((&byte, behind)) = rest.split_first() {
        let digit = |at: usize| char::from(*behind.get(at)?).to_digit(16);
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.extend(u8::try_from(high * 16 + low));
                rest = &behind[2..];
            }
            _ => {
                decoded.push(byte);
                rest = behind;
            }
        }
    }
    decoded
}

/// Sixteen bytes in base64 are 22 characters and two of padding.
fn is_nonce(key: &str) -> bool {
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    key.len() == 24 && key.ends_with("==") && key.bytes().take(22).all(alphabet)
}

struct Headers<'a>(&'a [httparse::Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    fn has(&self, name: &'a str) -> bool {
        self.all(name).next().is_some()
    }

    /// The value of a header that may stand once.
    fn one(&self, name: &'a str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.all(name);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() && name != "upgrade" {
            return Err(Refusal::Malformed("a header that may stand once stands twice"));
        }
        let text = std::str::from_utf8(value).map_err(|_| Refusal::Malformed("a header is not text"))?;
        Ok(Some(text.trim()))
    }

    /// Whether a comma-separated header has this word, in any case.
    fn has_token(&self, name: &'a str, word: &str) -> bool {
        self.all(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .any(|token| token.trim().eq_ignore_ascii_case(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADERS: [(&str, &str); 5] = [
        ("Host", "localhost:8080"),
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];

    fn request(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
        let lines: String = headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        format!("GET {path} HTTP/1.1\r\n{lines}\r\n").into_bytes()
    }

    /// The usual headers, with `name` replaced, added, or (empty) left out.
    fn with(name: &str, value: &str) -> Request {
        let mut headers: Vec<_> = HEADERS.into_iter().filter(|(other, _)| *other != name).collect();
        if !value.is_empty() {
            headers.push((name, value));
        }
        read(&request("/", &headers), &AllowedOrigins::default())
    }

    fn status(request: Request) -> String {
        match request {
            Request::Refused(refusal) => refusal.response().split(' ').nth(1).unwrap().to_owned(),
            Request::Upgrade { response, .. } => response.split(' ').nth(1).unwrap().to_owned(),
            Request::Partial => "partial".to_owned(),
        }
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let bytes = request("/", &HEADERS);
        let Request::Upgrade {
            length,
            response,
            asks_limits,
        } = read(&bytes, &AllowedOrigins::default())
        else {
            panic!()
        };
        assert_eq!((length, asks_limits), (bytes.len(), false));
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(
            !response.contains("Protocol:"),
            "a subprotocol that was not asked for fails in browsers"
        );
    }

    #[test]
    fn plain_http_is_told_to_upgrade() {
        let response = with("Upgrade", "");
        assert_eq!(status(response), "426");
    }

    #[test]
    fn wrong_upgrade_headers_are_told() {
        assert_eq!(status(with("Upgrade", "h2c")), "400");
        assert_eq!(status(with("Connection", "close")), "400");
        assert_eq!(status(with("Host", "")), "400");
        assert_eq!(status(with("Sec-WebSocket-Key", "short")), "400");
        assert_eq!(status(with("Sec-WebSocket-Key", "")), "400");
        assert_eq!(status(with("Sec-WebSocket-Version", "8")), "426");
    }

    #[test]
    fn a_foreign_page_is_refused() {
        assert_eq!(status(with("Origin", "http://evil.example")), "403");
        assert_eq!(status(with("Origin", "http://localhost:8080")), "101");
        assert_eq!(status(with("Origin", "http://localhost")), "403");
    }

    #[test]
    fn the_subprotocol_is_taken_up_where_it_is_offered() {
        for (offered, asked) in [
            ("other, countersign.v1.json", false),
            ("countersign.limits, countersign.v1.json", true),
        ] {
            let Request::Upgrade {
                response, asks_limits, ..
            } = with("Sec-WebSocket-Protocol", offered)
            else {
                panic!()
            };
            assert!(response.contains("Sec-WebSocket-Protocol: countersign.v1.json\r\n"));
            assert_eq!(asks_limits, asked, "{offered}");
        }
        for other in ["other", "countersign.limits"] {
            assert_eq!(status(with("Sec-WebSocket-Protocol", other)), "400");
        }
    }

    #[test]
    fn a_token_in_the_url_is_refused() {
        for (path, expected) in [
            ("/?x=1&access_token=e", "400"),
            ("/?%74oken=e", "400"),
            ("/?access%5Ftoken=e", "400"),
            ("/?%4AWT=e", "400"),
            ("/?x=1;token=e", "400"),
            ("/?tokens=1", "101"),
            ("/?%74okens=1", "101"),
            ("/?%7=1&%zz=1&%", "101"),
            ("/?%C3%BC=1", "101"),
        ] {
            let request = read(&request(path, &HEADERS), &AllowedOrigins::default());
            assert_eq!(status(request), expected, "{path}");
        }
    }

    #[test]
    fn a_request_with_a_body_is_refused() {
        assert_eq!(status(with("Transfer-Encoding", "chunked")), "400");
        assert_eq!(status(with("Transfer-Encoding", "identity")), "400");
        assert_eq!(status(with("Content-Length", "5")), "400");
        assert_eq!(status(with("Content-Length", "+0")), "400");
        assert_eq!(status(with("Content-Length", "0")), "101");
    }

    #[test]
    fn an_unfinished_head_waits_for_more() {
        let bytes = request("/", &HEADERS);
        assert_eq!(
            read(&bytes[..bytes.len() - 1], &AllowedOrigins::default()),
            Request::Partial
        );
    }

    #[test]
    fn more_headers_than_anybody_needs_are_too_many() {
        let many: Vec<_> = (0..200).map(|_| ("X", "y")).collect();
        assert_eq!(status(read(&request("/", &many), &AllowedOrigins::default())), "431");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = read(&bytes, &AllowedOrigins::default());
        }

        #[test]
        fn no_header_makes_it_panic(which in 0_usize..5, value in "\\PC*") {
            let _ = with(HEADERS[which].0, &value);
        }
    }
}
