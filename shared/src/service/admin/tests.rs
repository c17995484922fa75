//! The operator's door, through its socket.

use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

struct Door {
    admin: Admin,
    readiness: Readiness,
}

async fn door() -> Door {
    let readiness = Readiness::new();
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || metrics::counter!("knocks_total").increment(3));
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let admin = Admin::bind(
        listen,
        readiness.clone(),
        recorder.handle(),
        Register::default(),
        None,
        &[],
    )
    .await
    .unwrap();
    Door { admin, readiness }
}

impl Door {
    /// The status and the whole answer to a GET of `path`.
    async fn get(&self, path: &str) -> (u16, String) {
        self.ask(path, "Host: 127.0.0.1\r\n").await
    }

    async fn ask(&self, path: &str, headers: &str) -> (u16, String) {
        let mut socket = TcpStream::connect(self.admin.addr().unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
    }
}

#[tokio::test]
async fn it_is_alive_even_when_it_is_not_ready() {
    let door = door().await;
    let _broker = door.readiness.check("broker");
    assert_eq!(door.get("/livez").await.0, 200);
    assert_eq!(door.get("/readyz").await.0, 503);
}

#[tokio::test]
async fn it_is_ready_when_every_check_is_well_and_says_which_is_not() {
    let door = door().await;
    let (broker, store) = (door.readiness.check("broker"), door.readiness.check("store"));
    broker.ok();
    store.failing("connection refused");
    let (status, answer) = door.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(
        answer.contains(r#"{"ready":false,"checks":{"broker":"ok","store":"connection refused"}}"#),
        "{answer}"
    );
    store.ok();
    let (status, answer) = door.get("/readyz").await;
    assert_eq!(status, 200);
    assert!(
        answer.contains(r#"{"ready":true,"checks":{"broker":"ok","store":"ok"}}"#),
        "{answer}"
    );
}

#[tokio::test]
async fn a_draining_process_is_not_ready() {
    let door = door().await;
    assert!(door.readiness.is_ready());
    door.readiness.draining();
    let (status, answer) = door.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(answer.contains("draining"), "{answer}");
}

#[test]
fn a_check_that_nobody_looks_after_fails() {
    let readiness = Readiness::new();
    let check = readiness.check("broker");
    check.ok();
    assert!(readiness.is_ready());
    drop(check);
    assert!(!readiness.is_ready());
}

#[tokio::test]
async fn metrics_are_told_in_prometheus_text() {
    let (status, answer) = door().await.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("knocks_total 3"), "{answer}");
}

#[tokio::test]
async fn after_shutdown_it_ends_even_with_an_idle_connection_open() {
    let door = door().await;
    let addr = door.admin.addr().unwrap();
    let mut idle = TcpStream::connect(addr).await.unwrap();
    idle.write_all(b"GET /livez").await.unwrap();
    door.admin.shutdown();
    tokio::time::timeout(Duration::from_secs(10), door.admin.join())
        .await
        .unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn without_an_address_there_is_no_door_but_it_ends_alike() {
    let handle = PrometheusBuilder::new().build_recorder().handle();
    let admin = Admin::bind(None, Readiness::new(), handle, Register::default(), None, &[])
        .await
        .unwrap();
    assert_eq!(admin.addr(), None);
    admin.shutdown();
    tokio::time::timeout(Duration::from_secs(10), admin.join())
        .await
        .unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_named_in_the_error() {
    let door = door().await;
    let taken = door.admin.addr();
    let handle = PrometheusBuilder::new().build_recorder().handle();
    let error = Admin::bind(taken, Readiness::new(), handle, Register::default(), None, &[])
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&taken.unwrap().to_string()), "{error}");
}

#[tokio::test]
async fn a_page_of_the_web_reads_nothing_but_that_the_process_lives() {
    let door = door().await;
    for path in ["/metrics", "/readyz", "/credentials"] {
        for (headers, status) in [
            ("Host: evil.example:9090\r\n", 421),
            ("Host: 127.0.0.1\r\nOrigin: http://evil.example\r\n", 403),
            ("Host: 127.0.0.1:9090\r\n", 200),
            ("Host: localhost\r\n", 200),
            ("", 200),
        ] {
            assert_eq!(door.ask(path, headers).await.0, status, "{path} {headers}");
        }
    }
    assert_eq!(door.ask("/livez", "Host: evil.example\r\n").await.0, 200);
}
