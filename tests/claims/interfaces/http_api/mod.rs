//! The port of backends: what they push and revoke by HTTP, and what they are told.

pub(crate) mod callers;
pub(crate) mod documented;
pub(crate) mod pushes;
pub(crate) mod refusals;

use std::fs;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tests::servers::http::{self, Answer};
use tests::stack::Builder;
use tests::{Program, Stack, test_keys};

/// A key that allows everything, and some that do not.
pub(crate) const ALL: &str = "kA0-everything-8b1f4c6e2d9a7053kq";
pub(crate) const PUSH: &str = "kB1-only-to-push-5e7d2a9c4b8f6013";
pub(crate) const INSPECT: &str = "kC2-only-to-look-9c3b7f1e5a2d8064";

/// The file of these keys: what they are, or their digest.
pub(crate) fn keys() -> String {
    // printf kC2-only-to-look-9c3b7f1e5a2d8064 | sha256sum
    let digest = "3ff633729afb8e2c3b8cc180b8a4f2faddf35b48866f7c2d50cd80074f3d32fb";
    format!("# keys\nall {ALL} push,revoke,inspect\n\nbilling {PUSH} push\nsupport sha256:{digest} inspect\n")
}

/// A file of keys of a claim's own.
pub(crate) fn file_of(keys: &str) -> String {
    let path = test_keys()
        .folder()
        .join(format!("api-keys-{:08x}", rand::random::<u32>()));
    fs::write(&path, keys).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A system of which each worker has the port, with these keys.
pub(crate) fn builder(keys: &str) -> Builder {
    Stack::builder().settings(&[("jwt-leeway", "0s"), ("api-listen", "127.0.0.1:0"), ("api-keys", keys)])
}

pub(crate) async fn stack() -> Stack {
    builder(&file_of(&keys())).start().await
}

/// Where a worker has it.
pub(crate) fn port(worker: &Program) -> SocketAddr {
    let log = worker.log();
    let line = log.iter().find(|line| line["message"] == "listening for backends");
    let addr = line.expect("it says where")["addr"].as_str().expect("an address");
    addr.parse().expect("an address")
}

/// What the first worker answers to this key.
pub(crate) async fn ask(stack: &Stack, key: &str, method: &str, path: &str, body: &Value) -> (Answer, Value) {
    ask_worker(&stack.workers()[0], key, method, path, body).await
}

pub(crate) async fn ask_worker(worker: &Program, key: &str, method: &str, path: &str, body: &Value) -> (Answer, Value) {
    let bearer = format!("Bearer {key}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let answer = http::request(port(worker), (method, path), &headers, body.as_bytes()).await;
    let answer = answer.expect("an answer");
    let json = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    (answer, json)
}

/// The status and the body of what is answered to a `POST` by the key for everything.
pub(crate) async fn post(stack: &Stack, path: &str, body: Value) -> (u16, Value) {
    let (answer, json) = ask(stack, ALL, "POST", path, &body).await;
    (answer.status, json)
}

/// The same of a `GET`.
pub(crate) async fn get(stack: &Stack, path: &str) -> (u16, Value) {
    let (answer, json) = ask(stack, ALL, "GET", path, &json!(null)).await;
    (answer.status, json)
}

/// A header's value.
pub(crate) fn header(answer: &Answer, name: &str) -> Option<String> {
    answer.head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// That it is a problem document of that status.
pub(crate) fn is_problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(
        header(answer, "content-type").as_deref(),
        Some("application/problem+json"),
        "{answer:?}"
    );
    let json: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    assert_eq!(
        (&json["type"], &json["status"]),
        (&json!("about:blank"), &json!(status)),
        "{answer:?}"
    );
    let texts = ["title", "detail"].map(|name| json[name].as_str().unwrap_or_default().len());
    assert!(texts.iter().all(|length| *length > 0), "{answer:?}");
}
