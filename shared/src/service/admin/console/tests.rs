//! The console, through its socket.

use std::net::SocketAddr;

use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::*;
use crate::credentials::Register;
use crate::service::admin::Admin;

struct Shelf;

impl ConsoleSource for Shelf {
    fn look(&self) -> BoxFuture<'_, Map<String, Value>> {
        Box::pin(async { Map::from_iter([("shelf".to_owned(), json!(["a cup"]))]) })
    }
}

async fn door() -> (Admin, Console) {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || metrics::counter!("countersign_knocks_total").increment(3));
    let readiness = Readiness::new();
    let console = Console::new("cupboard", recorder.handle(), readiness.clone());
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let admin = Admin::bind(
        listen,
        readiness,
        recorder.handle(),
        Register::default(),
        Some(console.clone()),
        &[],
    )
    .await;
    (admin.unwrap(), console)
}

async fn asked(addr: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

async fn get(addr: SocketAddr, path: &str) -> String {
    let mut answer = String::new();
    asked(addr, path).await.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Someone who watches.
struct Watcher(BufReader<TcpStream>);

impl Watcher {
    async fn of(addr: SocketAddr) -> Self {
        Self(BufReader::new(asked(addr, "/console/feed").await))
    }

    async fn told(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).await.unwrap() > 0, "the feed ended");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn the_page_comes_whole_with_a_policy_that_lets_in_nothing_else() {
    let (admin, _console) = door().await;
    let addr = admin.addr().unwrap();
    let page = get(addr, "/console").await;
    assert!(page.contains("content-security-policy: default-src 'self'"), "{page}");
    let (_, html) = page.split_once("\r\n\r\n").unwrap();
    for inline in ["<style", " style=", "onclick=", "://"] {
        assert!(!html.contains(inline), "{inline}");
    }
    for (file, kind, text) in FILES {
        let answer = get(addr, &format!("/console/{file}")).await;
        assert!(
            answer.contains(&format!("content-type: {kind}")) && answer.ends_with(text),
            "{file}"
        );
    }
    assert!(get(addr, "/console/none.js").await.starts_with("HTTP/1.1 404"));
    assert!(get(addr, "/").await.contains("location: console"));
}

#[tokio::test]
async fn who_watches_is_told_whose_it_is_and_then_what_changes() {
    let (admin, console) = door().await;
    let mut watcher = Watcher::of(admin.addr().unwrap()).await;
    assert_eq!(watcher.told().await["process"], "cupboard");
    let first = watcher.told().await;
    assert_eq!(first["figures"], json!({"countersign_knocks_total": 3.0}));
    assert_eq!(
        (&first["readiness"]["ready"], &first["shelf"]),
        (&json!(true), &Value::Null)
    );
    console.show(Arc::new(Shelf));
    let mut next = watcher.told().await;
    while next["shelf"].is_null() {
        next = watcher.told().await;
    }
    assert_eq!(next["figures"], json!({}), "nothing was counted since");
}

#[tokio::test]
async fn one_look_serves_all_who_watch() {
    let (_admin, console) = door().await;
    let (one, other) = tokio::join!(console.seen(), console.seen());
    assert!(Arc::ptr_eq(&one, &other));
}

#[tokio::test(start_paused = true)]
async fn looks_that_take_long_are_far_apart() {
    let (_admin, console) = door().await;
    struct Slow;
    impl ConsoleSource for Slow {
        fn look(&self) -> BoxFuture<'_, Map<String, Value>> {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Map::new()
            })
        }
    }
    console.show(Arc::new(Slow));
    let first = console.seen().await;
    tokio::time::advance(Duration::from_secs(8)).await;
    assert!(Arc::ptr_eq(&first, &console.seen().await));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(!Arc::ptr_eq(&first, &console.seen().await));
}

#[tokio::test]
async fn no_more_watch_than_may() {
    let (admin, _console) = door().await;
    let addr = admin.addr().unwrap();
    let mut watchers = Vec::new();
    for _ in 0..MAX_WATCHERS {
        let mut watcher = Watcher::of(addr).await;
        watcher.told().await;
        watchers.push(watcher);
    }
    assert!(get(addr, "/console/feed").await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn who_watches_does_not_keep_the_door_open() {
    let (admin, _console) = door().await;
    let mut watcher = Watcher::of(admin.addr().unwrap()).await;
    watcher.told().await;
    admin.shutdown();
    tokio::time::timeout(Duration::from_millis(900), admin.join())
        .await
        .unwrap();
}
