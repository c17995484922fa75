//! Anyone who knocks gets an answer that says why, and never a bare reset.

use std::net::SocketAddr;

use serde_json::json;
use tests::peers::raw::{RawClient, RawFrame, opcode};
use tests::servers::http;
use tests::{Client, Span, Stack, eventually, token_for};

const REFUSED: &str = "countersign_terminator_handshakes_refused_total";

/// A connection that is answered by HTTP and then ended without a reset.
async fn status_of(address: SocketAddr, request: &str) -> u16 {
    let mut client = RawClient::connect(address).await;
    client.write(request).await;
    let answer = client.read_head(10.s()).await;
    client.expect_no_reset(10.s()).await;
    assert!(
        answer.status < 400 || answer.head.contains("Connection: close"),
        "{answer:?}"
    );
    answer.status
}

/// A proper handshake with each `from` replaced by its `to`.
fn handshake(address: SocketAddr, changes: &[(&str, &str)]) -> String {
    let proper = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    changes.iter().fold(proper, |text, (from, to)| {
        assert!(text.contains(from), "{from:?} is not in {text:?}");
        text.replace(from, to)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_request_gets_the_status_that_says_why() {
    let stack = Stack::builder().workers(0).start().await;
    let terminator = &stack.terminators()[0];
    let address = terminator.address();
    let before = terminator.metric(REFUSED).await;
    let last = "Sec-WebSocket-Version: 13\r\n";
    let with = |header: &str| format!("{last}{header}\r\n");
    let long = with(&format!("Cookie: {}", "c".repeat(17_000)));
    // As single sign-on sends them.
    let cookies = with(&format!("Cookie: {}", "c".repeat(15_500)));
    let many = with("X: y\r\n".repeat(200).trim_end());
    let cases: &[(u16, &[(&str, &str)])] = &[
        (426, &[("Upgrade: websocket\r\n", "")]),
        (
            426,
            &[("Upgrade: websocket\r\nConnection: Upgrade\r\n", ""), ("GET", "POST")],
        ),
        (426, &[("Version: 13", "Version: 8")]),
        (426, &[(last, "")]),
        (400, &[("Upgrade: websocket", "Upgrade: h2c")]),
        (400, &[("Connection: Upgrade", "Connection: close")]),
        (400, &[("Connection: Upgrade\r\n", "")]),
        (400, &[("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ=")]),
        (400, &[("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")]),
        (400, &[("GET", "POST")]),
        (400, &[("HTTP/1.1", "HTTP/1.0")]),
        (400, &[("Host", "Ghost")]),
        (400, &[(last, &with("Host: elsewhere"))]),
        (400, &[(last, &with("Sec-WebSocket-Protocol: chat"))]),
        (
            400,
            &[(last, &with("Sec-WebSocket-Protocol: chat, countersign.v2.json"))],
        ),
        (400, &[("GET /", "GET /?token=abc")]),
        (400, &[("GET /", "GET /socket?x=1&access_token=abc")]),
        (400, &[("GET /", "GET /?JWT=abc")]),
        (400, &[("GET /", "GET /?%74oken=abc")]),
        (400, &[("GET /", "GET /?access%5Ftoken=abc")]),
        (400, &[("GET /", "GET /?x=1;token=abc")]),
        (400, &[(last, &with("Transfer-Encoding: chunked"))]),
        (400, &[(last, &with("Content-Length: 5"))]),
        (400, &[("GET / HTTP/1.1\r\n", "hello\r\n")]),
        (431, &[(last, &long)]),
        (431, &[(last, &many)]),
        (403, &[(last, &with("Origin: http://evil.example"))]),
        (403, &[(last, &with("Origin: null"))]),
        (403, &[(last, &with("Origin: http://127.0.0.1"))]),
        (
            403,
            &[(last, &with(&format!("Origin: https://{address}@evil.example")))],
        ),
        (101, &[]),
        (101, &[(last, &cookies)]),
        (101, &[("GET /", "GET /any/path?room=1")]),
        (101, &[("Connection: Upgrade", "connection: keep-alive, UPGRADE")]),
        (101, &[(last, &with(&format!("Origin: http://{address}")))]),
        (101, &[(last, &with("Content-Length: 0"))]),
        (101, &[("GET /", "GET /?%74okens=1")]),
    ];
    let mut refused = 0.0;
    for (status, changes) in cases {
        let request = handshake(address, changes);
        if *status == 101 {
            let mut client = RawClient::connect(address).await;
            client.write(&request).await;
            assert_eq!(client.read_head(10.s()).await.status, 101, "{request}");
        } else {
            refused += 1.0;
            assert_eq!(status_of(address, &request).await, *status, "{request}");
        }
    }
    let counted = terminator.metric(REFUSED).await - before;
    assert_eq!(counted, refused, "each refusal is counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_is_cut_off() {
    let stack = Stack::builder().workers(0).start().await;
    let mut client = RawClient::connect(stack.terminators()[0].address()).await;
    client.write("GET / HTTP/1.1\r\nHost: x\r\n").await;
    for _ in 0..1_000 {
        client.write("X-Filler: and so on and so forth\r\n").await;
    }
    assert_eq!(client.read_head(10.s()).await.status, 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_large_a_head_may_be_is_a_setting() {
    let stack = Stack::builder()
        .workers(0)
        .setting("max-handshake-size", "2KiB")
        .start()
        .await;
    let address = stack.terminators()[0].address();
    for (length, status) in [(1_500, 101), (3_000, 431)] {
        let cookie = format!("Sec-WebSocket-Version: 13\r\nCookie: {}\r\n", "c".repeat(length));
        let mut client = RawClient::connect(address).await;
        client
            .write(handshake(address, &[("Sec-WebSocket-Version: 13\r\n", &cookie)]))
            .await;
        assert_eq!(client.read_head(10.s()).await.status, status, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_asked_on_the_other_port_only() {
    let stack = Stack::builder().workers(0).start().await;
    let terminator = &stack.terminators()[0];
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(
            http::get(terminator.address(), path).await.unwrap().status,
            426,
            "{path}"
        );
        assert_eq!(terminator.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_listed_origins_and_no_others_are_let_in() {
    let stack = Stack::builder()
        .workers(0)
        .setting("allowed-origins", "https://app.example,http://localhost:3000")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    let cases = [
        ("https://app.example", true),
        ("https://APP.example", true),
        ("https://app.example:443", true),
        ("http://localhost:3000", true),
        ("http://app.example", false),
        ("https://app.example:444", false),
        ("https://app.example.evil.example", false),
        ("https://evil.example/https://app.example", false),
        ("http://localhost", false),
        // The own host is not listed here.
        ("http://127.0.0.1", false),
        ("null", false),
    ];
    for (origin, allowed) in cases {
        let opened = Client::to(terminator).origin(origin).open().await;
        assert_eq!(
            opened.map_err(|refusal| refusal.status).err(),
            (!allowed).then_some(403),
            "{origin}"
        );
    }
    Client::connect(terminator).await.ping(10.s()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subprotocol_is_named_back_to_whoever_offers_it() {
    let stack = Stack::builder().workers(0).start().await;
    let terminator = &stack.terminators()[0];
    let ours = "countersign.v1.json";
    for offer in [
        ours,
        "chat, countersign.v1.json",
        "countersign.v1.json,countersign.v9.json",
    ] {
        let client = Client::to(terminator).subprotocol(offer).open().await.unwrap();
        assert_eq!(client.subprotocol(), Some(ours), "{offer}");
    }
    assert_eq!(Client::connect(terminator).await.subprotocol(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_limited_by_address_and_in_all_and_are_free_again_after_a_close() {
    let stack = Stack::builder()
        .workers(0)
        .setting("max-connections", "3")
        .setting("max-connections-per-ip", "2")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    let open = async |source| Client::to(terminator).from(source).open().await;
    let refused = async |source| open(source).await.unwrap_err();

    let first = open("127.0.0.2").await.unwrap();
    let second = open("127.0.0.2").await.unwrap();
    let full = refused("127.0.0.2").await;
    assert_eq!(full.status, 429);
    assert!(full.headers.iter().any(|(name, _)| name == "retry-after"), "{full:?}");
    let third = open("127.0.0.3").await.unwrap();
    assert_eq!(refused("127.0.0.4").await.status, 503);
    assert_eq!(terminator.metric(REFUSED).await, 2.0);

    first.close().await;
    let fourth = eventually(10.s(), "a place is free", async || open("127.0.0.4").await).await;
    assert_eq!(refused("127.0.0.5").await.status, 503);
    // A client that vanishes without a word frees its place too.
    drop(second);
    let fifth = eventually(10.s(), "a place is free", async || open("127.0.0.2").await).await;
    // So does one that only tries: a refusal keeps no place.
    drop((third, fourth, fifth));
    for _ in 0..10 {
        let tried = eventually(10.s(), "a place is free", async || open("127.0.0.2").await).await;
        tried.close().await;
        assert_eq!(http::get(terminator.address(), "/").await.unwrap().status, 426);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_dawdles_is_cut_and_its_place_is_free() {
    let stack = Stack::builder()
        .setting("handshake-timeout", "500ms")
        .setting("max-connections", "1")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    for begun in ["", "GET / HTTP/1.1\r\nHost: x\r\n", "GET /"] {
        let mut client = RawClient::connect(terminator.address()).await;
        client.write(begun).await;
        assert_eq!(client.read_head(10.s()).await.status, 408, "{begun:?}");
        client.expect_no_reset(10.s()).await;
    }
    // The time for a handshake is none for what follows it.
    let mut client = Client::connect(terminator).await;
    client.expect_silence(1.s()).await;
    let token = token_for("alice").mint();
    assert_eq!(client.request("echo", Some(&token), 1.into()).await["type"], "reply");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_in_pieces_with_a_message_behind_it_is_served() {
    let stack = Stack::start().await;
    let mut client = RawClient::connect(stack.terminators()[0].address()).await;
    let token = token_for("alice").mint();
    let message = format!(r#"{{"id":"early","type":"echo","token":"{token}"}}"#);
    let bytes = [
        client.handshake().into_bytes(),
        RawFrame::new(opcode::TEXT, message).bytes(),
    ]
    .concat();
    for piece in bytes.chunks(7) {
        client.write(piece).await;
    }
    assert_eq!(client.read_head(10.s()).await.status, 101);
    let answer = client.read_frame(10.s()).await.unwrap();
    assert!(String::from_utf8(answer.payload).unwrap().contains(r#""id":"early""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_is_told_what_it_may_send_before_all_else_and_no_other_is() {
    let stack = Stack::builder()
        .settings(&[
            ("messages-per-second", "50"),
            ("unauthenticated-messages-per-second", "off"),
        ])
        .setting("max-message-size", "20KiB")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    for offer in [
        "countersign.v1.json, countersign.limits",
        "countersign.limits,countersign.v1.json",
    ] {
        let mut client = Client::to(terminator).subprotocol(offer).open().await.unwrap();
        assert_eq!(client.subprotocol(), Some("countersign.v1.json"));
        let told = client.next_json(10.s()).await;
        let limits = json!({"max_message_bytes": 20_480, "messages_per_second": 50});
        assert_eq!(told, json!({"type": "limits", "payload": limits}));
        // It can ask again, which no worker hears, and goes on as any other.
        client.send_json(&json!({"type": "limits"})).await;
        assert_eq!(client.next_json(10.s()).await, told);
        client.authenticate(&token_for("alice").mint()).await;
    }
    let mut other = stack.client().await;
    other
        .send_json(&json!({"id": "1", "type": "echo", "token": token_for("alice").mint()}))
        .await;
    assert_eq!(other.next_json(10.s()).await["type"], "reply");
    other
        .send_json(&json!({"type": "limits", "id": "2", "payload": 7}))
        .await;
    assert_eq!(other.next_json(10.s()).await["payload"], 7, "a message of its own");
    other.send_json(&json!({"type": "limits"})).await;
    assert_eq!(other.next_json(10.s()).await["type"], "reply", "and so is this");
}
