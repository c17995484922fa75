//! What a client sends once more has its effect once: the application knows it by one key, and the client whether it reached it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tests::nodes::process::Process;
use tests::nodes::watchdog::Folder;
use tests::servers::app::text;
use tests::servers::upstream::{Asked, Said};
use tests::{App, Client, Span, Stack, Upstream, eventually, skip, token_for};
use tokio::task::JoinSet;

use super::examples::succeeds;

/// How many payments are made, or as many as `COUNTERSIGN_TEST_PAYMENTS` says: a multiple of the payers.
const PAYMENTS: usize = 120;
const PAYERS: usize = 6;

const KEPT: (&str, &str) = ("idempotency-window", "1m");

async fn before(upstream: &Upstream, workers: usize, settings: &[(&str, &str)]) -> Stack {
    Stack::builder()
        .workers(workers)
        .setting("handler", &upstream.handler())
        .settings(settings)
        .start()
        .await
}

/// A payment under a name of the client's own, on a new connection.
async fn pay(stack: &Stack, token: &str, id: &str) -> (Client, Value) {
    let mut client = stack.client().await;
    let message = json!({"id": id, "type": "pay", "token": token, "payload": {"amount": 7}});
    client.send_json(&message).await;
    let answer = client.answer_to(id, 10.s()).await;
    (client, answer)
}

fn keys(upstream: &Upstream) -> Vec<String> {
    let key = |asked: Asked| asked.header("idempotency-key").expect("a key").to_owned();
    upstream.asked().into_iter().map(key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_is_retried_as_told_has_one_key_on_whatever_connection_and_worker() {
    let times = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| match times.fetch_add(1, Ordering::SeqCst) {
        0 => Said::Nothing,
        1 => Said::status(500, ""),
        _ => Said::status(200, "1"),
    })
    .await;
    let mut stack = before(&upstream, 2, &[KEPT, ("handler-timeout", "500ms")]).await;
    let token = |scope: &str| token_for("alice").claim("scope", scope).mint();
    let (_, first) = pay(&stack, &token("a"), "p-1").await;
    assert_eq!(
        (
            &first["error"]["code"],
            &first["error"]["temporary"],
            &first["error"]["effect"]
        ),
        (&json!("busy"), &json!(true), &json!("unknown"))
    );
    stack.worker(0).kill();
    let (_, second) = pay(&stack, &token("a"), "p-1").await;
    assert_eq!(
        (&second["error"]["code"], &second["error"]["effect"]),
        (&json!("internal"), &json!("unknown"))
    );
    // A fresh token of the same identity.
    let (_, third) = pay(&stack, &token("a b"), "p-1").await;
    assert_eq!(third["payload"], 1, "{third}");
    assert_eq!(third["auth"]["idempotency"], 60, "the client is told that it may");
    let [one, two, three] = keys(&upstream).try_into().expect("three attempts");
    assert!(one == two && two == three, "{one} {two} {three}");
    // Another's, and another, are not the same.
    pay(&stack, &token_for("bob").mint(), "p-1").await;
    pay(&stack, &token_for("alice").claim("azp", "app").mint(), "p-1").await;
    pay(&stack, &token("a"), "p-2").await;
    let mut all = keys(&upstream).split_off(2);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4, "{all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_idempotency_an_id_names_nothing_beyond_its_connection() {
    let upstream = Upstream::start(|_| Said::status(200, "1")).await;
    let stack = before(&upstream, 1, &[]).await;
    let token = token_for("alice").mint();
    for _ in 0..2 {
        let (_, answer) = pay(&stack, &token, "1").await;
        assert_eq!(answer["auth"].get("idempotency"), None, "{answer}");
    }
    let [one, other] = keys(&upstream).try_into().expect("two payments");
    assert_ne!(one, other);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_reached_the_application_is_told_from_what_may_have() {
    let upstream = Upstream::away(|_| Said::status(200, "1"));
    let stack = before(&upstream, 1, &[KEPT]).await;
    let (_, answer) = pay(&stack, &token_for("alice").mint(), "p-1").await;
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["effect"]),
        (&json!("busy"), &json!("none"))
    );
    // What will be refused for ever needs no such word.
    let mut client = stack.client().await;
    client
        .send_json(&json!({"id": "x", "type": "pay", "token": "nonsense"}))
        .await;
    assert_eq!(client.answer_to("x", 10.s()).await["error"].get("effect"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_late_answer_of_the_first_attempt_answers_the_second_over_amqp() {
    let builder = Stack::builder().setting("handler", "amqp").setting(KEPT.0, KEPT.1);
    let stack = builder.setting("handler-timeout", "1s").start().await;
    let mut bank = App::start(&stack, "pay").await;
    let token = token_for("alice").mint();
    let (_, first) = pay(&stack, &token, "p-1").await;
    assert_eq!(first["error"]["effect"], "unknown", "{first}");
    let asked = bank.next().await;
    bank.answer(&asked, r#"{"receipt": 1}"#).await;
    let worker = &stack.workers()[0];
    tests::eventually(10.s(), "it has come", async || {
        worker.metric("countersign_worker_upstream_late_answers_total").await == 1.0
    })
    .await;
    let (_, second) = pay(&stack, &token, "p-1").await;
    assert_eq!(second["payload"], json!({"receipt": 1}), "{second}");
    // And from then on it is remembered as any answer.
    let (_, third) = pay(&stack, &token, "p-1").await;
    assert_eq!(third["payload"], json!({"receipt": 1}), "{third}");
    assert!(bank.is_left_alone_for(50.ms()).await, "it is asked once");

    // By AMQP it is one key, too: a message that was answered neither time.
    let mut found = Vec::new();
    for _ in 0..2 {
        let (_, refused) = pay(&stack, &token, "p-2").await;
        assert_eq!(refused["error"]["code"], "busy", "{refused}");
        let asked = bank.next().await;
        assert_eq!(text(&asked, "id").as_deref(), Some("p-2"));
        found.push(asked.properties.message_id().as_ref().expect("a key").to_string());
    }
    assert_eq!(found[0], found[1]);
}

/// Has a payment made, whatever is lost on the way: again under the same name until there is an answer that is final.
async fn until_paid(terminator: SocketAddr, payer: &str, number: usize) {
    let id = format!("payment-{number}");
    for attempt in 0.. {
        // Ten thousand of them take longer than one token lives.
        let token = token_for(payer).mint();
        let message = json!({"id": id, "type": "pay", "token": token, "payload": number});
        let mut client = Client::to_address(terminator).open().await.expect("a connection");
        client.send_json(&message).await;
        if (number + attempt).is_multiple_of(5) {
            // Its socket is lost before there is an answer.
            continue;
        }
        let answer = client.answer_to(&id, 60.s()).await;
        match answer["error"]["temporary"].as_bool() {
            None => return assert_eq!(answer["type"], "reply", "{answer}"),
            Some(temporary) => assert!(temporary, "{answer}"),
        }
    }
}

/// An application that leaves one in nine unanswered, and fails at another. Those are not in a row.
async fn unreliable_bank() -> Upstream {
    let turn = AtomicUsize::new(0);
    Upstream::start(move |_| match turn.fetch_add(1, Ordering::SeqCst) % 9 {
        3 => Said::Nothing,
        6 => Said::status(500, ""),
        _ => Said::Late(5.ms(), 200, "1".to_owned()),
    })
    .await
}

/// How many payments are to be made.
fn payments() -> usize {
    let wanted = std::env::var("COUNTERSIGN_TEST_PAYMENTS").ok();
    let payments = wanted.map_or(PAYMENTS, |wanted| wanted.parse().expect("a number"));
    payments / PAYERS * PAYERS
}

async fn unreliable_stack(bank: &Upstream) -> Stack {
    let settings = [KEPT, ("handler-timeout", "500ms"), ("messages-per-second", "off")];
    before(bank, 2, &settings).await
}

/// Kills both workers in the midst of it, one after the other.
async fn kill_workers(stack: &mut Stack, bank: &Upstream) {
    for killed in 0..2 {
        eventually(60.s(), "some are made", async || {
            let asked = bank.asked().len();
            if asked >= 20 * (killed + 1) { Ok(()) } else { Err(asked) }
        })
        .await;
        stack.worker(killed).kill();
        stack.start_workers(1).await;
    }
}

/// As the application's own ledger says, which knows a payment by its key.
fn each_is_made_once(bank: &Upstream, payments: usize) {
    let mut ledger: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for asked in bank.asked() {
        let number = asked.body["payload"].as_u64().expect("a number");
        let key = asked.header("idempotency-key").expect("a key").to_owned();
        ledger.entry(number).or_default().insert(key);
    }
    assert_eq!(ledger.len(), payments);
    let twice: Vec<_> = ledger.iter().filter(|(_, keys)| keys.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let all: BTreeSet<_> = ledger.values().flatten().collect();
    assert_eq!(all.len(), ledger.len(), "no two have the same key");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_payment_is_made_once_whatever_is_lost_times_out_or_dies_meanwhile() {
    let (bank, payments) = (unreliable_bank().await, payments());
    let mut stack = unreliable_stack(&bank).await;
    let terminator = stack.terminators()[0].address();
    let mut paying = JoinSet::new();
    for payer in 0..PAYERS {
        paying.spawn(async move {
            let subject = format!("user-{payer}");
            for number in 0..payments / PAYERS {
                until_paid(terminator, &subject, payer * (payments / PAYERS) + number).await;
            }
        });
    }
    kill_workers(&mut stack, &bank).await;
    while let Some(paid) = paying.join_next().await {
        paid.expect("all of them are");
    }
    each_is_made_once(&bank, payments);
}

/// Where the client library is built, with the packages that its tests need.
fn library() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/javascript");
    let library = folder.join("dist/index.js").canonicalize().ok()?;
    (folder.join("node_modules/ws").exists() && succeeds(Command::new("node").arg("--version"))).then_some(library)
}

/// The same with the client library, which sends by itself what was lost with its socket, and its server says when it may.
#[tokio::test(flavor = "multi_thread")]
async fn each_payment_of_the_client_library_is_made_once_though_its_sockets_are_lost_and_workers_die() {
    let Some(library) = library() else {
        skip("payments of the client library", "the client library is not built");
        return;
    };
    let (bank, payments) = (unreliable_bank().await, payments());
    let mut stack = unreliable_stack(&bank).await;
    let address = stack.terminators()[0].address();
    let tokens = (0..PAYERS).map(|payer| token_for(&format!("user-{payer}")).expiring_in(3_600.s()).mint());
    let folder = Folder::new("payments");
    let said = folder.join("output");
    let output = File::create(&said).expect("a file");
    let mut paying = Process::spawn(
        Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("claims/handlers/payments.mjs"))
            .arg(library)
            .args([format!("ws://{address}"), payments.to_string()])
            .args(tokens)
            .stdout(output.try_clone().expect("a second handle"))
            .stderr(output),
    );
    kill_workers(&mut stack, &bank).await;
    let status = eventually(Duration::from_secs(60 + payments as u64), "all are paid", async || {
        paying.exit_status().ok_or_else(|| bank.asked().len())
    })
    .await;
    let said = fs::read_to_string(said).expect("its output");
    assert!(status.success(), "{said}");
    println!("{said}");
    assert!(!said.contains(" 0 sockets lost"), "{said}");
    each_is_made_once(&bank, payments);
}
