//! A terminator that speaks TLS itself.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::nodes::program::Kind;
use tests::servers::certificate::{certificate, connector, file, private_key};
use tests::{Program, Span, Stack, test_keys, token_for};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{client_async, tungstenite::Message};

async fn encrypted(terminator: &Program) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(terminator.address()).await.unwrap();
    connector()
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
    assert!(terminator.stdout().contains("\"wss://"), "{}", terminator.stdout());

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

    // Anyone who speaks no TLS, or dawdles within it, is cut, and others are served.
    let mut plain = tests::peers::raw::RawClient::connect(terminator.address()).await;
    plain.write("GET / HTTP/1.1\r\n\r\n").await;
    plain.read_until_close(10.s()).await;
    let mut dawdler = tests::peers::raw::RawClient::connect(terminator.address()).await;
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
        let lines = program.errors();
        assert!(lines.len() == 1 && lines[0].contains(setting), "{told}");
        assert!(!told.contains("PRIVATE"), "{told}");
    }
}
