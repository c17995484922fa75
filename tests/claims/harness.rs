//! Claims about the harness itself: a harness that cannot do what its words say would let every other claim pass.

use std::{
    collections::BTreeMap,
    env, fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use jsonwebtoken::{DecodingKey, Validation, decode, decode_header, jwk::Jwk};
use lapin::BasicProperties;
use serde_json::{Map, Value};
use tests::nodes::process::{is_alive, wait_gone};
use tests::peers::queue::amqp_tool;
use tests::peers::raw::{RawClient, RawFrame, opcode};
use tests::tokens::token::{AUDIENCE, ISSUER};
use tests::{
    Algorithm, Broker, Client, Cluster, Key, Load, Queue, Span, Store, eventually, shared_broker, shared_store,
    test_keys, token_for,
};
use tokio::net::TcpListener;

#[tokio::test]
async fn what_is_published_can_be_got() {
    let queue = Queue::connect(&shared_broker().await.url(), "").await;
    let name = format!("harness-{:08x}", rand::random::<u32>());
    queue.declare_quorum_queue(&name).await;
    let properties = BasicProperties::default().with_correlation_id("7".into());
    queue.publish_to("", &name, "hello", properties).await;
    let got = eventually(5.s(), "the message is there", async || queue.get(&name).await).await;
    assert_eq!(got.text(), "hello");
    assert_eq!(got.properties.correlation_id().as_ref().unwrap().as_str(), "7");
    assert!(queue.get(&name).await.is_none());
    let nowhere = queue
        .try_publish("", "no-such-queue", "", BasicProperties::default(), 5.s())
        .await;
    assert_eq!(nowhere, Err("no queue takes it".into()));
    queue.delete(&name).await;
}

#[tokio::test]
async fn debian_s_tools_publish_and_get() {
    let broker = shared_broker().await;
    let queue = Queue::connect(&broker.url(), "").await;
    let name = format!("harness-{:08x}", rand::random::<u32>());
    queue.declare_quorum_queue(&name).await;
    let published = amqp_tool("amqp-publish", &broker.url(), &["-r", &name, "-b", "by hand"]).await;
    assert!(published.status.success(), "{published:?}");
    eventually(5.s(), "the message is counted", async || queue.count(&name).await == 1).await;
    let got = amqp_tool("amqp-get", &broker.url(), &["-q", &name]).await;
    assert_eq!(String::from_utf8_lossy(&got.stdout), "by hand");
    queue.delete(&name).await;
}

#[tokio::test]
async fn a_reply_queue_gets_what_is_sent_to_it() {
    let queue = Queue::connect(&shared_broker().await.url(), "").await;
    let mut replies = queue.reply_queue().await;
    queue
        .publish_to("", replies.name(), r#"{"a":1}"#, BasicProperties::default())
        .await;
    assert_eq!(replies.next(5.s()).await.json()["a"], 1);
    assert_eq!(replies.try_next(50.ms()).await, None);
}

#[tokio::test]
async fn a_user_may_do_no_more_than_it_is_permitted() {
    let broker = shared_broker().await;
    let own = format!("own-{:08x}", rand::random::<u32>());
    let administrator = Queue::connect(&broker.url(), "").await;
    administrator.declare_quorum_queue(&own).await;
    // Publishing through the default exchange needs the permission to write to an exchange without a name.
    let reader = broker.add_user(&own, "^$", "^$", &format!("^{own}$")).await;
    assert!(Queue::connect(&reader, "").await.get(&own).await.is_none());
    let denied = tokio::spawn(async move {
        Queue::connect(&reader, "")
            .await
            .declare_quorum_queue("not-its-own")
            .await
    });
    assert!(denied.await.unwrap_err().is_panic());
    administrator.delete(&own).await;
}

#[tokio::test]
async fn a_broker_can_be_killed_frozen_and_alarmed_and_keeps_what_it_confirmed() {
    let broker = Broker::start().await;
    let queue = Queue::connect(&broker.url(), "").await;
    queue.declare_quorum_queue("kept").await;
    queue
        .publish_to(
            "",
            "kept",
            "confirmed",
            BasicProperties::default().with_delivery_mode(2),
        )
        .await;

    broker.settle().await;
    broker.kill();
    let publish = |queue: Arc<Queue>, limit: Duration| async move {
        queue
            .try_publish("", "kept", "more", BasicProperties::default(), limit)
            .await
    };
    let queue = Arc::new(queue);
    assert!(
        publish(queue.clone(), 5.s()).await.is_err(),
        "a dead broker takes nothing"
    );
    broker.restart().await;
    let queue = Arc::new(Queue::connect(&broker.url(), "").await);
    let kept = eventually(20.s(), "the quorum queue has a leader", async || {
        queue.get("kept").await
    })
    .await;
    assert_eq!(kept.text(), "confirmed");

    broker.freeze().await;
    assert!(
        publish(queue.clone(), 300.ms()).await.is_err(),
        "a frozen broker confirms nothing"
    );
    broker.thaw();
    eventually(10.s(), "it confirms again", async || {
        publish(queue.clone(), 5.s()).await
    })
    .await;

    broker.memory_alarm(true).await;
    // Its own connection: the node first reads what then blocks it.
    let blocked = Arc::new(Queue::connect(&broker.url(), "").await);
    assert!(
        publish(blocked.clone(), 300.ms()).await.is_err(),
        "an alarm stops whoever publishes"
    );
    broker.memory_alarm(false).await;
    eventually(20.s(), "it confirms again", async || {
        publish(blocked.clone(), 5.s()).await
    })
    .await;
    eventually(20.s(), "the queue is listed", async || {
        broker
            .list_queues()
            .await
            .into_iter()
            .find(|(name, count)| name == "kept" && *count > 1)
    })
    .await;
}

#[tokio::test]
async fn a_store_can_be_killed_frozen_and_emptied() {
    let store = Store::start().await;
    let set = async |store: &Store| {
        let mut connection = store.connect().await?;
        redis::cmd("SET")
            .arg("key")
            .arg("value")
            .exec_async(&mut connection)
            .await
    };
    set(&store).await.unwrap();
    assert_eq!(store.dump().await, "key value");
    store.flush().await;
    assert_eq!(store.dump().await, "");

    store.freeze().await;
    let frozen = tokio::time::timeout(300.ms(), set(&store)).await;
    assert!(
        !matches!(frozen, Ok(Ok(()))),
        "a frozen store takes nothing: {frozen:?}"
    );
    store.thaw();
    set(&store).await.unwrap();

    store.kill();
    assert!(set(&store).await.is_err());
    store.restart().await;
    assert_eq!(store.dump().await, "", "nothing is kept on disk");
}

#[tokio::test]
async fn a_dump_shows_what_is_in_every_kind_of_key() {
    let store = Store::start().await;
    let mut connection = store.connect().await.unwrap();
    for command in [
        "SET a:s secret1",
        "HSET b:h f secret2",
        "RPUSH c:l secret3",
        "SADD d:s secret4",
        "ZADD e:z 1 secret5",
    ] {
        let mut words = command.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| _ = command.arg(word));
        command.exec_async(&mut connection).await.unwrap();
    }
    let mut add = redis::cmd("XADD");
    add.arg("f:x")
        .arg("*")
        .arg("f")
        .arg("secret6")
        .exec_async(&mut connection)
        .await
        .unwrap();
    let dump = store.dump().await;
    assert_eq!(dump.lines().count(), 6);
    (1..=6).for_each(|number| assert!(dump.contains(&format!("secret{number}")), "{dump}"));
}

#[tokio::test]
async fn the_shared_nodes_are_started_once() {
    assert_eq!(shared_broker().await.amqp_port(), shared_broker().await.amqp_port());
    assert_eq!(shared_store().await.url(), shared_store().await.url());
}

type Loader = fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>;

fn verify(token: &str, key: &DecodingKey) -> jsonwebtoken::errors::Result<Map<String, Value>> {
    let mut validation = Validation::new(decode_header(token)?.alg);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.leeway = 0;
    decode(token, key, &validation).map(|token| token.claims)
}

#[test]
fn tokens_of_each_algorithm_verify_by_file_and_by_jwk() {
    let keys = test_keys();
    let secret = fs::read(keys.secret_file()).unwrap();
    let secret = secret.strip_suffix(b"\n").unwrap();
    verify(&token_for("alice").mint(), &DecodingKey::from_secret(secret)).unwrap();
    let jwks: Value = serde_json::from_slice(&fs::read(keys.jwks_file()).unwrap()).unwrap();
    let loaders: BTreeMap<&str, Loader> = BTreeMap::from([
        ("RS256", DecodingKey::from_rsa_pem as _),
        ("ES256", DecodingKey::from_ec_pem as _),
        ("EdDSA", DecodingKey::from_ed_pem as _),
    ]);
    for key in [&keys.rs256, &keys.es256, &keys.eddsa] {
        let token = token_for("alice").signed_with(key).mint();
        let pem = fs::read(keys.pem_file(key)).unwrap();
        let claims = verify(&token, &loaders[key.algorithm().name()](&pem).unwrap()).unwrap();
        assert_eq!(claims["sub"], "alice");
        let jwk = jwks["keys"]
            .as_array()
            .unwrap()
            .iter()
            .find(|jwk| jwk["kid"].as_str() == key.id())
            .unwrap();
        let jwk: Jwk = serde_json::from_value(jwk.clone()).unwrap();
        verify(&token, &DecodingKey::from_jwk(&jwk).unwrap()).unwrap();
        let stranger = token_for("alice").signed_with(&Key::generate(key.algorithm())).mint();
        assert!(
            verify(&stranger, &DecodingKey::from_jwk(&jwk).unwrap()).is_err(),
            "another key signs otherwise"
        );
    }
}

#[test]
fn bad_tokens_are_as_bad_as_they_were_meant() {
    let keys = test_keys();
    let trusted = DecodingKey::from_secret(keys.hs256.secret());
    let kind = |token: String| format!("{:?}", verify(&token, &trusted).unwrap_err().kind());
    assert_eq!(kind(token_for("a").expired_since(1.s()).mint()), "ExpiredSignature");
    assert_eq!(
        kind(token_for("a").without("exp").mint()),
        r#"MissingRequiredClaim("exp")"#
    );
    assert_eq!(
        kind(token_for("a").issuer("https://other.test").mint()),
        "InvalidIssuer"
    );
    assert_eq!(kind(token_for("a").audience("other").mint()), "InvalidAudience");
    assert_eq!(kind(token_for("a").signature([]).mint()), "InvalidSignature");
    assert_eq!(
        kind(token_for("a").raw_payload("{").mint()).split('(').next(),
        Some("Json")
    );
    assert!(decode_header(token_for("a").header("alg", "none").mint()).is_err());

    let confused = Key::hmac(keys.rs256.public_pem());
    let token = token_for("a").signed_with(&confused).mint();
    verify(&token, &DecodingKey::from_secret(keys.rs256.public_pem().as_bytes())).unwrap();
    assert_eq!(confused.algorithm(), Algorithm::Hs256);

    let expiring = token_for("a").expiring_in(2.s());
    let left = expiring
        .expires_at()
        .duration_since(std::time::SystemTime::now())
        .unwrap();
    assert!((1_900..=3_000).contains(&left.as_millis()), "{left:?}");
}

/// A server that answers each text as a worker's echo would, but `drop` not at all and `twice` twice.
async fn echo_server() -> std::net::SocketAddr {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::{accept_async, tungstenite::Message};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = accept_async(stream).await.unwrap();
                while let Some(Ok(Message::Text(text))) = socket.next().await {
                    let message: Value = serde_json::from_str(text.as_str()).unwrap();
                    let reply =
                        serde_json::json!({"type": "reply", "id": message["id"], "payload": message["payload"]});
                    let answers = match message["type"].as_str() {
                        Some("drop") => 0,
                        Some("twice") => 2,
                        _ => 1,
                    };
                    for _ in 0..answers {
                        socket.send(Message::text(reply.to_string())).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn a_client_finds_its_answer_and_keeps_the_rest() {
    let mut client = Client::to_address(echo_server().await)
        .from("127.0.0.3")
        .open()
        .await
        .unwrap();
    let first = client.ask("echo", None, 1.into()).await;
    let second = client.request("echo", Some("token"), 2.into()).await;
    assert_eq!(second["payload"], 2);
    assert_eq!(client.next_json(1.s()).await["id"], first.as_str());
    client.ask("drop", None, 3.into()).await;
    client.expect_silence(50.ms()).await;
}

#[tokio::test]
async fn a_load_counts_what_is_lost_and_what_is_doubled() {
    let server = echo_server().await;
    let load = |kind: &str| {
        Load::on_addresses([server], "token")
            .connections(2)
            .messages(5)
            .in_flight(5)
            .kind(kind)
    };
    load("echo").run(10.s()).await.assert_each_replied_once();
    let lost = load("drop").run(300.ms()).await;
    assert_eq!((lost.sent, lost.unanswered.len()), (10, 10));
    let doubled = load("twice").run(10.s()).await;
    assert_eq!((doubled.replied, doubled.answered_twice.len()), (10, 10));
}

#[tokio::test]
async fn a_raw_client_sends_frames_as_they_are() {
    let mut client = RawClient::upgraded(echo_server().await).await;
    client
        .send(&RawFrame::new(opcode::TEXT, r#"{"id":"#).unfinished())
        .await;
    client.send(&RawFrame::new(opcode::CONTINUATION, r#""x"}"#)).await;
    let answer = client.read_frame(5.s()).await.unwrap();
    assert_eq!((answer.opcode, answer.masked), (opcode::TEXT, false));
    assert!(String::from_utf8(answer.payload).unwrap().contains(r#""id":"x""#));
    client.send(&RawFrame::new(opcode::TEXT, "{}").unmasked()).await;
    client.read_until_close(5.s()).await;
}

/// Names the file in which the holder tells whom it holds; only then does the holder hold anything.
const HOLDER: &str = "TESTS_HOLDER_TELLS";

#[tokio::test]
#[ignore = "started by the claim below, as a test process that is killed"]
async fn a_holder_that_will_be_killed() {
    let Some(file) = env::var_os(HOLDER) else { return };
    let store = Store::start().await;
    let (id, folder) = store.traces();
    fs::write(&file, format!("{id} {}", folder.display())).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_outlives_a_test_process_that_is_killed() {
    let file = test_keys().folder().join("holder");
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "harness::a_holder_that_will_be_killed"])
        .env(HOLDER, &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let told = eventually(30.s(), "the holder holds a store", async || {
        fs::read_to_string(&file).ok().filter(|told| told.contains('/'))
    })
    .await;
    let (id, folder) = told.split_once(' ').unwrap();
    let id = id.parse().unwrap();
    assert!(is_alive(id) && Path::new(folder).exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_gone(id).await;
    eventually(10.s(), "its folder is gone", async || !Path::new(folder).exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_is_frozen_cut_off_and_killed_while_the_others_go_on() {
    let cluster = Cluster::start().await;
    let name = format!("harness-{:08x}", rand::random::<u32>());
    let queue = Queue::connect(&cluster.url(0), "").await;
    queue.declare_quorum_queue(&name).await;
    cluster.settle().await;
    assert_eq!(cluster.leader_of(&name).await, 0);
    let publish = async || {
        // A channel that has not reached the queue's leader once goes on to refuse for a leader that is gone.
        let survivor = Queue::connect(&cluster.url(1), "").await;
        let sent = survivor.try_publish("", &name, "hello", BasicProperties::default(), 10.s());
        sent.await
    };
    cluster.cut_off(0);
    let silent = queue
        .try_publish("", &name, "", BasicProperties::default(), 500.ms())
        .await;
    assert!(silent.unwrap_err().contains("no confirm"), "nothing crosses a cut");
    eventually(180.s(), "another leads", async || publish().await).await;
    cluster.has_lost(0).await;
    cluster.heal(0);
    cluster.is_whole().await;
    cluster.node(0).freeze().await;
    eventually(180.s(), "the two go on", async || publish().await).await;
    // Thawed when the others have given it up, it takes part in nothing until it is restarted: it never paused.
    cluster.node(0).restart().await;
    cluster.is_whole().await;
    cluster.node(0).kill();
    eventually(180.s(), "the two go on", async || publish().await).await;
}

/// The files of a folder and of those in it, but what was fetched or built.
fn files_below(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_file() {
            found.push(path);
        } else if !["node_modules", "target", "build", "__pycache__"].contains(&&*name) && !name.starts_with(".v") {
            files_below(&path, found);
        }
    }
}

/// `.ci/run` lists what was not checked: so whatever says that it skips something also says it there.
#[test]
fn nothing_that_is_skipped_is_told_to_the_log_alone() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for folder in ["tests", "clients"] {
        files_below(&root.join(folder), &mut files);
    }
    // Written so that this file does not say it.
    let (told, listed) = (["SKIPPED", ": "].concat(), ["SKIPPED", "_TO"].concat());
    let mut seen = 0;
    for path in files {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.contains(&told) {
            assert!(text.contains(&listed), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 6, "only {seen} were found");
}

#[test]
fn a_package_that_cannot_be_had_excuses_what_needs_it_and_nothing_else() {
    let unexpected = |lines: &[&str]| {
        let file = test_keys()
            .folder()
            .join(format!("skipped-{:08x}", rand::random::<u32>()));
        fs::write(&file, lines.join("\n")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/unexpected-skips");
        let said = Command::new(script).arg(file).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    let alerts = "alerts: needs promtool (Debian: prometheus)";
    let scripts = "scripts: needs shellcheck";
    let expected = "upgrade: no version has a tag yet";
    let missing = "tools: cannot be installed here: shellcheck python3-venv";
    assert_eq!(
        unexpected(&[expected, alerts, scripts, alerts]),
        format!("{alerts}\n{scripts}\n")
    );
    assert_eq!(unexpected(&[missing, expected, alerts, scripts]), format!("{alerts}\n"));
    assert_eq!(unexpected(&[missing, scripts]), "");
}
