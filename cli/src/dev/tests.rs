//! What a person sees of `dev`, through its sockets.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::*;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn args(flags: &[&str]) -> DevArgs {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        dev: DevArgs,
    }
    let any_port = ["dev", "--listen", "127.0.0.1:0", "--page-listen", "127.0.0.1:0"];
    let line = any_port.iter().chain(flags);
    <Line as clap::Parser>::try_parse_from(line).unwrap().dev
}

/// A `dev` on ports of its own.
async fn dev() -> Dev {
    Dev::start(&args(&[])).await.unwrap()
}

/// What the page's server answers to the head and body of one request.
async fn ask(dev: &Dev, request_line: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(dev.addresses.page).await.unwrap();
    let length = body.len();
    let request =
        format!("{request_line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    answer
}

/// What it answers to its own page.
async fn post(dev: &Dev, path: &str, body: &Value) -> (String, Value) {
    let page = dev.addresses.page;
    let headers = format!("Host: {page}\r\nOrigin: http://{page}\r\nContent-Type: application/json\r\n");
    let answer = ask(dev, &format!("POST {path}"), &headers, &body.to_string()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), serde_json::from_str(body).unwrap_or_default())
}

/// What it answers to a request without a body.
async fn get(dev: &Dev, path: &str) -> (String, Value) {
    let headers = format!("Host: {}\r\n", dev.addresses.page);
    let answer = ask(dev, &format!("GET {path}"), &headers, "").await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), serde_json::from_str(body).unwrap_or_default())
}

/// A socket as the page opens it.
async fn socket(dev: &Dev) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://{}", dev.addresses.socket).into_client_request().unwrap();
    let origin = format!("http://{}", dev.addresses.page).parse().unwrap();
    request.headers_mut().insert("Origin", origin);
    let stream = TcpStream::connect(dev.addresses.socket).await.unwrap();
    tokio_tungstenite::client_async(request, stream).await.unwrap().0
}

/// What comes next on it after a message.
async fn said(socket: &mut WebSocketStream<TcpStream>, message: &Value) -> Value {
    socket.send(Message::text(message.to_string())).await.unwrap();
    let answer = timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    serde_json::from_str(answer.to_text().unwrap()).unwrap()
}

async fn token_for(dev: &Dev, subject: &str) -> String {
    let (_, minted) = post(dev, "/token", &json!({"subject": subject, "expires_in_s": 60})).await;
    minted["token"].as_str().unwrap().to_owned()
}

/// Someone who watches, from the moment that nothing can be missed.
struct Watcher(BufReader<TcpStream>);

impl Watcher {
    async fn of(dev: &Dev) -> Self {
        let page = dev.addresses.page;
        let mut stream = TcpStream::connect(page).await.unwrap();
        let request = format!("GET /journey HTTP/1.1\r\nHost: {page}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut watcher = Self(BufReader::new(stream));
        while watcher.line().await != "event: ready" {}
        watcher
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.0.read_line(&mut line)).await.unwrap().unwrap();
        assert!(!line.is_empty(), "the stream of journeys ended");
        line.trim_end().to_owned()
    }

    /// The stages until all of these have come, and all that came between.
    async fn stages(&mut self, wanted: &[&str]) -> Vec<Value> {
        // Each line comes in time while nothing happens, too: the stream keeps itself alive.
        let told = timeout(PATIENCE, self.stages_until(wanted)).await;
        told.unwrap_or_else(|_| panic!("not all of {wanted:?} came"))
    }

    async fn stages_until(&mut self, wanted: &[&str]) -> Vec<Value> {
        let mut missing = wanted.to_vec();
        let mut stages = Vec::new();
        while !missing.is_empty() {
            let line = self.line().await;
            let Some(data) = line.strip_prefix("data: {") else {
                continue;
            };
            let stage: Value = serde_json::from_str(&format!("{{{data}")).unwrap();
            let name = format!("{} {}", stage["by"].as_str().unwrap(), stage["stage"].as_str().unwrap());
            missing.retain(|wanted| *wanted != name);
            stages.push(stage);
        }
        stages
    }
}

#[tokio::test]
async fn a_message_is_answered_and_every_stage_of_its_journey_is_seen() {
    let dev = dev().await;
    let mut watcher = Watcher::of(&dev).await;
    let token = token_for(&dev, "alice").await;
    let mut socket = socket(&dev).await;
    let message = json!({"id": "1", "type": "greeting", "token": token, "payload": {"text": "hello"}});
    let answer = said(&mut socket, &message).await;
    assert_eq!(
        (&answer["type"], &answer["payload"]["text"]),
        (&json!("reply"), &json!("hello"))
    );
    assert_eq!(answer["auth"]["subject"], "alice");

    let stages = watcher
        .stages(&[
            "terminator forward",
            "terminator queue",
            "worker worker",
            "worker verdict",
            "worker granted",
            "worker handler",
            "worker return",
            "terminator return",
            "terminator socket",
        ])
        .await;
    let first = &stages[0];
    assert_eq!(first["stage"], "forward");
    assert!(
        stages.iter().all(|stage| stage["message_id"] == first["message_id"]),
        "{stages:?}"
    );
    assert!(stages.is_sorted_by_key(|stage| stage["at_us"].as_u64()), "{stages:?}");
    let verdict = stages.iter().find(|stage| stage["stage"] == "verdict").unwrap();
    assert_eq!(verdict["fields"], json!({"kind": "valid", "cached": "false"}));
    assert!(!json!(stages).to_string().contains("eyJ"));
    dev.end().await;
}

#[tokio::test]
async fn an_injected_message_is_answered_and_has_a_journey_of_its_own() {
    let dev = dev().await;
    let mut watcher = Watcher::of(&dev).await;
    let token = token_for(&dev, "alice").await;
    for message_id in ["injected-1", "injected-2"] {
        let message = json!({"id": "7", "type": "greeting", "token": token, "payload": 1});
        let (_, injected) = post(&dev, "/inject", &message).await;
        assert_eq!(injected["message_id"], message_id);
        assert_eq!(injected["answer"], json!({"type": "reply", "id": "7", "payload": 1}));
        let stages = watcher
            .stages(&[
                "countersign inject",
                "countersign queue",
                "worker worker",
                "worker verdict",
                "worker handler",
                "worker return",
                "countersign fetch",
            ])
            .await;
        assert!(
            stages.iter().all(|stage| stage["message_id"] == message_id),
            "{stages:?}"
        );
    }
    dev.end().await;
}

#[tokio::test]
async fn other_policies_are_in_force_while_the_socket_stays_open() {
    let dev = dev().await;
    let (_, settings) = get(&dev, "/settings").await;
    let expected = json!({
        "strategy": "both", "on-unauthenticated": "reauthenticate", "on-expired-push": "reauthenticate", "hold-ttl": "5m"
    });
    assert_eq!(settings, expected);
    let mut socket = socket(&dev).await;
    let message = json!({"id": "1", "type": "greeting", "token": token_for(&dev, "alice").await});
    assert_eq!(said(&mut socket, &message).await["type"], "reply");

    let mut explicit = expected.clone();
    explicit["strategy"] = json!("explicit");
    assert_eq!(post(&dev, "/settings", &explicit).await.1, explicit);
    assert_eq!(get(&dev, "/settings").await.1, explicit);
    assert_eq!(said(&mut socket, &message).await["error"]["code"], "bad_request");

    explicit["on-unauthenticated"] = json!("shrug");
    let (head, _) = post(&dev, "/settings", &explicit).await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    assert_eq!(get(&dev, "/settings").await.1["on-unauthenticated"], "reauthenticate");
    dev.end().await;
}

#[tokio::test]
async fn a_push_that_finds_nobody_is_seen_to_be_held() {
    let dev = dev().await;
    let mut watcher = Watcher::of(&dev).await;
    let (_, told) = post(&dev, "/push", &json!({"subject": "alice", "payload": {"news": 1}})).await;
    assert_eq!(told["outcome"], json!({"outcome": "held"}));
    let stages = watcher
        .stages(&["countersign publish", "countersign queue", "worker held", "worker push"])
        .await;
    assert!(
        stages.iter().all(|stage| stage["message_id"] == told["message_id"]),
        "{stages:?}"
    );
    dev.end().await;
}

#[tokio::test]
async fn who_is_on_a_connection_is_told_and_a_revocation_is_in_force() {
    let dev = dev().await;
    let mut socket = socket(&dev).await;
    let message = json!({"id": "1", "type": "auth.authenticate", "token": token_for(&dev, "alice").await});
    let answer = said(&mut socket, &message).await;
    let (connection, _) = answer["auth"]["resume"].as_str().unwrap().rsplit_once('.').unwrap();
    let (_, known) = get(&dev, &format!("/connection?id={connection}")).await;
    assert_eq!((&known["state"], &known["subject"]), (&json!("live"), &json!("alice")));
    assert_eq!(known["held"], json!({"inbound": 0, "answers": 0, "pushes": 0}));
    assert_eq!(known["decisions"][0]["what"], "granted");
    assert!(get(&dev, "/connection?id=nonsense").await.0.starts_with("HTTP/1.1 400"));

    let (_, told) = post(&dev, "/revoke", &json!({"connection": connection})).await;
    assert_eq!(told["outcome"]["outcome"], "revoked", "{told}");
    dev.end().await;
}

#[tokio::test]
async fn a_token_without_a_proper_subject_or_life_is_not_minted() {
    let dev = dev().await;
    for (subject, expires_in_s) in [("", 60), ("a\u{0}b", 60), (&*"a".repeat(256), 60), ("alice", 86_401)] {
        let (head, _) = post(
            &dev,
            "/token",
            &json!({"subject": subject, "expires_in_s": expires_in_s}),
        )
        .await;
        assert!(head.starts_with("HTTP/1.1 400"), "{subject:?}: {head}");
    }
    let (head, minted) = post(&dev, "/token", &json!({"subject": "alice", "expires_in_s": -60})).await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.contains("cache-control: no-store"),
        "{head}"
    );
    assert!(minted["token"].as_str().unwrap().starts_with("eyJ"));
    dev.end().await;
}

#[tokio::test]
async fn only_a_page_that_is_ours_under_a_name_that_is_ours_gets_a_token() {
    let dev = dev().await;
    let body = r#"{"subject": "alice", "expires_in_s": 60}"#;
    let (page, port) = (dev.addresses.page, dev.addresses.page.port());
    let json = "Content-Type: application/json\r\n";
    let mint = async |headers: String| ask(&dev, "POST /token", &headers, body).await;
    let rebound = mint(format!(
        "Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\n{json}"
    ))
    .await;
    assert!(rebound.starts_with("HTTP/1.1 421"), "{rebound}");
    let another = mint(format!("Host: {page}\r\nOrigin: http://evil.example\r\n{json}")).await;
    assert!(another.starts_with("HTTP/1.1 403"), "{another}");
    let form = mint(format!("Host: {page}\r\nContent-Type: text/plain\r\n")).await;
    assert!(form.starts_with("HTTP/1.1 415"), "{form}");
    assert!(![rebound, another, form].concat().contains("eyJ"));
    let by_name = mint(format!(
        "Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n{json}"
    ))
    .await;
    assert!(by_name.starts_with("HTTP/1.1 200"), "{by_name}");
    dev.end().await;
}

#[tokio::test]
async fn the_page_comes_whole_and_with_a_policy_that_lets_in_nothing_else() {
    let dev = dev().await;
    let host = format!("Host: {}\r\n", dev.addresses.page);
    let page = ask(&dev, "GET /", &host, "").await;
    assert!(page.contains("content-security-policy: default-src 'none'"), "{page}");
    for inline in ["<style", " style=", "onclick=", "://"] {
        let (_, html) = page.split_once("\r\n\r\n").unwrap();
        assert!(!html.contains(inline), "{inline}");
    }
    let console = ["look.css", "console.css", "theme.js", "icon.svg"].map(|file| format!("console/{file}"));
    let linked = ["style.css".to_owned(), "page.js".to_owned()]
        .into_iter()
        .chain(console);
    for file in linked.clone() {
        assert!(page.contains(&file), "{file}");
    }
    let modules = [
        "backend.js",
        "connection.js",
        "dom.js",
        "journey.js",
        "messages.js",
        "tokens.js",
        "views.js",
        "console/console.js",
    ];
    for file in linked.chain(modules.map(str::to_owned)) {
        let answer = ask(&dev, &format!("GET /{file}"), &host, "").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    dev.end().await;
}

#[tokio::test]
async fn who_watches_does_not_keep_it_from_ending() {
    let dev = dev().await;
    let _watcher = Watcher::of(&dev).await;
    assert!(dev.page.end().await);
    dev.stack.end().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--page-listen"] {
        let Err(error) = Dev::start(&args_with(flag, &address)).await else {
            panic!("{flag} took a port that is taken")
        };
        let text = format!("{error:#}");
        assert!(
            text.contains(&format!("another port with {flag}")) && text.contains(&address),
            "{text}"
        );
    }
}

#[test]
fn nobody_but_this_machine_reaches_it() {
    for flag in ["--listen", "--page-listen"] {
        for address in ["0.0.0.0:0", "192.0.2.1:0", "[::]:0"] {
            let error = args_with(flag, address).check().unwrap_err().to_string();
            assert!(error.starts_with(flag), "{error}");
        }
        args_with(flag, "[::1]:0").check().unwrap();
    }
}

/// Arguments that differ in one address.
fn args_with(flag: &str, address: &str) -> DevArgs {
    let mut args = args(&[]);
    let address = address.parse().unwrap();
    match flag {
        "--listen" => args.listen = address,
        _ => args.page_listen = address,
    }
    args
}
