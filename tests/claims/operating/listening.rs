//! Where a terminator listens, what it reaches, and how many files it has for that.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;
use shared::service::announcement::Announcement;
use tests::nodes::process::Process;
use tests::nodes::program::programs;
use tests::nodes::watchdog::Folder;
use tests::peers::raw::RawClient;
use tests::servers::http;
use tests::{Client, Stack, eventually, shared_broker, token_for};
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

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_told_under_an_address_or_a_name_that_is_allowed_and_under_no_other() {
    let builder = Stack::builder().setting("admin-allowed-hosts", "metrics.example,other.example");
    let stack = builder.start().await;
    for program in stack.terminators().iter().chain(stack.workers()) {
        let status = async |path: &str, host: &str| {
            let answer = http::get_of(program.admin(), path, host).await;
            answer.expect("an answer").status
        };
        for path in ["/metrics", "/readyz", "/credentials"] {
            for host in ["metrics.example:9090", "other.example", "127.0.0.1:1", "localhost"] {
                assert_eq!(status(path, host).await, 200, "{path} {host}");
            }
            for host in ["evil.example:9090", "x.metrics.example"] {
                assert_eq!(status(path, host).await, 421, "{path} {host}");
            }
        }
        assert_eq!(status("/livez", "evil.example").await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_reached_by_an_ipv6_address() {
    let broker = shared_broker().await;
    let url = broker.url();
    let (before, at) = url.rsplit_once('@').expect("a user");
    let (_, behind) = at.split_once('/').expect("a virtual host");
    let here = format!("{before}@[::1]:{}/{behind}", broker.listen_on_ipv6().await);
    let stack = Stack::builder().users(&here, &here).start().await;
    let answer = stack
        .client()
        .await
        .request("echo", Some(&token_for("alice").mint()), json!(6))
        .await;
    assert_eq!(answer["payload"], 6, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminator_with_few_files_says_so_refuses_clients_beyond_them_and_is_not_ready_meanwhile() {
    let folder = Folder::new("few-files");
    let mut command = Command::new("sh");
    let url = shared_broker().await.url();
    std::env::vars_os()
        .filter(|(name, _)| name.to_string_lossy().starts_with("COUNTERSIGN_"))
        .for_each(|(name, _)| _ = command.env_remove(name));
    command
        .args(["-c", "ulimit -n 120 && exec \"$0\""])
        .arg(programs().join("terminator"))
        .envs([
            ("COUNTERSIGN_LISTEN", "127.0.0.1:0"),
            ("COUNTERSIGN_ADMIN_LISTEN", "127.0.0.1:0"),
            ("COUNTERSIGN_NAMESPACE", "few-files"),
            ("COUNTERSIGN_AMQP_URL", &url),
            ("COUNTERSIGN_LOG_FORMAT", "json"),
        ])
        .stdout(File::create(folder.join("stdout")).unwrap())
        .stderr(File::create(folder.join("stderr")).unwrap());
    let _terminator = Process::spawn(&mut command);
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let told = eventually(SOON, "it says where it listens", async || {
        let line = read("stdout");
        line.strip_suffix('\n').and_then(Announcement::read).ok_or(line)
    })
    .await;
    let address = |url: &str| url.split_once("://").unwrap().1.parse().unwrap();
    let (clients, admin) = (address(&told.sockets[0]), address(told.admin.as_deref().unwrap()));
    let ready = async || {
        http::get(admin, "/readyz")
            .await
            .map(|answer| (answer.status, answer.body))
            .unwrap_or_default()
    };
    eventually(SOON, "it is ready", async || ready().await.0 == 200).await;
    assert_eq!(
        read("stderr")
            .matches("the limit of open files is lower than max-connections needs")
            .count(),
        1
    );
    let mut open = Vec::new();
    let refused = loop {
        let mut client = RawClient::connect(clients).await;
        client.write(client.handshake()).await;
        match client.read_head(SOON).await.status {
            101 => open.push(client),
            other => break other,
        }
    };
    assert_eq!((refused, open.len()), (503, 120 - 64 - 120 / 8));
    let (status, body) = eventually(SOON, "it is not ready", async || {
        let (status, body) = ready().await;
        if status == 503 { Ok((status, body)) } else { Err(body) }
    })
    .await;
    assert!(status == 503 && body.contains("limit of open files"), "{body}");
    open.truncate(10);
    eventually(SOON, "it is ready again", async || ready().await.0 == 200).await;
}
