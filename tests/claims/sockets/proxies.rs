//! Each recipe of `docs/proxies.md`, as it stands there, with a real nginx or HAProxy: clients get in, each counts by its own address, and
//! pages are told apart.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::peers::raw::RawClient;
use tests::servers::certificate::connector;
use tests::servers::proxy::{Place, Proxy, Recipe};
use tests::{Client, Stack, eventually, token_for};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::either::Either;

use crate::authentication::expiry::SOON;

type Socket = WebSocketStream<Either<TcpStream, TlsStream<TcpStream>>>;

/// How clients come through a proxy.
struct Entry {
    stack: Stack,
    proxy: Proxy,
    tls: bool,
    path: &'static str,
    _place: Place,
}

impl Entry {
    async fn start(section: &str) -> Self {
        let (recipe, place) = (Recipe::of(section), Place::new());
        let mut builder = Stack::builder().setting("max-connections-per-ip", "2");
        let settings = recipe.settings(&place);
        for (name, value) in &settings {
            // By TCP as well, so that it is known where its pages are.
            let value = if name == "listen" {
                &format!("{value},127.0.0.1:0")
            } else {
                value
            };
            builder = builder.setting(name, value);
        }
        let stack = builder.start().await;
        let terminator = &stack.terminators()[0];
        let proxy = recipe
            .start(&place, Some(terminator.address()), terminator.admin())
            .await;
        Self {
            tls: section.contains("TLS") || section.contains("PROXY"),
            path: if section.contains("path") { "/ws/" } else { "/" },
            stack,
            proxy,
            _place: place,
        }
    }

    /// A socket from that address of this machine, or the status that it got instead; none if there was no HTTP answer.
    async fn open(&self, source: &str, headers: &[(&str, &str)]) -> Result<Socket, Option<u16>> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        let stream = socket.connect(self.proxy.address).await.unwrap();
        let (scheme, stream) = if self.tls {
            let stream = connector().connect("localhost".try_into().unwrap(), stream).await;
            ("wss", Either::Right(stream.map_err(|_| None)?))
        } else {
            ("ws", Either::Left(stream))
        };
        let url = format!("{scheme}://{}{}", self.proxy.address, self.path);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            let name: tokio_tungstenite::tungstenite::http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        match timeout(SOON, client_async(request, stream)).await.expect("an answer") {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => Err(Some(response.status().as_u16())),
            Err(_) => Err(None),
        }
    }

    /// The same once the proxy has found its terminator.
    async fn first(&self, source: &str) -> Socket {
        eventually(SOON, "the proxy lets a client in", async || {
            self.open(source, &[]).await
        })
        .await
    }

    async fn holds(&self, section: &str) {
        let mut first = self.first("127.0.0.2").await;
        let message = json!({"id": 1, "type": "echo", "token": token_for("alice").mint(), "payload": "through"});
        first.send(Message::text(message.to_string())).await.unwrap();
        let answer = timeout(SOON, first.next()).await.unwrap().unwrap().unwrap();
        let answer: Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
        assert_eq!(
            (&answer["type"], &answer["payload"]),
            (&json!("reply"), &json!("through")),
            "{section}"
        );

        // Each client has its own limit, by whatever name it calls itself.
        let _second = self.open("127.0.0.2", &[]).await.unwrap();
        let forged = [("X-Forwarded-For", "203.0.113.7"), ("Forwarded", "for=203.0.113.8")];
        assert_eq!(
            self.open("127.0.0.2", &forged).await.err(),
            Some(Some(429)),
            "{section}"
        );
        let _third = self
            .open("127.0.0.3", &[])
            .await
            .unwrap_or_else(|status| panic!("{section}: {status:?}"));
        let told = self.stack.terminators()[0].log();
        let named = told
            .iter()
            .any(|line| line["refused"] == "too_many_from_address" && line["connection"] == "127.0.0.2");
        assert!(named, "{section}: {told:?}");

        // A page of the same host gets in, or one that is listed, and no other.
        let scheme = if self.tls { "https" } else { "http" };
        let own = match section.contains("without the Host") {
            true => "https://app.example.com".to_owned(),
            false => format!("{scheme}://{}", self.proxy.address),
        };
        let page = self.open("127.0.0.4", &[("Origin", &own)]).await;
        assert!(page.is_ok(), "{section}: {own}");
        let other = self.open("127.0.0.4", &[("Origin", "https://evil.example")]).await;
        assert_eq!(other.err(), Some(Some(403)), "{section}");
    }
}

/// In the order of the page.
const SECTIONS: [&str; 8] = [
    "nginx",
    "nginx with TLS",
    "nginx under a path",
    "nginx without the Host",
    "nginx by a unix socket",
    "HAProxy",
    "HAProxy with TLS",
    "HAProxy with the PROXY protocol",
];

#[tokio::test(flavor = "multi_thread")]
async fn each_recipe_lets_clients_in_by_their_own_addresses() {
    for section in SECTIONS {
        let way = Entry::start(section).await;
        Box::pin(way.holds(section)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_host_that_is_passed_on_a_page_is_refused_until_it_is_listed() {
    let (recipe, place) = (Recipe::of("nginx without the Host"), Place::new());
    let stack = Stack::builder()
        .workers(0)
        .setting("trusted-proxies", "127.0.0.1")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    let proxy = recipe
        .start(&place, Some(terminator.address()), terminator.admin())
        .await;
    let page = Client::to_address(proxy.address).origin(&format!("http://{}", proxy.address));
    assert_eq!(page.open().await.map(drop).map_err(|refusal| refusal.status), Err(403));
    Client::to_address(proxy.address).open().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn client_1001_behind_a_proxy_gets_in_where_that_is_trusted() {
    for (trusted, let_in) in [("127.0.0.0/8", true), ("192.0.2.1", false)] {
        let stack = Stack::builder()
            .workers(0)
            .setting("trusted-proxies", trusted)
            .start()
            .await;
        let terminator = &stack.terminators()[0];
        let mut clients = Vec::new();
        for number in 0..1_001 {
            let mut client = RawClient::connect(terminator.address()).await;
            let named = format!(
                "Upgrade: websocket\r\nX-Forwarded-For: 198.51.{}.{}\r\n",
                number / 250,
                number % 250
            );
            client
                .write(client.handshake().replace("Upgrade: websocket\r\n", &named))
                .await;
            let status = client.read_head(SOON).await.status;
            let expected = if let_in || number < 1_000 { 101 } else { 429 };
            assert_eq!(status, expected, "client {number}, trusted: {trusted}");
            clients.push(client);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forwarded_names_clients_where_it_is_the_one_that_is_read() {
    let stack = Stack::builder()
        .workers(0)
        .settings(&[
            ("trusted-proxies", "127.0.0.1,10.0.0.0/8"),
            ("forwarded-header", "forwarded"),
            ("max-connections-per-ip", "1"),
        ])
        .start()
        .await;
    let open = async |value: &str| {
        let client = Client::to(&stack.terminators()[0]).header("Forwarded", value);
        // What is not read is anyone's invention.
        let client = client.header("X-Forwarded-For", "203.0.113.9");
        client.open().await.map_err(|refusal| refusal.status)
    };
    let _first = open("for=\"[2001:db8::1]:4711\";proto=https").await.unwrap();
    let neighbour = open("for=198.51.100.1, for=\"[2001:db8::ffff:2]\", for=10.0.0.7").await;
    assert_eq!(neighbour.map(drop), Err(429), "one network of 64 bits is one client");
    let _other = open("for=\"[2001:db8:0:1::1]\"").await.unwrap();
    let _third = open("for=198.51.100.1").await.unwrap();
    assert_eq!(open("for=198.51.100.1").await.map(drop), Err(429));
}
