//! What someone meets who runs these programs and did not write them: at the start, in the log, at `/readyz`, at a shell.

use std::{fs::File, net::SocketAddr, path::Path, process::Command, sync::Arc, time::Duration};

use crate::hostile::permissions::permitted;
use serde_json::Value;
use shared::service::announcement::Announcement;
use tests::nodes::process::{Process, Signal};
use tests::nodes::program::{Kind, programs};
use tests::nodes::watchdog::Folder;
use tests::servers::http;
use tests::{Program, Span, Stack, Store, eventually, shared_broker, token_for};

/// From a fault to its being told, on a slow and busy machine.
const SOON: Duration = Duration::from_secs(30);

/// An address that no one listens on.
const NOBODY: &str = "127.0.0.1:1";

fn settings(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// A worker with these settings, on an admin port of its own and a broker that is away unless they say otherwise.
fn worker(of: &[(&str, &str)]) -> Program {
    let key = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/development/hmac.key");
    let key = format!("hmac:{}", key.display());
    let amqp = format!("amqp://{NOBODY}/%2f");
    let mut all = settings(&[
        ("jwt-keys", &key),
        ("jwt-issuer", "countersign-dev"),
        ("jwt-audience", "countersign"),
        ("admin-listen", "127.0.0.1:0"),
        ("amqp-url", &amqp),
    ]);
    all.retain(|(name, _)| of.iter().all(|(other, _)| name != other));
    all.extend(settings(of));
    Program::spawn(Kind::Worker, &all)
}

/// What `countersign ready` says of a program: its status, and standard output and error.
fn ready(admin: SocketAddr) -> (Option<i32>, String) {
    let asked = Command::new(programs().join("countersign"))
        .args(["ready", &format!("http://{admin}"), "--timeout", "20s"])
        .output()
        .expect("the tool starts");
    let said = [asked.stdout, asked.stderr].concat();
    (asked.status.code(), String::from_utf8_lossy(&said).into_owned())
}

async fn listening(program: &Program) {
    eventually(SOON, "it says where it listens", async || program.is_listening()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_is_told_whether_a_program_is_ready_and_what_it_lacks() {
    let mut stack = Stack::start().await;
    for program in [&stack.terminators()[0], &stack.workers()[0]] {
        assert_eq!(ready(program.admin()), (Some(0), "ready\n".to_owned()));
    }
    let lacking = worker(&[("store-url", &format!("redis://{NOBODY}"))]);
    listening(&lacking).await;
    let (status, said) = ready(lacking.admin());
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("not ready: broker: ") && said.contains("not ready: store: "),
        "{said}"
    );
    let gone = stack.workers()[0].admin();
    stack.worker(0).kill();
    let (status, said) = ready(gone);
    assert_eq!(status, Some(2), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_in_use_is_one_line_that_names_the_setting() {
    let amqp = format!("amqp://{NOBODY}/%2f");
    let terminator = |of: [(&str, &str); 2]| {
        let of = [of[0], of[1], ("amqp-url", &amqp)];
        Program::spawn(Kind::Terminator, &settings(&of))
    };
    // It is bound as long as this lives.
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let held = holder.local_addr().unwrap().to_string();
    for (mut program, setting) in [
        (worker(&[("admin-listen", &held)]), "admin-listen"),
        (
            terminator([("listen", "127.0.0.1:0"), ("admin-listen", &held)]),
            "admin-listen",
        ),
        (
            terminator([("listen", &held), ("admin-listen", "127.0.0.1:0")]),
            "listen",
        ),
    ] {
        assert_eq!(program.wait_exit(SOON).await.code(), Some(1));
        let log = program.stderr();
        let bad: Vec<Value> = log
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not an object: {line}")))
            .filter(|line: &Value| line["level"] == "ERROR")
            .collect();
        assert_eq!(bad.len(), 1, "{log}");
        let why = bad[0]["error"].as_str().expect("a reason");
        assert!(why.starts_with(&format!("{setting}: ")) && why.contains(&held), "{why}");
        assert_eq!(why.matches("in use").count(), 1, "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_json_every_line_is_an_object() {
    let mut stack = Stack::start().await;
    let programs: [&Program; 2] = [&stack.terminators()[0], &stack.workers()[0]];
    for program in programs {
        let lines = program.stdout() + &program.stderr();
        assert!(Announcement::read(&program.stdout()).is_some(), "{lines}");
        for line in lines.lines() {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not an object: {line}"));
            assert!(object.is_object(), "{line}");
        }
    }
    stack.worker(0).kill();
    // Nor is a file that is missing told otherwise.
    let mut wrong = worker(&[("jwt-keys", "/none/such")]);
    assert_eq!(wrong.wait_exit(SOON).await.code(), Some(2));
    let log = wrong.stderr();
    assert!(log.contains("jwt-keys"), "{log}");
    log.lines()
        .for_each(|line| assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_reads_the_log_can_stop_the_work() {
    let folder = Folder::new("hung-log");
    // It is there, and no one reads from it.
    let (_reader, full) = std::io::pipe().unwrap();
    let mut command = Command::new(programs().join("terminator"));
    command
        .env("COUNTERSIGN_LISTEN", "127.0.0.1:0")
        .env("COUNTERSIGN_ADMIN_LISTEN", "127.0.0.1:0")
        .env("COUNTERSIGN_AMQP_URL", format!("amqp://{NOBODY}/%2f"))
        .env("COUNTERSIGN_LOG_FILTER", "debug")
        .env("COUNTERSIGN_MAX_HANDSHAKES_PER_IP", "off")
        .env("COUNTERSIGN_HANDSHAKES_PER_SECOND_PER_IP", "off")
        .stdout(File::create(folder.join("stdout")).unwrap())
        .stderr(full);
    let mut terminator = Process::spawn(&mut command);
    let told = eventually(SOON, "it says where it listens", async || {
        let line = std::fs::read_to_string(folder.join("stdout")).unwrap_or_default();
        line.strip_suffix('\n').and_then(Announcement::read).ok_or(line)
    })
    .await;
    let address = |url: Option<String>| -> SocketAddr {
        let url = url.expect("an address");
        url.split("://")
            .nth(1)
            .and_then(|address| address.parse().ok())
            .expect("an address")
    };
    let (socket, admin) = (address(told.sockets.into_iter().next()), address(told.admin));
    // Each that leaves without a word leaves a line, until the pipe and the queue before it are full.
    eventually(300.s(), "lines are dropped, and it answers all the while", async || {
        for _ in 0..500 {
            drop(tokio::net::TcpStream::connect(socket).await.expect("it accepts"));
        }
        let answer = tokio::time::timeout(SOON, http::get(admin, "/livez")).await;
        assert_eq!(answer.expect("it answers in time").expect("it answers").status, 200);
        let metrics = http::get(admin, "/metrics").await.expect("it answers").body;
        let dropped = metrics
            .lines()
            .find_map(|line| line.strip_prefix("countersign_log_lines_dropped_total "))
            .map(str::to_owned);
        if dropped.as_deref().is_some_and(|count| count != "0") {
            Ok(())
        } else {
            Err(dropped)
        }
    })
    .await;
    terminator.signal(Signal::Terminate);
    assert_eq!(terminator.wait_exit(SOON).await.code(), Some(0));
}

/// Waits until the worker says this of its store, at `/readyz` and in its log.
async fn blames(worker: &Program, at: &str, cause: &str) {
    listening(worker).await;
    eventually(SOON, cause, async || {
        let report: Value = serde_json::from_str(&worker.get("/readyz").await.body).unwrap_or_default();
        let told = report["checks"]["store"].as_str().unwrap_or_default().to_owned();
        let log = worker.stderr();
        let is_said = |text: &str| text.contains(cause) && text.contains(at);
        if is_said(&told) && is_said(&log) {
            Ok(())
        } else {
            Err((told, log))
        }
    })
    .await;
    assert_eq!(worker.metric("countersign_worker_store_up").await, 0.0);
    assert!(!worker.stderr().contains("hunter2"));
}

async fn told(store: &Store, command: &[&str]) {
    let mut connection = store.connect().await.expect("Redis answers");
    let mut told = redis::cmd(command[0]);
    told.arg(&command[1..]);
    told.exec_async(&mut connection).await.expect("it does as it is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_the_store_cannot_be_used_is_said_with_its_address_and_without_its_password() {
    let refused = worker(&[("store-url", &format!("redis://:hunter2@{NOBODY}"))]);
    blames(&refused, NOBODY, "refuses the connection").await;
    // Longer than a label of DNS may be, so that no one is asked who might not answer.
    let name = format!("{}.invalid:6379", "x".repeat(64));
    let unknown = worker(&[("store-url", &format!("redis://:hunter2@{name}"))]);
    blames(&unknown, &name, "cannot be reached").await;
    let broker = shared_broker().await;
    let other = broker.url();
    let other = other.rsplit('@').next().and_then(|rest| rest.split('/').next());
    let other = other.expect("host and port").to_owned();
    let protocol = worker(&[("store-url", &format!("redis://:hunter2@{other}"))]);
    blames(&protocol, &other, "speaks another protocol").await;

    let store = Arc::new(Store::start().await);
    let at = format!("127.0.0.1:{}", store.port());
    let mut served = worker(&[("store-url", &store.url()), ("amqp-url", &broker.url())]);
    served.ready().await;
    assert_eq!(served.metric("countersign_worker_store_up").await, 1.0);
    // Reading goes on, and no one could log in.
    told(&store, &["CONFIG", "SET", "maxmemory", "1"]).await;
    blames(&served, &at, "is full").await;
    told(&store, &["CONFIG", "SET", "maxmemory", "0"]).await;
    served.ready().await;
    told(&store, &["CONFIG", "SET", "requirepass", "hunter2"]).await;
    let strange = worker(&[("store-url", &format!("redis://:hunter3@{at}"))]);
    blames(&strange, &at, "refuses the user or the password").await;
    assert!(!strange.stderr().contains("hunter3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_loses_a_queue_says_which() {
    let stack = Stack::start().await;
    let queue = format!("{}.undelivered", stack.namespace());
    let administrator = stack.queue().await;
    let deleting = administrator
        .channel()
        .queue_delete(queue.as_str().into(), Default::default());
    deleting.await.expect("it is deleted");
    eventually(SOON, "the log names the queue", async || {
        let log = stack.workers()[0].stderr();
        let named = log
            .lines()
            .any(|line| line.contains("lost the broker") && line.contains(&format!("lost the consumer of {queue}")));
        if named { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_tells_its_version_its_files_its_memory_and_how_long_its_queues_are() {
    let stack = Stack::start().await;
    for (program, name) in [(&stack.terminators()[0], "terminator"), (&stack.workers()[0], "worker")] {
        let metrics = program.metrics().await;
        let version = format!(
            "countersign_build_info{{program=\"{name}\",version=\"{}\"}}",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(metrics.get(&version), Some(&1.0), "{metrics:?}");
        for known in [
            "process_open_fds",
            "process_max_fds",
            "process_resident_memory_bytes",
            "countersign_ready",
        ] {
            assert!(metrics[known] >= 1.0, "{known}");
        }
        assert!(metrics["countersign_memory_limit_bytes"] > metrics["process_resident_memory_bytes"]);
    }
    // A letter that no one reads waits in the queue of the dead.
    let administrator = stack.queue().await;
    let dead = format!("{}.dead", stack.namespace());
    let publishing = administrator.channel().basic_publish(
        "".into(),
        dead.as_str().into(),
        Default::default(),
        b"{}",
        lapin::BasicProperties::default(),
    );
    publishing.await.expect("it is published");
    eventually(60.s(), "the worker tells of it", async || {
        let metrics = stack.workers()[0].metrics().await;
        let depth = metrics
            .get("countersign_worker_queue_messages{queue=\"dead\"}")
            .copied();
        if depth == Some(1.0) { Ok(()) } else { Err(depth) }
    })
    .await;
}

/// Runs the tool as someone who has this URL of the broker; its status, and all that it said.
fn tool(stack: &Stack, amqp_url: &str, args: &[&str]) -> (Option<i32>, String) {
    let ran = Command::new(programs().join("countersign"))
        .env("COUNTERSIGN_AMQP_URL", amqp_url)
        .env("COUNTERSIGN_NAMESPACE", stack.namespace())
        .args(args)
        .output()
        .expect("the tool starts");
    let said = [ran.stdout, ran.stderr].concat();
    (ran.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_s_user_reads_dead_letters_sends_messages_again_and_drops_them_and_no_more() {
    let (mut stack, users) = permitted().await;
    stack.start_terminators(1).await;
    stack.start_workers(1).await;
    let administrator = stack.queue().await;
    let dead = format!("{}.dead", stack.namespace());
    for _ in 0..2 {
        let options = lapin::options::BasicPublishOptions::default();
        let properties = lapin::BasicProperties::default();
        let channel = administrator.channel();
        let publishing = channel.basic_publish("".into(), dead.as_str().into(), options, b"{}", properties);
        publishing
            .await
            .expect("it is published")
            .await
            .expect("it is confirmed");
    }
    let (status, said) = tool(&stack, &users.operator, &["inspect", "dead", "list"]);
    assert_eq!((status, said.lines().count()), (Some(0), 3), "{said}");
    // Messages are sent again the same way.
    let token = token_for("alice").mint();
    let (status, said) = tool(
        &stack,
        &users.operator,
        &["inject", "--type", "echo", "--token", &token],
    );
    assert_eq!(status, Some(0), "{said}");
    let (status, said) = tool(
        &stack,
        &users.operator,
        &["inspect", "dead", "requeue", "--all", "--token", &token],
    );
    assert!(said.contains("2 stay"), "{status:?} {said}");
    let (status, said) = tool(&stack, &users.scaler, &["inspect", "dead", "drop", "--all"]);
    assert!(status != Some(0) && !said.contains("dropped"), "{said}");
    let (status, said) = tool(&stack, &users.operator, &["inspect", "dead", "drop", "--all"]);
    assert_eq!((status, said.contains("dropped 2")), (Some(0), true), "{said}");
}
