//! Key servers that behave badly, on real sockets of this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::token::keys::source::Remote;
use crate::token::keys::source::fetch::{Fetch as _, FetchError, Http, Limits};
use crate::token::keys::source::jwks_url::JwksUrl;

const LIMITS: Limits = Limits {
    connect: Duration::from_secs(10),
    total: Duration::from_secs(10),
    size: 1_000,
};

/// For `localhost` and 127.0.0.1, signed by itself, until 2120: a test that asks for no tool and no date. Its key is no
/// secret.
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

/// Writes the same to anyone who asks, and then is silent with the connection open.
struct Server {
    url: String,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    async fn new(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        let task = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 1_024];
                let _ = socket.read(&mut request).await;
                counter.fetch_add(1, Ordering::SeqCst);
                let _ = socket.write_all(&answer).await;
                open.push(socket);
            }
        });
        Self { url, requests, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn ok(head: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}")
}

async fn fetch(url: &str) -> Result<String, FetchError> {
    fetch_within(url, LIMITS).await
}

async fn fetch_within(url: &str, limits: Limits) -> Result<String, FetchError> {
    let url: JwksUrl = url.parse().unwrap();
    let content = Http::new([Remote::Url(url.clone())], limits)
        .unwrap()
        .fetch(&url)
        .await?;
    Ok(String::from_utf8(content.to_vec()).unwrap())
}

async fn failure(answer: impl Into<Vec<u8>>) -> FetchError {
    fetch(&Server::new(answer).await.url).await.unwrap_err()
}

#[tokio::test]
async fn a_body_within_its_limits_is_read_whole() {
    let body = "x".repeat(LIMITS.size);
    let sized = Server::new(ok(&format!("Content-Length: {}", body.len()), &body)).await;
    assert_eq!(fetch(&sized.url).await.unwrap(), body);
    let chunked = Server::new(ok("Transfer-Encoding: chunked", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).await;
    assert_eq!(fetch(&chunked.url).await.unwrap(), "abcde");
}

#[tokio::test]
async fn a_body_above_the_limit_is_not_read_to_its_end() {
    let body = "x".repeat(LIMITS.size + 1);
    let sized = ok("Content-Length: 1000000000", &body);
    // The last chunk never comes.
    let chunked = ok("Transfer-Encoding: chunked", &format!("{:x}\r\n{body}\r\n", body.len()));
    for answer in [sized, chunked] {
        assert!(matches!(failure(answer).await, FetchError::TooLarge(1_000)));
    }
}

#[tokio::test]
async fn a_server_that_is_silent_or_trickles_is_given_up_in_time() {
    let hasty = Limits {
        total: Duration::from_millis(200),
        ..LIMITS
    };
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"] {
        let server = Server::new(answer).await;
        let started = Instant::now();
        let failure = fetch_within(&server.url, hasty).await.unwrap_err();
        assert!(matches!(failure, FetchError::Timeout), "{answer}");
        assert!(started.elapsed() < LIMITS.total);
    }
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let other = Server::new(ok("Content-Length: 2", "{}")).await;
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let answer = format!(
            "HTTP/1.1 {status}\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
            other.url
        );
        let expected: u16 = status[..3].parse().unwrap();
        assert!(matches!(failure(answer).await, FetchError::Status(status) if status == expected));
    }
    assert_eq!(other.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn only_200_is_an_answer() {
    for status in [204, 304, 400, 404, 500, 503] {
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        assert!(matches!(failure(answer).await, FetchError::Status(told) if told == status));
    }
}

#[tokio::test]
async fn what_is_no_http_or_no_tls_or_nobody_is_told_in_a_few_words() {
    let garbage = failure("SSH-2.0-OpenSSH\r\n\r\n").await;
    let plain = Server::new(ok("Content-Length: 2", "{}")).await;
    let no_tls = fetch(&plain.url.replace("http://", "https://")).await.unwrap_err();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let nobody = fetch(&format!("http://127.0.0.1:{port}/keys?secret=hunter2"))
        .await
        .unwrap_err();
    for failure in [garbage, no_tls, nobody] {
        let told = failure.to_string();
        assert!(matches!(failure, FetchError::Broken(_)), "{told}");
        assert!(
            !told.contains("hunter2") && !told.is_empty() && told.len() < 200,
            "{told}"
        );
    }
}

/// One answer over TLS, by a server whose certificate signs itself.
async fn secure_server() -> (String, JoinHandle<()>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(PRIVATE_KEY.as_bytes()).unwrap(),
        )
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        if let Ok(mut socket) = TlsAcceptor::from(Arc::new(tls)).accept(socket).await {
            let _ = socket.read(&mut [0; 1_024]).await;
            let _ = socket.write_all(ok("Content-Length: 2", "{}").as_bytes()).await;
            let _ = socket.shutdown().await;
        }
    });
    (format!("https://localhost:{port}/keys"), task)
}

#[tokio::test]
async fn only_a_server_whose_certificate_is_trusted_is_believed() {
    let mut trusted = RootCertStore::empty();
    trusted
        .add(CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap())
        .unwrap();
    let fetch = async |roots: RootCertStore| {
        let (url, task) = secure_server().await;
        let fetched = Http::trusting(roots, LIMITS)
            .unwrap()
            .fetch(&url.parse().unwrap())
            .await;
        task.await.unwrap();
        fetched
    };
    assert_eq!(fetch(trusted).await.unwrap(), "{}");
    let told = fetch(RootCertStore::empty()).await.unwrap_err().to_string();
    assert!(told.contains("certificate"), "{told}");
}
