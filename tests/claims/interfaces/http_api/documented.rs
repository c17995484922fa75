//! The OpenAPI document of the port, held to what the port does.
//!
//! `tests/api/run` fetches `schemathesis`, and has it ask whatever the document allows, and what it does not.

use std::{collections::BTreeSet, env};

use jsonschema::Validator;
use serde_json::{Value, json};
use tests::nodes::watchdog::Folder;
use tests::servers::http;
use tests::{Stack, connection_of};
use tokio::process::Command;

use super::{ALL, builder, file_of, get, keys, port, post, stack};
use crate::authentication::expiry::fresh;

/// The program.
const SCHEMATHESIS: &str = "COUNTERSIGN_TEST_SCHEMATHESIS";

async fn document(stack: &Stack) -> Value {
    let answer = http::request(port(&stack.workers()[0]), ("GET", "/v1/openapi.json"), &[], b"").await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

/// The schema of that name, as OpenAPI 3.1 has it.
fn schema(document: &Value, name: &str) -> Validator {
    let mut whole = document["components"]["schemas"][name].clone();
    assert!(whole.is_object(), "there is no schema {name}");
    whole["components"] = document["components"].clone();
    jsonschema::draft202012::new(&whole).unwrap_or_else(|error| panic!("no schema ({error}): {whole}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_says_what_the_port_takes_and_answers() {
    let stack = stack().await;
    let document = document(&stack).await;
    let paths = document["paths"].as_object().expect("paths");
    let known: BTreeSet<_> = paths.keys().map(String::as_str).collect();
    let expected = [
        "/v1/push",
        "/v1/push/batch",
        "/v1/revoke",
        "/v1/identities/{subject}/connections",
        "/v1/connections/{id}/explain",
        "/v1/openapi.json",
    ];
    assert_eq!(known, BTreeSet::from(expected));
    // Each is there, by its method, and none but the document without a key.
    for (path, item) in paths {
        let asked = path
            .replace("{subject}", "alice")
            .replace("{id}", "00000000000000aa.1f");
        let methods = item.as_object().expect("an object");
        assert_eq!(methods.len(), 1, "{path}");
        for (method, operation) in methods {
            let answer = http::request(port(&stack.workers()[0]), (&method.to_uppercase(), &asked), &[], b"").await;
            let status = answer.expect("an answer").status;
            let expected = if operation.get("security").is_some() { 401 } else { 200 };
            assert_eq!(status, expected, "{method} {path}");
            assert!(
                operation["responses"].get(status.to_string()).is_some(),
                "{method} {path}"
            );
        }
    }
    // What is taken.
    let (push, batch, revocation) = (
        schema(&document, "Push"),
        schema(&document, "Batch"),
        schema(&document, "Revocation"),
    );
    for (schema, path, body, good) in [
        (
            &push,
            "/v1/push",
            json!({"subject": "a", "payload": null, "issuer": null, "expiration_ms": 1}),
            true,
        ),
        (
            &push,
            "/v1/push",
            json!({"subjects": ["a"], "payload": {"x": []}, "message_id": "m"}),
            true,
        ),
        (&push, "/v1/push", json!({"subject": "a"}), false),
        (
            &push,
            "/v1/push",
            json!({"subject": "a", "payload": 1, "unknown": 1}),
            false,
        ),
        (&push, "/v1/push", json!({"subject": 1, "payload": 1}), false),
        (
            &push,
            "/v1/push",
            json!({"subject": "a", "payload": 1, "expiration_ms": -1}),
            false,
        ),
        (&push, "/v1/push", json!({"subjects": [], "payload": 1}), false),
        (
            &batch,
            "/v1/push/batch",
            json!({"pushes": [{"subject": "a", "payload": 1}]}),
            true,
        ),
        (&batch, "/v1/push/batch", json!({"pushes": []}), false),
        (&batch, "/v1/push/batch", json!({"pushes": [{"subject": "a"}]}), false),
        (&batch, "/v1/push/batch", json!({"pushes": [], "x": 1}), false),
        (
            &revocation,
            "/v1/revoke",
            json!({"subject": "m", "grace": "30s", "issued_before": 1.5}),
            true,
        ),
        (&revocation, "/v1/revoke", json!({"jti": "m", "grace": 1}), true),
        (
            &revocation,
            "/v1/revoke",
            json!({"subject": null, "issued_before": 1}),
            false,
        ),
        (&revocation, "/v1/revoke", json!({"subject": "m", "unknown": 1}), false),
        (
            &revocation,
            "/v1/revoke",
            json!({"subject": "m", "issued_before": "1"}),
            false,
        ),
    ] {
        let (status, told) = post(&stack, path, body.clone()).await;
        assert_eq!(status < 300, good, "{body}: {told}");
        assert_eq!(schema.is_valid(&body), good, "{body}");
    }
    // What is answered.
    let mut client = stack.client().await;
    let connection = connection_of(&client.authenticate(&fresh("alice")).await);
    let mut answers = vec![
        (
            "Told",
            post(&stack, "/v1/push?wait=30", json!({"subject": "alice", "payload": 1})).await,
        ),
        (
            "Told",
            post(
                &stack,
                "/v1/push?wait=30",
                json!({"subjects": ["alice", "b"], "payload": 1}),
            )
            .await,
        ),
        (
            "BatchTold",
            post(
                &stack,
                "/v1/push/batch",
                json!({"pushes": [{"subject": "b", "payload": 1}]}),
            )
            .await,
        ),
        ("Connections", get(&stack, "/v1/identities/alice/connections").await),
        (
            "Explanation",
            get(&stack, &format!("/v1/connections/{connection}/explain")).await,
        ),
        ("Problem", get(&stack, "/v1/connections/x/explain").await),
        ("Problem", get(&stack, "/v1/nowhere").await),
    ];
    answers.push((
        "Told",
        post(&stack, "/v1/revoke?wait=30", json!({"subject": "alice"})).await,
    ));
    answers.push((
        "Explanation",
        get(&stack, &format!("/v1/connections/{connection}/explain")).await,
    ));
    for (name, (status, answer)) in answers {
        let schema = schema(&document, name);
        let faults: Vec<_> = schema.iter_errors(&answer).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{name}, {status}: {answer}: {faults:?}");
        // It has no member that the document does not tell of.
        let told = &document["components"]["schemas"][name]["properties"];
        for member in answer.as_object().expect("an object").keys() {
            assert!(told.get(member).is_some(), "{name}: {member}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_curl_of_the_page_works_as_it_is_printed() {
    let stack = stack().await;
    let page = include_str!("../../../../docs/http-api.md");
    let mut ran = 0;
    for line in page.lines().filter(|line| line.starts_with("curl ")) {
        let line = line.replace("127.0.0.1:9095", &port(&stack.workers()[0]).to_string());
        let script = format!("{line} --silent --show-error --output /dev/null --write-out '%{{http_code}}'");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).env("KEY", ALL);
        let output = command.output().await.expect("a shell");
        let status = String::from_utf8_lossy(&output.stdout);
        assert!(["200", "202"].contains(&&*status), "{line}: {status} {output:?}");
        ran += 1;
    }
    assert!(ran > 6, "only {ran} were found: the claim has gone blind");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it needs a program that tests/api/run fetches"]
async fn whatever_the_document_allows_or_forbids_is_answered_as_it_says() {
    let program = env::var_os(SCHEMATHESIS).expect("where schemathesis is");
    let builder = builder(&file_of(&keys())).settings(&[("api-requests-per-second", "100000")]);
    let stack = builder.start().await;
    let mut client = stack.client().await;
    client.authenticate(&fresh("alice")).await;
    let addr = port(&stack.workers()[0]);
    let mut command = Command::new(program);
    // What it notes goes with it.
    let notes = Folder::new("schemathesis");
    command.current_dir(notes.path());
    command.args(["run", &format!("http://{addr}/v1/openapi.json")]);
    command.args(["--header", &format!("Authorization: Bearer {ALL}")]);
    // What is longer in bytes than in letters, and what needs another member, is refused though the schema allows it.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    // With several threads, Python 3.11 now and then fails to parse itself (CPython issue 106905).
    command.args(["--max-examples", "60", "--workers", "1", "--no-color"]);
    let flags = env::var("COUNTERSIGN_TEST_SCHEMATHESIS_FLAGS").unwrap_or_default();
    if !flags.contains("--seed") {
        // The same each time: now and then it breaks one branch of a `oneOf`, fits another, and takes that for forbidden.
        command.arg("--seed=1");
    }
    command.args(flags.split_whitespace());
    let status = command.status().await.expect("schemathesis runs");
    assert!(status.success(), "{status}");
    let worker = &stack.workers()[0];
    assert!(worker.is_alive() && worker.errors().is_empty(), "{:?}", worker.errors());
    let metrics = worker.metrics().await;
    let asked: f64 = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("countersign_worker_api_requests_total"))
        .map(|(_, count)| count)
        .sum();
    assert!(asked > 500.0, "{asked} requests came");
    assert_eq!(client.request("echo", None, json!(1)).await["payload"], 1);
}
