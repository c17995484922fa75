//! A private Redis (or Valkey) that a claim may kill, freeze, empty, or read from end to end.

use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use redis::{AsyncCommands, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{sync::OnceCell, time::timeout};

use super::port::free_port;
use super::process::{Process, Signal, freeze};
use super::watchdog::Folder;
use crate::wait::{Span, eventually};

/// Starts in milliseconds; the rest is for a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

static SHARED: OnceCell<Arc<Store>> = OnceCell::const_new();

/// The store that all claims share which need no more than a namespace of their own. Do it no harm.
pub async fn shared_store() -> Arc<Store> {
    SHARED
        .get_or_init(async || Arc::new(Store::start().await))
        .await
        .clone()
}

/// One Redis server without persistence. Dies with this value.
#[derive(Debug)]
pub struct Store {
    server: Mutex<Option<Process>>,
    port: u16,
    folder: Folder,
    of_cluster: Option<Member>,
}

/// How a node of a cluster is started.
#[derive(Debug)]
pub(super) struct Member {
    /// The nodes' own port, which is otherwise 10,000 above the clients', and then may not exist.
    pub(super) between_nodes: u16,
    /// The clients' port by TLS, and the options for it. Nodes then speak TLS among themselves, too.
    pub(super) tls: Option<(u16, Vec<String>)>,
}

impl Member {
    pub(super) fn new() -> Self {
        Self {
            between_nodes: free_port(),
            tls: None,
        }
    }

    fn options(&self) -> Vec<String> {
        let mut options = ["--cluster-enabled", "yes", "--cluster-port"]
            .map(str::to_owned)
            .to_vec();
        options.push(self.between_nodes.to_string());
        if let Some((port, files)) = &self.tls {
            options.extend(["--tls-cluster", "yes", "--tls-port"].map(str::to_owned));
            options.push(port.to_string());
            options.extend(files.iter().cloned());
        }
        options
    }
}

impl Store {
    /// Starts a server and returns when it answers.
    pub async fn start() -> Self {
        Self::start_as(None).await
    }

    /// Starts a cluster of one node, which refuses what touches more than one slot as a larger one does. It is not to
    /// be restarted.
    pub async fn start_clustered() -> Self {
        let store = Self::start_as(Some(Member::new())).await;
        store.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
        store.until_clustered(1).await;
        store
    }

    /// Waits until it belongs to a cluster of so many nodes that has all slots.
    pub(super) async fn until_clustered(&self, nodes: usize) {
        let mut connection = self.connect().await.expect("Redis answers");
        let known = format!("cluster_known_nodes:{nodes}\r");
        eventually(START_LIMIT, "the cluster is up", async || {
            let state: RedisResult<String> = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await;
            state.is_ok_and(|state| state.contains("cluster_state:ok") && state.contains(&known))
        })
        .await;
    }

    pub(super) async fn start_as(of_cluster: Option<Member>) -> Self {
        let store = Self {
            server: Mutex::new(None),
            port: free_port(),
            folder: Folder::new("redis"),
            of_cluster,
        };
        store.launch().await;
        store
    }

    /// Its URL, the same in all its lives.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port, the same in all its lives.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Copies no one any more, and takes writes.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn promote(&self) {
        let mut connection = self.connect().await.expect("Redis answers");
        let promote = redis::cmd("REPLICAOF").arg("NO").arg("ONE").clone();
        promote.exec_async(&mut connection).await.expect("it takes writes");
    }

    /// Kills the server; what was in it is gone.
    pub fn kill(&self) {
        self.server().take();
    }

    /// Brings the server back, empty, on the same port. Kills it first if it lives.
    pub async fn restart(&self) {
        self.kill();
        self.launch().await;
    }

    /// Stops the server in its tracks: its sockets stay open, and nothing answers. Returns when it stands still.
    pub async fn freeze(&self) {
        freeze(self.traces().0).await;
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.signal(Signal::Continue);
    }

    /// Forgets every key.
    pub async fn flush(&self) {
        let mut connection = self.connect().await.expect("Redis answers");
        redis::cmd("FLUSHALL")
            .exec_async(&mut connection)
            .await
            .expect("Redis empties itself");
    }

    /// Becomes a replica of another server, and returns when it has what that has.
    ///
    /// # Panics
    /// If it does not.
    pub async fn follow(&self, primary: &Self) {
        let mut connection = self.connect().await.expect("Redis answers");
        redis::cmd("REPLICAOF")
            .arg("127.0.0.1")
            .arg(primary.port)
            .exec_async(&mut connection)
            .await
            .expect("it follows");
        let mut of_primary = primary.connect().await.expect("Redis answers");
        eventually(START_LIMIT, "the replica has caught up", async || {
            let info: RedisResult<String> = redis::cmd("INFO").arg("replication").query_async(&mut of_primary).await;
            info.is_ok_and(|info| info.contains("state=online"))
        })
        .await;
    }

    /// The id of the running process, and its folder: what must be gone after the test process.
    #[must_use]
    pub fn traces(&self) -> (u32, &Path) {
        (
            self.server().as_ref().expect("the server is running").id(),
            self.folder.path(),
        )
    }

    /// Has it do that.
    ///
    /// # Panics
    /// If it does not.
    pub async fn command(&self, words: &[&str]) {
        let mut connection = self.connect().await.expect("Redis answers");
        run(&mut connection, words).await;
    }

    /// The same with the password of its default user.
    ///
    /// # Panics
    /// If it does not.
    pub async fn authenticated(&self, password: &str, words: &[&str]) {
        let client = redis::Client::open(format!("redis://:{password}@127.0.0.1:{}", self.port)).expect("a URL");
        let mut connection = client
            .get_multiplexed_async_connection()
            .await
            .expect("Redis lets us in");
        run(&mut connection, words).await;
    }

    /// A connection, for a claim's own commands.
    ///
    /// # Errors
    /// If the server does not answer within 5 s.
    pub async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let connecting = async {
            let mut connection = redis::Client::open(self.url())?
                .get_multiplexed_async_connection()
                .await?;
            let _: Value = redis::cmd("PING").query_async(&mut connection).await?;
            Ok(connection)
        };
        match timeout(5.s(), connecting).await {
            Ok(outcome) => outcome,
            Err(_) => Err((redis::ErrorKind::Io, "no answer within 5 s").into()),
        }
    }

    /// All that is at rest here, as text, one key a line with all that it holds: strings, hashes, lists, sets, sorted
    /// sets and streams. Bytes that are not UTF-8 appear as U+FFFD.
    pub async fn dump(&self) -> String {
        let mut connection = self.connect().await.expect("Redis answers");
        let mut keys: Vec<Vec<u8>> = connection.keys("*").await.expect("the keys");
        keys.sort();
        let mut lines = Vec::with_capacity(keys.len());
        for key in keys {
            let content = content(&mut connection, &key).await.expect("the content of a key");
            let mut line = String::from_utf8_lossy(&key).into_owned();
            append(&mut line, &content);
            lines.push(line);
        }
        lines.join("\n")
    }

    async fn launch(&self) {
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("output"))
            .expect("a log file");
        let server = Process::spawn(
            Command::new(program())
                .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
                .args(self.of_cluster.iter().flat_map(Member::options))
                .args(["--save", "", "--appendonly", "no", "--dir"])
                .arg(self.folder.path())
                .stdout(output.try_clone().expect("a second handle"))
                .stderr(output),
        );
        *self.server() = Some(server);
        eventually(START_LIMIT, "Redis answers", async || {
            let ended = self.server().as_mut().and_then(Process::exit_status);
            assert!(ended.is_none(), "Redis ended at its start: {ended:?}");
            self.connect().await.map(drop)
        })
        .await;
    }

    fn signal(&self, signal: Signal) {
        self.server().as_mut().expect("the server is running").signal(signal);
    }

    fn server(&self) -> MutexGuard<'_, Option<Process>> {
        self.server.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

async fn run(connection: &mut MultiplexedConnection, words: &[&str]) {
    let (command, arguments) = words.split_first().expect("a command");
    let done = redis::cmd(command).arg(arguments).exec_async(connection).await;
    done.expect("Redis does it");
}

async fn content(connection: &mut MultiplexedConnection, key: &[u8]) -> RedisResult<Value> {
    let kind: String = redis::cmd("TYPE").arg(key).query_async(connection).await?;
    let (command, rest): (&str, &[&str]) = match kind.as_str() {
        "string" => ("GET", &[]),
        "hash" => ("HGETALL", &[]),
        "list" => ("LRANGE", &["0", "-1"]),
        "set" => ("SMEMBERS", &[]),
        "zset" => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
        "stream" => ("XRANGE", &["-", "+"]),
        // It expired since it was listed.
        "none" => return Ok(Value::Nil),
        other => panic!("a key of type {other}, which cannot be shown"),
    };
    redis::cmd(command).arg(key).arg(rest).query_async(connection).await
}

fn append(line: &mut String, value: &Value) {
    match value {
        Value::BulkString(bytes) => {
            line.push(' ');
            line.push_str(&String::from_utf8_lossy(bytes));
        }
        Value::Array(values) | Value::Set(values) => values.iter().for_each(|value| append(line, value)),
        Value::Map(pairs) => pairs.iter().for_each(|(name, value)| {
            append(line, name);
            append(line, value);
        }),
        other => {
            line.push(' ');
            line.push_str(&format!("{other:?}"));
        }
    }
}

/// The server that is installed: Redis, else Valkey.
fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).chain([PathBuf::from("/usr/bin")]).collect();
    ["redis-server", "valkey-server"]
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
        .expect("redis-server or valkey-server is installed (tests/run does it)")
}
