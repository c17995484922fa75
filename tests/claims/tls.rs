//! A terminator that speaks TLS itself.

use std::{fs, path::PathBuf, sync::Arc};

use futures_util::{SinkExt, StreamExt};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::pem::PemObject};
use serde_json::{Value, json};
use tests::{Program, Span, Stack, program::Kind, test_keys, token_for};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{client_async, tungstenite::Message};

/// For `localhost`, signed by itself, until 2120: a test that asks for no tool and no date. Its key is no secret.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBZDCCAQqgAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlsb2NhbGhv
c3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMM
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABH98qOyK8zd8TNLT
DLjDvlF6l1GXggRAhlnBG+eBGz9slUGpqUzfm13pImiYKXWNspkBNwP6XkP+Unkg
buuiz9qjSzBJMAwGA1UdEwEB/wQCMAAwGgYDVR0RBBMwEYIJbG9jYWxob3N0hwR/
AAABMB0GA1UdDgQWBBTt6J67XfKLZ/09ppzP1QI/3OgbBjAKBggqhkjOPQQDAgNI
ADBFAiEAkP7X+jrPpSbVsf6JMAcnO7FsBk2oyt4fodQkN0oTIOUCIGczGqrJJM9o
ftrYrDbpY9p+ihZdv9vXVHoTgMS5Ibgy
-----END CERTIFICATE-----
";

const PRIVATE_KEY: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgRbweI8Zrnb/nYEdu
eLagWJSggTTLZSz08KaOBaS74GGhRANCAAR/fKjsivM3fEzS0wy4w75RepdRl4IE
QIZZwRvngRs/bJVBqalM35td6SJomCl1jbKZATcD+l5D/lJ5IG7ros/a
-----END PRIVATE KEY-----
";

/// Writes a file of this claim's own.
fn file(name: &str, text: &str) -> PathBuf {
    let path = test_keys().folder().join(name);
    fs::write(&path, text).unwrap();
    path
}

fn certificate() -> PathBuf {
    file("tls-cert.pem", CERTIFICATE)
}

fn private_key() -> PathBuf {
    file("tls-key.pem", PRIVATE_KEY)
}

async fn encrypted(terminator: &Program) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(terminator.address()).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_answered_over_wss() {
    let stack = Stack::builder()
        .setting("tls-cert", certificate().to_str().unwrap())
        .setting("tls-key", private_key().to_str().unwrap())
        .setting("handshake-timeout", "2s")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    assert!(
        terminator.stdout().contains("listening on wss://"),
        "{}",
        terminator.stdout()
    );

    let request = format!("wss://{}/", terminator.address());
    let (mut socket, _) = client_async(request, encrypted(terminator).await).await.unwrap();
    let message = json!({"id": "m", "type": "echo", "token": token_for("alice").mint(), "payload": "p".repeat(50_000)});
    socket.send(Message::text(message.to_string())).await.unwrap();
    let answer = timeout(10.s(), socket.next()).await.unwrap().unwrap().unwrap();
    let answer: Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
    assert_eq!(
        (&answer["type"], &answer["payload"]),
        (&json!("reply"), &message["payload"])
    );
    socket.send(Message::binary(b"x".to_vec())).await.unwrap();
    timeout(10.s(), socket.next()).await.unwrap().unwrap().unwrap();
    let close = timeout(10.s(), socket.next()).await.unwrap().unwrap().unwrap();
    assert!(matches!(close, Message::Close(Some(frame)) if u16::from(frame.code) == 1003));

    // Whoever speaks no TLS, or dawdles within it, is cut, and others are served.
    let mut plain = tests::raw::RawClient::connect(terminator.address()).await;
    plain.write("GET / HTTP/1.1\r\n\r\n").await;
    plain.read_until_close(10.s()).await;
    let mut dawdler = tests::raw::RawClient::connect(terminator.address()).await;
    dawdler.write([0x16, 3, 1]).await;
    assert_eq!(dawdler.read_until_close(10.s()).await, b"");
    let mut half = encrypted(terminator).await;
    half.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut told = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut half, &mut told);
    timeout(10.s(), reading).await.unwrap().unwrap();
    assert!(told.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&told));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_files_that_cannot_be_used_stop_the_start() {
    let good = [certificate(), private_key()];
    let missing = test_keys().folder().join("no-such.pem");
    let empty = file("empty.pem", "");
    let public = test_keys().pem_file(&test_keys().rs256);
    let strange = file("strange-key.pem", &test_keys().rs256.private_pem());
    let cases = [
        ([&missing, &good[1]], "tls-cert"),
        ([&good[0], &missing], "tls-key"),
        ([&empty, &good[1]], "tls-cert"),
        ([&good[0], &public], "tls-key"),
        // Of another key than the certificate's.
        ([&good[0], &strange], "tls-key"),
    ];
    for ([certificate, key], setting) in cases {
        let settings = [
            ("listen", "127.0.0.1:0"),
            ("admin-listen", "off"),
            ("tls-cert", certificate.to_str().unwrap()),
            ("tls-key", key.to_str().unwrap()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut program = Program::spawn(Kind::Terminator, &settings);
        assert_eq!(
            program.wait_exit(10.s()).await.code(),
            Some(2),
            "{certificate:?} {key:?}"
        );
        let told = program.stderr();
        let lines: Vec<_> = told.lines().filter(|line| !line.starts_with('{')).collect();
        assert!(lines.len() == 1 && lines[0].contains(setting), "{told}");
        assert!(!told.contains("PRIVATE"), "{told}");
    }
}
