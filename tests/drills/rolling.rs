//! Terminators are replaced one after the other, behind HAProxy, while thousands of clients are connected and come back by themselves.
//!
//! ```sh
//! COUNTERSIGN_TEST_CLIENTS=5000 cargo run -p tests --example drills -- rolling
//! ```
//!
//! It counts connections that were refused, messages that were not answered, and how long requests of bystanders took: clients of
//! the terminator that stays.

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use serde_json::json;
use tests::nodes::port::free_port;
use tests::nodes::process::Process;
use tests::nodes::program::{Kind, Program, programs};
use tests::nodes::watchdog::Folder;
use tests::peers::client::Received;
use tests::{Broker, Client, Span, Stack, Store, eventually, token_for};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::figures::{millis, p99};

/// How many clients, where nothing else is said.
const CLIENTS: usize = 500;

/// Between two messages of one client.
const BETWEEN: Duration = Duration::from_secs(20);

/// A reply that took longer is none.
const LONGEST: Duration = Duration::from_secs(30);

/// Until a client comes back, at most; the first of them at once.
const JITTER_MS: u64 = 2_000;

/// How long bystanders are looked at before the first terminator is stopped.
const ALONE: Duration = Duration::from_secs(15);

/// For all clients to be there, on a slow machine.
const GATHERED: Duration = Duration::from_secs(600);

const BYSTANDERS: usize = 8;
const BETWEEN_REQUESTS: Duration = Duration::from_millis(100);

/// What came of all clients.
#[derive(Default)]
struct Counts {
    connected: AtomicUsize,
    came_back: AtomicUsize,
    sent: AtomicUsize,
    replied: AtomicUsize,
    /// Closed with an answer on its way, which the client sends again.
    interrupted: AtomicUsize,
    lost: AtomicUsize,
    refused: Mutex<BTreeMap<String, usize>>,
    over: AtomicBool,
}

impl Counts {
    async fn refuse(&self, why: String) {
        *self.refused.lock().await.entry(why).or_default() += 1;
    }
}

/// One client, which comes back whenever its connection ends.
async fn client(number: usize, address: SocketAddr, counts: Arc<Counts>) {
    let token = token_for(&format!("client-{number}")).mint();
    let mut first = true;
    while !counts.over.load(Relaxed) {
        if !first {
            counts.came_back.fetch_add(1, Relaxed);
            sleep(Duration::from_millis(rand::random_range(0..JITTER_MS))).await;
        }
        first = false;
        match Client::to_address(address).attempt().await {
            Ok(mut client) => {
                counts.connected.fetch_add(1, Relaxed);
                stay(&mut client, &token, &counts).await;
                counts.connected.fetch_sub(1, Relaxed);
            }
            Err(why) => counts.refuse(format!("{why:?}")).await,
        }
    }
}

/// Sends a message now and then until the connection ends.
async fn stay(client: &mut Client, token: &str, counts: &Counts) {
    while !counts.over.load(Relaxed) {
        let id = client.ask("echo", Some(token), json!(1)).await;
        counts.sent.fetch_add(1, Relaxed);
        let deadline = Instant::now() + LONGEST;
        loop {
            match client.next(deadline.saturating_duration_since(Instant::now())).await {
                Some(Received::Json(answer)) if answer["id"] == id.as_str() => {
                    if answer["type"] == "reply" {
                        counts.replied.fetch_add(1, Relaxed);
                    } else {
                        counts.refuse(format!("a message: {}", answer["error"]["code"])).await;
                    }
                    break;
                }
                Some(Received::Json(_)) => {}
                Some(Received::Closed(code)) => {
                    counts.interrupted.fetch_add(1, Relaxed);
                    if code.as_ref().is_none_or(|(code, _)| *code != 1012) {
                        counts.refuse(format!("closed: {code:?}")).await;
                    }
                    return;
                }
                None => {
                    counts.lost.fetch_add(1, Relaxed);
                    break;
                }
            }
        }
        let spread = BETWEEN.mul_f64(rand::random_range(0.5..1.5));
        match client.next(spread).await {
            Some(Received::Closed(Some((1012, _)))) => return,
            Some(Received::Closed(code)) => {
                counts.refuse(format!("closed: {code:?}")).await;
                return;
            }
            Some(Received::Json(_)) | None => {}
        }
    }
}

/// Requests of a few clients of that terminator, one after the other, until told.
async fn bystanders(address: SocketAddr, until: Arc<AtomicBool>) -> Vec<Duration> {
    let each = (0..BYSTANDERS).map(|_| {
        let until = until.clone();
        async move {
            let token = token_for("bystander").mint();
            let mut client = Client::to_address(address).attempt().await.expect("it is accepted");
            let mut took = Vec::new();
            while !until.load(Relaxed) {
                let since = Instant::now();
                let answer = client.request("echo", Some(&token), json!(1)).await;
                assert_eq!(answer["type"], "reply", "{answer}");
                took.push(since.elapsed());
                sleep(BETWEEN_REQUESTS).await;
            }
            took
        }
    });
    futures_util::future::join_all(each).await.concat()
}

/// A terminator with addresses that stay when it is replaced.
struct Seat {
    settings: Vec<(String, String)>,
    listen: SocketAddr,
    admin: u16,
    program: Option<Program>,
}

impl Seat {
    fn of(stack: &Stack, clients: usize) -> Self {
        let (listen, admin) = (SocketAddr::from(([127, 0, 0, 1], free_port())), free_port());
        let settings = [
            ("listen", listen.to_string()),
            ("admin-listen", format!("127.0.0.1:{admin}")),
            ("amqp-url", stack.broker().url()),
            ("namespace", stack.namespace().to_owned()),
            ("trusted-proxies", "127.0.0.1".to_owned()),
            // They all come from one address here.
            ("max-connections-per-ip", "off".to_owned()),
            ("max-handshakes-per-ip", "off".to_owned()),
            ("handshakes-per-second-per-ip", "off".to_owned()),
            ("max-connections", "20000".to_owned()),
            // HAProxy notices after two looks, half a second apart.
            ("drain-delay", "5s".to_owned()),
            ("drain-timeout", "60s".to_owned()),
            // What is on one terminator, spread over half of that.
            ("drain-connections-per-second", (clients / 60).max(1).to_string()),
        ];
        Self {
            settings: settings.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            listen,
            admin,
            program: None,
        }
    }

    async fn start(&mut self) {
        let mut program = Program::spawn(Kind::Terminator, &self.settings);
        program.ready().await;
        self.program = Some(program);
    }

    /// Stops it as a supervisor does, and starts it again.
    async fn replace(&mut self) -> Duration {
        let since = Instant::now();
        let program = self.program.as_mut().expect("it runs");
        program.terminate();
        let status = program.wait_exit(180.s()).await;
        assert_eq!(status.code(), Some(0), "it drains in time");
        let took = since.elapsed();
        self.start().await;
        took
    }
}

/// HAProxy as docs/proxies.md has it, before these.
async fn haproxy(seats: &[Seat], folder: &Folder) -> (Process, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let servers: String = (seats.iter().enumerate())
        .map(|(number, seat)| {
            let (listen, admin) = (seat.listen, seat.admin);
            format!("    server terminator-{number} {listen} check port {admin} inter 500ms fall 2 rise 1\n")
        })
        .collect();
    let text = format!(
        "global\n    maxconn 9000\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client 75s\n    timeout server 75s\n\
         frontend app\n    bind {address}\n    default_backend terminators\n\
         backend terminators\n    balance leastconn\n    option forwardfor\n    option httpchk GET /readyz\n    timeout tunnel 75s\n{servers}"
    );
    let path = folder.join("haproxy.cfg");
    fs::write(&path, text).expect("a file of our own");
    let known = Path::new("/usr/sbin/haproxy");
    let program = if known.exists() {
        known.to_owned()
    } else {
        PathBuf::from("haproxy")
    };
    let log = fs::File::create(folder.join("log")).expect("a file");
    let mut command = Command::new(program);
    command
        .args(["-db", "-f"])
        .arg(path)
        .stdout(log.try_clone().expect("it"))
        .stderr(log);
    let process = Process::spawn(&mut command);
    eventually(60.s(), "the proxy listens", async || {
        tokio::net::TcpStream::connect(address).await.map(drop)
    })
    .await;
    (process, address)
}

/// Runs it, and prints what came of it.
pub(crate) async fn drill() {
    let asked = env::var("COUNTERSIGN_TEST_CLIENTS")
        .ok()
        .and_then(|count| count.parse().ok());
    let clients: usize = asked.unwrap_or(CLIENTS);
    println!("rolling: {clients} clients, programs of {}", programs().display());
    let (broker, store) = (Arc::new(Broker::start().await), Arc::new(Store::start().await));
    let stack = Stack::builder().terminators(0).workers(2).broker(&broker).store(&store);
    let stack = stack.start().await;
    let mut seats = [Seat::of(&stack, clients), Seat::of(&stack, clients)];
    for seat in &mut seats {
        seat.start().await;
    }
    let folder = Folder::new("haproxy");
    let (_proxy, address) = haproxy(&seats, &folder).await;
    let counts = Arc::new(Counts::default());
    for number in 0..clients {
        tokio::spawn(client(number, address, counts.clone()));
        if number % 50 == 49 {
            sleep(250.ms()).await;
        }
    }
    let all_there = async || counts.connected.load(Relaxed) == clients && counts.replied.load(Relaxed) >= clients;
    eventually(GATHERED, "all clients are there", all_there).await;
    println!("all are there; {}", told(&counts).await);
    println!("| replaced | drained after s | bystanders' p99 alone, meanwhile (ms) |\n|---|---|---|");
    for stopped in 0..seats.len() {
        let stays = seats[1 - stopped].listen;
        let stop = Arc::new(AtomicBool::new(false));
        let looking = tokio::spawn(bystanders(stays, stop.clone()));
        sleep(ALONE).await;
        stop.store(true, Relaxed);
        let alone = looking.await.expect("it is looked at");
        let stop = Arc::new(AtomicBool::new(false));
        let looking = tokio::spawn(bystanders(stays, stop.clone()));
        let took = seats[stopped].replace().await;
        eventually(GATHERED, "all have come back", async || {
            counts.connected.load(Relaxed) == clients
        })
        .await;
        stop.store(true, Relaxed);
        let meanwhile = looking.await.expect("it is looked at");
        println!(
            "| terminator {stopped} | {:.1} | {}, {} |",
            took.as_secs_f64(),
            millis(p99(&alone)),
            millis(p99(&meanwhile))
        );
    }
    // What is on its way is answered, or counts as lost.
    sleep(LONGEST).await;
    counts.over.store(true, Relaxed);
    println!("{}", told(&counts).await);
}

async fn told(counts: &Counts) -> String {
    format!(
        "{} came back, {} messages, {} replies, {} sent at the moment of the close, {} lost; refused or broken: {:?}",
        counts.came_back.load(Relaxed),
        counts.sent.load(Relaxed),
        counts.replied.load(Relaxed),
        counts.interrupted.load(Relaxed),
        counts.lost.load(Relaxed),
        counts.refused.lock().await
    )
}
