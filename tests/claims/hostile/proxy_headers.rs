//! Who a client is, is said by proxies that are trusted and by no one else.

use std::net::{IpAddr, Ipv4Addr};

use tests::peers::raw::{RawClient, RawFrame, opcode};
use tests::{Client, Span, Stack, eventually, token_for};

use crate::authentication::expiry::SOON;

const REFUSED: &str = "countersign_terminator_handshakes_refused_total";
/// Whom no one trusts.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\x7f\x00\x00\x01\x00\x01\x00\x02";
const V1: &[u8] = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 8080\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_says_of_himself_is_ignored() {
    let stack = Stack::builder()
        .workers(0)
        .settings(&[("trusted-proxies", "127.0.0.1"), ("max-connections-per-ip", "2")])
        .start()
        .await;
    let open = async |number: usize| {
        let client = Client::to(&stack.terminators()[0]).from("127.0.0.2");
        let client = client.header("X-Forwarded-For", &format!("203.0.113.{number}"));
        client.open().await.map_err(|refusal| refusal.status)
    };
    let _two = (open(1).await.unwrap(), open(2).await.unwrap());
    assert_eq!(open(3).await.map(drop), Err(429));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_begins_hides_nothing_of_what_its_proxy_adds() {
    for (header, begun, added) in [
        ("X-Forwarded-For", "\", ", "203.0.113.9"),
        ("Forwarded", "for=1.1.1.1;x=\", ", "for=203.0.113.9"),
        ("Forwarded", "for=1.1.1.1;x=\"\\, ", "for=\"203.0.113.9:_port\""),
    ] {
        let which = header.to_lowercase();
        let settings = [
            ("trusted-proxies", "127.0.0.1"),
            ("forwarded-header", which.as_str()),
            ("max-connections-per-ip", "1"),
        ];
        let stack = Stack::builder().workers(0).settings(&settings).start().await;
        let open = async |value: &str| {
            let client = Client::to(&stack.terminators()[0]).header(header, value);
            client.open().await.map_err(|refusal| refusal.status)
        };
        let _first = open(added).await.unwrap();
        let again = open(&format!("{begun}{added}")).await;
        assert_eq!(again.map(drop), Err(429), "{header}: {begun}{added}");
    }
}

async fn refused(stack: &Stack) -> f64 {
    let all = stack.terminators()[0].metrics().await;
    all[&format!("{REFUSED}{{reason=\"proxy_header\"}}")] + all[&format!("{REFUSED}{{reason=\"too_slow\"}}")]
}

/// How it is begun, and by whom; each is over within the time for a handshake.
async fn ends(stack: &Stack, source: IpAddr, begun: &[u8]) -> String {
    let mut client = RawClient::connect_from(source, stack.terminators()[0].address()).await;
    client.write(begun).await;
    String::from_utf8_lossy(&client.read_until_close(SOON).await).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_header_that_is_missing_cut_dribbled_or_uninvited_ends_its_connection_and_is_counted() {
    let trusted: IpAddr = Ipv4Addr::LOCALHOST.into();
    let http = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n";
    for protocol in ["off", "v1v2", "required"] {
        let stack = Stack::builder()
            .workers(0)
            .settings(&[
                ("trusted-proxies", "127.0.0.1"),
                ("proxy-protocol", protocol),
                ("handshake-timeout", "1s"),
            ])
            .start()
            .await;
        let wrong: &[(IpAddr, &[u8])] = match protocol {
            "off" => &[(trusted, V1), (trusted, V2), (STRANGER, V1)],
            "v1v2" => &[
                (STRANGER, V1),
                (STRANGER, V2),
                (trusted, &V1[..9]),
                (trusted, &V2[..20]),
                (trusted, b"PROXY nonsense\r\n"),
                (trusted, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"),
            ],
            _ => &[
                (STRANGER, V1),
                (STRANGER, http),
                (trusted, http),
                (trusted, b""),
                (trusted, &V1[..9]),
                (trusted, b"PROXY nonsense\r\n"),
            ],
        };
        let mut count = 0.0;
        for _ in 0..5 {
            for (source, begun) in wrong {
                let told = ends(&stack, *source, begun).await;
                assert!(
                    told.starts_with("HTTP/1.1 400 ") || told.starts_with("HTTP/1.1 408 "),
                    "{protocol} {begun:?}: {told}"
                );
                count += 1.0;
            }
            if count >= 30.0 {
                break;
            }
        }
        eventually(SOON, "each is counted", async || refused(&stack).await == count).await;
        let log = stack.terminators()[0].log();
        let about: Vec<_> = log.iter().filter(|line| line["refused"] == "proxy_header").collect();
        assert!(about.len() <= 2 && log.len() < 12, "one line a minute: {log:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_a_trusted_proxy_says_who_the_client_is_and_what_follows_is_served() {
    let stack = Stack::builder()
        .settings(&[
            ("trusted-proxies", "127.0.0.1"),
            ("proxy-protocol", "v1v2"),
            ("max-connections-per-ip", "1"),
        ])
        .start()
        .await;
    let terminator = stack.terminators()[0].address();
    let message = format!(r#"{{"id":"m","type":"echo","token":"{}"}}"#, token_for("alice").mint());
    let mut open = Vec::new();
    for (header, status) in [(V1, 101), (V2, 429), (b"", 101), (b"PROXY UNKNOWN\r\n", 429)] {
        let mut client = RawClient::connect(terminator).await;
        let frame = RawFrame::new(opcode::TEXT, message.as_str()).bytes();
        // In pieces, and with all that follows behind it.
        let bytes = [header, client.handshake().as_bytes(), &frame].concat();
        for piece in bytes.chunks(11) {
            client.write(piece).await;
        }
        assert_eq!(client.read_head(SOON).await.status, status, "{header:?}");
        if status == 101 {
            let answer = client.read_frame(10.s()).await.unwrap();
            assert!(String::from_utf8_lossy(&answer.payload).contains(r#""id":"m""#));
            open.push(client);
        }
    }
}
