//! A terminator listens in several places at once.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tests::nodes::watchdog::Folder;
use tests::{Client, Stack, eventually, token_for};
use tokio::net::UnixStream;
use tokio_tungstenite::client_async;

use crate::authentication::expiry::SOON;

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_by_each_address_and_by_a_unix_socket_which_goes_with_the_terminator() {
    let folder = Folder::new("listening");
    let path = folder.join("terminator.sock");
    // Of one that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listen = format!("unix:{},127.0.0.1:0,[::1]:0", path.display());
    let mut stack = Stack::builder().setting("listen", &listen).start().await;
    let told = stack.terminators()[0].stdout();
    let announced: serde_json::Value = serde_json::from_str(told.lines().next().unwrap()).unwrap();
    let urls: Vec<_> = announced["sockets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|url| url.as_str().unwrap())
        .collect();
    assert_eq!(urls[0], format!("ws+unix:{}", path.display()));
    assert_eq!(announced["socket"], urls[0]);
    for url in &urls[1..] {
        let address = url.strip_prefix("ws://").unwrap().parse().unwrap();
        let mut client = Client::to_address(address).open().await.unwrap();
        let answer = client.request("echo", Some(&token_for("alice").mint()), json!(1)).await;
        assert_eq!(answer["type"], "reply", "{url}");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    let stream = UnixStream::connect(&path).await.unwrap();
    let (_socket, response) = client_async("ws://localhost/", stream).await.unwrap();
    assert_eq!(response.status().as_u16(), 101);
    stack.terminator(0).terminate();
    eventually(SOON, "it has ended", async || stack.terminator(0).has_ended()).await;
    assert!(!path.exists(), "the socket's file goes with it");
}
