//! `countersign dev` for a page, a provider and an application of one's own; and `send --interactive`.

use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tests::nodes::process::Process;
use tests::nodes::program::programs;
use tests::nodes::watchdog::Folder;
use tests::peers::audience::Audience;
use tests::servers::http;
use tests::servers::upstream::Said;
use tests::tokens::token::{AUDIENCE, ISSUER};
use tests::{Client, Span, Stack, Upstream, connection_of, eventually, test_keys, token_for};

use crate::authentication::expiry::{SOON, fresh};

/// The running program. Ends with this value.
struct Dev {
    page: SocketAddr,
    socket: SocketAddr,
    /// What it has printed.
    told: String,
    _process: Process,
    _folder: Folder,
}

impl Dev {
    async fn start(flags: &[&str]) -> Self {
        let folder = Folder::new("dev");
        let mut command = Command::new(programs().join("countersign"));
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--page-listen", "127.0.0.1:0"])
            .args(flags)
            .stdout(File::create(folder.join("stdout")).expect("a file for stdout"))
            .stderr(File::create(folder.join("stderr")).expect("a file for stderr"));
        let mut process = Process::spawn(&mut command);
        let told = eventually(30.s(), "dev tells where it is", async || {
            let said = || fs::read_to_string(folder.join("stderr")).unwrap_or_default();
            assert!(process.exit_status().is_none(), "dev ended at its start: {}", said());
            let told = fs::read_to_string(folder.join("stdout")).unwrap_or_default();
            told.contains("Ctrl-C ends it.").then_some(told)
        })
        .await;
        let address = |scheme: &str| {
            let (_, rest) = told.split_once(scheme).expect("it tells");
            rest.split_whitespace()
                .next()
                .and_then(|text| text.parse().ok())
                .expect("an address")
        };
        Self {
            page: address("http://"),
            socket: address("ws://"),
            told,
            _process: process,
            _folder: folder,
        }
    }

    async fn client(&self, origin: Option<&str>) -> Client {
        let connecting = Client::to_address(self.socket);
        let connecting = match origin {
            Some(origin) => connecting.origin(origin),
            None => connecting,
        };
        connecting.open().await.expect("the terminator accepts the connection")
    }
}

fn shown_to(answer: &http::Answer) -> Option<String> {
    let mut lines = answer.head.lines();
    lines.find_map(|line| line.strip_prefix("access-control-allow-origin: ").map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_that_dev_prints_work_as_they_are_printed() {
    let dev = Dev::start(&[]).await;
    let commands: Vec<_> = dev
        .told
        .lines()
        .map(str::trim)
        .filter(|line| line.contains(" --"))
        .collect();
    let mut ran = 0;
    for line in commands {
        let line = line.split("(allow it by").next().unwrap_or(line);
        if line.is_empty() || line.ends_with(' ') {
            continue;
        }
        // Its input ends at once.
        let mut command = tokio::process::Command::new("sh");
        let output = command
            .args(["-c", line])
            .stdin(Stdio::null())
            .output()
            .await
            .expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{line}: {output:?}");
        let wanted = if line.starts_with("curl") {
            "\"token\""
        } else if line.contains("--interactive") {
            "auth.ok"
        } else {
            "\"payload\":\"hello\""
        };
        assert!(said.contains(wanted), "{line}: {said}");
        ran += 1;
    }
    assert_eq!(ran, 3, "{}", dev.told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_ones_own_gets_tokens_and_nothing_else() {
    let (own, other) = ("http://localhost:3000", "http://localhost:3001");
    let dev = Dev::start(&["--allowed-origins", own]).await;
    let ask = async |method: &str, path: &str, origin: &str| {
        let body = r#"{"subject":"alice","expires_in_s":60}"#;
        let headers = [("Origin", origin), ("Content-Type", "application/json")];
        let asked = http::request(dev.page, (method, path), &headers, body.as_bytes()).await;
        asked.expect("an answer")
    };
    let before = ask("OPTIONS", "/token", own).await;
    assert_eq!(
        (before.status, shown_to(&before).as_deref()),
        (204, Some(own)),
        "{before:?}"
    );
    let head = before.head.to_lowercase();
    assert!(
        head.contains("access-control-allow-methods: post")
            && head.contains("access-control-allow-headers: content-type"),
        "{before:?}"
    );
    let minted = ask("POST", "/token", own).await;
    assert_eq!(
        (minted.status, shown_to(&minted).as_deref()),
        (200, Some(own)),
        "{minted:?}"
    );
    let minted: Value = serde_json::from_str(&minted.body).expect("JSON");
    let mut client = dev.client(Some(own)).await;
    client.authenticate(minted["token"].as_str().expect("a token")).await;
    for (method, path, origin) in [
        ("OPTIONS", "/token", other),
        ("POST", "/token", other),
        ("POST", "/push", own),
        ("OPTIONS", "/revoke", own),
        ("GET", "/settings", own),
    ] {
        let answer = ask(method, path, origin).await;
        assert_eq!(
            (answer.status, shown_to(&answer)),
            (403, None),
            "{method} {path} {origin}: {answer:?}"
        );
    }
    assert!(Client::to_address(dev.socket).origin(other).open().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_ones_own_provider_count_and_ones_own_application_handles_each_message_once() {
    let application = Upstream::start(|asked| Said::status(200, asked.body["payload"].to_string())).await;
    let (handler, keys) = (application.handler(), test_keys().secret_entry());
    let flags = [
        ["--handler", handler.as_str()],
        ["--idempotency-window", "1h"],
        ["--jwt-keys", keys.as_str()],
        ["--jwt-issuer", ISSUER],
        ["--jwt-audience", AUDIENCE],
    ];
    let dev = Dev::start(&flags.concat()).await;
    let mut client = dev.client(None).await;
    let message = json!({"id": "order-1", "type": "orders.create", "token": fresh("alice"), "payload": {"n": 1}});
    for _ in 0..2 {
        client.send_json(&message).await;
        let answer = client.answer_to("order-1", SOON).await;
        assert_eq!(answer["payload"], json!({"n": 1}), "{answer}");
    }
    let asked = application.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(asked[0].body["identity"]["issuer"], ISSUER, "{asked:?}");
    // Those of the development key still count.
    let body = br#"{"subject":"bob","expires_in_s":60}"#;
    let minted = http::post(dev.page, "/token", &[("Content-Type", "application/json")], body).await;
    let minted: Value = serde_json::from_str(&minted.expect("an answer").body).expect("JSON");
    let answer = client_of(&dev, minted["token"].as_str().expect("a token")).await;
    assert_eq!(answer["type"], "auth.ok", "{answer}");
    let strange = token_for("carol").issuer("https://stranger.example").mint();
    assert_eq!(client_of(&dev, &strange).await["error"]["code"], "token_invalid");
    // And the page's pushes are for those who have them.
    let mut bob = dev.client(None).await;
    bob.authenticate(minted["token"].as_str().expect("a token")).await;
    let headers = [("Content-Type", "application/json")];
    let pushed = http::post(dev.page, "/push", &headers, br#"{"subject":"bob","payload":7}"#).await;
    assert!(pushed.expect("an answer").body.contains("delivered"));
    assert_eq!(bob.push(SOON).await["payload"], 7);
}

async fn client_of(dev: &Dev, token: &str) -> Value {
    dev.client(None).await.try_authenticate(token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_send_opens_interactively_gets_pushes_before_anything_is_written() {
    let stack = Stack::start().await;
    let folder = Folder::new("send");
    let url = format!("ws://{}", stack.terminators()[0].address());
    let mut command = Command::new(programs().join("countersign"));
    command
        .args(["send", "--interactive", "--url", &url, "--token", &fresh("alice")])
        .stdin(Stdio::piped())
        .stdout(File::create(folder.join("stdout")).expect("a file for stdout"))
        .stderr(File::create(folder.join("stderr")).expect("a file for stderr"));
    let mut child = command.spawn().expect("it starts");
    let told = || fs::read_to_string(folder.join("stdout")).unwrap_or_default();
    eventually(SOON, "it has authenticated", async || told().contains("auth.ok")).await;
    let mut backend = stack.producer().await;
    assert_eq!(backend.push_to("alice", 5).await, "delivered");
    eventually(SOON, "the push is shown", async || told().contains("\"push\"")).await;
    let mut input = child.stdin.take().expect("its input");
    input.write_all(b"{\"x\": 1}\n").expect("it reads");
    eventually(SOON, "the answer is shown", async || told().contains("\"x\": 1")).await;
    drop(input);
    let status = tokio::task::spawn_blocking(move || child.wait()).await;
    assert_eq!(
        status.expect("it is waited for").expect("it ends").code(),
        Some(0),
        "{}",
        told()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_connections_can_be_had_from_dev_too() {
    let stack = Stack::start().await;
    let (url, namespace) = (stack.broker().url(), format!("{}-dev", stack.namespace()));
    let flags = ["--amqp-url", &url, "--namespace", &namespace, "--connection-events"];
    let dev = Dev::start(&flags).await;
    let body = br#"{"subject":"bob","expires_in_s":60}"#;
    let minted = http::post(dev.page, "/token", &[("Content-Type", "application/json")], body).await;
    let minted: Value = serde_json::from_str(&minted.expect("an answer").body).expect("JSON");
    let mut client = dev.client(None).await;
    let auth = client.authenticate(minted["token"].as_str().expect("a token")).await;
    let audience = Audience::on(stack.queue().await, &namespace).await;
    client.close().await;
    // What was told shortly before may come yet.
    let heard = audience.until_closed(&connection_of(&auth), SOON).await;
    let end = heard.last().expect("its end");
    assert_eq!(end.event["identity"]["subject"], "bob");
    // No one could read what the embedded queue is told.
    let refused = Command::new(programs().join("countersign"))
        .args(["dev", "--page-listen", "127.0.0.1:0", "--connection-events"])
        .output();
    let refused = refused.expect("it starts");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("--amqp-url"), "{said}");
}
