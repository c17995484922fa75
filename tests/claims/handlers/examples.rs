//! The examples of applications run as they are, and do what they say. Where there is no Python or Node, or what they need
//! cannot be had, there is nothing to say, and that is said.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::nodes::port::free_port;
use tests::nodes::process::Process;
use tests::nodes::watchdog::Folder;
use tests::{Span, Stack, connection_of, eventually, skip, token_for};

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/examples")
        .join(path)
}

pub(super) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// A program, and what it says, until it says that it is ready.
async fn started(command: &mut Command, ready: &str) -> (Process, Folder) {
    let folder = Folder::new("example");
    let said = folder.join("output");
    let output = File::create(&said).expect("a file");
    let mut process = Process::spawn(
        command
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output),
    );
    eventually(20.s(), "the example is ready", async || {
        let text = fs::read_to_string(&said).unwrap_or_default();
        assert!(process.exit_status().is_none(), "the example ended: {text}");
        text.contains(ready)
    })
    .await;
    (process, folder)
}

/// A Python that has what the example needs, in an environment that is kept from one run to the next.
fn python() -> Option<PathBuf> {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-amqp");
    let python = environment.join("bin/python");
    let has_pika = || succeeds(Command::new(&python).args(["-c", "import pika"]));
    if !has_pika() {
        if !succeeds(Command::new("python3").args(["-m", "venv"]).arg(&environment)) {
            skip("examples in Python", "need Python 3 with venv");
            return None;
        }
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--retries=1",
            "-r",
        ];
        let requirements = example("python-amqp/requirements.txt");
        succeeds(Command::new(&python).args(install).arg(requirements));
    }
    if !has_pika() {
        skip("examples in Python", "pika cannot be fetched from PyPI");
        return None;
    }
    Some(python)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_answers_on_the_broker_and_pushes() {
    let Some(python) = python() else { return };
    let stack = Stack::builder().setting("handler", "amqp").start().await;
    let mut command = Command::new(python);
    command
        .arg(example("python-amqp/app.py"))
        .args([stack.broker().url(), stack.namespace().to_owned()]);
    let _app = started(&mut command, "ready").await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    let answer = client.request("orders.create", None, json!({"item": "tea"})).await;
    assert_eq!(
        (&answer["type"], &answer["payload"]),
        (&json!("reply"), &json!({"ordered": "tea", "for": "alice"}))
    );
    assert_eq!(client.push(10.s()).await["payload"], json!({"order": "ready"}));
    for (kind, message) in [
        ("orders.create", "an order names its item"),
        ("orders.cancel", "there are only orders.create here"),
    ] {
        let answer = client.request(kind, None, Value::Null).await;
        let expected = json!({"code": "bad_request", "message": message, "temporary": false});
        assert_eq!(answer["error"], expected, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_presence_tells_who_is_online() {
    presence_tells_who_is_online("on").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_presence_reads_several_events_in_one_message() {
    presence_tells_who_is_online("batched").await;
}

async fn presence_tells_who_is_online(events: &str) {
    let Some(python) = python() else { return };
    let mut stack = Stack::builder().setting("connection-events", events).start().await;
    let files = Folder::new("presence");
    let presence = || {
        let mut command = Command::new(&python);
        command.arg(example("python-presence/presence.py")).args([
            stack.broker().url(),
            stack.namespace().to_owned(),
            files.join("presence.db").display().to_string(),
        ]);
        command
    };
    let (first, said) = started(&mut presence(), "ready").await;
    let mut alice = stack.client().await;
    let auth = alice.authenticate(&token_for("alice").mint()).await;
    last_line(&said, "online: alice").await;
    let (mut again, mut bob) = (stack.client().await, stack.client().await);
    again.authenticate(&token_for("alice").mint()).await;
    bob.authenticate(&token_for("bob").mint()).await;
    last_line(&said, "online: alice, bob").await;
    alice.close().await;
    bob.forget().await;
    last_line(&said, "online: alice").await;
    // It may end, and what happens meanwhile waits.
    drop(first);
    bob.authenticate(&token_for("bob").mint()).await;
    again.close().await;
    let (_second, said) = started(&mut presence(), "ready").await;
    last_line(&said, "online: bob").await;
    // Not even those are left behind whose terminator cannot tell.
    let terminator = connection_of(&auth).split('.').next().expect("a terminator").to_owned();
    stack.terminator(0).kill();
    let queue = format!("{}.return.{terminator}", stack.namespace());
    stack.queue().await.delete(&queue).await;
    last_line(&said, "online:").await;
}

/// Waits until this is the last line of what an example says.
async fn last_line(said: &Folder, expected: &str) {
    eventually(30.s(), expected, async || {
        let text = fs::read_to_string(said.join("output")).unwrap_or_default();
        let last = text.lines().last().unwrap_or_default().trim();
        if last == expected { Ok(()) } else { Err(text) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_javascript_answers_over_http() {
    if !succeeds(Command::new("node").arg("--version")) {
        skip("example in JavaScript", "needs Node");
        return;
    }
    let port = free_port();
    let mut command = Command::new("node");
    command.arg(example("node-http/server.mjs")).arg(port.to_string());
    let _app = started(&mut command, "listening on").await;
    let handler = format!("http:http://127.0.0.1:{port}/");
    let stack = Stack::builder().setting("handler", &handler).start().await;
    let mut client = stack.client().await;
    client.authenticate(&token_for("alice").mint()).await;
    let answer = client.request("orders.create", None, json!({"item": "tea"})).await;
    assert_eq!(
        (&answer["type"], &answer["payload"]),
        (&json!("reply"), &json!({"ordered": "tea", "for": "alice"}))
    );
    let suspended = token_for("alice").claim("suspended", true).mint();
    for (kind, token, code, message) in [
        ("orders.create", None, "bad_request", "an order names its item"),
        (
            "orders.cancel",
            None,
            "bad_request",
            "there are only orders.create here",
        ),
        ("orders.create", Some(&*suspended), "forbidden", "you may not order"),
    ] {
        let payload = if token.is_some() {
            json!({"item": "tea"})
        } else {
            Value::Null
        };
        let answer = client.request(kind, token, payload).await;
        let expected = json!({"code": code, "message": message, "temporary": false});
        assert_eq!(answer["error"], expected, "{kind}");
    }
}
