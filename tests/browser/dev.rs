//! `countersign dev` as a person starts it, but on ports of its own.

use std::{
    fs::{self, File},
    net::SocketAddr,
    process::Command,
};

use serde_json::{Value, json};
use tests::nodes::process::Process;
use tests::nodes::program::programs;
use tests::nodes::watchdog::Folder;
use tests::{Client, Span, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The running program. Ends with this value.
pub(crate) struct Dev {
    pub(crate) page: SocketAddr,
    pub(crate) socket: SocketAddr,
    _process: Process,
    _folder: Folder,
}

impl Dev {
    /// Starts it, and waits until it tells where it is.
    pub(crate) async fn start() -> Self {
        let folder = Folder::new("dev");
        let mut command = Command::new(programs().join("countersign"));
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--page-listen", "127.0.0.1:0"])
            .stdout(File::create(folder.join("stdout")).expect("a file for stdout"))
            .stderr(File::create(folder.join("stderr")).expect("a file for stderr"));
        let mut process = Process::spawn(&mut command);
        let (page, socket) = eventually(30.s(), "dev tells where it is", async || {
            assert!(process.exit_status().is_none(), "dev ended at its start");
            let told = fs::read_to_string(folder.join("stdout")).unwrap_or_default();
            Some((address(&told, "http://")?, address(&told, "ws://")?))
        })
        .await;
        Self {
            page,
            socket,
            _process: process,
            _folder: folder,
        }
    }

    /// A client of its terminator, beside the page's own.
    pub(crate) async fn client(&self) -> Client {
        let opened = Client::to_address(self.socket).open().await;
        opened.expect("the terminator accepts the connection")
    }

    /// A token of the development key, as the page has it minted.
    pub(crate) async fn token(&self, subject: &str, life_s: i64) -> String {
        let body = json!({"subject": subject, "expires_in_s": life_s}).to_string();
        let (page, length) = (self.page, body.len());
        let request = format!(
            "POST /token HTTP/1.0\r\nHost: {page}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(page).await.expect("the page's server");
        stream.write_all(request.as_bytes()).await.expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        let (_, minted) = answer.split_once("\r\n\r\n").expect("an answer");
        let minted: Value = serde_json::from_str(minted).unwrap_or_else(|_| panic!("no token: {answer}"));
        minted["token"].as_str().expect("a token").to_owned()
    }

    /// What its console is told from now on.
    pub(crate) async fn feed(&self) -> Feed {
        let mut stream = TcpStream::connect(self.page).await.expect("the page's server");
        let request = format!("GET /console/feed HTTP/1.1\r\nHost: {}\r\n\r\n", self.page);
        stream.write_all(request.as_bytes()).await.expect("it listens");
        Feed {
            stream,
            told: String::new(),
        }
    }

    /// Of its page.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.page)
    }
}

/// What a console is told, as it comes over the wire.
pub(crate) struct Feed {
    stream: TcpStream,
    told: String,
}

impl Feed {
    /// Everything so far, when it is like that.
    pub(crate) async fn until(&mut self, enough: impl Fn(&str) -> bool) -> String {
        let reading = async {
            let mut bytes = vec![0; 64 * 1_024];
            while !enough(&self.told) {
                let count = self.stream.read(&mut bytes).await.expect("the feed is read");
                assert!(count > 0, "the feed ended: {}", self.told);
                self.told.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        };
        if timeout(20.s(), reading).await.is_err() {
            panic!("the console was never told that: {}", self.told);
        }
        self.told.clone()
    }
}

/// The first address of this scheme, whole: its line must have ended.
fn address(told: &str, scheme: &str) -> Option<SocketAddr> {
    let (_, rest) = told.split_once(scheme)?;
    rest.split_once(char::is_whitespace)?.0.parse().ok()
}
