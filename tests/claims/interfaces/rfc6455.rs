//! WebSocket as others understand it: Autobahn's cases, driven by PyPI's `kosoku`, against a terminator alone.
//!
//! Behind it stands no worker, but who sends each text back as it came. What no terminator does by design is in [`OTHERWISE`].
//! `tests/autobahn/run` fetches `kosoku` and runs this.

use std::{collections::BTreeMap, env, fs, path::Path, process::Stdio};

use futures_util::StreamExt;
use lapin::BasicProperties;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use serde_json::Value;
use tests::{Queue, Stack};
use tokio::process::Command;

/// The program.
const KOSOKU: &str = "COUNTERSIGN_TEST_KOSOKU";

/// Framing, pings, reserved bits, opcodes, fragmentation, UTF-8, closes, a long message. The others are about speed and compression.
const SECTIONS: [&str; 8] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];

const BINARY: &str = "a binary frame closes the connection with 1003: the protocol is JSON text";
const EMPTY: &str = "an empty text is no message, and nothing empty is ever sent";
const LATE: &str =
    "bad UTF-8 in the midst of a frame is noticed at the frame's end: tungstenite hands over whole frames";

/// Cases that come out otherwise, and why.
const OTHERWISE: [(&str, &str); 13] = [
    ("1.1.1", EMPTY),
    ("1.2.1", BINARY),
    ("1.2.2", BINARY),
    ("1.2.3", BINARY),
    ("1.2.4", BINARY),
    ("1.2.5", BINARY),
    ("1.2.6", BINARY),
    ("1.2.7", BINARY),
    ("1.2.8", BINARY),
    ("6.1.1", EMPTY),
    ("6.1.2", EMPTY),
    ("6.4.3", LATE),
    ("6.4.4", LATE),
];

/// Sends everything back. Runs until its queue is gone.
async fn send_back(queue: Queue, messages: String) {
    let consuming = queue.channel().basic_consume(
        messages.as_str().into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let mut consumer = consuming.await.expect("a consumer");
    while let Some(Ok(delivery)) = consumer.next().await {
        let properties = &delivery.properties;
        if let (Some(reply_to), Some(message_id)) = (properties.reply_to(), properties.correlation_id()) {
            let back = BasicProperties::default().with_correlation_id(message_id.clone());
            let back = queue.channel().basic_publish(
                "".into(),
                reply_to.clone(),
                lapin::options::BasicPublishOptions::default(),
                &delivery.data,
                back,
            );
            back.await.expect("the channel is there");
        }
        delivery
            .ack(BasicAckOptions::default())
            .await
            .expect("the channel is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it needs a program that tests/autobahn/run fetches"]
async fn autobahns_cases_come_out_as_rfc_6455_wants_it() {
    let kosoku = env::var_os(KOSOKU).expect("where kosoku is");
    let stack = Stack::builder()
        .workers(0)
        .settings(&[
            ("auth-timeout", "off"),
            ("batch", "off"),
            ("order", "none"),
            ("max-message-size", "1MiB"),
            ("max-connections-per-ip", "off"),
            ("max-handshakes-per-ip", "off"),
            ("handshakes-per-second-per-ip", "off"),
            ("messages-per-second", "off"),
            ("unauthenticated-messages-per-second", "off"),
        ])
        .start()
        .await;
    let back = tokio::spawn(send_back(
        stack.queue().await,
        format!("{}.messages", stack.namespace()),
    ));
    let reports = env::temp_dir().join(format!("{}-autobahn", stack.namespace()));
    let mut command = Command::new(kosoku);
    command.args(["--mode", "fuzzingclient", "--parallelism", "8", "--outdir"]);
    command.arg(&reports).stdout(Stdio::null());
    for section in SECTIONS {
        command.args(["--include", section]);
    }
    command.arg(stack.terminators()[0].address().to_string());
    let status = command.status().await.expect("kosoku runs");
    back.abort();
    let outcomes = outcomes(&reports);
    let _ = fs::remove_dir_all(&reports);
    println!("{status}, {} cases; otherwise by design: {OTHERWISE:?}", outcomes.len());
    let by_design: BTreeMap<_, _> = OTHERWISE.into_iter().collect();
    let mut odd = Vec::new();
    for (case, outcome) in &outcomes {
        let good = matches!(
            outcome.as_str(),
            "OK OK" | "INFORMATIONAL INFORMATIONAL" | "OK INFORMATIONAL" | "INFORMATIONAL OK"
        );
        if good == by_design.contains_key(case.as_str()) {
            odd.push(format!("{case}: {outcome}"));
        }
    }
    assert!(outcomes.len() > 240, "{} cases ran", outcomes.len());
    assert!(
        odd.is_empty(),
        "{} of {}:\n{}",
        odd.len(),
        outcomes.len(),
        odd.join("\n")
    );
}

/// How each case came out, and how it was closed.
fn outcomes(reports: &Path) -> BTreeMap<String, String> {
    let index = fs::read(reports.join("index.json")).expect("a report");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let agents = index.as_object().into_iter().flat_map(|agents| agents.values());
    let cases = agents.filter_map(Value::as_object).flatten();
    let word = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    cases
        .map(|(case, came)| {
            (
                case.clone(),
                format!("{} {}", word(&came["behavior"]), word(&came["behaviorClose"])),
            )
        })
        .collect()
}
