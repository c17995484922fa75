//! What cannot begin, or cannot be written, is told once, in words, and by the status; and a start can be ended at any time.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tests::nodes::program::{Kind, programs};
use tests::nodes::watchdog::Folder;
use tests::servers::certificate::certificate;
use tests::{Program, Store, eventually, shared_broker, test_keys};

/// From a fault to its being told, on a slow and busy machine.
const SOON: Duration = Duration::from_secs(30);

/// An address that no one listens on.
const NOBODY: &str = "127.0.0.1:1";

/// Settings by their names.
type Settings<'a> = &'a [(&'a str, &'a str)];

/// A server that accepts and never says a word.
struct Silent(std::net::TcpListener);

impl Silent {
    fn new() -> Self {
        Self(std::net::TcpListener::bind("127.0.0.1:0").expect("a port"))
    }

    fn at(&self) -> String {
        self.0.local_addr().expect("an address").to_string()
    }
}

/// A program with these settings; what it needs besides is away.
fn program(kind: Kind, of: Settings<'_>) -> Program {
    let key = test_keys().folder().join("failures.key");
    std::fs::write(&key, "a-secret-of-at-least-thirty-two-bytes\n").expect("a key");
    let key = format!("hmac:{}", key.display());
    let (amqp, store) = (format!("amqp://{NOBODY}/%2f"), format!("redis://{NOBODY}"));
    let mut all = vec![("admin-listen", "127.0.0.1:0"), ("amqp-url", &amqp)];
    match kind {
        Kind::Worker => all.extend([
            ("store-url", &*store),
            ("jwt-keys", &*key),
            ("jwt-issuer", "https://issuer.example"),
            ("jwt-audience", "api"),
        ]),
        _ => all.push(("listen", "127.0.0.1:0")),
    }
    all.retain(|(name, _)| of.iter().all(|(other, _)| name != other));
    all.extend(of);
    let all: Vec<_> = all
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Program::spawn(kind, &all)
}

/// The lines of a log, each of which is an object.
fn objects(log: &str) -> Vec<Value> {
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not an object: {line}")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_stops_the_start_with_one_line_that_names_it() {
    let folder = Folder::new("failures");
    let (none, empty) = (folder.join("none"), folder.join("empty"));
    File::create(&empty).expect("a file");
    let known = certificate();
    let [none, dir, empty, known] = [none.as_path(), folder.path(), empty.as_path(), known.as_path()]
        .map(|path| path.to_str().expect("UTF-8").to_owned());
    let files = [
        (&none, "there is no such file"),
        (&dir, "is not a regular file"),
        (&empty, ""),
    ];
    let settings: [(Kind, &str, Settings<'_>); 9] = [
        (Kind::Terminator, "amqp-username-file", &[]),
        (Kind::Terminator, "amqp-password-file", &[]),
        (Kind::Terminator, "amqp-ca", &[("amqp-url", "amqps://127.0.0.1:1/%2f")]),
        (Kind::Terminator, "tls-cert", &[("tls-key", &known)]),
        (Kind::Terminator, "seal-keys", &[]),
        (Kind::Worker, "jwt-keys", &[]),
        (Kind::Worker, "store-password-file", &[]),
        (Kind::Worker, "store-ca", &[("store-url", "rediss://127.0.0.1:1")]),
        (Kind::Worker, "api-keys", &[("api-listen", "127.0.0.1:0")]),
    ];
    for (kind, setting, with) in settings {
        for (file, why) in files {
            let mut of = with.to_vec();
            of.push((setting, file));
            let mut wrong = program(kind, &of);
            assert_eq!(wrong.wait_exit(SOON).await.code(), Some(2), "{setting} {file}");
            let told: Vec<_> = objects(&wrong.stderr())
                .into_iter()
                .filter(|line| line["level"] == "ERROR")
                .map(|line| line["message"].as_str().expect("a message").to_owned())
                .collect();
            assert!(
                matches!(&told[..], [one] if one.starts_with(setting) && one.contains(file.as_str()) && one.contains(why)),
                "{setting} {file}: {told:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_can_be_ended_whatever_it_waits_for() {
    let silent = Silent::new();
    let (broker, store) = (
        format!("amqp://{}/%2f", silent.at()),
        format!("redis://{}", silent.at()),
    );
    let keys = format!("http://{}/keys", silent.at());
    let there = shared_broker().await.url();
    // What a worker asks the store for at first takes up to 15 s while the broker is away: longer than this drain may take.
    let drain = ("drain-timeout", "10s");
    let waiting: [(Kind, Settings<'_>); 7] = [
        (Kind::Terminator, &[drain]),
        (Kind::Terminator, &[drain, ("amqp-url", &broker)]),
        (Kind::Worker, &[drain]),
        (Kind::Worker, &[drain, ("amqp-url", &broker)]),
        (Kind::Worker, &[drain, ("store-url", &store)]),
        (
            Kind::Worker,
            &[
                drain,
                ("amqp-url", &there),
                ("store-url", &store),
                ("namespace", "ended"),
            ],
        ),
        (Kind::Worker, &[drain, ("jwt-keys", &keys)]),
    ];
    for (kind, of) in waiting {
        let mut starting = program(kind, of);
        eventually(SOON, "it says where it listens", async || starting.is_listening()).await;
        starting.terminate();
        let status = starting.wait_exit(SOON).await;
        let log = starting.stderr();
        assert_eq!(status.code(), Some(0), "{of:?}: {log}");
        for line in objects(&log) {
            let message = line["message"].as_str().unwrap_or_default();
            let waited = ["drain-timeout is over", "timed out while closing", "did not finish"];
            assert!(waited.iter().all(|word| !message.contains(word)), "{of:?}: {message}");
        }
    }
}

/// Waits until a worker says this of its store, at `/readyz`.
async fn blames(store: &str, cause: &str) {
    let worker = program(Kind::Worker, &[("store-url", store)]);
    eventually(SOON, cause, async || worker.is_listening()).await;
    eventually(SOON, cause, async || {
        let report: Value = serde_json::from_str(&worker.get("/readyz").await.body).unwrap_or_default();
        let told = report["checks"]["store"].as_str().unwrap_or_default().to_owned();
        if told.contains(cause) { Ok(()) } else { Err(told) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_of_stores_that_cannot_be_used_says_why_as_a_single_one_does() {
    blames(&format!("redis-cluster://{NOBODY}"), "refuses the connection").await;
    let store = Store::start().await;
    let at = format!("127.0.0.1:{}", store.port());
    blames(
        &format!("redis-cluster://:hunter3@{at}"),
        "refuses the user or the password",
    )
    .await;
    blames(&format!("redis-cluster://{at}"), "is no cluster").await;
    // Which of the two speaks the wrong language is seen by the address.
    blames(&format!("rediss://{at}"), &format!("{at} (TLS)")).await;
}

#[test]
fn what_cannot_be_written_is_told_and_fails() {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("a full disk"));
    let commands: [(&str, &[&str]); 4] = [
        ("countersign", &["token", "mint", "alice"]),
        ("countersign", &["completions", "bash"]),
        (
            "worker",
            &[
                "--print-config",
                "--jwt-issuer",
                "https://a.example",
                "--jwt-audience",
                "b",
            ],
        ),
        ("terminator", &["--help"]),
    ];
    for (program, args) in commands {
        let command = || {
            let mut command = Command::new(programs().join(program));
            std::env::vars_os()
                .filter(|(name, _)| name.to_string_lossy().starts_with("COUNTERSIGN_"))
                .for_each(|(name, _)| _ = command.env_remove(name));
            command.args(args).stdin(Stdio::null());
            command
        };
        let ran = command().stdout(full()).output().expect("it starts");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(
            !ran.status.success() && said.contains("cannot write to standard output"),
            "{program} {args:?}: {said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        // Nor is it a panic if no one can be told.
        let ran = command().stdout(full()).stderr(full()).output().expect("it starts");
        assert!(
            matches!(ran.status.code(), Some(1 | 2)),
            "{program} {args:?}: {:?}",
            ran.status
        );
    }
}
