//! Passwords, keys and certificates are replaced while everything runs, under 300 messages a second: nothing is lost, and no socket
//! closes.

pub(crate) mod traffic;

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tests::nodes::port::free_port;
use tests::servers::certificate;
use tests::servers::pki;
use tests::servers::tunnel::Tunnel;
use tests::tokens::key::jwks;
use tests::{
    Algorithm, Broker, Client, Key, Program, Stack, Store, eventually, shared_broker, test_keys, token_for, tool,
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::operating::rotation::traffic::Traffic;

/// Two looks at the files, and whatever comes of them, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

const REPLACED: &str = "a credential is replaced";
const REFUSED: &str = "the new credential cannot be used; the last good one stays in force";

/// A folder of secrets, as an operator keeps one.
struct Secrets(PathBuf);

impl Secrets {
    fn new() -> Self {
        let folder = test_keys()
            .folder()
            .join(format!("secrets-{:08x}", rand::random::<u32>()));
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Puts a file in the place of another, as anyone who is careful does.
    fn put(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join("new"), text).unwrap();
        fs::rename(self.0.join("new"), self.0.join(name)).unwrap();
        self.path(name)
    }

    /// Turns the link `name` to another target, as Kubernetes and certbot do.
    fn turn(&self, name: &str, target: &Path) {
        symlink(target, self.0.join("new")).unwrap();
        fs::rename(self.0.join("new"), self.0.join(name)).unwrap();
    }
}

/// What all programs of a stack have logged with that message.
fn logged(stack: &Stack, message: &str) -> Vec<usize> {
    let programs = stack.terminators().iter().chain(stack.workers());
    programs.map(|program| program.logged(message)).collect()
}

async fn until_logged(stack: &Stack, message: &str, times: usize) {
    let what = format!("every program logs {times} times: {message}");
    eventually(SOON, &what, async || {
        let logged = logged(stack, message);
        if logged.iter().all(|count| *count >= times) {
            Ok(())
        } else {
            Err(logged)
        }
    })
    .await;
}

async fn until_ready(stack: &Stack) {
    eventually(SOON, "every program is ready", async || {
        for program in stack.terminators().iter().chain(stack.workers()) {
            program.is_ready().await?;
        }
        Ok::<_, String>(())
    })
    .await;
}

type Encrypted = WebSocketStream<TlsStream<TcpStream>>;

/// A socket, and the certificate that the terminator showed for it.
async fn encrypted(terminator: &Program) -> (Encrypted, Vec<u8>) {
    let stream = TcpStream::connect(terminator.address()).await.unwrap();
    let stream = pki::connector()
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let request = format!("wss://{}/", terminator.address());
    (client_async(request, stream).await.unwrap().0, shown)
}

async fn echo(socket: &mut Encrypted) {
    let message = json!({"id": "m", "type": "echo", "token": token_for("alice").mint()});
    socket.send(Message::text(message.to_string())).await.unwrap();
    let answer = timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
    let answer: Value = serde_json::from_str(answer.to_text().unwrap()).unwrap();
    assert_eq!(answer["type"], "reply", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_servers_certificate_is_replaced_and_no_socket_closes() {
    let secrets = Secrets::new();
    // The layout of a secret in Kubernetes: the files are links into a folder, which is a link itself.
    for (version, certificate, key) in [
        (
            "1",
            fs::read_to_string(certificate::certificate()).unwrap(),
            fs::read_to_string(certificate::private_key()).unwrap(),
        ),
        (
            "2",
            pki::pem("a-server.pem").to_owned(),
            pki::pem("a-server.key").to_owned(),
        ),
        // Not its key.
        (
            "3",
            pki::pem("b-server.pem").to_owned(),
            pki::pem("a-server.key").to_owned(),
        ),
        (
            "4",
            pki::pem("b-server.pem").to_owned(),
            pki::pem("b-server.key").to_owned(),
        ),
    ] {
        let folder = secrets.0.join(version);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("tls.crt"), certificate).unwrap();
        fs::write(folder.join("tls.key"), key).unwrap();
    }
    secrets.turn("data", Path::new("1"));
    secrets.turn("tls.crt", Path::new("data/tls.crt"));
    secrets.turn("tls.key", Path::new("data/tls.key"));
    let mut stack = Stack::builder()
        .setting("tls-cert", &secrets.path("tls.crt"))
        .setting("tls-key", &secrets.path("tls.key"))
        .start()
        .await;
    let (mut first, shown) = encrypted(&stack.terminators()[0]).await;
    echo(&mut first).await;
    let tunnel = Tunnel::to(stack.terminators()[0].address()).await;
    let traffic = Traffic::to([tunnel.address()], &token_for("alice").mint()).await;
    let shown_now = async |expected: &str| {
        eventually(SOON, "new sockets get the new certificate", async || {
            encrypted(&stack.terminators()[0]).await.1 == pki::certificate(expected).to_vec()
        })
        .await;
    };
    assert_ne!(shown, pki::certificate("a-server.pem").to_vec());
    secrets.turn("data", Path::new("2"));
    shown_now("a-server.pem").await;
    echo(&mut first).await;

    secrets.turn("data", Path::new("3"));
    let refused = "countersign_key_refused";
    eventually(SOON, "the pair that does not fit is seen", async || {
        stack.terminators()[0].metric(refused).await == 2.0
    })
    .await;
    shown_now("a-server.pem").await;
    assert_eq!(stack.terminators()[0].logged(REFUSED), 1);
    // Anyone who asks for everything to be read again ends nothing, and gets at once what is there.
    secrets.turn("data", Path::new("4"));
    for _ in 0..3 {
        stack.terminator(0).reload();
        stack.worker(0).reload();
    }
    let terminator = &stack.terminators()[0];
    eventually(SOON, "it has recovered", async || {
        terminator.metric(refused).await == 0.0
    })
    .await;
    let (mut last, shown) = encrypted(terminator).await;
    assert_eq!(shown, pki::certificate("b-server.pem").to_vec());
    let ends = terminator
        .metric("countersign_certificate_not_after_timestamp_seconds")
        .await;
    assert_eq!(ends, 4_733_510_400.0);
    echo(&mut first).await;
    echo(&mut last).await;
    traffic.goes_on().await;
    traffic.lost_nothing().await;
    assert!(stack.workers()[0].is_alive());
}

/// A JWKS with these keys in the place of another.
fn publish(secrets: &Secrets, keys: &[&Key]) -> String {
    secrets.put("jwks.json", &jwks(keys.iter().copied()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_key_is_replaced_under_load_and_nothing_is_lost() {
    let secrets = Secrets::new();
    let [old, new] = [(); 2].map(|()| Key::generate(Algorithm::Es256));
    let stack = Stack::builder()
        .setting("jwt-keys", &publish(&secrets, &[&old]))
        .setting("jwt-algorithms", "ES256")
        .start()
        .await;
    let by = |key: &Key| token_for("alice").signed_with(key).mint();
    let keys = async |count: usize| {
        let what = "there are new keys; cached verifications by the old ones are dropped";
        eventually(SOON, what, async || stack.workers()[0].logged(what) >= count).await;
    };
    let of_old = Traffic::on(&stack, &by(&old)).await;
    publish(&secrets, &[&old, &new]);
    keys(1).await;
    let of_new = Traffic::on(&stack, &by(&new)).await;
    of_old.lost_nothing().await;
    publish(&secrets, &[&new]);
    keys(2).await;
    of_new.goes_on().await;
    of_new.lost_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_key_that_leaked_is_taken_out_and_who_proves_themselves_anew_keeps_their_socket() {
    let secrets = Secrets::new();
    let [leaked, new] = [(); 2].map(|()| Key::generate(Algorithm::Es256));
    let stack = Stack::builder()
        .setting("jwt-keys", &publish(&secrets, &[&leaked]))
        .setting("removed-key-grace", "15s")
        .setting("jwt-algorithms", "ES256")
        .start()
        .await;
    let by = |key: &Key, subject: &str| token_for(subject).signed_with(key).mint();
    let [mut honest, mut thief] = [stack.client().await, stack.client().await];
    honest.authenticate(&by(&leaked, "alice")).await;
    thief.authenticate(&by(&leaked, "bob")).await;
    publish(&secrets, &[&new]);
    honest.next_of_type("auth.required", SOON).await;
    honest.authenticate(&by(&new, "alice")).await;
    let traffic = Traffic::on(&stack, &by(&new, "carol")).await;
    let mut client = stack.client().await;
    let answer = client.request("echo", Some(&by(&leaked, "bob")), json!(1)).await;
    assert_eq!(answer["error"]["code"], "token_invalid", "{answer}");
    thief.expect_close(4503, SOON).await;
    let answer = honest.request("echo", None, json!("still here")).await;
    assert_eq!(answer["payload"], "still here", "{answer}");
    traffic.goes_on().await;
    traffic.lost_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_the_certificate_that_is_asked_for_gets_no_socket() {
    let secrets = Secrets::new();
    let ca = secrets.put("ca.pem", pki::pem("b-ca.pem"));
    let stack = Stack::builder()
        .setting("tls-cert", certificate::certificate().to_str().unwrap())
        .setting("tls-key", certificate::private_key().to_str().unwrap())
        .setting("tls-client-ca", &ca)
        .start()
        .await;
    let address = stack.terminators()[0].address();
    let opens = async |client: &str| {
        let stream = TcpStream::connect(address).await.unwrap();
        let Ok(stream) = pki::connector_of(client)
            .connect("localhost".try_into().unwrap(), stream)
            .await
        else {
            return false;
        };
        client_async(format!("wss://{address}/"), stream).await.is_ok()
    };
    assert!(opens("b-client").await && !opens("a-client").await);
    secrets.put("ca.pem", pki::pem("a-ca.pem"));
    eventually(SOON, "another CA is believed", async || opens("a-client").await).await;
    assert!(!opens("b-client").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_password_is_changed_before_us_and_after_us_and_nothing_is_lost() {
    let broker = shared_broker().await;
    let users = [(); 2].map(|()| format!("prog-{:08x}", rand::random::<u32>()));
    let secrets = Secrets::new();
    for user in &users {
        broker.add_user(user, ".*", ".*", ".*").await;
    }
    let odd = "p/a@s:s#w%rd one";
    broker.ctl(&["change_password", &users[0], odd]).await;
    let url = format!("amqp://127.0.0.1:{}/%2f", broker.amqp_port());
    let stack = Stack::builder()
        .users(&url, &url)
        .setting("amqp-username-file", &secrets.put("user", &users[0]))
        .setting("amqp-password-file", &secrets.put("password", odd))
        .start()
        .await;
    let traffic = Traffic::on(&stack, &token_for("alice").mint()).await;
    let thrown_out = async |user: &str| {
        broker.ctl(&["close_all_user_connections", user, "claim"]).await;
    };
    let goes_on = async || {
        traffic.goes_on().await;
        until_ready(&stack).await;
    };

    // The broker has it after us.
    secrets.put("password", "two");
    until_logged(&stack, REPLACED, 1).await;
    thrown_out(&users[0]).await;
    goes_on().await;
    broker.ctl(&["change_password", &users[0], "two"]).await;
    thrown_out(&users[0]).await;
    goes_on().await;
    // The broker has it before us.
    broker.ctl(&["change_password", &users[0], "three"]).await;
    thrown_out(&users[0]).await;
    until_logged(&stack, "cannot reach the broker; will keep trying", 1).await;
    secrets.put("password", "three\n");
    goes_on().await;
    let admins: Vec<_> = stack.terminators().iter().chain(stack.workers()).collect();
    let admins: Vec<_> = admins
        .iter()
        .map(|program| format!("http://{}", program.admin()))
        .collect();
    let said = tool(&["credentials", &admins[0], &admins[1]], "");
    assert_eq!((said.status, said.stderr.as_str()), (0, ""), "{}", said.stdout);
    for told in ["amqp-password-file", "password, since", "jwt-keys", "an HMAC secret"] {
        assert!(said.stdout.contains(told), "{}", said.stdout);
    }
    assert!(
        !said.stdout.contains("three") && !said.stdout.contains("two"),
        "{}",
        said.stdout
    );
    // Another user, and the first one is gone.
    secrets.put("user", &users[1]);
    secrets.put("password", &users[1]);
    until_logged(&stack, REPLACED, 3).await;
    broker.ctl(&["delete_user", &users[0]]).await;
    goes_on().await;

    traffic.lost_nothing().await;
    for program in stack.terminators().iter().chain(stack.workers()) {
        let told = program.stderr();
        assert!(
            program.is_alive() && !told.contains("p/a@s") && !told.contains("three"),
            "{told}"
        );
    }
    broker.ctl(&["delete_user", &users[1]]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_in_a_configuration_file_is_changed_without_a_restart() {
    let broker = shared_broker().await;
    let store = Arc::new(Store::start().await);
    let user = format!("conf-{:08x}", rand::random::<u32>());
    broker.add_user(&user, ".*", ".*", ".*").await;
    let secrets = Secrets::new();
    let config = |password: &str, host: &str| {
        format!(
            "amqp-url = \"amqp://{user}:{password}@{host}:{}/%2f\"\nstore-url = \"redis://:{password}@{host}:{}\"\n",
            broker.amqp_port(),
            store.port()
        )
    };
    let file = secrets.put("countersign.toml", &config(&user, "127.0.0.1"));
    store.command(&["CONFIG", "SET", "requirepass", &user]).await;
    let stack = Stack::builder().store(&store).configured_by(&file).start().await;
    let traffic = Traffic::on(&stack, &token_for("alice").mint()).await;
    let mut client = stack.client().await;

    // What is not theirs to change while they run is refused, and told.
    secrets.put("countersign.toml", &config("other", "127.0.0.2"));
    until_logged(&stack, REFUSED, 1).await;
    secrets.put("countersign.toml", &config("other", "127.0.0.1"));
    until_logged(&stack, REPLACED, 1).await;
    broker.ctl(&["change_password", &user, "other"]).await;
    broker.ctl(&["close_all_user_connections", &user, "claim"]).await;
    store
        .authenticated(&user, &["CONFIG", "SET", "requirepass", "other"])
        .await;
    eventually(SOON, "the store is reached anew", async || {
        stack.workers()[0].logged("the store is reached with new credentials") > 0
    })
    .await;
    until_ready(&stack).await;
    let answer = client.request("echo", Some(&token_for("bob").mint()), json!(2)).await;
    assert_eq!(answer["payload"], 2, "{answer}");
    traffic.goes_on().await;
    traffic.lost_nothing().await;
    broker.ctl(&["delete_user", &user]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_password_is_changed_before_us_and_after_us_and_nothing_is_lost() {
    let store = Arc::new(Store::start().await);
    let acl = async |rules: &[&str]| {
        store.command(&[&["ACL", "SETUSER", "app"], rules].concat()).await;
    };
    let odd = "p/a@s:s#w%rd";
    acl(&["on", &format!(">{odd}"), "~*", "&*", "+@all"]).await;
    let secrets = Secrets::new();
    let url = format!("redis://app@127.0.0.1:{}", store.port());
    let stack = Stack::builder()
        .store(&store)
        .setting("store-url", &url)
        .setting("store-password-file", &secrets.put("password", odd))
        .start()
        .await;
    let traffic = Traffic::on(&stack, &token_for("alice").mint()).await;
    // Anyone who comes anew needs the store. What finds its connection cut is told to try again.
    let newcomer = async || {
        eventually(SOON, "somebody new is answered", async || {
            let mut client = stack.client().await;
            let answer = client.request("echo", Some(&token_for("bob").mint()), json!(1)).await;
            let code = answer["error"]["code"].as_str().unwrap_or_default().to_owned();
            if answer["type"] == "reply" { Ok(()) } else { Err(code) }
        })
        .await;
    };
    let thrown_out = async || {
        store.command(&["CLIENT", "KILL", "USER", "app"]).await;
    };
    let exchanged = async |times: usize| {
        let what = "the store is reached with new credentials";
        // Of two connections.
        eventually(SOON, what, async || stack.workers()[0].logged(what) >= 2 * times).await;
    };

    // Both passwords are good for a while.
    acl(&[">two"]).await;
    secrets.put("password", "two\n");
    exchanged(1).await;
    acl(&[&format!("<{odd}")]).await;
    thrown_out().await;
    eventually(SOON, "the store is there", async || stack.workers()[0].is_ready().await).await;
    newcomer().await;
    // The store has it after us: the old connections stay.
    secrets.put("password", "three");
    let not_yet = "the store does not accept the new credentials yet; the old connection stays open";
    eventually(SOON, not_yet, async || stack.workers()[0].logged(not_yet) > 0).await;
    newcomer().await;
    acl(&[">three", "<two"]).await;
    exchanged(2).await;
    newcomer().await;
    // The store has it before us: anyone who needs it is told to try again, until we have it.
    acl(&[">four", "<three"]).await;
    thrown_out().await;
    secrets.put("password", "four");
    exchanged(3).await;
    eventually(SOON, "the store is there", async || stack.workers()[0].is_ready().await).await;
    newcomer().await;

    traffic.lost_nothing().await;
    let told = stack.workers()[0].stderr();
    assert!(!told.contains("p/a@s") && !told.contains("three"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_and_store_are_believed_by_their_ca_and_the_ca_is_replaced_under_load() {
    let [amqps, rediss] = [free_port(), free_port()];
    let secrets = Secrets::new();
    let of_server = |ca: &str, by: &str| {
        secrets.put("server-ca.pem", ca);
        secrets.put("server.pem", pki::pem(&format!("{by}-server.pem")));
        secrets.put("server.key", pki::pem(&format!("{by}-server.key")));
    };
    let both = [pki::pem("a-ca.pem"), pki::pem("b-ca.pem")].concat();
    of_server(pki::pem("a-ca.pem"), "a");
    let settings = format!(
        "listeners.ssl.1 = 127.0.0.1:{amqps}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n",
        secrets.path("server-ca.pem"),
        secrets.path("server.pem"),
        secrets.path("server.key"),
    );
    let (broker, store) = (
        Arc::new(Broker::start_with(&settings).await),
        Arc::new(Store::start().await),
    );
    let store_reads_its_files = async || {
        let command = [
            "CONFIG",
            "SET",
            "tls-ca-cert-file",
            &secrets.path("server-ca.pem"),
            "tls-cert-file",
            &secrets.path("server.pem"),
            "tls-key-file",
            &secrets.path("server.key"),
            "tls-auth-clients",
            "yes",
            "tls-port",
            &rediss.to_string(),
        ];
        store.command(&command).await;
    };
    store_reads_its_files().await;
    secrets.put("ca.pem", pki::pem("a-ca.pem"));
    secrets.put("client.pem", pki::pem("a-client.pem"));
    secrets.put("client.key", pki::pem("a-client.key"));
    let url = format!("amqps://guest:guest@localhost:{amqps}/%2f");
    let of_us = ["ca", "cert", "key"]
        .into_iter()
        .zip(["ca.pem", "client.pem", "client.key"]);
    let builder = of_us.fold(Stack::builder(), |builder, (setting, file)| {
        let path = secrets.path(file);
        builder
            .setting(&format!("amqp-{setting}"), &path)
            .setting(&format!("store-{setting}"), &path)
    });
    let stack = builder
        .broker(&broker)
        .users(&url, &url)
        .store(&store)
        .setting("store-url", &format!("rediss://localhost:{rediss}"))
        .start()
        .await;
    let traffic = Traffic::on(&stack, &token_for("alice").mint()).await;
    let thrown_out = async || {
        broker.ctl(&["eval", "ssl:clear_pem_cache()."]).await;
        broker.ctl(&["close_all_connections", "claim"]).await;
        store
            .command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
            .await;
    };
    let goes_on = async || {
        traffic.goes_on().await;
        until_ready(&stack).await;
        let mut client: Client = stack.client().await;
        let answer = client.request("echo", Some(&token_for("bob").mint()), json!(1)).await;
        assert_eq!(answer["type"], "reply", "{answer}");
    };
    goes_on().await;

    // First everyone believes both, then the servers show another certificate, then we do, then no one believes the old CA.
    secrets.put("ca.pem", &both);
    until_logged(&stack, REPLACED, 1).await;
    of_server(&both, "b");
    store_reads_its_files().await;
    thrown_out().await;
    goes_on().await;
    secrets.put("client.pem", pki::pem("b-client.pem"));
    secrets.put("client.key", pki::pem("b-client.key"));
    secrets.put("ca.pem", pki::pem("b-ca.pem"));
    until_logged(&stack, REPLACED, 2).await;
    of_server(pki::pem("b-ca.pem"), "b");
    store_reads_its_files().await;
    thrown_out().await;
    goes_on().await;
    traffic.was_answered().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_torn_empty_huge_or_restless_changes_nothing() {
    let secrets = Secrets::new();
    let key = secrets.put("key.pem", pki::pem("a-server.key"));
    let stack = Stack::builder()
        .workers(0)
        .setting("tls-cert", &secrets.put("cert.pem", pki::pem("a-server.pem")))
        .setting("tls-key", &key)
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    let path = Path::new(&key);
    let refusals = async || {
        let rows = terminator.get("/credentials").await.body;
        let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
        rows[0]["refused"].as_str().unwrap_or_default().to_owned()
    };
    let refused = async |why: &str| {
        eventually(SOON, why, async || {
            let refusal = refusals().await;
            if refusal.contains(why) { Ok(()) } else { Err(refusal) }
        })
        .await;
        assert_eq!(encrypted(terminator).await.1, pki::certificate("a-server.pem").to_vec());
    };
    let said = |status| {
        let said = tool(
            &["credentials", &format!("http://{}", terminator.admin()), "--json"],
            "",
        );
        assert_eq!(said.status, status, "{}", said.stdout);
        let told: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(
            (&told[1]["setting"], &told[1]["kind"]),
            (&json!("tls-key"), &json!("private key"))
        );
        assert_eq!(told[0]["until"], 4_733_510_400_u64);
    };
    said(0);
    let half = &pki::pem("a-server.key")[..100];
    for (content, why) in [
        ("", "has no private key"),
        (half, "has no private key"),
        ("<html>502", "has no private key"),
    ] {
        secrets.put("key.pem", content);
        refused(why).await;
    }
    fs::remove_file(path).unwrap();
    refused("cannot be read").await;
    fs::create_dir(path).unwrap();
    refused("not a regular file").await;
    fs::remove_dir(path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
    refused("not a regular file").await;
    fs::remove_file(path).unwrap();
    fs::File::create(path).unwrap().set_len(100 << 20).unwrap();
    refused("is larger than").await;
    said(1);
    // Hundreds of times a second, by whatever has gone mad.
    let stop = Arc::new(AtomicBool::new(false));
    let writer = std::thread::spawn({
        let (secrets, stop) = (Secrets(secrets.0.clone()), stop.clone());
        move || {
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                secrets.put("key.pem", &format!("{turn}\n{}", pki::pem("b-server.key")));
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    refused("is another at each look").await;
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    secrets.put("key.pem", pki::pem("a-server.key"));
    eventually(SOON, "it has recovered", async || refusals().await.is_empty()).await;
    assert!(terminator.logged(REFUSED) <= 3, "one line a minute");
}

/// What is doubtful about the certificates that a terminator has had in force.
fn doubts(terminator: &Program) -> Vec<String> {
    let log = terminator.log();
    let doubts = log.iter().filter(|line| line["level"] == "WARN");
    doubts
        .filter_map(|line| line["doubt"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_has_expired_or_is_for_another_name_is_told_and_served() {
    let secrets = Secrets::new();
    let stack = Stack::builder()
        .setting("tls-cert", &secrets.put("tls.crt", pki::pem("a-expired.pem")))
        .setting("tls-key", &secrets.put("tls.key", pki::pem("a-expired.key")))
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    let told = doubts(terminator);
    assert!(told.len() == 1 && told[0].contains("expired"), "{told:?}");

    // A client's certificate, which is for no host.
    secrets.put("tls.crt", pki::pem("a-client.pem"));
    secrets.put("tls.key", pki::pem("a-client.key"));
    until_replaced(terminator, 1).await;
    eventually(SOON, "what is doubtful is told", async || doubts(terminator).len() == 2).await;
    let told = doubts(terminator);
    assert!(told[1].contains("subjectAltName"), "{told:?}");

    // For `localhost`: there is nothing to say of it, until a client asks for another name.
    secrets.put("tls.crt", pki::pem("a-server.pem"));
    secrets.put("tls.key", pki::pem("a-server.key"));
    until_replaced(terminator, 2).await;
    assert_eq!(doubts(terminator).len(), 2);
    echo(&mut encrypted(terminator).await.0).await;
    let another = "a client asks for a name that the certificate is not for, and refuses it";
    assert_eq!(terminator.logged(another), 0);
    for _ in 0..3 {
        let stream = TcpStream::connect(terminator.address()).await.unwrap();
        let name = "chat.example.com".try_into().unwrap();
        assert!(pki::connector().connect(name, stream).await.is_err());
    }
    eventually(SOON, another, async || terminator.logged(another) == 1).await;
    let log = terminator.log();
    let line = log.iter().find(|line| line["message"] == another).unwrap();
    assert!(
        line["asked_for"] == "chat.example.com" && line["names"].as_str().unwrap().contains("localhost"),
        "{line}"
    );
    echo(&mut encrypted(terminator).await.0).await;
}

async fn until_replaced(terminator: &Program, times: usize) {
    eventually(SOON, REPLACED, async || terminator.logged(REPLACED) >= times).await;
}
